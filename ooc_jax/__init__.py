"""Explains features of language models from the weights alone.

The method is "out of context" (arXiv 2601.22447): directions of a dictionary
are contracted with embedding, unembedding and attention weights; no text and
no activation is needed.

Axis letters, in shapes, names and einsum strings of the whole package:
  F features of a dictionary     N query heads            B batch
  V tokens of the vocabulary     K key/value heads        T query positions
  D width of the residual stream G = N / K                S key positions
  L layers                       H width of a head        k top k
                                 M width of the MLP
Any other axis is a word, as in `Float[Array, 'pairs offsets']`. A letter counts
what the function is given: under `shard_map` one shard of it.
"""

from ooc_jax import checkpoints
from ooc_jax import circuits
from ooc_jax import dictionaries
from ooc_jax import measures
from ooc_jax import model
from ooc_jax._errors import InputError
from ooc_jax.checkpoints import load_model
from ooc_jax.checkpoints import save_model
from ooc_jax.circuits import AttentionStatistics
from ooc_jax.circuits import Lens
from ooc_jax.circuits import attention_statistics
from ooc_jax.circuits import input_lens
from ooc_jax.circuits import output_lens
from ooc_jax.circuits import ov_lens
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import load_dictionary
from ooc_jax.measures import Coherence
from ooc_jax.measures import coherence
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Site
from ooc_jax.model import Transformer
from ooc_jax.model import forward
from ooc_jax.model import generate
from ooc_jax.model import run_with_taps

__all__ = (
    'AttentionStatistics',
    'Coherence',
    'Dictionary',
    'InputError',
    'Lens',
    'Model',
    'ModelConfig',
    'Site',
    'Transformer',
    'attention_statistics',
    'checkpoints',
    'circuits',
    'coherence',
    'dictionaries',
    'forward',
    'generate',
    'input_lens',
    'load_dictionary',
    'load_model',
    'measures',
    'model',
    'output_lens',
    'ov_lens',
    'run_with_taps',
    'save_model',
)
