"""Experiment 3: do semantic features take part in attention as others do.

Joins experiment 1, which says which features are semantic (by decoder and
unembedding, and by encoder and embedding), with experiment 2, which says how
strongly each takes part in attention, and compares the two populations layer
by layer. Runs both, or reads the folders of finished runs.
"""

from ooc_jax.experiments.semantic_attention._compute import SemanticTables
from ooc_jax.experiments.semantic_attention._compute import compute
from ooc_jax.experiments.semantic_attention._config import SemanticAttention
from ooc_jax.experiments.semantic_attention._run import run
from ooc_jax.experiments.semantic_attention._summarise import summarise
from ooc_jax.experiments.semantic_attention._text import text

__all__ = tuple(x for x in dir() if not x.startswith('_'))
