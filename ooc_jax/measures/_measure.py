"""What a measure of coherence is: its name, how it is computed and shown.

A measure is one `Measure` in the file that computes it, and a line in
`_coherence.MEASURES`. Decisions, nulls, sweeps, columns on disk, sentences and
figures follow from the record; none of them knows a measure by its name.
"""

from collections.abc import Callable, Collection, Sequence
import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Float
import numpy as np

from ooc_jax import _text
from ooc_jax._errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
  """How well the top tokens of a feature go together, in one way.

  Attributes:
    name: Of its column, attribute and threshold.
    description: What its column holds.
    low_is_coherent: On which side of its threshold a feature is coherent.
    finds: What a feature that passes is: 'coherent', its top tokens go
      together, or 'sharp', it predicts few tokens, whatever these have in
      common.
    end: Of the vocabulary at which it looks: 'top' or 'bottom'.
    compute: From a lens (`top_ids` [F, k], `entropy` [F] and more), the
      canonical string of every token, and the token space of the model: one
      finite number a feature.
    compute_sizes: The same at several numbers of top tokens, which are given
      last: an array [F] for each. None where `compute` does for each.
    label: What people call it, in lower case.
    short_label: The same where columns are narrow.
    unit: Of its numbers, '' where they have none.
    digits: After the point, where columns are narrow.
    limits: The least and the largest number there can be, None where there is
      no limit.
  """

  name: str
  description: str
  low_is_coherent: bool
  finds: str = 'coherent'
  end: str = 'top'
  compute: Callable[
      [Any, Sequence[str], Any], Float[Array | np.ndarray, 'F'] | Any
  ]
  compute_sizes: Callable[..., Any] | None = None
  label: str
  short_label: str
  unit: str = ''
  digits: int = 2
  limits: tuple[float | None, float | None] = (None, None)

  def at_bottom(self) -> 'Measure':
    """The same of what a feature predicts least: of the lens of -d."""
    sizes = self.compute_sizes
    return dataclasses.replace(
        self,
        name=f'bottom_{self.name}',
        description=f'{self.description}; at the bottom end',
        end='bottom',
        compute=lambda lens, strings, space: self.compute(
            lens.turned(), strings, space
        ),
        compute_sizes=sizes
        and (lambda lens, *rest: sizes(lens.turned(), *rest)),
        label=f'{self.label} at the bottom',
        short_label=f'b-{self.short_label}',
    )

  def at_sizes(
      self, lens: Any, strings: Sequence[str], space: Any, sizes: Sequence[int]
  ) -> Any:
    """Its numbers at several numbers of top tokens, an array [F] for each."""
    if self.compute_sizes is not None:
      return self.compute_sizes(lens, strings, space, sizes)
    return [self.compute(lens.cut(k), strings, space) for k in sizes]

  @property
  def title(self) -> str:
    """What an axis is called: 'Entropy (nats)'."""
    unit = f' ({self.unit})' if self.unit else ''
    return self.label[:1].upper() + self.label[1:] + unit

  @property
  def never(self) -> float:
    """The threshold that no feature passes."""
    return -np.inf if self.low_is_coherent else np.inf

  def shown(self, value: float, digits: int = 2) -> str:
    """A value with its unit: '3.14 nats'."""
    return f'{value:.{digits}f}' + (f' {self.unit}' if self.unit else '')

  def condition(self, threshold: float) -> str:
    """What a coherent feature fulfils: 'entropy < 3.141 nats'."""
    sign = '<' if self.low_is_coherent else '>'
    return f'{self.label} {sign} {self.shown(threshold, 3)}'

  def lowered(self, values: Any) -> Any:
    """The same numbers, turned so that low is coherent."""
    return values if self.low_is_coherent else -values


def check_known(name: str, known: Collection[str], what: str) -> None:
  """Refuses a name that is not one of `known`."""
  if name not in known:
    raise InputError(
        f'The {what} {name!r} is unknown{_text.nearest(name, known)}'
    )


def check_num_top(num_top: int) -> None:
  """Refuses a top-k in which there is no pair."""
  if num_top < 2:
    raise InputError(
        f'The lens holds {num_top} top token(s) a feature and a measure over'
        ' pairs needs two: compute it with k of at least 2.'
    )


def check_top_ids(
    top_ids: jax.Array | np.ndarray, num_tokens: int, what: str
) -> None:
  """Refuses ids outside [0, num_tokens): Python and JAX would wrap or clamp."""
  check_num_top(top_ids.shape[1])
  if not top_ids.size:
    return
  # Two numbers; the ids themselves stay where they are.
  low, high = int(top_ids.min()), int(top_ids.max())
  if low < 0 or high >= num_tokens:
    raise InputError(
        f'The top ids run from {low} to {high} but there are {num_tokens}'
        f' {what}: take the lens and these from one model.'
    )
