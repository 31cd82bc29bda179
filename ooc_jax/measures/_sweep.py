"""Shares of semantic and participating features under every threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._decision import RULES
from ooc_jax.measures._decision import Thresholds
from ooc_jax.measures._decision import is_semantic
from ooc_jax.measures._decision import passes_by_measure
from ooc_jax.measures._decision import quantile_thresholds
from ooc_jax.measures._null import allowed_of_null
from ooc_jax.measures._null import null_thresholds_at
from ooc_jax.measures._participation import PARTICIPATION_QUANTILES
from ooc_jax.measures._participation import head_counts
from ooc_jax.measures._participation import null_cutoffs
from ooc_jax.measures._participation import participates
from ooc_jax.measures._participation import pooled_quantile

SWEEP_ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1)
SWEEP_QUANTILES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95)
PARTICIPATION_ALPHAS = (0.001, 0.01, 0.05)
WHOLE_MODEL = -1  # The layer of a row about all layers together.
_Statistics = Mapping[int, Float[np.ndarray, '_ _']]


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
    Rows with `rule` ('' for a measure alone), `measure` ('' for a vote of
    them), `kind`, `level` (None where fixed), `layer` (`WHOLE_MODEL` for all
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
  decisions += [('', measure) for measure in next(iter(layers.values()), ())]
  rows = []
  if nulls is not None:
    distinct = {id(x): x for x in nulls.values()}
    smallest = min((x.size for x in distinct.values()), default=0)
    alphas = [x for x in alphas if allowed_of_null(x, smallest)]
    for rule, measure in decisions:
      # Layers that share a null share its thresholds.
      found = {
          key: null_thresholds_at(null, alphas, rule or measure)
          for key, null in distinct.items()
      }
      for i, alpha in enumerate(alphas):
        cuts = {layer: found[id(nulls[layer])][i] for layer in layers}
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
    # What layers share is labelled once.
    known = {}
    for x in layers:
      key = id(groups[x]), id(cuts[x])
      if key not in known:
        known[key] = _labels(groups[x], cuts[x], rule, measure)
    found = {x: known[id(groups[x]), id(cuts[x])] for x in layers}
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
  if measure:
    return passes_by_measure(coherence, thresholds)[measure]
  return is_semantic(coherence, thresholds, rule)


def participation_sweep(
    layers: _Statistics,
    nulls: Mapping[str, _Statistics] | None = None,
    *,
    quantiles: Sequence[float] = PARTICIPATION_QUANTILES,
    alphas: Sequence[float] = PARTICIPATION_ALPHAS,
    at_least: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
  """How the share depends on the threshold and on the number of heads asked.

  Args:
    layers: Layer -> one statistic of `participation_statistics`.
    nulls: Name of a null -> layer -> the same statistic of its directions. An
      alpha of which one has less than one direction is left out.
    quantiles: Of the statistic, pooled over all layers.
    alphas: Of each null, head by head.
    at_least: Numbers of heads m; None is 1, half of the heads, and all.

  Returns:
    Rows with `thresholds` ('quantile', 'null:NAME'), `level` (the quantile or
    alpha), `at_least`, `layer` (`WHOLE_MODEL` for all together), `share`,
    `mean_heads`, `null` (the null that `null_share` is of: its own, or the
    first) and `null_share` (None without a null).

  Raises:
    InputError: A null lacks a layer, or a statistic is not finite.
  """
  nulls = nulls or {}
  for name, own in nulls.items():
    if missing := [layer for layer in layers if layer not in own]:
      raise InputError(
          f'The null {name!r} has nothing for layer {missing[0]}: give it for'
          f' each of the {len(layers)} layers.'
      )
  heads = max(x.shape[0] for x in layers.values())
  if at_least is None:
    at_least = sorted({1, (heads + 1) // 2, heads})
  first = next(iter(nulls), None)
  rows = []
  for quantile in quantiles:
    cut = pooled_quantile(layers.values(), quantile)
    cuts = dict.fromkeys(layers, cut)
    null = None if first is None else nulls[first]
    rows += _head_rows(
        'quantile', quantile, cuts, layers, first, null, at_least
    )
  for name, own in nulls.items():
    smallest = min(own[layer].shape[1] for layer in layers)
    for alpha in alphas:
      if not allowed_of_null(alpha, smallest):
        continue
      cuts = {layer: null_cutoffs(own[layer], alpha) for layer in layers}
      rows += _head_rows(
          f'null:{name}', alpha, cuts, layers, name, own, at_least
      )
  return rows


def _head_rows(
    kind: str,
    level: float,
    cuts: Mapping[int, Any],
    layers: _Statistics,
    name: str | None,
    null: _Statistics | None,
    at_least: Sequence[int],
) -> list[dict[str, Any]]:
  """A row for each m and layer, and for all layers together."""
  counts = _head_counts(layers, cuts, layers)
  null_counts = None if null is None else _head_counts(null, cuts, layers)
  return [
      {
          'thresholds': kind,
          'level': level,
          'at_least': m,
          'layer': layer,
          'share': float((own >= m).mean()),
          'mean_heads': float(own.mean()),
          'null': name,
          'null_share': (
              None
              if null_counts is None
              else float((null_counts[layer] >= m).mean())
          ),
      }
      for m in at_least
      for layer, own in counts.items()
  ]


def _head_counts(
    statistics: _Statistics, cuts: Mapping[int, Any], layers: _Statistics
):
  found = {
      layer: head_counts(participates(statistics[layer], cuts[layer]))
      for layer in layers
  }
  return found | {WHOLE_MODEL: np.concatenate(list(found.values()))}
