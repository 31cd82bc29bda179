"""All queries of one head against all its keys, a tile at a time, sharded.

Queries stay on their device; keys and queries are gathered once ([F, H] is
small), and what queries add to a key is exchanged at the end.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits.numerics import FEATURE
from ooc_jax.circuits.numerics import column_topk
from ooc_jax.circuits.numerics import merge_topk
from ooc_jax.circuits.qk._layout import Layout
from ooc_jax.circuits.qk._layout import gather
from ooc_jax.circuits.qk._layout import merge_groups
from ooc_jax.circuits.qk._layout import my_part
from ooc_jax.circuits.qk._layout import sum_in_order
from ooc_jax.circuits.qk._layout import to_key_owners
from ooc_jax.circuits.qk._score_std import score_std
from ooc_jax.circuits.qk._tile import GROUP
from ooc_jax.circuits.qk._tile import LANES
from ooc_jax.circuits.qk._tile import Columns
from ooc_jax.circuits.qk._tile import Keys
from ooc_jax.circuits.qk._tile import Rows
from ooc_jax.circuits.qk._tile import barrier
from ooc_jax.circuits.qk._tile import best_queries
from ooc_jax.circuits.qk._tile import in_units
from ooc_jax.circuits.qk._tile import reduce_tile

_HIGHEST = jax.lax.Precision.HIGHEST


class KeyRole(NamedTuple):
  """What a pass leaves for the keys; `top` before the softcap."""

  top: tuple[Float[Array, 'F k'], Int[Array, 'F k']]
  mean: Float[Array, 'F']
  std: Float[Array, 'F']
  received: Float[Array, 'F']
  largest: Float[Array, 'F']


class HeadSpec(NamedTuple):
  """What is static in a pass over a head."""

  layout: Layout
  k: int
  softcap: float | None
  hidden: bool  # Some keys do not count, or are padding.
  axis: str | None
  devices: int


@functools.partial(jax.jit, static_argnames=('k', 'softcap', 'mesh'))
def stream(
    queries: Float[Array, 'queries H'],
    keys: Float[Array, 'F H'],
    counts: Bool[Array, 'F'] | None,
    *,
    k: int,
    softcap: float | None,
    mesh: Mesh | None,
) -> tuple[Rows, KeyRole]:
  """Both roles of one head.

  Args:
    queries: Float32, times the scale.
    keys: Float32.
    counts: Which keys a query sees, or None for all.
    k: Partners to keep.
    softcap: Bound on the scores, or None.
    mesh: With an axis 'feature', over which both roles are split, or None.

  Returns:
    The query role and the key role; top scores are before the softcap.
  """
  Q, F = queries.shape[0], keys.shape[0]
  devices = 1 if mesh is None else mesh.shape[FEATURE]
  layout = Layout.of(Q, F, devices)
  padding = layout.keys - F
  seen = jnp.ones(F, bool) if counts is None else counts
  spec = HeadSpec(
      layout=layout,
      k=k,
      softcap=softcap,
      hidden=counts is not None or padding > 0,
      axis=FEATURE if devices > 1 else None,
      devices=devices,
  )
  one_head = functools.partial(_one_head, spec)
  if devices > 1:
    whole, parts = jax.P(), jax.P(FEATURE)
    one_head = jax.shard_map(
        one_head,
        mesh=mesh,
        in_specs=(parts, parts, parts, whole),
        out_specs=(parts, parts),
        check_vma=False,
    )
  rows, columns = one_head(
      layout.cut(queries),
      layout.real(),
      jnp.pad(keys, ((0, padding), (0, 0))),
      jnp.pad(seen, (0, padding)),
  )
  return (
      jax.tree.map(layout.join, rows),
      jax.tree.map(lambda x: x[:F], columns),
  )


def _one_head(
    spec: HeadSpec,
    queries: Float[Array, 'tiles rows H'],
    real: Bool[Array, 'tiles rows'],
    my_keys: Float[Array, 'own H'],
    counts: Bool[Array, 'keys'],
) -> tuple[Rows, KeyRole]:
  """What one device does with its queries and its keys."""
  layout = spec.layout
  H = my_keys.shape[1]
  my_queries = queries.reshape(-1, H)
  # The barriers keep one device from merging what several do in steps, which
  # would change the last bits.
  all_keys = barrier(gather(my_keys, spec.axis))
  all_queries = barrier(gather(my_queries, spec.axis))
  all_real = gather(real.reshape(-1), spec.axis)
  keys = _keys(all_keys, counts, all_queries, spec)
  rows, sums, best = _walk(spec, queries, real, keys)
  sums = barrier(jax.tree.map(lambda x: to_key_owners(x, spec.axis), sums))
  groups = merge_groups(best, layout.groups, spec.axis)
  found = best_queries(my_keys, groups, all_queries, all_real, spec.k)
  mean = centre = my_part(keys.centre, spec.axis)
  if spec.softcap is None or sums.total is None or sums.second is None:
    std = score_std(
        my_keys,
        all_queries,
        all_real,
        keys.mean_query,
        jnp.float32(layout.queries),
    )
    of_queries = score_std(
        my_queries, all_keys, keys.counts, keys.mean_row, keys.number
    )
    rows = rows._replace(std=of_queries.reshape(real.shape))
  else:
    mean = sum_in_order(sums.total) / layout.queries
    variance = sum_in_order(sums.second) / layout.queries
    variance -= jnp.square(mean - centre)
    std = spec.softcap * jnp.sqrt(jnp.maximum(variance, 0.0))
    mean *= spec.softcap
  columns = KeyRole(
      top=(found[0], layout.ids(found[1])),
      mean=mean,
      std=std,
      received=sum_in_order(sums.received),
      largest=sums.largest.max(axis=0),
  )
  return rows, columns


def _keys(
    rows: Float[Array, 'keys H'],
    counts: Bool[Array, 'keys'],
    queries: Float[Array, 'queries H'],
    spec: HeadSpec,
) -> Keys:
  number = counts.sum().astype(jnp.float32)
  seen = jnp.where(counts[:, None], rows, 0.0) if spec.hidden else rows
  mean_query = barrier(_sum_rows(queries) / spec.layout.queries)
  centre = jnp.einsum('kh,h->k', rows, mean_query, precision=_HIGHEST)
  return Keys(
      rows=rows,
      counts=counts if spec.hidden else None,
      number=number,
      mean_row=_sum_rows(seen) / number,
      mean_query=mean_query,
      centre=barrier(in_units(centre, spec.softcap)),
  )


def _walk(
    spec: HeadSpec,
    queries: Float[Array, 'tiles rows H'],
    real: Bool[Array, 'tiles rows'],
    keys: Keys,
) -> tuple[Rows, Columns, tuple[Float[Array, 'keys n'], Int[Array, 'keys n']]]:
  """All tiles: rows, sums [segments, keys], and each key's best groups."""
  layout = spec.layout
  B, f, H = queries.shape
  K = layout.keys
  at_once = layout.tiles_at_once(spec.devices)
  n = min(spec.k, layout.groups)
  per_tile = f // GROUP

  def one(sums, args):
    mine, mine_real, segment = args
    rows, added, maxima = reduce_tile(
        mine,
        mine_real if layout.queries < layout.segments * layout.width else None,
        keys,
        k=spec.k,
        softcap=spec.softcap,
    )
    largest = sums.largest.at[segment].max(added.largest)
    sums = jax.tree.map(lambda x, a: x.at[segment].add(a), sums, added)
    return sums._replace(largest=largest), (rows, maxima)

  def several(carry, args):
    sums, best = carry
    mine, mine_real, tiles = args
    sums, (rows, maxima) = jax.lax.scan(
        one, sums, (mine, mine_real, tiles // layout.tiles)
    )
    found = column_topk(maxima.reshape(-1, K), n)
    first = tiles[0] * per_tile
    return (sums, merge_topk(best, (found[0], found[1] + first), n)), rows

  zeros = jnp.zeros((layout.segments // spec.devices, K), jnp.float32)
  capped = None if spec.softcap is None else zeros
  start = (
      Columns(total=capped, second=capped, received=zeros, largest=zeros),
      (jnp.full((K, n), -jnp.inf, jnp.float32), jnp.zeros((K, n), jnp.int32)),
  )
  shape = (B // at_once, at_once)
  (sums, best), rows = jax.lax.scan(
      several,
      start,
      (
          queries.reshape(*shape, f, H),
          real.reshape(*shape, f),
          jnp.arange(B, dtype=jnp.int32).reshape(shape),
      ),
  )
  rows = jax.tree.map(lambda x: x.reshape(B, *x.shape[2:]), rows)
  return rows, sums, best


def _sum_rows(x: Float[Array, 'n H']) -> Float[Array, 'H']:
  """In two stages, which keeps the rounding error small."""
  x = jnp.pad(x, ((0, -len(x) % LANES), (0, 0)))
  return x.reshape(-1, LANES, x.shape[1]).sum(axis=0).sum(axis=0)
