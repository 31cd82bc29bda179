"""What the paper claims of features, as tests on the tables of a validation."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Bool
import numpy as np
import pyarrow as pa
import scipy  # Its stats, slow to import, come when they are used.

from ooc_jax import measures
from ooc_jax.experiments._summary import number_shape
from ooc_jax.experiments.validation._compute import ValidationTables
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.experiments.validation._labels import difference
from ooc_jax.experiments.validation._scores import LEVEL
from ooc_jax.experiments.validation._scores import known_mean
from ooc_jax.experiments.validation._scores import one_sided
from ooc_jax.experiments.validation._scores import welch
from ooc_jax.results import tables

_SCHEMA = tables.VALIDATION_FEATURES


def claims(
    found: ValidationTables, layers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """What tests say of the paper's claims; see `_text`."""
  numbers = np.asarray([row['layer'] for row in layers])
  labels = {
      x: (
          _SCHEMA.array(own.features, 'semantic_weights').astype(bool),
          _SCHEMA.array(own.features, 'semantic_activations').astype(bool),
      )
      for x, own in found.layers.items()
  }
  return {
      'missed': _missed(layers),
      'other': _other([labels[x] for x in found.layers]),
      'depth': _depth(numbers, [labels[x] for x in found.layers]),
  }


def _missed(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Features that rarely fire matter: semantic by weights, and of effect.

  Both must hold of all layers together, Fisher's method each. Not supported
  where 30 or more are rare and no more than by chance are semantic.
  """
  rows = [row['rare'] for row in layers if row['rare'] is not None]
  rare = sum(row['features'] for row in rows)
  semantic = sum(row['semantic'] for row in rows)
  effects = [x for x in rows if x['output_p_value'] is not None]
  own: dict[str, Any] = {
      'defined': bool(rows),
      'rare': rare,
      'semantic': semantic,
      'scored': sum(x['scored'] for x in effects),
      'p_value': None,
      'output_p_value': None,
      'verdict': measures.VERDICTS[2],
  }
  if not rare:
    return own
  own['p_value'] = _fisher([x['p_value'] for x in rows if x['features']])
  if effects:
    own['output_p_value'] = _fisher([x['output_p_value'] for x in effects])
  if own['p_value'] > LEVEL:
    # Of 30, a share of 0.1 is found over a chance of 0.01 four times in five.
    own['verdict'] = measures.VERDICTS[1 if rare >= 30 else 2]
  elif effects and own['output_p_value'] <= LEVEL:
    own['verdict'] = measures.VERDICTS[0]
  return own


def _fisher(p: Sequence[float]) -> float:
  clipped = np.clip(p, 1e-300, 1.0)
  return float(scipy.stats.combine_pvalues(clipped, 'fisher').pvalue)


def _other(
    labels: Sequence[tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
  """Most features that are semantic by weights are not so by activations.

  A two-sided binomial test of each layer against one half, and a verdict of
  all.
  """
  signs, p_values, missed, semantic = [], [], 0, 0
  for weights, activations in labels:
    count, own = int(weights.sum()), int((weights & ~activations).sum())
    missed, semantic = missed + own, semantic + count
    if count:
      signs.append(int(np.sign(own - count / 2)))
      p_values.append(float(scipy.stats.binomtest(own, count).pvalue))
  return {
      'semantic': semantic,
      'missed': missed,
      'verdict': measures.verdict(signs, p_values, 1),
  }


def _depth(
    layers: np.ndarray, labels: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
  """The two shares have other courses over depth.

  Supported where their difference has a shape, or they go apart; not where
  they go together and the difference has none.
  """
  values, errors = np.asarray([difference(*x) for x in labels]).T
  shape = number_shape(layers.tolist(), values, errors)
  shares, share_errors = [], []
  for side in (0, 1):
    share = np.asarray([x[side].mean() for x in labels])
    sizes = np.asarray([x[side].size for x in labels])
    shares.append(share)
    share_errors.append(measures.share_errors(share, sizes))
  relation = measures.relation_over_depth(layers, *shares, *share_errors)
  differ = shape['name'] not in ('flat', 'undecided')
  apart = relation.p_value <= LEVEL and relation.sign < 0
  together = relation.p_value <= LEVEL and relation.sign > 0
  which = 0 if differ or apart else 1 if together else 2
  return {
      'difference': shape,
      'relation': relation.sign,
      'relation_p_value': relation.p_value,
      'correlation': relation.correlation,
      'verdict': measures.VERDICTS[which],
  }


def rare_features(
    features: pa.Table,
    null: pa.Table,
    weights: Bool[np.ndarray, 'F'],
    config: Validation,
) -> dict[str, Any] | None:
  """Features that rarely fire: semantic by weights, and of what effect.

  Their output score must be over both nulls, so its p is the larger of two.

  Returns:
    None of neurons, of which it is not defined.
  """
  if 'fires' not in features.column_names:
    return None
  rare = _SCHEMA.array(features, 'fires') < config.rare
  missed = rare & weights
  score = _SCHEMA.array(features, 'output_decoder')
  chance = _SCHEMA.array(features, tables.permuted_name('output_decoder'))
  known = missed & ~np.isnan(score) & ~np.isnan(chance)
  excess = (score - chance)[known]
  random = tables.VALIDATION_NULL.array(null, 'output_decoder')
  random = random[~np.isnan(random)]
  p = None
  if known.sum() > 1 and random.size > 1:
    p = max(one_sided(excess), welch(score[known], random))
  return {
      'features': int(rare.sum()),
      'semantic': int(missed.sum()),
      'p_value': _binomial(int(missed.sum()), int(rare.sum()), config.alpha),
      'scored': int(known.sum()),
      'output': known_mean(score[known]),
      'permuted': known_mean(chance[known]),
      'random': known_mean(random),
      'output_p_value': p,
  }


def _binomial(hits: int, count: int, rate: float) -> float:
  if not count:
    return 1.0
  return float(
      scipy.stats.binomtest(hits, count, rate, alternative='greater').pvalue
  )
