"""How features and the rows of a table are cut into blocks.

`Blocks` is for the pass of a lens, `RowBlocks` for passes over the rows of one
matrix, which may be sharded. In both the last block reaches back to be whole,
and what it repeats does not count. `side_by_side` runs blocks, or heads.
"""

from collections.abc import Callable, Iterable
from concurrent import futures
import contextlib
import itertools
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

# Entries that one step of a reduction folds. XLA:CPU unrolls so few and then
# vectorises over the lanes: sums of powers take 0.2 ns an entry and core so,
# and 1 to 5 ns folded all at once.
FOLD = 8
_T = TypeVar('_T')


def side_by_side(
    runs: Iterable[Callable[[], _T]], on: Array, mesh: Mesh | None
) -> list[_T]:
  """What the runs return: on a CPU two at a time, else one after the other.

  XLA:CPU searches, gathers and sorts on one core; meanwhile the other core has
  another run. Each is waited for, so that no more than two take memory.

  Args:
    runs: What has no arguments left.
    on: An array of theirs; under `jit` they run one after the other.
    mesh: Theirs. Programs of two threads on the same devices would wait for
      each other.
  """
  alone = mesh is not None or isinstance(on, jax.core.Tracer)
  if alone or [x.platform for x in on.devices()] != ['cpu']:
    return [jax.block_until_ready(run()) for run in runs]
  # What was set by `with` is a thread's own.
  settings = [
      (getattr(jax, name), getattr(jax.config, f'jax_{name}'))
      for name in ('enable_x64', 'default_device')
  ]

  def one(run: Callable[[], _T]) -> _T:
    with contextlib.ExitStack() as stack:
      for setting, value in settings:
        stack.enter_context(setting(value))
      return jax.block_until_ready(run())

  with futures.ThreadPoolExecutor(2) as pool:
    return list(pool.map(one, runs))


def triangle(width: int) -> list[tuple[int, int]]:
  """[first, last) of the columns of up to eight blocks of a [D, D] triangle.

  In products with a triangle, and in those that are symmetric, a block needs
  the rows on one side of its last or first column only: with eight blocks 9/16
  of all. Products of fewer than 128 columns run at less than their rate.
  """
  count = max(1, min(8, width // 128))
  edges = [width * i // count for i in range(count + 1)]
  return list(itertools.pairwise(edges))


class Blocks(NamedTuple):
  """Sizes of the blocks of a lens; static under jit.

  A position counts the rows as the walk meets them. As the last block reaches
  back, position p is not always row p.

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
    if vocab <= 16_384:
      # So few groups that members, and not bounds, take the time: fewer each.
      lanes = 128
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
  def single_pass(cls, vocab: int, platform: str) -> 'Blocks':
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

  def position_of(self, row: Int[Array, '...']) -> Int[Array, '...']:
    """Where the walk meets rows of the table first."""
    back = max(self.count * self.rows - self.vocab, 0)
    if self.vocab < self.rows:
      return row
    return jnp.where(row >= (self.count - 1) * self.rows, row + back, row)

  def positions(
      self, group: Int[Array, '...']
  ) -> Int[Array, '... {self.group}']:
    """Positions of the members of groups."""
    first = group // self.lanes * self.rows + group % self.lanes
    steps = jnp.arange(self.group, dtype=jnp.int32) * self.lanes
    return first[..., None] + steps.reshape((1,) * group.ndim + (-1,))

  def group_max(self, x: Float[Array, 'positions']) -> Float[Array, 'groups']:
    """Largest of each group, of one number per position."""
    return x.reshape(self.count, self.group, self.lanes).max(axis=1).ravel()


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


class RowBlocks(NamedTuple):
  """How to walk over the rows of a matrix without a second copy of it.

  The shards of a sharded matrix become an axis of their own, [V, D] ->
  [shards, rows, D], and blocks are cut from each shard's rows: every device
  reads its own, and nothing is gathered.
  """

  shards: int
  rows: int  # Of one shard.
  size: int  # Rows of a block, in each shard.

  @classmethod
  def of(cls, x: jax.Array, block_size: int) -> 'RowBlocks':
    rows = x.sharding.shard_shape(x.shape)[0]
    return cls(x.shape[0] // rows, rows, min(block_size, rows))

  def each(self, step: Callable[..., Any], x: jax.Array, carry: Any) -> Any:
    """What steps leave of `carry`, one a block, in a jitted loop.

    Args:
      step: Makes the next carry of this one, the block of `x` [shards, size,
        ...], its first row, and [size] bool, whether a row is met the first
        time.
      x: The matrix [V, ...].
      carry: What the first step is given.
    """

    def one(i, carry):
      # Or XLA:CPU casts a whole bfloat16 matrix to float32 ahead of the loop.
      whole, i = jax.lax.optimization_barrier((x, i))
      start = jnp.minimum(i * self.size, self.rows - self.size)
      fresh = start + jnp.arange(self.size, dtype=jnp.int32) >= i * self.size
      return step(carry, self.read(whole, start), start, fresh)

    return jax.lax.fori_loop(0, -(-self.rows // self.size), one, carry)

  def read(self, x: jax.Array, start: jax.Array) -> jax.Array:
    """The block of [V, ...] at `start`, [shards, size, ...]."""
    x = x.reshape(self.shards, self.rows, *x.shape[1:])
    return jax.lax.dynamic_slice_in_dim(x, start, self.size, axis=1)

  def write(self, x: jax.Array, block: jax.Array, start: jax.Array):
    """`x` [V, ...] with `block` [shards, size, ...] written at `start`."""
    shards = x.reshape(self.shards, self.rows, *x.shape[1:])
    shards = jax.lax.dynamic_update_slice_in_dim(shards, block, start, axis=1)
    return shards.reshape(x.shape)
