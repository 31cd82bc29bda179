"""One tile of a table of edit distances, 16 letters by 16, for many pairs.

Bit-parallel dynamic programming (Myers 1999, J. ACM 46:395), in blocks and for
distances between whole strings after Hyyrö (2003, Nordic J. Computing 10:29). A
column of the tile is two words: the bits of `plus` (`minus`) say where the next
row holds one more (less). Its upper and lower rows are likewise two words; they
are what one tile hands to the next.

Which letters of the pattern equal one of the text comes from bit planes, an
exclusive or for every bit of a code: a look-up for each of thousands of pairs
at once is slow everywhere.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt
import numpy as np

TILE = 16  # Letters, the bits of a word; under 1 % of the tokens are longer.
FULL = np.uint16(2**TILE - 1)
_ONE = np.uint16(1)


def code_planes(
    codes_WkF: UInt[Array, '16 k F'], num_planes: int
) -> UInt[Array, 'P k F']:
  """Cuts letters into bit planes: bit w of plane p is bit p of letter w.

  Args:
    codes_WkF: The codes of 16 letters of each string.
    num_planes: P, how many bits a code has.
  """
  one = jnp.ones((), codes_WkF.dtype)
  plane_P = jnp.arange(num_planes, dtype=codes_WkF.dtype)
  bits_WPkF = (codes_WkF[:, None] >> plane_P[None, :, None, None]) & one
  place_W = jnp.arange(codes_WkF.shape[0], dtype=jnp.uint16)
  bits_WPkF = bits_WPkF.astype(jnp.uint16) << place_W[:, None, None, None]
  return jnp.sum(bits_WPkF, axis=0, dtype=jnp.uint16)


def _equal_letters(planes_PkF, text_TkF):
  """Words that say which of 16 pattern letters equal each text letter."""
  differ_TkF = jnp.zeros(text_TkF.shape, jnp.uint16)
  for p, plane_kF in enumerate(planes_PkF):
    bit_TkF = (text_TkF >> text_TkF.dtype.type(p)) & text_TkF.dtype.type(1)
    # 0 - 1 is a word of ones.
    differ_TkF |= plane_kF[None] ^ jnp.negative(bit_TkF.astype(jnp.uint16))
  return ~differ_TkF


def move_through_tile(planes, text, num_live, column, row):
  """Moves a column of a tile through its 16 text letters.

  Args:
    planes: The 16 pattern letters, see `code_planes`.
    text: The 16 text letters.
    num_live: How many of these are within the text; past it the column stays.
    column: `plus` and `minus` at the left edge of the tile.
    row: At its upper edge; bit t is of text letter t.

  Returns:
    The column at the right edge, and the row at the lower edge.
  """
  # All at once: inside the loop, XLA:CPU would compute it for each output.
  equal_TkF = _equal_letters(planes, text)

  def step(t, carry):
    (plus, minus), (row_plus, row_minus) = carry
    equal = jax.lax.dynamic_index_in_dim(equal_TkF, t, 0, keepdims=False)
    vertical = equal | minus
    equal |= row_minus & _ONE
    horizontal = (((equal & plus) + plus) ^ plus) | equal
    up = minus | ~(horizontal | plus)
    down = plus & horizontal
    # A row word turns by one bit a step: read at its low end and refilled at
    # its high end, it is whole again after 16.
    last = np.uint16(TILE - 1)
    new_row = (
        (row_plus >> _ONE) | ((up >> last) << last),
        (row_minus >> _ONE) | ((down >> last) << last),
    )
    up = (up << _ONE) | (row_plus & _ONE)
    down = (down << _ONE) | (row_minus & _ONE)
    live = t < num_live
    new_column = (
        jnp.where(live, down | ~(vertical | up), plus),
        jnp.where(live, up & vertical, minus),
    )
    return new_column, new_row

  return jax.lax.fori_loop(0, TILE, step, (column, row))
