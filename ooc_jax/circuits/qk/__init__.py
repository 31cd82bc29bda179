"""How features attend to each other: the scores and weights of a head.

The algorithm, for queries and keys [F, H] of one head (no array of F x F is
ever held):
  1. `_head_vectors` makes queries and keys of the directions: pre-norm gain,
     weight, query-key norm, rotation by the distance between them.
  2. Queries are cut into tiles of whole rows (`_layout`). One product gives the
     scores of a tile with all keys, and is reduced in both roles at once: the
     softmax and the top k of its rows are final, to each key it adds sums and
     the maxima of groups of queries (`_tile`).
  3. The best queries of a key are in its groups with the largest maxima; only
     their scores are made again. Without a softcap the spread of the scores
     comes from a covariance [H, H] (`_score_std`).
  4. Over a mesh, queries stay where they are and sums travel to the devices
     that own the keys, in a fixed order: any number of devices gives the same
     bits (`_stream`).
`qk_statistics` takes arrays, `attention_statistics` a model and a dictionary,
`rope_profile` follows pairs over the distance between them. A feature is read
alone or on the mean of the stream (`on_bias`).
"""

from ooc_jax.circuits.qk._attention import AttentionStatistics
from ooc_jax.circuits.qk._attention import attention_statistics
from ooc_jax.circuits.qk._head_vectors import attention_layer
from ooc_jax.circuits.qk._head_vectors import check_attention_input
from ooc_jax.circuits.qk._head_vectors import check_head
from ooc_jax.circuits.qk._head_vectors import head_constants
from ooc_jax.circuits.qk._head_vectors import head_keys
from ooc_jax.circuits.qk._head_vectors import head_queries
from ooc_jax.circuits.qk._head_vectors import head_values
from ooc_jax.circuits.qk._on_bias import LENGTH
from ooc_jax.circuits.qk._on_bias import BiasScores
from ooc_jax.circuits.qk._on_bias import on_bias
from ooc_jax.circuits.qk._rope_profile import RopeProfile
from ooc_jax.circuits.qk._rope_profile import bias_profiles
from ooc_jax.circuits.qk._rope_profile import head_profiles
from ooc_jax.circuits.qk._rope_profile import rope_profile
from ooc_jax.circuits.qk._statistics import HeadStatistics
from ooc_jax.circuits.qk._statistics import ScoreStatistics
from ooc_jax.circuits.qk._statistics import qk_statistics

__all__ = (
    'AttentionStatistics',
    'BiasScores',
    'HeadStatistics',
    'LENGTH',
    'RopeProfile',
    'ScoreStatistics',
    'attention_layer',
    'attention_statistics',
    'bias_profiles',
    'check_attention_input',
    'check_head',
    'head_constants',
    'head_keys',
    'head_profiles',
    'head_queries',
    'head_values',
    'on_bias',
    'qk_statistics',
    'rope_profile',
)
