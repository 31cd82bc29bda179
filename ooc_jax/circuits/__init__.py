"""Contractions of directions with a model's weights, streamed in blocks."""

from ooc_jax.circuits._lens import CONVENTIONS
from ooc_jax.circuits._lens import PRECISIONS
from ooc_jax.circuits._lens import Lens
from ooc_jax.circuits._lens import input_lens
from ooc_jax.circuits._lens import output_lens
from ooc_jax.circuits._lens import unembedding_lens
from ooc_jax.circuits._tables import UNDERTRAINED_COSINE
from ooc_jax.circuits._tables import embedding_table
from ooc_jax.circuits._tables import final_gain
from ooc_jax.circuits._tables import readable_mask
from ooc_jax.circuits._tables import unembedding_table
from ooc_jax.circuits._undertrained import undertrained_tokens

__all__ = (
    'CONVENTIONS',
    'Lens',
    'PRECISIONS',
    'UNDERTRAINED_COSINE',
    'embedding_table',
    'final_gain',
    'input_lens',
    'output_lens',
    'readable_mask',
    'undertrained_tokens',
    'unembedding_lens',
    'unembedding_table',
)
