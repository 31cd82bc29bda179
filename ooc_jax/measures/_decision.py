"""From measures to one label: is a feature semantic."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from jaxtyping import Bool
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures._coherence import ALL_MEASURES
from ooc_jax.measures._coherence import MEASURES
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._measure import Measure
from ooc_jax.measures._measure import check_known

RULES = ('any', 'all', 'majority')
THRESHOLD_KINDS = ('null', 'quantile', 'fixed')


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """One cut-off a measure, and how they were found.

  `thresholds['cosine']` and `thresholds.cosine` are one thing.

  Attributes:
    values: Measure to cut-off: coherent under it where low is coherent, over it
      elsewhere.
    kind: One of `THRESHOLD_KINDS`.
    level: The quantile they were taken at; for `null` the share of random
      directions that may pass each measure alone; None where they were given.
    null_share: Share of random directions that the rule calls semantic, in the
      sample that `null` thresholds were found with; else None.
  """

  values: Mapping[str, float]
  _: dataclasses.KW_ONLY
  kind: str
  level: float | None = None
  null_share: float | None = None

  def __post_init__(self):
    check_known(self.kind, THRESHOLD_KINDS, 'kind of thresholds')
    for measure, threshold in self.values.items():
      if math.isnan(threshold):
        raise InputError(
            f'The threshold of {measure} is not a number: give a number, or an'
            ' infinite one to leave the measure out.'
        )

  def __getitem__(self, measure: str) -> float:
    return self.values[measure]

  def __getattr__(self, name: str) -> float:
    if name != 'values' and name in self.values:
      return self.values[name]
    raise AttributeError(f'no threshold {name!r}')

  def as_dict(self) -> dict[str, Any]:
    """All in one level, as `summary.json` has it."""
    return {
        **self.values,
        'kind': self.kind,
        'level': self.level,
        'null_share': self.null_share,
    }


def votes_needed(rule: str, num_measures: int) -> int:
  """How many of the measures must call a feature coherent."""
  check_known(rule, RULES, 'rule')
  votes = {'any': 1, 'all': num_measures, 'majority': num_measures // 2 + 1}
  return votes[rule]


def fixed_thresholds(
    values: Mapping[str, float], measures: Sequence[Measure] = MEASURES
) -> Thresholds:
  """Thresholds as given, one for each measure.

  Args:
    values: Measure to number. An infinite one of the right sign (`-inf` for
      levenshtein and entropy, `inf` for cosine) leaves a measure out.
    measures: The measures there are.

  Returns:
    Thresholds of kind `fixed`.

  Raises:
    InputError: A measure is unknown or missing, or its value is not a number.
  """
  names = [m.name for m in measures]
  for name in values:
    check_known(name, names, 'measure')
  if missing := [name for name in names if name not in values]:
    raise InputError(
        f'The fixed thresholds have no number for {" and ".join(missing)}: give'
        f' one for each of {", ".join(names)}.'
    )
  return Thresholds({name: float(values[name]) for name in names}, kind='fixed')


def finite_measures(coherence: Coherence) -> dict[str, np.ndarray]:
  """The measures in float64; one that is not finite would compare as False."""
  values = {}
  for measure, numbers in coherence.items():
    values[measure] = np.asarray(numbers, np.float64)
    (bad,) = np.nonzero(~np.isfinite(values[measure]))
    if bad.size:
      raise InputError(
          f'The measure {measure} is not finite for {bad.size} of'
          f' {values[measure].size} features, the first of them feature'
          f' {bad[0]}: leave these features out of the dictionary.'
      )
  return values


def quantile_thresholds(
    coherences: Sequence[Coherence], quantile: float = 0.75
) -> Thresholds:
  """Thresholds at a quantile of each measure over all layers together.

  Args:
    coherences: One per layer; their features are pooled.
    quantile: Of the coherent end: where high is coherent the threshold is this
      quantile, where low is, that at one minus it.

  Returns:
    Thresholds of kind `quantile`.

  Raises:
    InputError: The quantile is not between 0 and 1, there is no feature, or a
      measure is not finite.
  """
  if not 0.0 < quantile < 1.0:
    raise InputError(
        f'The quantile of the thresholds is {quantile}: give a number between 0'
        ' and 1.'
    )
  layers = [finite_measures(coherence) for coherence in coherences]
  if not sum(coherence.size for coherence in coherences):
    raise InputError(
        'There is no feature to take quantile thresholds from: give the'
        ' coherence of at least one layer.'
    )
  levels = {
      m.name: float(
          np.quantile(
              np.concatenate([layer[m.name] for layer in layers]),
              1.0 - quantile if m.low_is_coherent else quantile,
          )
      )
      for m in coherences[0].measures
  }
  return Thresholds(levels, kind='quantile', level=quantile)


def passes_by_measure(
    coherence: Coherence, thresholds: Thresholds
) -> dict[str, Bool[np.ndarray, 'F']]:
  """Which features each measure calls coherent.

  The comparison is strict: a feature exactly at a threshold does not pass, so
  one that all features share passes none.

  Args:
    coherence: The measures of F features.
    thresholds: One cut-off a measure.

  Returns:
    Measure to labels, in the order of the measures.

  Raises:
    InputError: A measure is not finite.
  """
  values = finite_measures(coherence)
  return {
      m.name: (
          values[m.name] < thresholds[m.name]
          if m.low_is_coherent
          else values[m.name] > thresholds[m.name]
      )
      for m in coherence.measures
  }


def found_by_measures(
    passes: Mapping[str, Bool[np.ndarray, 'F']],
    measures: Sequence[Measure] = ALL_MEASURES,
) -> dict[str, Bool[np.ndarray, 'F']]:
  """Which features are coherent, and which sharp: by any measure of each.

  Args:
    passes: As `passes_by_measure` gives them.
    measures: Those that may be among them.

  Returns:
    'coherent' and 'sharp' to labels.
  """
  size = len(next(iter(passes.values())))
  found = {kind: np.zeros(size, bool) for kind in ('coherent', 'sharp')}
  for measure in measures:
    if measure.name in passes:
      found[measure.finds] |= passes[measure.name]
  return found


def is_semantic(
    coherence: Coherence, thresholds: Thresholds, rule: str = 'any'
) -> Bool[np.ndarray, 'F']:
  """Which features are semantic: by enough of the measures of an end.

  Where there are measures of both ends of the vocabulary, either end is
  enough, and its measures vote among themselves.

  Args:
    coherence: The measures of F features.
    thresholds: One cut-off a measure; see `passes_by_measure`.
    rule: `any` (one is enough), `all`, or `majority` (more than half).

  Returns:
    One label a feature.

  Raises:
    InputError: The rule is unknown, or a measure is not finite.
  """
  check_known(rule, RULES, 'rule')
  passed = passes_by_measure(coherence, thresholds)
  return vote(passed, coherence.measures, rule)


def by_end(measures: Sequence[Measure]) -> list[list[int]]:
  """The places of the measures of each end."""
  return [
      [i for i, measure in enumerate(measures) if measure.end == end]
      for end in dict.fromkeys(measure.end for measure in measures)
  ]


def vote(
    passed: Mapping[str, Bool[np.ndarray, 'F']],
    measures: Sequence[Measure],
    rule: str,
) -> Bool[np.ndarray, 'F']:
  """What a rule, or a measure that decides alone, makes of `passed`."""
  if rule in passed:
    return passed[rule]
  votes = [
      np.sum([passed[measures[i].name] for i in places], axis=0)
      >= votes_needed(rule, len(places))
      for places in by_end(measures)
  ]
  return np.logical_or.reduce(votes)
