"""The logit lens: what directions predict, and which tokens make them fire.

The algorithm, for directions d [F, D] and a table u [V, D] (no array of F x V
is ever held):
  1. Once a table: mean, covariance and norms of its rows (`_moments`).
  2. Directions are scaled by powers of two; a screened pass splits them in
     three bfloat16 numbers each, which add up to them (`_prepare`).
  3. A pass multiplies blocks of features with blocks of rows and reduces each
     block at once: into sums for the statistics (`_sums`), and into the groups
     of tokens with the largest bounds at either end (`_scan`). Or one kernel
     does both and keeps the block on the chip (`_fused`).
  4. The best candidates are multiplied again to 2^-36, and the bound on the
     pass's errors proves that no other token belongs to the top or bottom k
     (`_certificate`). Features without a proof get a finer pass, and at last
     every product. So the answer never depends on precision, blocks or mesh.
  5. Shards of the vocabulary exchange k candidates and the sums (`_sharded`
     puts steps 2 to 4, the `_kernel`, on one device or over a mesh).
`unembedding_lens` takes arrays; `output_lens` and `input_lens` take a model and
a dictionary and know the conventions.
"""

from ooc_jax.circuits.lens._lens import KERNELS
from ooc_jax.circuits.lens._lens import PRECISIONS
from ooc_jax.circuits.lens._lens import Lens
from ooc_jax.circuits.lens._lens import leave_screen
from ooc_jax.circuits.lens._model_lens import CONVENTIONS
from ooc_jax.circuits.lens._model_lens import input_lens
from ooc_jax.circuits.lens._model_lens import lens_precision
from ooc_jax.circuits.lens._model_lens import output_lens
from ooc_jax.circuits.lens._moments import TableMoments
from ooc_jax.circuits.lens._unembedding_lens import table_moments
from ooc_jax.circuits.lens._unembedding_lens import unembedding_lens
from ooc_jax.circuits.lens._vocabulary import UNDERTRAINED_COSINE
from ooc_jax.circuits.lens._vocabulary import embedding_table
from ooc_jax.circuits.lens._vocabulary import final_gain
from ooc_jax.circuits.lens._vocabulary import readable_mask
from ooc_jax.circuits.lens._vocabulary import undertrained_at
from ooc_jax.circuits.lens._vocabulary import undertrained_tokens
from ooc_jax.circuits.lens._vocabulary import unembedding_table

__all__ = (
    'CONVENTIONS',
    'Lens',
    'KERNELS',
    'PRECISIONS',
    'TableMoments',
    'UNDERTRAINED_COSINE',
    'embedding_table',
    'final_gain',
    'input_lens',
    'leave_screen',
    'lens_precision',
    'output_lens',
    'readable_mask',
    'table_moments',
    'undertrained_at',
    'undertrained_tokens',
    'unembedding_lens',
    'unembedding_table',
)
