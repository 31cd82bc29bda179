"""The share of semantic features under every rule and threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._decision import LOW_IS_COHERENT
from ooc_jax.measures._decision import RULES
from ooc_jax.measures._decision import Thresholds
from ooc_jax.measures._decision import passes_by_measure
from ooc_jax.measures._decision import quantile_thresholds
from ooc_jax.measures._decision import votes_needed
from ooc_jax.measures._null_level import null_thresholds

SWEEP_ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1)
SWEEP_QUANTILES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95)
WHOLE_MODEL = -1  # The layer of a row about all layers together.


def sweep(
    layers: Mapping[int, Coherence],
    nulls: Mapping[int, Coherence] | None = None,
    *,
    fixed: Thresholds | None = None,
    alphas: Sequence[float] = SWEEP_ALPHAS,
    quantiles: Sequence[float] = SWEEP_QUANTILES,
) -> list[dict[str, Any]]:
  """How the share of semantic features depends on how that is decided.

  Every rule, and every measure alone, with every level of every kind of
  thresholds. Null thresholds are found anew for each: of each layer from its
  own null, at a share of alpha for that rule or measure. An alpha of which a
  null has less than one random direction is left out.

  Args:
    layers: Layer to the measures of its features.
    nulls: Layer to the measures of its random directions; without, there are
      no null thresholds, and `null_share` is None.
    fixed: Thresholds to add as kind `fixed`.
    alphas: Levels of null thresholds.
    quantiles: Levels of quantile thresholds, over all layers together.

  Returns:
    Rows with `rule` ('' for a measure alone), `measure` ('' for a vote of the
    three), `kind`, `level` (None where fixed), `layer` (`WHOLE_MODEL` for all
    layers together), `share`, `null_share`.

  Raises:
    InputError: A layer has no null, or a measure is not finite.
  """
  if nulls is not None and (missing := [x for x in layers if x not in nulls]):
    raise InputError(
        f'There is no null for layer {missing[0]}: give one for each of the'
        f' {len(layers)} layers of the sweep, or none at all.'
    )
  decisions = [(rule, '') for rule in RULES]
  decisions += [('', measure) for measure in LOW_IS_COHERENT]
  rows = []
  if nulls is not None:
    smallest = min((np.size(x.cosine) for x in nulls.values()), default=0)
    for alpha in alphas:
      if alpha * smallest * (1 + 1e-12) < 1:
        continue
      for rule, measure in decisions:
        cuts = {
            layer: null_thresholds(nulls[layer], alpha, rule or measure)
            for layer in layers
        }
        rows += _rows(rule, measure, 'null', alpha, cuts, layers, nulls)
  pooled: list[tuple[str, float | None, Thresholds]] = [
      ('quantile', q, quantile_thresholds(list(layers.values()), q))
      for q in quantiles
  ]
  if fixed is not None:
    pooled.append(('fixed', None, fixed))
  for kind, level, cut in pooled:
    cuts = dict.fromkeys(layers, cut)
    for rule, measure in decisions:
      rows += _rows(rule, measure, kind, level, cuts, layers, nulls)
  return rows


def _rows(
    rule: str,
    measure: str,
    kind: str,
    level: float | None,
    cuts: Mapping[int, Thresholds],
    layers: Mapping[int, Coherence],
    nulls: Mapping[int, Coherence] | None,
) -> list[dict[str, Any]]:
  """A row for each layer, and one for all together."""

  def labels(groups):
    found = {x: _labels(groups[x], cuts[x], rule, measure) for x in layers}
    found[WHOLE_MODEL] = np.concatenate(list(found.values()))
    return {layer: float(group.mean()) for layer, group in found.items()}

  shares = labels(layers)
  null_shares = dict.fromkeys(shares) if nulls is None else labels(nulls)
  return [
      {
          'rule': rule,
          'measure': measure,
          'kind': kind,
          'level': level,
          'layer': layer,
          'share': share,
          'null_share': null_shares[layer],
      }
      for layer, share in shares.items()
  ]


def _labels(
    coherence: Coherence, thresholds: Thresholds, rule: str, measure: str
) -> np.ndarray:
  passed = passes_by_measure(coherence, thresholds)
  if measure:
    return passed[measure]
  return np.sum(list(passed.values()), axis=0) >= votes_needed(rule)
