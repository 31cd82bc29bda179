"""SAEs of your own: JumpReLU, on the residual stream, all sites at once.

`train_saes(model, corpus, TrainingRecipe(), out, name=...)` is the whole way:
text files become windows of tokens (`read_corpus`, `Windows`), one forward
pass gives the activations of every site (`make_activations`), `make_sae_step`
updates all SAEs, and the end is a folder a site that `load_dictionary` and
SAELens read, with what each SAE is worth on held-out text (`evaluate`).

A training of other activations needs three of these names: `init_sae_state` of
a sample of them, `make_sae_step` for every batch, `to_dictionary` at the end.
"""

from ooc_jax.dictionaries.training._activations import folder_name
from ooc_jax.dictionaries.training._activations import make_activations
from ooc_jax.dictionaries.training._activations import stream_sites
from ooc_jax.dictionaries.training._corpus import Corpus
from ooc_jax.dictionaries.training._corpus import Windows
from ooc_jax.dictionaries.training._corpus import encode
from ooc_jax.dictionaries.training._corpus import held_out_windows
from ooc_jax.dictionaries.training._corpus import read_corpus
from ooc_jax.dictionaries.training._evaluate import Metrics
from ooc_jax.dictionaries.training._evaluate import evaluate
from ooc_jax.dictionaries.training._evaluate import table
from ooc_jax.dictionaries.training._loss import SaeLosses
from ooc_jax.dictionaries.training._loss import SaeParams
from ooc_jax.dictionaries.training._recipe import TrainingRecipe
from ooc_jax.dictionaries.training._save import to_dictionary
from ooc_jax.dictionaries.training._save import write_sae_lens
from ooc_jax.dictionaries.training._step import SaeState
from ooc_jax.dictionaries.training._step import init_sae_state
from ooc_jax.dictionaries.training._step import make_sae_step
from ooc_jax.dictionaries.training._step import sae_step
from ooc_jax.dictionaries.training._train import DTYPES
from ooc_jax.dictionaries.training._train import TrainingLog
from ooc_jax.dictionaries.training._train import check_same_run
from ooc_jax.dictionaries.training._train import file_hashes
from ooc_jax.dictionaries.training._train import train_saes

__all__ = tuple(x for x in dir() if not x.startswith('_'))
