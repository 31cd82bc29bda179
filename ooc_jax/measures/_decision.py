"""From three measures to one label: is a feature semantic."""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from jaxtyping import Bool
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures import _checks
from ooc_jax.measures._coherence import Coherence

# Every measure, and on which side of its threshold a feature is coherent.
LOW_IS_COHERENT: Mapping[str, bool] = {
    'levenshtein': True,
    'cosine': False,
    'entropy': True,
}
# How many of the measures must call a feature coherent.
_VOTES: Mapping[str, int] = {
    'any': 1,
    'all': len(LOW_IS_COHERENT),
    'majority': len(LOW_IS_COHERENT) // 2 + 1,
}
RULES = tuple(_VOTES)
THRESHOLD_KINDS = ('null', 'quantile', 'fixed')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thresholds:
  """One cut-off a measure, and how they were found.

  Attributes:
    levenshtein: Coherent under it.
    cosine: Coherent over it.
    entropy: Coherent under it, in nats.
    kind: One of `THRESHOLD_KINDS`.
    level: The quantile they were taken at; for `null` the share of random
      directions that may pass each measure alone; None where they were given.
    null_share: Share of random directions that the rule calls semantic, in the
      sample that `null` thresholds were found with; else None.
  """

  levenshtein: float
  cosine: float
  entropy: float
  kind: str
  level: float | None = None
  null_share: float | None = None

  def __post_init__(self):
    _checks.check_known(self.kind, THRESHOLD_KINDS, 'kind of thresholds')
    for measure in LOW_IS_COHERENT:
      if math.isnan(getattr(self, measure)):
        raise InputError(
            f'The threshold of {measure} is not a number: give a number, or an'
            ' infinite one to leave the measure out.'
        )


def votes_needed(rule: str) -> int:
  """How many measures must call a feature coherent."""
  _checks.check_known(rule, RULES, 'rule')
  return _VOTES[rule]


def fixed_thresholds(values: Mapping[str, float]) -> Thresholds:
  """Thresholds as given, one for each measure.

  Args:
    values: Measure to number. An infinite one of the right sign (`-inf` for
      levenshtein and entropy, `inf` for cosine) leaves a measure out.

  Returns:
    Thresholds of kind `fixed`.

  Raises:
    InputError: A measure is unknown or missing, or its value is not a number.
  """
  for measure in values:
    _checks.check_known(measure, LOW_IS_COHERENT, 'measure')
  if missing := [m for m in LOW_IS_COHERENT if m not in values]:
    raise InputError(
        f'The fixed thresholds have no number for {" and ".join(missing)}: give'
        f' one for each of {", ".join(LOW_IS_COHERENT)}.'
    )
  return Thresholds(**{m: float(x) for m, x in values.items()}, kind='fixed')


def finite_measures(coherence: Coherence) -> dict[str, np.ndarray]:
  """The measures in float64; one that is not finite would compare as False."""
  values = {}
  for measure in LOW_IS_COHERENT:
    values[measure] = np.asarray(getattr(coherence, measure), np.float64)
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
    quantile: Of the coherent end: the threshold of cosine is this quantile,
      those of levenshtein and entropy are at one minus it.

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
  if not sum(layer['cosine'].size for layer in layers):
    raise InputError(
        'There is no feature to take quantile thresholds from: give the'
        ' coherence of at least one layer.'
    )
  levels = {
      measure: float(
          np.quantile(
              np.concatenate([layer[measure] for layer in layers]),
              1.0 - quantile if low else quantile,
          )
      )
      for measure, low in LOW_IS_COHERENT.items()
  }
  return Thresholds(**levels, kind='quantile', level=quantile)


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
    Measure to labels, in the order of `LOW_IS_COHERENT`.

  Raises:
    InputError: A measure is not finite.
  """
  values = finite_measures(coherence)
  labels = {}
  for measure, low in LOW_IS_COHERENT.items():
    threshold = getattr(thresholds, measure)
    x = values[measure]
    labels[measure] = x < threshold if low else x > threshold
  return labels


def is_semantic(
    coherence: Coherence, thresholds: Thresholds, rule: str = 'any'
) -> Bool[np.ndarray, 'F']:
  """Which features are semantic: coherent by enough of the three measures.

  Args:
    coherence: The measures of F features.
    thresholds: One cut-off a measure; see `passes_by_measure`.
    rule: `any` (one is enough), `all` (three), or `majority` (two).

  Returns:
    One label a feature.

  Raises:
    InputError: The rule is unknown, or a measure is not finite.
  """
  needed = votes_needed(rule)
  votes = np.sum(
      list(passes_by_measure(coherence, thresholds).values()), axis=0
  )
  return votes >= needed
