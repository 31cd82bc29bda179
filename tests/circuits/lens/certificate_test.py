"""Top and bottom k where rounding, ties or masks could change them."""

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import circuits
from ooc_jax.circuits import numerics
from ooc_jax.circuits.lens import _certificate
from ooc_jax.circuits.lens import _unembedding_lens

# More groups of tokens than are kept, so that some are left out unseen.
_F, _V, _D, _K = 24, 5_000, 40, 12
_FORMS = (
    ('exact', 'float32'),
    ('screened', 'float32'),
    ('screened', 'bfloat16'),
)


def _rng(case):
  return np.random.default_rng(sum(map(ord, case)))


def _plain(rng):
  directions = rng.normal(size=(_F, _D))
  return directions, rng.normal(size=(_V, _D)) + 0.3, rng.random(_V) > 0.1


def _ties(rng):
  """A few small whole numbers: products are exact, and thousands are equal."""
  few = rng.integers(-2, 3, size=(30, _D))
  directions = rng.integers(-2, 3, size=(_F, _D))
  return directions, few[rng.integers(0, 30, size=_V)], rng.random(_V) > 0.1


def _near_ties(rng):
  """Rows apart by less than bfloat16 sees, and products by less than float32.

  The latter for some tokens in every direction.
  """
  row = rng.normal(size=_D)
  table = row[None] * (1 + 2.0**-17 * rng.integers(-9, 10, size=(_V, _D)))
  return rng.normal(size=(_F, _D)), table, rng.random(_V) > 0.1


def _near_ties_of_directions(rng):
  """Directions that bfloat16 would make one; a table that it holds."""
  row = rng.normal(size=_D)
  directions = row[None] * (1 + 1e-4 * rng.normal(size=(_F, _D)))
  few = rng.integers(-40, 41, size=(_V, _D))
  return directions, few, rng.random(_V) > 0.1


def _sizes(rng):
  """Rows and directions of 20 orders of magnitude and more."""
  directions, table, keep = _plain(rng)
  directions *= 10.0 ** rng.uniform(-9, 9, size=(_F, 1))
  table *= 10.0 ** rng.uniform(-9, 9, size=(_V, 1))
  return directions, table, keep


def _huge(rng):
  directions, table, keep = _plain(rng)
  return directions * 1e4, table * 1e30, keep


def _tiny(rng):
  directions, table, keep = _plain(rng)
  return directions * 1e-3, table * 1e-30, keep


def _one_row(rng):
  """One token, five thousand times."""
  directions, table, keep = _plain(rng)
  return directions, np.tile(table[:1], (_V, 1)), keep


def _two_rows(rng):
  directions, table, keep = _plain(rng)
  return directions, table[rng.integers(0, 2, size=_V)], keep


def _masked_ends(rng):
  """The largest products are of tokens that do not count."""
  directions, table, keep = _plain(rng)
  table[~keep] *= 1000
  table[np.flatnonzero(~keep)[:3]] = 0
  return directions, table, keep


def _only_k(rng):
  """As many tokens count as are asked for, in one part of the vocabulary."""
  directions, table, keep = _plain(rng)
  keep = np.zeros(_V, bool)
  keep[rng.choice(700, size=_K, replace=False) + 4_200] = True
  return directions, table, keep


def _zero_rows(rng):
  """Half of the tokens, and a few directions, are nothing at all."""
  directions, table, keep = _plain(rng)
  directions[::5] = 0
  table[rng.random(_V) < 0.5] = 0
  return directions, np.abs(table) * rng.choice([-1, 1], size=_V)[:, None], keep


_CASES = {
    f.__name__.strip('_'): f
    for f in (
        _plain, _ties, _near_ties, _near_ties_of_directions, _sizes, _huge,
        _tiny, _one_row, _two_rows, _masked_ends, _only_k, _zero_rows,
    )
}  # fmt: skip


def _arrays(case, dtype):
  """Float32 directions, a table of `dtype`, and the mask of a case."""
  directions, table, keep = _CASES[case](_rng(case))
  return (
      np.asarray(directions, np.float32),
      jnp.asarray(np.asarray(table, np.float32)).astype(dtype),
      keep,
  )


def _products(directions, table):
  """In float64, each from its two rows alone: copies of a row are equal."""
  table = np.asarray(table, np.float64)
  return np.stack(
      [(row[None] * table).sum(axis=1) for row in directions.astype(np.float64)]
  )


def _ends(products, keep, k=_K):
  """Ids of both ends; equal products by rising id."""
  ids = np.flatnonzero(keep)
  kept = products[:, keep]
  order = [np.argsort(s * kept, axis=1, kind='stable')[:, :k] for s in (-1, 1)]
  return [ids[x] for x in order]


def _lens(directions, table, keep, precision, k=_K, **settings):
  return circuits.unembedding_lens(
      jnp.asarray(directions),
      jnp.ones(directions.shape[1]),
      table,
      jnp.asarray(keep),
      k=k,
      precision=precision,
      **settings,
  )


