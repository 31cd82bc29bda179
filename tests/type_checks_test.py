"""The package's types are checked in tests, with arrays and without."""

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any, Literal

from absl.testing import absltest
from absl.testing import parameterized
import beartype
import jaxtyping
from jaxtyping import Float
import numpy as np

from ooc_jax import experiments
from ooc_jax import measures

_Rows = Float[np.ndarray, 'F D']


def _plain(
    size: int, name: Literal['a', 'b'] = 'a', of: Callable[..., Any] = len
) -> str:
  return name * size if size else 0  # pyrefly: ignore


def _counted(size: int) -> Iterator[int]:
  yield from range(size)


def _rows(x: _Rows, y: list[_Rows] | None = None) -> Float[np.ndarray, 'D F']:
  return x if y else x.T


@dataclasses.dataclass(frozen=True)
class _Pair:
  x: _Rows
  y: _Rows
  sizes: tuple[int, ...] = dataclasses.field(default_factory=tuple)


class _Triple(_Pair):
  """Takes how it is made from the class above."""


def _decorated(fn):
  """As the import hook decorates the functions of the package."""
  return jaxtyping.jaxtyped(typechecker=beartype.beartype)(fn)


class TypeChecksTest(parameterized.TestCase):

  @parameterized.parameters(
      (_plain, ('1',), {}),
      (_plain, (1, 'c'), {}),
      (_plain, (1,), {'of': 3}),
      (_plain, (0,), {}),  # What it returns.
      (_counted, (1.5,), {}),
      (_rows, (np.ones(3),), {}),
      (_Pair, (np.ones((2, 3)), np.ones((3, 2))), {}),
      (_Pair, (np.ones((2, 3)), np.ones((2, 3))), {'sizes': ('2',)}),
      (_Pair, (np.ones((2, 3)), np.ones((2, 3)), [2]), {}),
      (_rows, (np.ones((2, 3)), [np.ones((3, 2))]), {}),
      (_rows, (np.ones((2, 3)), [np.ones((2, 3))]), {}),  # What it returns.
  )
  def test_what_does_not_fit_is_found(self, fn, args, kwargs):
    with self.assertRaises(jaxtyping.TypeCheckError):
      _decorated(fn)(*args, **kwargs)

  def test_what_fits_passes(self):
    self.assertEqual(_decorated(_plain)(2, name='b'), 'bb')
    self.assertEqual(list(_decorated(_counted)(2)), [0, 1])
    self.assertEqual(_decorated(_rows)(np.ones((2, 3))).shape, (3, 2))
    x = np.ones((2, 3))
    self.assertEqual(_decorated(_Pair)(x, x).sizes, ())
    once = _decorated(_Pair).__init__
    self.assertIs(_decorated(_Triple).__init__, once)

  def test_nothing_is_checked_where_it_is_turned_off(self):
    jaxtyping.config.update('jaxtyping_disable', True)
    self.addCleanup(jaxtyping.config.update, 'jaxtyping_disable', False)
    self.assertEqual(_decorated(_plain)(0), 0)

  def test_the_package_is_checked(self):
    with self.assertRaises(jaxtyping.TypeCheckError):
      experiments.make_mesh(3)  # pyrefly: ignore
    with self.assertRaises(jaxtyping.TypeCheckError):
      measures.share_interval(['3'])  # pyrefly: ignore


if __name__ == '__main__':
  absltest.main()
