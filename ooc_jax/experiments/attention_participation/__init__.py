"""Experiment 2: which features of a dictionary take part in attention.

The directions at the input of every layer are sent through the queries and
keys of its heads, as if each were the whole stream or on the mean of the
stream, and all are scored with all; random directions, permuted keys and token
embeddings take the same way. A feature participates in a head where its largest
score, or weight, passes a threshold. From the weights alone, without a text;
only an estimate of the mean, where a dictionary has none, takes forward passes.
"""

from ooc_jax.experiments.attention_participation._compute import AttentionTables
from ooc_jax.experiments.attention_participation._compute import compute
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.experiments.attention_participation._config import (
    parse_participation,
)
from ooc_jax.experiments.attention_participation._inputs import layer_inputs
from ooc_jax.experiments.attention_participation._inputs import own_mean
from ooc_jax.experiments.attention_participation._plan import plan
from ooc_jax.experiments.attention_participation._run import read_tables
from ooc_jax.experiments.attention_participation._run import run
from ooc_jax.experiments.attention_participation._summarise import summarise
from ooc_jax.experiments.attention_participation._text import text

__all__ = tuple(x for x in dir() if not x.startswith('_'))