class CertificateTest(parameterized.TestCase):

  @parameterized.named_parameters(
      (f'{case}_{precision}_{dtype}', case, precision, dtype)
      for precision, dtype in _FORMS
      for case in _CASES
  )
  def test_ids_are_those_of_float64(self, case, precision, dtype):
    directions, table, keep = _arrays(case, dtype)
    lens = _lens(directions, table, keep, precision)
    products = _products(directions, table)
    top, bottom = _ends(products, keep)
    np.testing.assert_array_equal(lens.top_ids, top)
    np.testing.assert_array_equal(lens.bottom_ids, bottom)
    for ids, logits in ((top, lens.top_logits), (bottom, lens.bottom_logits)):
      true = np.take_along_axis(products, ids, axis=1).astype(np.float32)
      # Rounded once; float64 has rounded too, so one float32 may be next.
      np.testing.assert_array_max_ulp(np.asarray(logits), true, maxulp=1)

  @parameterized.parameters(*_FORMS)
  def test_what_is_computed_again(self, precision, dtype):
    rng = np.random.default_rng(5)
    half = _D // 2
    table = rng.normal(size=(_V, _D))
    row = rng.normal(size=half)
    copies = rng.choice(_V, size=600, replace=False)
    table[:, :half] *= 0.1
    table[copies, :half] = row
    directions = np.zeros((_F, _D))
    tied = rng.random(_F) < 0.4
    directions[tied, :half] = row
    directions[~tied, half:] = rng.normal(size=(_F - tied.sum(), half))
    directions[np.flatnonzero(~tied)[0]] = 0  # Nothing to find: certain.
    directions = directions.astype(np.float32)
    table = jnp.asarray(table, jnp.float32).astype(dtype)
    keep = rng.random(_V) > 0.1
    lens = _lens(directions, table, keep, precision)
    # Hundreds of copies of one token reach over the k-th place at the top, and
    # no pass keeps as many; elsewhere the gaps are wider than the bounds.
    np.testing.assert_array_equal(lens.recomputed, tied)
    top, bottom = _ends(_products(directions, table), keep)
    np.testing.assert_array_equal(lens.top_ids, top)
    np.testing.assert_array_equal(lens.bottom_ids, bottom)
    # The top alone goes the same ways.
    alone = _lens(directions, table, keep, precision, bottom=False)
    self.assertIsNone(alone.bottom_ids)
    self.assertIsNone(alone.bottom_logits)
    np.testing.assert_array_equal(alone.recomputed, tied)
    for name in ('top_ids', 'top_logits'):
      np.testing.assert_array_equal(getattr(alone, name), getattr(lens, name))
    for name in ('std', 'entropy', 'top_mass'):
      np.testing.assert_allclose(
          getattr(alone, name), getattr(lens, name), rtol=1e-5
      )
    self.assertIsNone(alone.cut(2).bottom_ids)

  @parameterized.parameters('exact', 'screened')
  @pytest.mark.any_compiler
  def test_nearly_all_tokens(self, precision):
    rng = np.random.default_rng(8)
    table = jnp.asarray(rng.normal(size=(700, 9)), jnp.float32)
    directions = rng.normal(size=(5, 9)).astype(np.float32)
    keep = rng.random(700) > 0.05
    for k in (int(keep.sum()) - 1,):
      lens = _lens(directions, table, keep, precision, k=k)
      top, bottom = _ends(_products(directions, table), keep, k)
      np.testing.assert_array_equal(lens.top_ids, top)
      np.testing.assert_array_equal(lens.bottom_ids, bottom)

  def test_copies_up_to_length_are_tied_in_cosine(self):
    rng = np.random.default_rng(9)
    few = rng.normal(size=(40, _D))
    lengths = 2.0 ** rng.integers(-20, 20, size=(_V, 1))
    table = (few[rng.integers(0, 40, size=_V)] * lengths).astype(np.float32)
    directions = rng.normal(size=(_F, _D)).astype(np.float32)
    keep = jnp.asarray(rng.random(_V) > 0.1)
    cosines = _products(
        directions, table / np.linalg.norm(table, axis=1, keepdims=True)
    )
    # Powers of two change no digit of a cosine, but those of float64 norms.
    top, bottom = _ends(np.round(cosines, 9), np.asarray(keep))
    for precision in ('exact', 'screened'):
      lens = _unembedding_lens.lens_of_rows(
          jnp.asarray(directions),
          jnp.asarray(table),
          keep,
          k=_K,
          precision=precision,
          unit_rows=True,
      )
      np.testing.assert_array_equal(lens.top_ids, top)
      np.testing.assert_array_equal(lens.bottom_ids, bottom)


class CompensatedDotsTest(parameterized.TestCase):

  @parameterized.parameters('float32', 'bfloat16', 'float16')
  def test_value_and_rest_are_the_product(self, dtype):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 301)).astype(np.float32)
    y = jnp.asarray(rng.normal(size=(500, 301)), dtype)
    terms = x.astype(np.longdouble) * np.asarray(y, np.longdouble)
    dots = numerics.compensated_dots(jnp.asarray(x), y)
    value, rest = (np.asarray(d, np.longdouble) for d in dots)
    scale = np.abs(terms).sum(axis=1)
    self.assertLess(np.max(np.abs(value + rest - terms.sum(axis=1)) / scale),
                    2.0**-36)  # fmt: skip
    # Rounded once, of a number that may be next to the middle of two.
    np.testing.assert_array_max_ulp(
        np.asarray(dots.value), terms.sum(axis=1).astype(np.float32), maxulp=1
    )

  @pytest.mark.any_compiler
  def test_a_bound_that_is_reached_proves_nothing(self):
    extremes = _certificate.TopBottom(
        value=jnp.float32([[[3, 2]], [[5, 4]]]),
        rest=jnp.zeros((2, 1, 2)),
        row=jnp.zeros((2, 1, 2), jnp.int32),
        left_out=jnp.float32([[1], [3]]),
    )
    self.assertTrue(bool(extremes.certain[0]))
    tied = extremes._replace(left_out=jnp.float32([[2], [3]]))
    self.assertFalse(bool(tied.certain[0]))
    bottom = extremes._replace(left_out=jnp.float32([[1], [4]]))
    self.assertFalse(bool(bottom.certain[0]))


if __name__ == '__main__':
  absltest.main()
