"""The share of participating features under every threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures._participation import PARTICIPATION_QUANTILES
from ooc_jax.measures._participation import head_counts
from ooc_jax.measures._participation import null_cutoffs
from ooc_jax.measures._participation import participates
from ooc_jax.measures._participation import pooled_quantile
from ooc_jax.measures._sweep import WHOLE_MODEL

PARTICIPATION_ALPHAS = (0.001, 0.01, 0.05)
_Layers = Mapping[int, Float[np.ndarray, '_ _']]


def participation_sweep(
    layers: _Layers,
    nulls: Mapping[str, _Layers] | None = None,
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
    rows += _rows('quantile', quantile, cuts, layers, first, null, at_least)
  for name, own in nulls.items():
    smallest = min(own[layer].shape[1] for layer in layers)
    for alpha in alphas:
      if alpha * smallest * (1 + 1e-12) < 1:
        continue
      cuts = {layer: null_cutoffs(own[layer], alpha) for layer in layers}
      rows += _rows(f'null:{name}', alpha, cuts, layers, name, own, at_least)
  return rows


def _rows(
    kind: str,
    level: float,
    cuts: Mapping[int, Any],
    layers: _Layers,
    name: str | None,
    null: _Layers | None,
    at_least: Sequence[int],
) -> list[dict[str, Any]]:
  """A row for each m and layer, and for all layers together."""
  counts = _counts(layers, cuts, layers)
  null_counts = None if null is None else _counts(null, cuts, layers)
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


def _counts(statistics: _Layers, cuts: Mapping[int, Any], layers: _Layers):
  found = {
      layer: head_counts(participates(statistics[layer], cuts[layer]))
      for layer in layers
  }
  return found | {WHOLE_MODEL: np.concatenate(list(found.values()))}
