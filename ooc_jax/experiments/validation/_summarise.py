"""What follows from the tables of the validation: means, tests, verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Bool, Float
import numpy as np
import pyarrow as pa
import scipy  # Its stats, slow to import, come when they are used.

from ooc_jax import measures
from ooc_jax import results
from ooc_jax.experiments._agreement import heads_summary
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments._summary import number_shape
from ooc_jax.experiments._summary import share_shape
from ooc_jax.experiments.validation._compute import ValidationTables
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.experiments.validation._labels import agreement
from ooc_jax.experiments.validation._labels import difference
from ooc_jax.results import tables

NULLS = ('permuted', 'random')
_LEVEL = 0.05
_DRAWS = 2000
_SCHEMA = tables.VALIDATION_FEATURES


def summarise(found: ValidationTables, config: Validation) -> Summary:
  """`summary.json`, of all layers."""
  layers = [
      {
          'layer': layer,
          'health': tables.health_of(own.features),
          **_layer(layer, own.features, own.null, config),
      }
      for layer, own in found.layers.items()
  ]
  beats = _beats(layers)
  summary = {
      'experiment': 'validation',
      'num_layers': found.num_layers,
      'layers': layers,
      'beats': beats,
      'shapes': _shapes(layers),
      'claims': _claims(found, layers),
      'examples': _examples(found, config),
      'attention': [
          heads_summary(heads, layer)
          for layer, heads in (
              (None, found.first),
              *((layer, own.heads) for layer, own in found.layers.items()),
          )
          if heads is not None
      ],
  }
  return Summary({}, results.plain(summary))


def _layer(
    layer: int, features: pa.Table, null: pa.Table, config: Validation
) -> dict[str, Any]:
  columns = {
      name: _SCHEMA.array(features, name)
      for name in ('sampled', 'semantic_weights', 'semantic_activations')
  }
  sampled, weights, activations = (x.astype(bool) for x in columns.values())
  judged = _SCHEMA.array(features, 'judged').astype(bool)
  rng = np.random.default_rng([config.seed, layer])
  return {
      'features': len(features),
      'sampled': int(sampled.sum()),
      'scores': {
          name: _score(features, null, name, sampled, rng)
          for name in tables.SCORES
      },
      'lens_correlation': _mean(
          _SCHEMA.array(features, 'lens_correlation')[sampled]
      ),
      'null_lens_correlation': _mean(
          tables.VALIDATION_NULL.array(null, 'lens_correlation')
      ),
      'weights': measures.share_interval(weights)._asdict(),
      'activations': measures.share_interval(activations)._asdict(),
      'judged': float(judged.mean()),
      'agreement': agreement(weights, activations),
      'rare': _rare(features, null, weights, config),
  }


def _score(
    features: pa.Table,
    null: pa.Table,
    name: str,
    sampled: Bool[np.ndarray, 'F'],
    rng: np.random.Generator,
) -> dict[str, Any] | None:
  """Mean of a score with its interval, and the excess over either null.

  P values are one-sided and of Student's t: of the differences between a
  feature's score and that with other features' lists, and by Welch of features
  and random directions.

  Returns:
    None where no feature has the score.
  """
  values = _SCHEMA.array(features, name)[sampled]
  chance = _SCHEMA.array(features, tables.permuted_name(name))[sampled]
  random = tables.VALIDATION_NULL.array(null, name)
  known = ~np.isnan(values) & ~np.isnan(chance)
  values, chance = values[known], chance[known]
  random = random[~np.isnan(random)]
  if values.size < 2:
    return None
  low, high = _bootstrap(values, rng)
  pairs = values - chance
  own: dict[str, Any] = {
      'count': int(values.size),
      'mean': float(values.mean()),
      'low': low,
      'high': high,
      'permuted': _excess(float(chance.mean()), _one_sided(pairs), pairs, rng),
      'random': None,
  }
  if random.size > 1:
    p = _welch(values, random)
    low, high = _bootstrap(values, rng, random)
    own['random'] = {
        'mean': float(random.mean()),
        'excess': float(values.mean() - random.mean()),
        'low': low,
        'high': high,
        'p_value': p,
    }
  return own


def _excess(
    mean: float,
    p: float,
    pairs: Float[np.ndarray, 'n'],
    rng: np.random.Generator,
) -> dict[str, float]:
  low, high = _bootstrap(pairs, rng)
  return {
      'mean': mean,
      'excess': float(pairs.mean()),
      'low': low,
      'high': high,
      'p_value': p,
  }


def _bootstrap(
    values: Float[np.ndarray, 'n'],
    rng: np.random.Generator,
    less: Float[np.ndarray, 'm'] | None = None,
) -> tuple[float, float]:
  """The 95% interval of a mean, or of a mean less another."""
  drawn = rng.choice(values, (_DRAWS, values.size)).mean(axis=1)
  if less is not None:
    drawn -= rng.choice(less, (_DRAWS, less.size)).mean(axis=1)
  low, high = np.quantile(drawn, (0.025, 0.975))
  return float(low), float(high)


def _one_sided(values: Float[np.ndarray, 'n']) -> float:
  """P that the mean is not over 0; 1 where all values are one number <= 0."""
  if values.size < 2 or values.std() == 0:
    return float(values.size < 2 or values[0] <= 0)
  return float(scipy.stats.ttest_1samp(values, 0, alternative='greater').pvalue)


def _welch(
    first: Float[np.ndarray, 'n'], second: Float[np.ndarray, 'm']
) -> float:
  if first.std() == 0 and second.std() == 0:
    return float(first[0] <= second[0])
  return float(
      scipy.stats.ttest_ind(
          first, second, equal_var=False, alternative='greater'
      ).pvalue
  )


def _rare(
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
    p = max(_one_sided(excess), _welch(score[known], random))
  return {
      'features': int(rare.sum()),
      'semantic': int(missed.sum()),
      'p_value': _binomial(int(missed.sum()), int(rare.sum()), config.alpha),
      'scored': int(known.sum()),
      'output': _mean(score[known]),
      'permuted': _mean(chance[known]),
      'random': _mean(random),
      'output_p_value': p,
  }


def _binomial(hits: int, count: int, rate: float) -> float:
  if not count:
    return 1.0
  return float(
      scipy.stats.binomtest(hits, count, rate, alternative='greater').pvalue
  )


def _beats(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """For each score and null, the layers at which it is over chance.

  By q values over the layers of at most 0.05. `from` is the first layer from
  which on it is over both at every layer, None where there is none.
  """
  found = {}
  for name in tables.SCORES:
    own = [row['scores'][name] for row in layers]
    over = {}
    for null in NULLS:
      p = [
          1.0 if x is None or x[null] is None else x[null]['p_value']
          for x in own
      ]
      q = measures.q_values(np.asarray(p))
      over[null] = [
          row['layer'] for row, x in zip(layers, q, strict=True) if x <= _LEVEL
      ]
    start = None
    for row in reversed(layers):
      if not all(row['layer'] in x for x in over.values()):
        break
      start = row['layer']
    found[name] = {**over, 'from': start}
  return found


def _shapes(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Of both shares over depth."""
  numbers = [row['layer'] for row in layers]
  return {
      name: share_shape(
          numbers,
          [row[name]['share'] for row in layers],
          [row['features'] for row in layers],
      )
      for name in ('weights', 'activations')
  }


