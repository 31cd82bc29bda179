"""The arithmetic under lens, QK and OV: digits, blocks, top-k, meshes.

Nothing here knows of models. `compensated_dots` gives inner products to about
2^-36, which decides ties the same way on every device; `exponent_of` and
`times_power` take a power of two out of a row and put it back without losing a
digit. `Blocks` says how a jitted pass cuts features and vocabulary so that no
array of F x V is held; `RowBlocks` walks over the rows of one table, which may
be sharded, for work that is done once a model. The top-k searches look at group
maxima first, because sorting all entries is what costs. `_mesh` finds the mesh
that arrays lie on and puts them over its axes 'feature' and 'vocab'.
"""

from ooc_jax.circuits.numerics._blocks import FOLD
from ooc_jax.circuits.numerics._blocks import Blocks
from ooc_jax.circuits.numerics._blocks import RowBlocks
from ooc_jax.circuits.numerics._blocks import fold_last
from ooc_jax.circuits.numerics._blocks import fold_reduce
from ooc_jax.circuits.numerics._blocks import side_by_side
from ooc_jax.circuits.numerics._blocks import triangle
from ooc_jax.circuits.numerics._float32 import Dot
from ooc_jax.circuits.numerics._float32 import bfloat16_pieces
from ooc_jax.circuits.numerics._float32 import compensated_dots
from ooc_jax.circuits.numerics._float32 import divide
from ooc_jax.circuits.numerics._float32 import exponent_of
from ooc_jax.circuits.numerics._float32 import scaled_rows
from ooc_jax.circuits.numerics._float32 import times_power
from ooc_jax.circuits.numerics._mesh import FEATURE
from ooc_jax.circuits.numerics._mesh import VOCAB
from ooc_jax.circuits.numerics._mesh import axis_of
from ooc_jax.circuits.numerics._mesh import check_mesh
from ooc_jax.circuits.numerics._mesh import device_of
from ooc_jax.circuits.numerics._mesh import feature_mesh
from ooc_jax.circuits.numerics._mesh import mesh_of
from ooc_jax.circuits.numerics._mesh import on_mesh
from ooc_jax.circuits.numerics._mesh import platform_of
from ooc_jax.circuits.numerics._mesh import shard_rows
from ooc_jax.circuits.numerics._mesh import to_host
from ooc_jax.circuits.numerics._topk import column_topk
from ooc_jax.circuits.numerics._topk import grouped_topk
from ooc_jax.circuits.numerics._topk import merge_topk

__all__ = tuple(x for x in dir() if not x.startswith('_'))
