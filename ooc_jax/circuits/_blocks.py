"""How a lens cuts features and vocabulary into blocks.

Positions: shards of V rows are walked in blocks of `rows`; the last block
reaches back to be whole, so position p of the walk is not always row p. What
it repeats does not count.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Entries that one step of a reduction folds. XLA:CPU unrolls so few and then
# vectorises over the lanes: sums of powers take 0.2 ns an entry and core so,
# and 1 to 5 ns folded all at once.
FOLD = 8


class Blocks(NamedTuple):
  """Sizes of the blocks; static under jit.

  Attributes:
    features: Features at a time.
    rows: Rows of the table at a time; a multiple of FOLD * lanes.
    joined: Blocks of rows whose logits are kept until their largest are
      looked up.
    lanes: Independent partial sums, contiguous in memory. Entries of a block
      that share a lane are one group of the top-k.
    count: Blocks of rows in all.
    vocab: Rows of the table (of one shard).
  """

  features: int
  rows: int
  joined: int
  lanes: int
  count: int
  vocab: int

  @classmethod
  def choose(cls, features: int, vocab: int, platform: str) -> 'Blocks':
    """Blocks for one device of a platform ('cpu', 'gpu', 'tpu')."""
    # On a CPU the logits of a block, 4 MB, stay near its cores from the
    # product to the last reduction. Elsewhere calls are dear, not memory.
    most, rows, joined, lanes = (
        (512, 2048, 8, 64) if platform == 'cpu' else (2048, 8192, 4, 128)
    )
    step = FOLD * lanes
    rows = min(rows, -(-vocab // step) * step)
    count = -(-vocab // rows)
    blocks = -(-features // most)
    return cls(
        -(-features // blocks),
        rows,
        min(joined, count),
        lanes,
        count,
        vocab,
    )

  @classmethod
  def once(cls, vocab: int, platform: str) -> 'Blocks':
    """For passes that read each row once: a block stays in a core's cache."""
    rows = min(512 if platform == 'cpu' else 8192, vocab)
    return cls(1, rows, 1, 1, -(-vocab // rows), vocab)

  @property
  def group(self) -> int:
    """Entries of a group."""
    return self.rows // self.lanes

  @property
  def groups(self) -> int:
    """Groups in all."""
    return self.count * self.lanes

  def fold(self, x: Array) -> Array:
    """[F, rows] -> [F, n, FOLD, lanes]."""
    return x.reshape(x.shape[0], -1, FOLD, self.lanes)

  def start(self, block: Int[Array, '']) -> Int[Array, '']:
    """First row of a block, whole: the last one reaches back."""
    return jnp.minimum(block * self.rows, max(self.vocab - self.rows, 0))

  def read(self, x: Array, block: Int[Array, '']) -> Array:
    """The rows of a block of [V, ...]; zeros past a table of one block."""
    if self.vocab < self.rows:
      return jnp.pad(x, [(0, self.rows - self.vocab)] + [(0, 0)] * (x.ndim - 1))
    # Without the barrier XLA:CPU casts a whole bfloat16 table to float32 ahead
    # of the loop: a second copy of twice the size.
    x, start = jax.lax.optimization_barrier((x, self.start(block)))
    return jax.lax.dynamic_slice_in_dim(x, start, self.rows)

  def fresh(self, block: Int[Array, '']) -> Array:
    """[rows] bool: in the table, and not seen by an earlier block."""
    row = self.start(block) + jnp.arange(self.rows, dtype=jnp.int32)
    return (row >= block * self.rows) & (row < self.vocab)

  def rows_at(self, positions: Int[Array, '...']) -> Int[Array, '...']:
    """Rows of the table at positions of the walk."""
    back = self.count * self.rows - self.vocab
    last = positions >= (self.count - 1) * self.rows
    if self.vocab < self.rows:
      return jnp.minimum(positions, self.vocab - 1)
    return jnp.where(last, positions - back, positions)

  def positions(
      self, group: Int[Array, '...']
  ) -> Int[Array, '... {self.group}']:
    """Positions of the members of groups."""
    first = group // self.lanes * self.rows + group % self.lanes
    steps = jnp.arange(self.group, dtype=jnp.int32) * self.lanes
    return first[..., None] + steps.reshape((1,) * group.ndim + (-1,))

  def group_max(self, x_P: Float[Array, 'P']) -> Float[Array, 'groups']:
    """Largest of each group, of one number per position."""
    return x_P.reshape(self.count, self.group, self.lanes).max(axis=1).ravel()


def fold_reduce(xs, kinds: str):
  """Reduces [F, n, FOLD, lanes] over FOLD, all of `xs` in one loop.

  Args:
    xs: Arrays of one shape.
    kinds: A letter for each: s sum, M largest, m smallest.

  Returns:
    [F, n, lanes] for each.
  """
  start = {'s': 0.0, 'M': -jnp.inf, 'm': jnp.inf}
  join = {'s': jax.lax.add, 'M': jax.lax.max, 'm': jax.lax.min}

  def combine(left, right):
    return tuple(
        join[k](a, b) for k, a, b in zip(kinds, left, right, strict=True)
    )

  return jax.lax.reduce(
      tuple(xs), tuple(jnp.float32(start[k]) for k in kinds), combine, (2,)
  )


def fold_last(xs, join):
  """Folds [n, D] of all `xs` over every FOLD-th column: D / FOLD are left.

  Args:
    xs: Arrays of one shape.
    join: Joins two tuples with an entry of each.
  """
  n, D = xs[0].shape
  padding = -D % FOLD
  zero = jnp.float32(0)
  return jax.lax.reduce(
      tuple(
          jnp.pad(x, ((0, 0), (0, padding))).reshape(n, FOLD, -1) for x in xs
      ),
      (zero,) * len(xs),
      join,
      (1,),
  )