def _claims(
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
  if own['p_value'] > _LEVEL:
    # Of 30, a share of 0.1 is found over a chance of 0.01 four times in five.
    own['verdict'] = measures.VERDICTS[1 if rare >= 30 else 2]
  elif effects and own['output_p_value'] <= _LEVEL:
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
  apart = relation.p_value <= _LEVEL and relation.sign < 0
  together = relation.p_value <= _LEVEL and relation.sign > 0
  which = 0 if differ or apart else 1 if together else 2
  return {
      'difference': shape,
      'relation': relation.sign,
      'relation_p_value': relation.p_value,
      'correlation': relation.correlation,
      'verdict': measures.VERDICTS[which],
  }


def _examples(
    found: ValidationTables, config: Validation
) -> list[dict[str, Any]]:
  """The steered feature of each layer, of so many layers spread over depth."""
  rows = []
  for layer, own in found.layers.items():
    prompts = _SCHEMA.array(own.features, 'prompt')
    chosen = [i for i, text in enumerate(prompts) if text]
    for i in chosen:
      row = own.features.slice(i, 1).to_pylist()[0]
      names = ('prompt', 'plain', 'steered_low', 'steered_high')
      rows.append({
          'layer': layer,
          'feature': row['feature'],
          'score': row['output_decoder'],
          'lens': row['lens_tokens'],
          'raised': row['raised_tokens'],
          'peaks': row['peak_tokens'],
          **{name: row[name] for name in names},
      })
  if len(rows) <= config.examples:
    return rows
  places = np.linspace(0, len(rows) - 1, config.examples).round().astype(int)
  return [rows[i] for i in places]


def _mean(values: np.ndarray) -> float | None:
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else None
