"""The summary of experiment 2, from the tables of its layers."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

from _attention_study import AttentionStudy
from _attention_study import parse_participation
import _shapes
import numpy as np

from ooc_jax import measures

Layers = Mapping[int, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Context:
  """A role and a kind at all layers of a run.

  Attributes:
    name: One of `measures.CONTEXTS`.
    statistics: Layer -> [N, F].
    nulls: Name -> layer -> [N, n].
    cuts: Layer -> threshold of each head, [N].
  """

  name: str
  statistics: Layers
  nulls: Mapping[str, Layers]
  cuts: Layers

  def counts(self, layer: int, null: str | None = None) -> np.ndarray:
    """Heads in which each feature, or null direction, participates."""
    own = self.statistics if null is None else self.nulls[null]
    passed = measures.participates(own[layer], self.cuts[layer])
    return measures.head_counts(passed)


def context_of(
    name: str,
    statistics: Layers,
    nulls: Mapping[str, Layers],
    study: AttentionStudy,
) -> Context:
  """Settles the thresholds of the study."""
  kind, value = parse_participation(study.participation)
  if kind == 'quantile':
    cut = measures.pooled_quantile(statistics.values(), float(value))
    cuts = {x: np.full(len(own), cut) for x, own in statistics.items()}
  else:
    null = nulls[str(value)]
    cuts = {x: measures.null_cutoffs(null[x], study.alpha) for x in statistics}
  return Context(name, statistics, nulls, cuts)


def context_summary(
    context: Context, weights: Mapping[int, Any], study: AttentionStudy
) -> dict[str, Any]:
  """Shares of every layer and of all, and the shapes over depth.

  Args:
    context: Of the run.
    weights: Layer -> the SHA-256 of its dictionary's files.
    study: The settings.
  """
  layers, counts = [], {}
  null_counts: dict[str, list[np.ndarray]] = {
      name: [] for name in context.nulls
  }
  heads = max(len(x) for x in context.statistics.values())
  for layer in context.statistics:
    counts[layer] = context.counts(layer)
    nulls = {name: context.counts(layer, name) for name in context.nulls}
    for name, own in nulls.items():
      null_counts[name].append(own)
    layers.append({
        'layer': layer,
        'weights': weights[layer],
        **_row(counts[layer], nulls, heads, study, study.seed + layer),
        'median': float(np.median(context.statistics[layer])),
        'thresholds': context.cuts[layer].tolist(),
    })
  total = _row(
      np.concatenate(list(counts.values())),
      {name: np.concatenate(x) for name, x in null_counts.items()},
      heads,
      study,
      study.seed,
  )
  numbers = list(context.statistics)
  kind, value = parse_participation(study.participation)
  pooled = kind == 'quantile'
  mean_heads = np.asarray([row['mean_heads']['mean'] for row in layers])
  return {
      'layers': layers,
      'total': total,
      'thresholds': {
          'kind': kind,
          'level': value if pooled else study.alpha,
          'null': None if pooled else value,
          'value': float(context.cuts[numbers[0]][0]) if pooled else None,
      },
      'shape': _shapes.share_shape(
          numbers,
          [row['participating']['share'] for row in layers],
          [row['features'] for row in layers],
      ),
      'shape_of_mean_heads': _shapes.number_shape(
          numbers, mean_heads, measures.heads_errors(counts)
      ),
  }


def _row(
    counts: np.ndarray,
    nulls: Mapping[str, np.ndarray],
    heads: int,
    study: AttentionStudy,
    seed: int,
) -> dict[str, Any]:
  at_least = sorted({1, study.at_least, (heads + 1) // 2, heads})
  shares, mean = measures.participation_shares(
      counts, heads, at_least, seed=seed
  )
  row = {
      'features': int(counts.size),
      'participating': shares[study.at_least]._asdict(),
      'at_least': {str(m): share._asdict() for m, share in shares.items()},
      'mean_heads': mean._asdict(),
  }
  if nulls:
    # The first stands beside the features in figures and tables.
    labels = next(iter(nulls.values())) >= study.at_least
    excess = measures.bootstrap_excess(
        counts >= study.at_least, labels, seed=seed
    )
    row |= {
        'nulls': {
            name: float((own >= study.at_least).mean())
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
  found = []
  for key, course in courses.items():
    shape = _shapes.share_shape(
        list(course), list(course.values()), [features[x] for x in course]
    )
    kept = {x: shape[x] for x in ('name', 'p_value', 'turning_point')}
    found.append(dict(zip(keys, key, strict=True)) | kept)
  return found


def weights_of(table: Any) -> Any:
  """SHA-256 of the files of a layer's dictionary, as its table keeps them."""
  return json.loads(table.schema.metadata[b'ooc_jax.weights'])
