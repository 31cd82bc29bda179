"""Contractions of directions with a model's weights, streamed in blocks."""

from ooc_jax.circuits._lens import CONVENTIONS
from ooc_jax.circuits._lens import input_lens
from ooc_jax.circuits._lens import output_lens
from ooc_jax.circuits._moments import TableMoments
from ooc_jax.circuits._precision import PRECISIONS
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
    'CONVENTIONS',
    'Lens',
    'PRECISIONS',
    'TableMoments',
    'UNDERTRAINED_COSINE',
    'embedding_table',
    'final_gain',
    'input_lens',
    'output_lens',
    'readable_mask',
    'table_moments',
    'undertrained_tokens',
    'unembedding_lens',
    'unembedding_table',
)
