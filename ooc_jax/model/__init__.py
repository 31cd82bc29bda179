"""A transformer as a Flax pytree: configuration, forward pass, tokenizer.

`ModelConfig` fixes every shape and meaning, and `Transformer(config)` computes
from its fields alone. What a file on disk says of a model is known family by
family (`families`): `config_from_hf` and `config_from_gguf` read settings that
were parsed already, `config_to_hf` writes them; `checkpoints` opens the files.
`generate` continues texts, with the keys and values of what was read kept;
`mean_stream` estimates the mean of the stream from such texts.
"""

from ooc_jax.model import families
from ooc_jax.model._config import Llama3Scaling
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config import Rope
from ooc_jax.model._config_gguf import config_from_gguf
from ooc_jax.model._config_hf import config_from_hf
from ooc_jax.model._config_hf import config_to_hf
from ooc_jax.model._config_hf import text_config
from ooc_jax.model._generate import generate
from ooc_jax.model._layers import softcap
from ooc_jax.model._mean_stream import mean_stream
from ooc_jax.model._model import PARTS
from ooc_jax.model._model import Model
from ooc_jax.model._model import forward
from ooc_jax.model._model import norm_gain
from ooc_jax.model._model import parameter
from ooc_jax.model._model import parameter_shapes
from ooc_jax.model._model import part_of
from ooc_jax.model._model import parts_needed
from ooc_jax.model._model import random_weights
from ooc_jax.model._rope import apply_rope
from ooc_jax.model._rope import rope_frequencies
from ooc_jax.model._taps import TAPPED
from ooc_jax.model._taps import Site
from ooc_jax.model._taps import Tap
from ooc_jax.model._taps import no_tap
from ooc_jax.model._taps import run_with_taps
from ooc_jax.model._tokenizer import Tokenizer
from ooc_jax.model._transformer import Transformer
from ooc_jax.model._upper import run_layers
from ooc_jax.model._upper import stream_logits

__all__ = tuple(x for x in dir() if not x.startswith('_'))
