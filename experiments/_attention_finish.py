"""What experiment 2 leaves once all layers are there, from its tables alone."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import _attention_nulls
import _attention_reader
from _attention_study import AttentionStudy
import _attention_summary
from _attention_summary import Context
import numpy as np
import pyarrow as pa

import ooc_jax
from ooc_jax import measures
from ooc_jax import report
from ooc_jax import results

# The context of the summary's first rows.
HEADLINE = 'query_pre'
_SHAPES = pa.schema([
    ('context', pa.string()),
    ('thresholds', pa.string()),
    ('level', pa.float64()),
    ('at_least', pa.int32()),
    ('name', pa.string()),
    ('p_value', pa.float64()),
    ('turning_point', pa.float64()),
])


def heads_name(layer: int) -> str:
  """Of the table of a layer's heads."""
  return f'heads_{layer:02d}'


def nulls_name(layer: int) -> str:
  """Of the table of a layer's null directions."""
  return f'nulls_{layer:02d}'


def finish(
    folder: results.ResultsFolder,
    study: AttentionStudy,
    config: ooc_jax.ModelConfig,
    layers: Sequence[int],
) -> dict[str, Any]:
  """Participation, heads, sweep, summary and figures.

  Args:
    folder: Of the run, with all layers.
    study: The settings.
    config: Of the model.
    layers: Of the run.

  Returns:
    The summary, as it is read back.
  """
  heads = pa.concat_tables([folder.read_table(heads_name(x)) for x in layers])
  sides, sweep, counts = {}, [], {}
  # One context after the other: of a large model, all are gigabytes.
  for name in measures.CONTEXTS:
    context, weights = _read(folder, study, layers, name)
    rows = measures.participation_sweep(context.statistics, context.nulls)
    sweep += [{'context': name, **row} for row in rows]
    counts[name] = {x: context.counts(x) for x in layers}
    heads = _with_shares(heads, context, layers)
    sides[name] = _attention_summary.context_summary(context, weights, study)
  folder.write_table('sweep', pa.Table.from_pylist(sweep))
  features = {x: own.size for x, own in counts[HEADLINE].items()}
  shapes = _attention_summary.sweep_shapes(sweep, features)
  folder.write_table('shapes', pa.Table.from_pylist(shapes, _SHAPES))
  folder.write_table('participation', _participation(counts))
  folder.write_table('heads', heads)
  folder.write_summary({
      'experiment': 'attention_participation',
      'num_layers': config.num_layers,
      'num_heads': config.num_heads,
      'tied': config.tied,
      **sides[HEADLINE],
      'sides': sides,
      'shapes': dict(collections.Counter(row['name'] for row in shapes)),
      'examples': _examples(heads, study.examples),
  })
  for name, figure in _figures(folder).items():
    folder.write_figure(name, figure)
  return folder.read_summary()


def _read(
    folder: results.ResultsFolder,
    study: AttentionStudy,
    layers: Sequence[int],
    name: str,
) -> tuple[Context, Mapping[int, Any]]:
  """One context of all layers, and SHA-256 of each one's weight files."""
  statistics: dict[int, np.ndarray] = {}
  nulls: dict[str, dict[int, np.ndarray]] = {x: {} for x in study.null_kinds}
  weights = {}
  for layer in layers:
    table = folder.read_layer(layer)
    weights[layer] = _attention_summary.weights_of(table)
    statistics[layer] = _attention_reader.by_head(
        table, _attention_reader.STATISTIC[name]
    )
    if study.null_kinds:
      table = folder.read_table(nulls_name(layer))
      for kind, found in nulls.items():
        found[layer] = _attention_nulls.null_statistic(table, kind, name)
  context = _attention_summary.context_of(name, statistics, nulls, study)
  return context, weights


def _participation(
    counts: Mapping[str, Mapping[int, np.ndarray]],
) -> pa.Table:
  """One row a feature of every layer: in how many heads, in each context."""
  first = next(iter(counts.values()))
  sizes = {layer: own.size for layer, own in first.items()}
  columns = {
      'layer': np.repeat(
          np.asarray(list(sizes), np.int32), list(sizes.values())
      ),
      'feature': np.concatenate(
          [np.arange(n, dtype=np.int32) for n in sizes.values()]
      ),
  }
  for name, own in counts.items():
    columns[f'{name}_heads'] = np.concatenate(list(own.values())).astype(
        np.int32
    )
  return pa.table(columns)


def _with_shares(
    heads: pa.Table, context: Context, layers: Sequence[int]
) -> pa.Table:
  """The heads of all layers, with the share that participates in each."""
  for null in (None, *context.nulls):
    own = context.statistics if null is None else context.nulls[null]
    shares = [
        measures.participates(own[x], context.cuts[x]).mean(axis=1)
        for x in layers
    ]
    end = '' if null is None else f'_{null}_null'
    heads = heads.append_column(
        f'{context.name}_share{end}', pa.array(np.concatenate(shares))
    )
  return heads


def _examples(heads: pa.Table, count: int) -> list[dict[str, Any]]:
  """The most selective heads, one line each."""
  rows = heads.to_pylist()
  rows.sort(key=lambda row: -row['selectivity'])
  kept = (
      'layer',
      'head',
      'selectivity',
      'diagonal_mass',
      'copy_score',
      'preferred_offset',
      'write_features',
      'write_tokens',
  )
  return [{name: row[name] for name in kept} for row in rows[:count]]


def _figures(folder: results.ResultsFolder) -> Mapping[str, Any]:
  """All figures of the run."""
  path = folder.path
  heads = report.head_map(path)
  figures = {'heads': report.heads_figure(heads)}
  for role in measures.ROLES:
    names = [x for x in measures.CONTEXTS if x.startswith(role)]
    figures[f'participation_by_depth_{role}'] = report.depth_figure(
        [report.participation_curve(path, x) for x in names],
        subject='Participating features',
        title=f'Participating features by relative depth: {heads.label}',
    )
  for name in measures.CONTEXTS:
    figures[f'sweep_{name}'] = report.sweep_figure(
        report.participation_sweep(path, name),
        subject='Participating features',
    )
  return figures
