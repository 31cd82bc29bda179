"""A closer look at the features whose ends are not proven yet."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ooc_jax.circuits import _certify
from ooc_jax.circuits._certify import Ends

# Features at a time: looked at closer, and with all their products.
CLOSER, LAST = 32, 8
_ROWS = 128  # Of the table at a time, in the latter case.


def recount(
    ends: Ends,
    rows: Float[Array, 'F D'],
    look: Callable[[Float[Array, 'f D']], Ends],
    size: int,
    axis: str | None,
) -> Ends:
  """Asks `look` about the uncertain features, `size` at a time.

  Costs nothing where all are certain. Under `jax.shard_map` every shard takes
  as many turns as the one with most uncertain features, for `look` may talk to
  others.

  Args:
    ends: What is known so far.
    rows: One for each feature.
    look: Gives the ends of some rows.
    size: How many rows it is given.
    axis: The mesh axis over which features are spread, or None.
  """
  F = rows.shape[0]
  uncertain = ~ends.certain
  count = uncertain.sum(dtype=jnp.int32)
  turns = -(-count // size)
  if axis is not None:
    turns = jax.lax.pmax(turns, axis)
  order = jnp.argsort(~uncertain, stable=True).astype(jnp.int32)
  order = jnp.pad(order, (0, size))

  def turn(state):
    i, ends = state
    feature = jax.lax.dynamic_slice_in_dim(order, i * size, size)
    found = look(rows[feature])
    # Past the end of the list, written nowhere.
    place = i * size + jnp.arange(size, dtype=jnp.int32)
    target = jnp.where(place < count, feature, F)
    ends = jax.tree.map(
        lambda x, new: x.at[:, target].set(new, mode='drop'), ends, found
    )
    return i + 1, ends

  return jax.lax.while_loop(
      lambda state: state[0] < turns, turn, (jnp.int32(0), ends)
  )[1]


def all_products(
    rows: Float[Array, 'f D'],
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    k: int,
    unit: bool,
) -> Ends:
  """The ends by every inner product: the last resort.

  For features that have hundreds of products within rounding of the k-th,
  such as copies of one token.
  """
  f, V = rows.shape[0], table.shape[0]
  size = min(_ROWS, V)
  blocks = -(-V // size)

  def step(b, best: Ends) -> Ends:
    start = jnp.minimum(b * size, V - size)
    block = jax.lax.dynamic_slice_in_dim(table, start, size)
    row = start + jnp.arange(size, dtype=jnp.int32)
    counts = jax.lax.dynamic_slice_in_dim(keep, start, size)
    counts &= row >= b * size  # The last block reaches back.
    mine, theirs = jax.lax.optimization_barrier(
        (jnp.repeat(rows, size, axis=0), jnp.tile(block, (f, 1)))
    )
    dots = _certify.products(mine, theirs, unit)
    value, rest = (
        jnp.stack([x, -x]).reshape(2, f, size) for x in (dots.value, dots.rest)
    )
    found = Ends(
        jnp.where(counts[None, None], value, -jnp.inf),
        rest,
        jnp.broadcast_to(row[None, None], value.shape),
        best.left_out,
    )
    every = jax.tree.map(
        lambda x, new: jnp.concatenate([x, new], axis=-1), best, found
    )
    every = every._replace(left_out=best.left_out)
    return _certify.best(every, k)

  none = jnp.zeros((2, f, 0))
  start = Ends(none, none, none.astype(jnp.int32), jnp.full((2, f), -jnp.inf))
  return jax.lax.fori_loop(0, blocks, step, _certify.pad_ends(start, k))
