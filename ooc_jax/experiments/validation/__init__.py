"""Validation: what weights say of features, beside a forward pass and text.

Every feature is read on a corpus, and some are added to the stream, so that
what its weights predict stands beside the tokens that rise, and beside the
tokens at which it is largest; with random directions and permuted lists for
chance.
"""

from ooc_jax.experiments.validation._compute import LayerTables
from ooc_jax.experiments.validation._compute import ValidationTables
from ooc_jax.experiments.validation._compute import compute
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.experiments.validation._run import run
from ooc_jax.experiments.validation._summarise import summarise
from ooc_jax.experiments.validation._text import beats_text
from ooc_jax.experiments.validation._text import text

__all__ = tuple(x for x in dir() if not x.startswith('_'))
