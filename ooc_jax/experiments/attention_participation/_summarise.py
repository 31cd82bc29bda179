"""What experiment 2 says once all layers are there, from its tables alone."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments._summary import number_shape
from ooc_jax.experiments._summary import share_shape
from ooc_jax.experiments.attention_participation._compute import AttentionTables
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.experiments.attention_participation._config import (
    parse_participation,
)
from ooc_jax.results import tables as schemas

# The context of the summary's first rows.
_HEADLINE = measures.CONTEXTS[0]
_LARGEST_WEIGHT = 'query_post'
_EXAMPLE = (
    'layer',
    'head',
    'features',
    'selectivity',
    'relative_selectivity',
    'diagonal_mass',
    'copy_score',
    'preferred_offset',
    'bias_offset',
    'top_key_share',
    'write_features',
    'write_tokens',
)
Layers = Mapping[int, np.ndarray]


def summarise(
    tables: AttentionTables, config: AttentionParticipation
) -> Summary:
  """Who participates where, under the run's threshold and all others.

  Args:
    tables: Of `compute`, or of a folder: read one context after the other.
    config: The settings.

  Returns:
    `heads`, `participation`, `sweep`, `shapes` and the summary.
  """
  layers = list(tables.features)
  weights = {x: schemas.weights_of(tables.features[x]) for x in layers}
  heads = pa.concat_tables(
      [tables.heads[x] for x in layers],
      # The mean of the stream may be known at some layers only.
      promote_options='default',
  )
  contexts, sweep, counts = {}, [], {}
  # One context after the other: of a large model, all are gigabytes.
  for name in measures.CONTEXTS:
    context = context_of(
        name,
        {
            x: schemas.ATTENTION_FEATURES.array(
                tables.features[x], schemas.STATISTIC[name]
            )
            for x in layers
        },
        {
            null: {
                x: schemas.null_statistic(tables.nulls[x], null, name)
                for x in layers
            }
            for null in config.null_kinds
        },
        config,
    )
    rows = measures.participation_sweep(context.statistics, context.nulls)
    sweep += [{'context': name, **row} for row in rows]
    counts[name] = {x: context.counts(x) for x in layers}
    heads = _with_shares(heads, context)
    contexts[name] = context_summary(context, weights, config)
  features = {x: own.size for x, own in counts[_HEADLINE].items()}
  shapes = sweep_shapes(sweep, features)
  return Summary(
      tables={
          'sweep': schemas.ATTENTION_SWEEP.build_rows(sweep),
          'shapes': schemas.SHAPES.build_rows(shapes),
          'participation': _participation(counts, features),
          'heads': heads,
      },
      summary={
          'experiment': 'attention_participation',
          'num_layers': tables.num_layers,
          'num_heads': tables.num_heads,
          'tied': tables.tied,
          **contexts[_HEADLINE],
          'sides': contexts,
          'shapes': dict(collections.Counter(row['name'] for row in shapes)),
          'top_key': _top_key(heads),
          **_mean_stream(heads),
          'examples': _examples(heads, config.examples),
      },
  )


@dataclasses.dataclass(frozen=True)
class Context:
  """A role and a kind at all layers of a run.

  Attributes:
    name: One of `measures.CONTEXTS`.
    statistics: Layer -> [N, F].
    nulls: Name -> layer -> [N, n].
    cutoffs: Of each head at each layer.
  """

  name: str
  statistics: Layers
  nulls: Mapping[str, Layers]
  cutoffs: measures.Cutoffs

  def counts(self, layer: int, null: str | None = None) -> np.ndarray:
    """Heads in which each feature, or null direction, participates."""
    return measures.head_counts(self.participates(layer, null))

  def participates(self, layer: int, null: str | None = None) -> np.ndarray:
    """[N, F] where each feature, or null direction, participates."""
    own = self.statistics if null is None else self.nulls[null]
    return measures.participates(own[layer], self.cutoffs.at[layer])


def context_of(
    name: str,
    statistics: Layers,
    nulls: Mapping[str, Layers],
    config: AttentionParticipation,
) -> Context:
  """Settles the thresholds of the run."""
  kind, value = parse_participation(config.participation)
  if kind == 'quantile':
    cutoffs = measures.quantile_cutoffs(statistics, float(value))
  else:
    cutoffs = measures.head_cutoffs(nulls[str(value)], config.alpha)
  return Context(name, statistics, nulls, cutoffs)


def context_summary(
    context: Context,
    weights: Mapping[int, Any],
    config: AttentionParticipation,
) -> dict[str, Any]:
  """Shares of every layer and of all, and the shapes over depth.

  Args:
    context: Of the run.
    weights: Layer -> the SHA-256 of its dictionary's files.
    config: The settings.
  """
  numbers = list(context.statistics)
  heads = max(len(x) for x in context.statistics.values())
  shares = measures.participation_shares(
      context.statistics,
      context.cutoffs,
      sorted({1, config.at_least, (heads + 1) // 2, heads}),
      # The first stands beside the features in figures and tables.
      next(iter(context.nulls.values()), None),
      whole=schemas.ALL_LAYERS,
  )
  counts = {x: context.counts(x) for x in numbers}
  nulls = {
      name: {x: context.counts(x, name) for x in numbers}
      for name in context.nulls
  }
  layers: list[dict[str, Any]] = [
      {
          'layer': x,
          'weights': weights[x],
          **_row(
              counts[x],
              {name: own[x] for name, own in nulls.items()},
              shares[x],
              config,
          ),
          'median': float(np.median(context.statistics[x])),
          'thresholds': context.cutoffs.at[x].tolist(),
      }
      for x in numbers
  ]
  total = _row(
      np.concatenate(list(counts.values())),
      {name: np.concatenate(list(own.values())) for name, own in nulls.items()},
      shares[schemas.ALL_LAYERS],
      config,
  )
  kind, value = parse_participation(config.participation)
  pooled = kind == 'quantile'
  return {
      'layers': layers,
      'total': total,
      'thresholds': {
          'kind': kind,
          'level': value if pooled else config.alpha,
          'null': None if pooled else value,
          'value': float(context.cutoffs.at[numbers[0]][0]) if pooled else None,
      },
      'shape': share_shape(
          numbers,
          [row['participating']['share'] for row in layers],
          [row['features'] for row in layers],
      ),
      'shape_of_mean_heads': number_shape(
          numbers,
          np.asarray([row['mean_heads']['mean'] for row in layers]),
          measures.heads_errors(counts),
      ),
  }


def _row(
    counts: np.ndarray,
    nulls: Mapping[str, np.ndarray],
    found: measures.LayerShares,
    config: AttentionParticipation,
) -> dict[str, Any]:
  row = {
      'features': int(counts.size),
      'participating': found.at_least[config.at_least]._asdict(),
      'at_least': {
          str(m): share._asdict() for m, share in found.at_least.items()
      },
      'mean_heads': found.mean_heads._asdict(),
  }
  if nulls:
    labels = next(iter(nulls.values())) >= config.at_least
    excess = found.excess[config.at_least]
    row |= {
        'nulls': {
            name: float((own >= config.at_least).mean())
            for name, own in nulls.items()
        },
        'null_share': float(labels.mean()),
        'null_directions': int(labels.size),
        'excess': excess.share,
        'excess_low': excess.low,
        'excess_high': excess.high,
    }
  return row


def sweep_shapes(
    rows: Sequence[Mapping[str, Any]], features: Mapping[int, int]
) -> list[dict[str, Any]]:
  """The tested course over depth under every threshold of a sweep.

  Args:
    rows: Of `measures.participation_sweep`, each with its `context`.
    features: Layer -> how many there are.

  Returns:
    A row for each context, threshold and number of heads: `name`, `p_value`
    and `turning_point` of `measures.depth_shape`.
  """
  keys = ('context', 'thresholds', 'level', 'at_least')
  courses: dict[tuple[Any, ...], dict[int, float]] = {}
  for row in rows:
    if row['layer'] != measures.WHOLE_MODEL:
      key = tuple(row[name] for name in keys)
      courses.setdefault(key, {})[row['layer']] = row['share']
  layers = list(features)
  sizes = np.asarray(list(features.values()))
  shares = np.asarray([[x[i] for i in layers] for x in courses.values()])
  errors = np.asarray([measures.share_errors(x, sizes) for x in shares])
  shapes = measures.depth_shapes(np.asarray(layers), shares, errors)
  return [
      dict(zip(keys, key, strict=True))
      | {x: getattr(shape, x) for x in ('name', 'p_value', 'turning_point')}
      for key, shape in zip(courses, shapes, strict=True)
  ]


def _participation(
    counts: Mapping[str, Layers], features: Mapping[int, int]
) -> pa.Table:
  """One row a feature of every layer: in how many heads, in each context."""
  sizes = list(features.values())
  return schemas.PARTICIPATION.build({
      'layer': np.repeat(np.asarray(list(features), np.int32), sizes),
      'feature': np.concatenate([np.arange(n, dtype=np.int32) for n in sizes]),
      **{
          f'{name}_heads': np.concatenate(list(own.values())).astype(np.int32)
          for name, own in counts.items()
      },
  })


def _with_shares(heads: pa.Table, context: Context) -> pa.Table:
  """The heads of all layers, with the share that participates in each."""
  for null in (None, *context.nulls):
    shares = [
        context.participates(x, null).mean(axis=1) for x in context.statistics
    ]
    heads = heads.append_column(
        schemas.share_name(context.name, null),
        pa.array(np.concatenate(shares)),
    )
  if context.name == _LARGEST_WEIGHT:
    heads = _with_chance(heads, context.nulls)
  return heads


def _with_chance(heads: pa.Table, nulls: Mapping[str, Layers]) -> pa.Table:
  """The heads with the selectivity of each null, and theirs by the first."""
  for i, (null, layers) in enumerate(nulls.items()):
    chance = np.concatenate(
        [x.mean(axis=1, dtype=np.float64) * x.shape[1] for x in layers.values()]
    )
    name = schemas.selectivity_name(null)
    heads = heads.append_column(name, pa.array(chance))
    if not i:
      own = heads['selectivity'].to_numpy()
      heads = heads.append_column(
          'relative_selectivity', pa.array(own / chance)
      )
  return heads


def _top_key(heads: pa.Table) -> dict[str, Any]:
  """The key that takes most of the weight of a head, and that head."""
  share = heads['top_key_share'].to_numpy()
  row = heads.slice(int(share.argmax()), 1).to_pylist()[0]
  return {
      'layer': row['layer'],
      'head': row['head'],
      'key': row['write_features'][0],
      'share': row['top_key_share'],
  }


def _mean_stream(heads: pa.Table) -> dict[str, Any]:
  """What the mean of the stream does in the heads where it is known."""
  if 'bias' not in heads.column_names:
    return {}
  rows = [row for row in heads.to_pylist() if row['bias'] is not None]
  offsets = collections.Counter(row['bias_offset'] for row in rows)
  scores = {
      f'{role}_{name}': float(
          np.mean([row[f'{role}_bias_{name}'] for row in rows])
      )
      for role in measures.ROLES
      for name in ('mean', 'std')
  }
  return {
      'mean_stream': {
          'origins': sorted({row['bias'] for row in rows}),
          'heads': len(rows),
          'offsets': {str(x): offsets[x] for x in sorted(offsets)},
          'own': float(np.mean([row['bias_score'] for row in rows])),
          **scores,
      }
  }


def _examples(heads: pa.Table, count: int) -> list[dict[str, Any]]:
  """The most selective heads, by chance where that is known."""
  names = [name for name in _EXAMPLE if name in heads.column_names]
  rows = heads.select(names).to_pylist()
  key = 'relative_selectivity'
  key = key if key in names else 'selectivity'
  rows.sort(key=lambda row: -row[key])
  return rows[:count]
