"""The error of null thresholds: they are solved again for resampled nulls.

A threshold at 1 % is set by few random directions, so another null gives
another threshold, and another share of features. What that does to a share,
and to the label of each feature, is read from a bootstrap of the null.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._decision import RULES
from ooc_jax.measures._decision import finite_measures
from ooc_jax.measures._decision import vote
from ooc_jax.measures._null import allowed_of_null
from ooc_jax.measures._null import deciding_counts
from ooc_jax.measures._null import lowered
from ooc_jax.measures._null import null_thresholds

DRAWS = 400  # The error of a standard deviation is then 3.5 % of it.


class Resampled(NamedTuple):
  """What resampled nulls make of some features.

  Attributes:
    shares: Share of semantic features by the thresholds of each null.
    rates: Share of the nulls that call each feature semantic.
  """

  shares: Float[np.ndarray, 'draws']
  rates: Float[np.ndarray, 'F']

  @property
  def error(self) -> float:
    """Standard deviation of the share over nulls."""
    return float(self.shares.std())


def resampled_thresholds(
    null: Coherence,
    alpha: float = 0.01,
    rule: str = 'any',
    *,
    draws: int = DRAWS,
    seed: int,
) -> Mapping[str, Float[np.ndarray, 'draws']]:
  """`null_thresholds` of nulls drawn with replacement from this one.

  A direction that is drawn w times counts w times. Only the directions that
  are far enough out to be near a threshold are drawn one by one.

  Args:
    null: The measures of n random directions.
    alpha: As of `null_thresholds`.
    rule: As of `null_thresholds`.
    draws: How many nulls.
    seed: Of the draws.

  Returns:
    Measure to its threshold in each draw, in the order of the measures.

  Raises:
    InputError: As `null_thresholds`.
  """
  level = null_thresholds(null, alpha, rule).level
  assert level is not None
  values, n = lowered(null), null.size
  count = round(level * n)
  # Eight standard deviations of what a threshold moves by, in directions.
  reach = min(n, count + int(8 * np.sqrt(count + 1)) + 20)
  ordered = np.sort(values, axis=1)
  near = (values <= ordered[:, reach - 1 : reach]).any(axis=0)
  (rows,) = np.nonzero(near)
  rng = np.random.default_rng(seed)
  chance = np.full(rows.size + 1, 1 / n)
  chance[-1] = 1 - rows.size / n
  weights = rng.multinomial(n, np.maximum(chance, 0), size=draws)[:, :-1]
  weights = weights.astype(np.int32)

  counts = np.full((len(values), draws, rows.size), n + 1, np.int32)
  outermost = []
  for m, measure in enumerate(values[:, rows]):
    order = np.argsort(measure, kind='stable')
    order = order[measure[order] <= ordered[m, reach - 1]]
    cumulated = np.cumsum(weights[:, order], axis=1, dtype=np.int32)
    # Equal values count together.
    last = np.searchsorted(measure[order], measure[order], side='right') - 1
    counts[m][:, order] = cumulated[:, last]
    outermost.append((measure[order], cumulated))

  found = deciding_counts(counts, null.measures, rule)
  order = np.argsort(found, axis=1, kind='stable')
  passing = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
  # The first that would be one too many, and its count.
  first = (passing <= allowed_of_null(alpha, n)).sum(axis=1)
  first = np.minimum(first, rows.size - 1)[:, None]
  cut = np.take_along_axis(np.take_along_axis(found, order, 1), first, 1) - 1

  thresholds = {}
  for measure, (row, cumulated) in zip(null.measures, outermost, strict=True):
    place = np.minimum((cumulated <= cut).sum(axis=1), row.size - 1)
    alone_elsewhere = rule not in RULES and rule != measure.name
    thresholds[measure.name] = (
        np.full(draws, measure.never)
        if alone_elsewhere
        else measure.lowered(row[place])
    )
  return thresholds


def resampled_labels(
    coherence: Coherence,
    thresholds: Mapping[str, Float[np.ndarray, 'draws']],
    rule: str = 'any',
) -> Resampled:
  """The labels of features under each of several thresholds.

  Args:
    coherence: The measures of F features.
    thresholds: Of `resampled_thresholds`.
    rule: As there.

  Raises:
    InputError: A measure is not finite.
  """
  values = {
      m.name: m.lowered(x)
      for m, x in zip(
          coherence.measures, finite_measures(coherence).values(), strict=True
      )
  }
  cuts = {m.name: m.lowered(thresholds[m.name]) for m in coherence.measures}

  def labels(rows, limits):
    return vote(
        {name: x[rows] < limits[name] for name, x in values.items()},
        coherence.measures,
        rule,
    )

  # Between the tightest and the loosest a label may change; a rule never
  # takes back what a looser threshold gives.
  every = slice(None)
  rates = labels(every, {k: x.min() for k, x in cuts.items()}).astype(float)
  sure = rates.sum()
  loose = labels(every, {k: x.max() for k, x in cuts.items()})
  (open_,) = np.nonzero(loose & (rates == 0))
  draws = len(next(iter(cuts.values())))
  shares = np.empty(draws)
  passed = np.zeros(open_.size)
  for b in range(draws):
    own = labels(open_, {k: x[b] for k, x in cuts.items()})
    passed += own
    shares[b] = sure + own.sum()
  rates[open_] = passed / draws
  return Resampled(shares / max(rates.size, 1), rates)
