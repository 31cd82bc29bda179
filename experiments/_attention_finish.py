"""What experiment 2 leaves once all layers are there, from its tables alone."""

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
  contexts, weights, accuracy = _read(folder, study, layers)
  rows = []
  for context in contexts:
    found = measures.participation_sweep(context.statistics, context.nulls)
    rows += [{'context': context.name, **row} for row in found]
  folder.write_table('sweep', pa.Table.from_pylist(rows))
  folder.write_table('participation', _participation(contexts))
  heads = _heads(folder, contexts, layers)
  folder.write_table('heads', heads)
  sides = {
      context.name: _attention_summary.context_summary(context, weights, study)
      for context in contexts
  }
  folder.write_summary({
      'experiment': 'attention_participation',
      'num_layers': config.num_layers,
      'num_heads': config.num_heads,
      'tied': config.tied,
      **accuracy,
      **sides[HEADLINE],
      'sides': sides,
      'examples': _examples(heads, study.examples),
  })
  for name, figure in _figures(folder).items():
    folder.write_figure(name, figure)
  return folder.read_summary()


def _read(
    folder: results.ResultsFolder, study: AttentionStudy, layers: Sequence[int]
) -> tuple[list[Context], dict[int, Any], dict[str, Any]]:
  """Every context, the hashes of each layer, and how exact quantiles are."""
  statistics: dict[str, dict[int, np.ndarray]] = {}
  nulls: dict[str, dict[str, dict[int, np.ndarray]]] = {}
  weights, errors = {}, []
  for layer in layers:
    table = folder.read_layer(layer)
    weights[layer] = _attention_summary.weights_of(table)
    errors.append(_attention_reader.rank_error(table))
    for name, own in _attention_reader.statistics_of(table).items():
      statistics.setdefault(name, {})[layer] = own
    for kind in study.null_kinds:
      table = folder.read_table(nulls_name(layer))
      for name, own in _attention_nulls.null_statistics(table, kind).items():
        nulls.setdefault(name, {}).setdefault(kind, {})[layer] = own
  contexts = [
      _attention_summary.context_of(
          name, statistics[name], nulls.get(name, {}), study
      )
      for name in measures.CONTEXTS
  ]
  return contexts, weights, {'quantile_rank_error': max(errors)}


def _participation(contexts: Sequence[Context]) -> pa.Table:
  """One row a feature of every layer: in how many heads, in each context."""
  first = contexts[0].statistics
  sizes = {layer: own.shape[1] for layer, own in first.items()}
  columns = {
      'layer': np.repeat(
          np.asarray(list(sizes), np.int32), list(sizes.values())
      ),
      'feature': np.concatenate(
          [np.arange(n, dtype=np.int32) for n in sizes.values()]
      ),
  }
  for context in contexts:
    counts = [context.counts(layer).astype(np.int32) for layer in sizes]
    columns[f'{context.name}_heads'] = np.concatenate(counts)
  return pa.table(columns)


def _heads(
    folder: results.ResultsFolder,
    contexts: Sequence[Context],
    layers: Sequence[int],
) -> pa.Table:
  """The heads of all layers, with the share that participates in each."""
  table = pa.concat_tables([folder.read_table(heads_name(x)) for x in layers])
  for context in contexts:
    for null in (None, *context.nulls):
      own = context.statistics if null is None else context.nulls[null]
      shares = [
          measures.participates(own[x], context.cuts[x]).mean(axis=1)
          for x in layers
      ]
      end = '' if null is None else f'_{null}_null'
      table = table.append_column(
          f'{context.name}_share{end}', pa.array(np.concatenate(shares))
      )
  return table


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
