"""How well the top tokens of a feature go together, by every measure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import Array, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits import Lens
from ooc_jax.circuits import to_host
from ooc_jax.measures import _measure
from ooc_jax.measures._measure import Measure
from ooc_jax.measures._strings import LEVENSHTEIN
from ooc_jax.measures._strings import model_strings
from ooc_jax.measures._token_space import COSINE
from ooc_jax.measures._token_space import TokenSpace
from ooc_jax.measures._token_space import model_token_space
from ooc_jax.model import Model

ENTROPY = Measure(
    name='entropy',
    description='of the softmax over the tokens that count, nats',
    low_is_coherent=True,
    finds='sharp',
    compute=lambda lens, strings, space: lens.entropy,
    # Of all tokens, however many are listed.
    compute_sizes=lambda lens, strings, space, sizes: [lens.entropy]
    * len(sizes),
    label='entropy',
    short_label='ent',
    unit='nats',
    digits=1,
    limits=(0.0, None),
)
# A new measure is a line here.
MEASURES: tuple[Measure, ...] = (LEVENSHTEIN, COSINE, ENTROPY)
BOTTOM_MEASURES = tuple(measure.at_bottom() for measure in MEASURES)
ALL_MEASURES = MEASURES + BOTTOM_MEASURES
ENDS = ('top', 'bottom', 'both')


def measures_at(ends: str) -> tuple[Measure, ...]:
  """The measures of one end of `ENDS`, or of both.

  Raises:
    InputError: It is none of them.
  """
  _measure.check_known(ends, ENDS, 'end of the vocabulary')
  return tuple(m for m in ALL_MEASURES if ends in (m.end, 'both'))


@jax.tree_util.register_pytree_with_keys_class
class Coherence(Mapping[str, Any]):
  """Numbers of F features by the name of their measure, and what those are.

  `scores['cosine']` and `scores.cosine` are one thing. A pytree with a leaf a
  measure.

  Attributes:
    measures: The records, in order.
    levenshtein: Mean pairwise edit distance of the top tokens over the longer
      length, in [0, 1]. Low is coherent: the forms of one word.
    cosine: Mean pairwise cosine of the top tokens in a token space, in [-1, 1].
      High is coherent: one meaning.
    entropy: Of the softmax over the vocabulary, in nats. Low is sharp: few
      tokens are predicted, whether or not they go together. Comparable
      between models, layers and readouts where the lens has a `spread`.
  """

  measures: tuple[Measure, ...]

  def __init__(
      self,
      *values: Float[Array | np.ndarray, 'F'],
      measures: Sequence[Measure] = ALL_MEASURES,
      **by_name: Float[Array | np.ndarray, 'F'],
  ):
    """Takes an array a measure, in their order or by name.

    Args:
      *values: Of the first measures.
      measures: Those that may be given; those that are not are left out.
      **by_name: Of the others.

    Raises:
      InputError: A measure is unknown or given twice, or there is none.
    """
    names = [m.name for m in measures]
    given = dict(zip(names, values, strict=False))
    count = len(values) + len(by_name)
    if len(given) < len(values) or given.keys() & by_name.keys() or not count:
      raise InputError(
          f'There are {count} arrays for the measures {", ".join(names)}: give'
          ' one each for some of them.'
      )
    given |= by_name
    for name in by_name:
      _measure.check_known(name, names, 'measure')
    self.measures = tuple(m for m in measures if m.name in given)
    self._values = {m.name: given[m.name] for m in self.measures}

  def __getitem__(self, name: str) -> Any:
    return self._values[name]

  def __getattr__(self, name: str) -> Any:
    if not name.startswith('_') and name in self._values:
      return self._values[name]
    raise AttributeError(f'no measure {name!r}')

  def __iter__(self) -> Iterator[str]:
    return iter(self._values)

  def __len__(self) -> int:
    return len(self._values)

  def __repr__(self) -> str:
    inner = ', '.join(f'{name}={x!r}' for name, x in self.items())
    return f'Coherence({inner})'

  @property
  def size(self) -> int:
    """F, the number of features."""
    return int(np.size(next(iter(self.values()))))

  def replace(self, **by_name: Float[Array | np.ndarray, 'F']) -> 'Coherence':
    """The same with other numbers for some measures."""
    return Coherence(measures=self.measures, **{**self, **by_name})

  @classmethod
  def concatenate(cls, coherences: Sequence['Coherence']) -> 'Coherence':
    """The features of several together, of the same measures."""
    first = coherences[0]
    return cls(
        *(np.concatenate([c[name] for c in coherences]) for name in first),
        measures=first.measures,
    )

  def tree_flatten_with_keys(self):
    keys = map(jax.tree_util.GetAttrKey, self)
    return tuple(zip(keys, self.values(), strict=True)), self.measures

  @classmethod
  def tree_unflatten(cls, measures, values) -> 'Coherence':
    # JAX also fills its pytrees with shapes, flags and batches.
    made = cls.__new__(cls)
    made.measures = measures
    made._values = {m.name: x for m, x in zip(measures, values, strict=True)}
    return made


def lens_coherence(
    lens: Any,
    strings: Sequence[str],
    space: TokenSpace,
    *,
    measures: Sequence[Measure] = MEASURES,
) -> Coherence:
  """The core of `coherence`, for code that has no `Model`.

  The edit distance is computed on the host, the rest where lens and space are;
  sharded features each on their device.

  Args:
    lens: Anything with `top_ids` [F, k] and `entropy` [F]; for measures of
      the bottom end also with `Lens.turned`, made with `both_ends`.
    strings: The canonical string of every token, by id.
    space: The token space, with a row for every token.
    measures: What to compute; also of your own.

  Returns:
    The measures as float32 arrays on the host.

  Raises:
    InputError: There is no pair (k < 2), or an id without a string or a row.
  """
  _measure.check_top_ids(
      lens.top_ids, space.table.shape[0], 'rows in the space'
  )
  return Coherence(
      *(_on_host(m.compute(lens, strings, space)) for m in measures),
      measures=measures,
  )


def lens_coherences(
    lens: Any,
    strings: Sequence[str],
    space: TokenSpace,
    sizes: Sequence[int],
    *,
    measures: Sequence[Measure] = MEASURES,
) -> dict[int, Coherence]:
  """`lens_coherence` of the first tokens of a lens, at several numbers of them.

  Tokens are compared once: the pairs of fewer are among those of more.

  Args:
    lens: As of `lens_coherence`, with as many tokens as the largest size; for
      measures without `compute_sizes` also with `Lens.cut`.
    strings: The canonical string of every token, by id.
    space: The token space, with a row for every token.
    sizes: Numbers of top tokens.
    measures: What to compute; also of your own.

  Returns:
    Size to measures.

  Raises:
    InputError: As `lens_coherence`.
  """
  _measure.check_top_ids(
      lens.top_ids, space.table.shape[0], 'rows in the space'
  )
  found = [m.at_sizes(lens, strings, space, sizes) for m in measures]
  return {
      size: Coherence(*(_on_host(x[i]) for x in found), measures=measures)
      for i, size in enumerate(sizes)
  }


def _on_host(values: Any) -> np.ndarray:
  return to_host(values).astype(np.float32, copy=False)


def coherence(
    model: Model,
    lens: Lens,
    *,
    space: TokenSpace | None = None,
    strings: Sequence[str] | None = None,
    measures: Sequence[Measure] = MEASURES,
) -> Coherence:
  """Measures how well the top tokens of each feature go together.

  For several lenses of one model, make `space` and `strings` once and pass
  them: without, they are made anew at every call.

  Args:
    model: The model that the lens was computed with.
    lens: What `output_lens` or `input_lens` returned.
    space: The space of the cosine, see `model_token_space`; the whitened one
      if None.
    strings: See `model_strings`.
    measures: What to compute; also of your own.

  Returns:
    The measures as float32 arrays on the host.

  Raises:
    InputError: There is no pair (k < 2), the lens is of another model, or the
      model has no tokenizer.
  """
  if strings is None:
    strings = model_strings(model)
  if space is None:
    space = model_token_space(model)
  return lens_coherence(lens, strings, space, measures=measures)
