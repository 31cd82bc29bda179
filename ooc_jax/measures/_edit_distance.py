"""How alike the top tokens of a feature are as strings.

The table of distances between the prefixes of two strings is cut into tiles;
see `_edit_tile`. So strings may have any length.

All arrays have the features last, and k tokens before them: a pair is a token
and the one d places on, around the end, for d up to k / 2.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax.measures import _checks
from ooc_jax.measures._edit_tile import FULL
from ooc_jax.measures._edit_tile import TILE
from ooc_jax.measures._edit_tile import code_planes
from ooc_jax.measures._edit_tile import move_through_tile
from ooc_jax.measures._string_table import StringTable
from ooc_jax.measures._string_table import string_table


def _tokens(x, first, count: int, axis: int = 0) -> jax.Array:
  return jax.lax.dynamic_slice_in_dim(x, first, count, axis)


def _num_words(lengths: jax.Array) -> jax.Array:
  """How many words the longest takes."""
  return (jnp.max(lengths) + (TILE - 1)) // TILE


def _at_distance(d, num_top, text_WTKF, planes_WPKF, lengths_KF):
  """Edit distance of every token to the one d places on, over the longer."""
  table_words, num_features = planes_WPKF.shape[0], planes_WPKF.shape[3]
  shape = (num_top, num_features)
  here, there = lengths_KF[:num_top], _tokens(lengths_KF, d, num_top)
  # The shorter string goes down the table, so that one long string among
  # short ones costs a row of tiles and not a square.
  turned = here > there
  rows_kF = jnp.minimum(here, there)
  columns_kF = jnp.maximum(here, there)

  def pick(buffer, w):
    """Word w of the tokens of one place, [16 or P, k, F] each."""
    words = buffer[w]
    return words[:, :num_top], _tokens(words, d, num_top, axis=1)

  def pattern_word(w, carry):
    distance_kF, edges_W2kF = carry
    here_PkF, there_PkF = pick(planes_WPKF, w)
    pattern_PkF = jnp.where(turned[None], there_PkF, here_PkF)

    def text_word(c, carry):
      column, edges_W2kF = carry
      here_TkF, there_TkF = pick(text_WTKF, c)
      text_TkF = jnp.where(turned[None], here_TkF, there_TkF)
      column, edge = move_through_tile(
          pattern_PkF,
          text_TkF,
          columns_kF - c * TILE,
          column,
          (edges_W2kF[c, 0], edges_W2kF[c, 1]),
      )
      edges_W2kF = jax.lax.dynamic_update_index_in_dim(
          edges_W2kF, jnp.stack(edge), c, 0
      )
      return column, edges_W2kF

    # Down the left edge of the table every step is one more.
    column = jnp.full(shape, FULL), jnp.zeros(shape, jnp.uint16)
    (plus, minus), edges_W2kF = jax.lax.fori_loop(
        0, _num_words(columns_kF), text_word, (column, edges_W2kF)
    )
    num_rows = jnp.clip(rows_kF - w * TILE, 0, TILE).astype(jnp.uint16)
    within = jnp.where(num_rows == TILE, FULL, ~(FULL << num_rows))
    count = jax.lax.population_count
    distance_kF += count(plus & within).astype(jnp.int32)
    distance_kF -= count(minus & within).astype(jnp.int32)
    return distance_kF, edges_W2kF

  # So it is along the upper edge: the distance starts as the text's length.
  edge_2 = jnp.array([FULL, 0], jnp.uint16)[None, :, None, None]
  edges_W2kF = jnp.broadcast_to(edge_2, (table_words, 2, *shape))
  distance_kF, _ = jax.lax.fori_loop(
      0, _num_words(rows_kF), pattern_word, (columns_kF, edges_W2kF)
  )
  longer_kF = jnp.maximum(columns_kF, 1)
  return distance_kF.astype(jnp.float32) / longer_kF.astype(jnp.float32)


def _of_block(top_ids_Fk: jax.Array, table: StringTable) -> jax.Array:
  """The measure of a block of features."""
  num_features, num_top = top_ids_Fk.shape
  half = num_top // 2
  ids_KF = jnp.concatenate([top_ids_Fk.T, top_ids_Fk.T[:half]])
  starts_KF = table.starts[ids_KF]
  lengths_KF = table.lengths[ids_KF].astype(jnp.int32)
  table_words = max(1, -(-table.longest // TILE))

  def fill(w, buffers):
    text, planes = buffers
    place_T = w.astype(jnp.uint32) * TILE + jnp.arange(TILE, dtype=jnp.uint32)
    codes_TKF = table.codes.at[starts_KF[None] + place_T[:, None, None]].get(
        mode='clip'
    )
    put = jax.lax.dynamic_update_index_in_dim
    new_planes = code_planes(codes_TKF, table.code_bits)
    return put(text, codes_TKF, w, 0), put(planes, new_planes, w, 0)

  # All loops run as far as the longest string of this block needs.
  text_WTKF, planes_WPKF = jax.lax.fori_loop(
      0,
      _num_words(lengths_KF),
      fill,
      (
          jnp.zeros((table_words, TILE, *ids_KF.shape), table.codes.dtype),
          jnp.zeros((table_words, table.code_bits, *ids_KF.shape), jnp.uint16),
      ),
  )

  def add_distance(d, total_F):
    share_kF = _at_distance(d, num_top, text_WTKF, planes_WPKF, lengths_KF)
    # Half way around, every pair is met from both its ends.
    weight = jnp.where(2 * d == num_top, 0.5, 1.0).astype(jnp.float32)
    return total_F + weight * jnp.sum(share_kF, axis=0)

  total_F = jax.lax.fori_loop(
      1, half + 1, add_distance, jnp.zeros(num_features, jnp.float32)
  )
  return total_F / (num_top * (num_top - 1) / 2)


def _of_features(top_ids_Fk, table, block_size):
  num_features, num_top = top_ids_Fk.shape
  # By length, so that one long string slows its own block only.
  order_F = jnp.argsort(jnp.max(table.lengths[top_ids_Fk], axis=1))
  size = min(block_size, num_features)
  padded = jnp.pad(order_F, (-num_features % size, 0), mode='edge')
  blocks = top_ids_Fk[padded].reshape(-1, size, num_top)
  measured = jax.lax.map(lambda ids: _of_block(ids, table), blocks).reshape(-1)
  return jnp.zeros(num_features, jnp.float32).at[padded].set(measured)


@functools.partial(jax.jit, static_argnames=('block_size', 'mesh', 'axes'))
def _mean_distance(top_ids_Fk, table, *, block_size, mesh, axes):
  core = functools.partial(_of_features, block_size=block_size)
  if mesh is not None:
    # Each device its own features, with loops of their own length.
    core = jax.shard_map(
        core,
        mesh=mesh,
        in_specs=(PartitionSpec(axes), PartitionSpec()),
        out_specs=PartitionSpec(axes),
        check_vma=False,  # The loops start from constants.
    )
  return core(top_ids_Fk, table)


def mean_pairwise_edit_distance(
    top_ids: Int[Array | np.ndarray, 'F k'],
    strings: Sequence[str] | StringTable,
    *,
    block_size: int = 256,
) -> Float[Array, 'F']:
  """Mean over pairs of top tokens of edit distance over the longer length.

  The distance is Levenshtein's (insert, delete, substitute, each 1) between
  code points; a pair of empty strings has distance 0. 0 says that all strings
  are equal, 1 that no pair shares a letter in place. The distances are exact
  for strings of any length; their mean is taken in float32.

  Works under `jit`, given a `StringTable`; JAX then clamps ids out of range.
  Sharded features stay on their devices.

  Args:
    top_ids: The top tokens of each feature, in any order.
    strings: The canonical string of every token, by id; as a `string_table`
      where several lenses of one model are measured.
    block_size: Features at a time, on each device. About block_size x k x 6
      bytes are held for each letter of the longest string.

  Returns:
    A number in [0, 1] per feature.

  Raises:
    InputError: There is no pair (k < 2), or an id without a string.
  """
  table = strings if isinstance(strings, StringTable) else string_table(strings)
  mesh = axes = None
  if isinstance(top_ids, jax.core.Tracer):
    _checks.check_num_top(top_ids.shape[1])
  else:
    _checks.check_top_ids(top_ids, table.size, 'token strings')
    sharding = getattr(top_ids, 'sharding', None)
    if isinstance(sharding, NamedSharding) and any(sharding.spec[:1]):
      mesh, axes = sharding.mesh, sharding.spec[0]
  if not top_ids.shape[0]:
    return jnp.zeros(0, jnp.float32)
  return _mean_distance(
      jnp.asarray(top_ids), table, block_size=block_size, mesh=mesh, axes=axes
  )
