"""Contractions of directions with a model's weights, streamed in blocks."""

from ooc_jax.circuits._attention import AttentionStatistics
from ooc_jax.circuits._attention import attention_statistics
from ooc_jax.circuits._attention_lowered import lower_attention
from ooc_jax.circuits._attention_vectors import attention_layer
from ooc_jax.circuits._attention_vectors import head_keys
from ooc_jax.circuits._attention_vectors import head_queries
from ooc_jax.circuits._attention_vectors import head_values
from ooc_jax.circuits._lens import CONVENTIONS
from ooc_jax.circuits._lens import input_lens
from ooc_jax.circuits._lens import output_lens
from ooc_jax.circuits._lens_lowered import lower_lens
from ooc_jax.circuits._mesh import to_host
from ooc_jax.circuits._moments import TableMoments
from ooc_jax.circuits._ov import head_output
from ooc_jax.circuits._ov import ov_lens
from ooc_jax.circuits._ov_writes import OvCopying
from ooc_jax.circuits._ov_writes import OvWrites
from ooc_jax.circuits._ov_writes import ov_copying
from ooc_jax.circuits._ov_writes import ov_writes
from ooc_jax.circuits._precision import PRECISIONS
from ooc_jax.circuits._qk_statistics import HeadStatistics
from ooc_jax.circuits._qk_statistics import ScoreStatistics
from ooc_jax.circuits._qk_statistics import qk_statistics
from ooc_jax.circuits._rope_profile import RopeProfile
from ooc_jax.circuits._rope_profile import head_profiles
from ooc_jax.circuits._rope_profile import rope_profile
from ooc_jax.circuits._tables import UNDERTRAINED_COSINE
from ooc_jax.circuits._tables import embedding_table
from ooc_jax.circuits._tables import final_gain
from ooc_jax.circuits._tables import readable_mask
from ooc_jax.circuits._tables import unembedding_table
from ooc_jax.circuits._undertrained import undertrained_tokens
from ooc_jax.circuits._unembedding_lens import Lens
from ooc_jax.circuits._unembedding_lens import table_moments
from ooc_jax.circuits._unembedding_lens import unembedding_lens

__all__ = (
    'AttentionStatistics',
    'CONVENTIONS',
    'HeadStatistics',
    'Lens',
    'OvCopying',
    'OvWrites',
    'PRECISIONS',
    'RopeProfile',
    'ScoreStatistics',
    'TableMoments',
    'UNDERTRAINED_COSINE',
    'attention_layer',
    'attention_statistics',
    'embedding_table',
    'final_gain',
    'head_keys',
    'head_output',
    'head_profiles',
    'head_queries',
    'head_values',
    'input_lens',
    'lower_attention',
    'lower_lens',
    'output_lens',
    'ov_copying',
    'ov_lens',
    'ov_writes',
    'qk_statistics',
    'readable_mask',
    'rope_profile',
    'table_moments',
    'to_host',
    'undertrained_tokens',
    'unembedding_lens',
    'unembedding_table',
)
