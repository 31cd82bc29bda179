"""Experiment 1: which features of a dictionary predict output tokens.

Every feature's decoder direction is read through the final norm and the
unembedding; a feature is semantic where its top tokens go together. From the
weights alone: no text, no activation.
"""

from ooc_jax.experiments.output_prediction._compute import DictionaryReader
from ooc_jax.experiments.output_prediction._compute import OutputTables
from ooc_jax.experiments.output_prediction._compute import compute
from ooc_jax.experiments.output_prediction._compute import ends_of
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_readouts
from ooc_jax.experiments.output_prediction._config import parse_thresholds
from ooc_jax.experiments.output_prediction._plan import plan
from ooc_jax.experiments.output_prediction._plan import topology_plan
from ooc_jax.experiments.output_prediction._run import run
from ooc_jax.experiments.output_prediction._summarise import summarise
from ooc_jax.experiments.output_prediction._text import text

__all__ = tuple(x for x in dir() if not x.startswith('_'))
