"""Contractions of directions with a model's weights, streamed in blocks.

`lens` reads directions at the vocabulary, `qk` scores them against each other
in the heads of a layer, `ov` follows what a head writes for them to tokens or
to another dictionary; each tells its algorithm in its docstring.
`nearest_directions` compares those of one dictionary. `numerics` is the
arithmetic under them. All are sharded over a mesh with the axes 'feature'
and 'vocab', hold blocks only, and give the same answer on one device and on
many.
"""

from ooc_jax.circuits._lowered import lower_attention
from ooc_jax.circuits._lowered import lower_lens
from ooc_jax.circuits._nearest import Nearest
from ooc_jax.circuits._nearest import nearest_directions
from ooc_jax.circuits.lens import CONVENTIONS
from ooc_jax.circuits.lens import KERNELS
from ooc_jax.circuits.lens import PRECISIONS
from ooc_jax.circuits.lens import UNDERTRAINED_COSINE
from ooc_jax.circuits.lens import Lens
from ooc_jax.circuits.lens import TableMoments
from ooc_jax.circuits.lens import embedding_table
from ooc_jax.circuits.lens import final_gain
from ooc_jax.circuits.lens import input_lens
from ooc_jax.circuits.lens import leave_screen
from ooc_jax.circuits.lens import lens_precision
from ooc_jax.circuits.lens import output_lens
from ooc_jax.circuits.lens import readable_mask
from ooc_jax.circuits.lens import table_moments
from ooc_jax.circuits.lens import undertrained_at
from ooc_jax.circuits.lens import undertrained_tokens
from ooc_jax.circuits.lens import unembedding_lens
from ooc_jax.circuits.lens import unembedding_table
from ooc_jax.circuits.numerics import to_host
from ooc_jax.circuits.ov import OvCopying
from ooc_jax.circuits.ov import OvWrites
from ooc_jax.circuits.ov import head_output
from ooc_jax.circuits.ov import ov_copying
from ooc_jax.circuits.ov import ov_lens
from ooc_jax.circuits.ov import ov_writes
from ooc_jax.circuits.qk import LENGTH
from ooc_jax.circuits.qk import AttentionStatistics
from ooc_jax.circuits.qk import BiasScores
from ooc_jax.circuits.qk import HeadStatistics
from ooc_jax.circuits.qk import RopeProfile
from ooc_jax.circuits.qk import ScoreStatistics
from ooc_jax.circuits.qk import attention_layer
from ooc_jax.circuits.qk import attention_statistics
from ooc_jax.circuits.qk import bias_profiles
from ooc_jax.circuits.qk import check_attention_input
from ooc_jax.circuits.qk import head_constants
from ooc_jax.circuits.qk import head_keys
from ooc_jax.circuits.qk import head_profiles
from ooc_jax.circuits.qk import head_queries
from ooc_jax.circuits.qk import head_values
from ooc_jax.circuits.qk import on_bias
from ooc_jax.circuits.qk import qk_statistics
from ooc_jax.circuits.qk import rope_profile

__all__ = tuple(x for x in dir() if not x.startswith('_'))
