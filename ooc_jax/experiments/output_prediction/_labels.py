"""The features of a run as labels: in each readout, against its null."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax.experiments.output_prediction._compute import OutputTables
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_thresholds
from ooc_jax.results import tables

_ByLayer = Mapping[int, measures.Coherence]


@dataclasses.dataclass(frozen=True)
class Decision:
  """Measures of all layers, a null of each, and the cut-offs that follow.

  Attributes:
    coherences: Layer -> the measures of its features.
    nulls: Layer -> those of its random directions; layers that share a null
      have the same object.
    config: Rule, thresholds, alpha, seed.
  """

  coherences: _ByLayer
  nulls: _ByLayer
  config: OutputPrediction

  @functools.cached_property
  def thresholds(self) -> Mapping[int, measures.Thresholds]:
    """Layer -> its cut-offs."""
    kind, value = parse_thresholds(self.config.thresholds)
    if kind == 'null':
      return self.null_thresholds
    if kind == 'quantile':
      value = measures.quantile_thresholds(
          list(self.coherences.values()), value
      )
    else:  # Either end has the numbers that were given.
      known = next(iter(self.coherences.values())).measures
      given = {m.name: value[m.name.removeprefix('bottom_')] for m in known}
      value = dataclasses.replace(value, values=given)
    return dict.fromkeys(self.coherences, value)

  @functools.cached_property
  def null_thresholds(self) -> Mapping[int, measures.Thresholds]:
    """Layer -> the cut-offs that hold its null at alpha."""
    cuts = {
        key: measures.null_thresholds(null, self.config.alpha, self.config.rule)
        for key, null in {id(x): x for x in self.nulls.values()}.items()
    }
    return {x: cuts[id(null)] for x, null in self.nulls.items()}

  @functools.cached_property
  def null_labels(self) -> Mapping[int, np.ndarray]:
    """Layer -> whether each feature is semantic by those."""
    return {
        layer: measures.is_semantic(
            c, self.null_thresholds[layer], self.config.rule
        )
        for layer, c in self.coherences.items()
    }

  @functools.cached_property
  def labels(self) -> Mapping[int, np.ndarray]:
    """Layer -> whether each feature is semantic."""
    return {
        layer: measures.is_semantic(c, self.thresholds[layer], self.config.rule)
        for layer, c in self.coherences.items()
    }

  @functools.cached_property
  def resampled(self) -> Mapping[int, measures.Resampled] | None:
    """Layer -> what other nulls would say; None for thresholds of no null."""
    config = self.config
    if parse_thresholds(config.thresholds)[0] != 'null':
      return None
    drawn = {}
    for layer, null in self.nulls.items():
      if id(null) not in drawn:
        drawn[id(null)] = measures.resampled_thresholds(
            null, config.alpha, config.rule, seed=config.seed + layer
        )
    return {
        layer: measures.resampled_labels(
            c, drawn[id(self.nulls[layer])], config.rule
        )
        for layer, c in self.coherences.items()
    }


@dataclasses.dataclass(frozen=True)
class Readout:
  """All layers of a run in one readout, with what they are compared with.

  Attributes:
    name: One of `tables.READOUTS`.
    decision: By the null and the number of top tokens of the run.
    other: By the other null.
    by_size: By other numbers of top tokens.
  """

  name: str
  decision: Decision
  other: Decision
  by_size: Mapping[int, Decision]

  @property
  def coherences(self) -> _ByLayer:
    """Of the run's own decision."""
    return self.decision.coherences

  @property
  def thresholds(self) -> Mapping[int, measures.Thresholds]:
    """Of the run's own decision."""
    return self.decision.thresholds


def readouts_of(found: OutputTables, config: OutputPrediction) -> list[Readout]:
  """Those that every layer has, `output` first, with their thresholds."""
  every = pa.concat_tables(found.directions.values(), promote_options='default')
  return [
      _readout(name, found, _where(every, side=name), config)
      for name in tables.READOUTS
      if all(
          tables.prefix_of(name) + 'top_ids' in table.column_names
          for table in found.features.values()
      )
  ]


def _readout(
    name: str,
    found: OutputTables,
    directions: pa.Table,
    config: OutputPrediction,
) -> Readout:
  prefix = tables.prefix_of(name)

  def decision(null: str, k: int) -> Decision:
    own = _where(directions, null=null, k=k)
    groups = {
        layer: _coherence_of(_where(own, layer=layer))
        for layer in own['layer'].unique().to_pylist()
    }
    return Decision(
        {
            layer: _coherence_of(table, prefix, None if k == config.k else k)
            for layer, table in found.features.items()
        },
        {
            x: groups[x if x in groups else tables.ALL_LAYERS]
            for x in found.features
        },
        config,
    )

  (other,) = {'isotropic', 'matched'} - {config.null}
  own = _where(directions, null=config.null)
  sizes = sorted(set(own['k'].unique().to_pylist()) - {config.k})
  return Readout(
      name,
      decision(config.null, config.k),
      decision(other, config.k),
      {k: decision(config.null, k) for k in sizes},
  )


def null_directions(
    found: OutputTables, readout: str, config: OutputPrediction
) -> pa.Table:
  """The random directions that decide in a readout."""
  every = pa.concat_tables(found.directions.values(), promote_options='default')
  return _where(every, side=readout, null=config.null, k=config.k)


def _where(table: pa.Table, **values: str | int) -> pa.Table:
  keep = np.ones(len(table), bool)
  for column, value in values.items():
    keep &= np.asarray(table[column]) == value
  return table.filter(pa.array(keep))


def _coherence_of(
    table: pa.Table, prefix: str = '', k: int | None = None
) -> measures.Coherence:
  """The measures of a layer's features, or of random directions.

  Args:
    table: Of either.
    prefix: Of the columns.
    k: Top tokens of those measures that are of another number than the run's.
  """

  def column(measure: measures.Measure) -> str:
    if k is None or measure.finds != 'coherent':
      return prefix + measure.name
    return prefix + tables.size_column(measure.name, k)

  found = [m for m in measures.ALL_MEASURES if column(m) in table.column_names]
  # Of an end that does not count there may still be the entropy.
  ends = {m.end for m in found if m.finds == 'coherent'}
  return measures.Coherence(
      **{m.name: table[column(m)].to_numpy() for m in found if m.end in ends}
  )


def labels_table(readouts: Sequence[Readout], rule: str) -> pa.Table:
  """One row a feature of every layer, in every readout."""
  sizes = {x: c.size for x, c in readouts[0].coherences.items()}
  columns = {
      'layer': np.repeat(list(sizes), list(sizes.values())),
      'feature': np.concatenate([np.arange(n) for n in sizes.values()]),
  }
  for readout in readouts:
    columns |= _label_columns(readout, rule)
  return tables.labels([x.name for x in readouts]).build(columns)


def _p_values(
    decision: Decision, rule: str
) -> tuple[dict[int, np.ndarray], dict[int, float]]:
  """Layer -> p of its features, and the smallest; once for each null."""
  p_values: dict[int, np.ndarray] = {}
  smallest: dict[int, float] = {}
  nulls = decision.nulls
  for null in {id(x): x for x in nulls.values()}.values():
    own = {x: c for x, c in decision.coherences.items() if nulls[x] is null}
    pooled = measures.Coherence.concatenate(list(own.values()))
    p = measures.rule_p_values(pooled, null, rule)
    ends = np.cumsum([c.size for c in own.values()])
    p_values |= zip(own, np.split(p, ends[:-1]), strict=True)
    smallest |= dict.fromkeys(own, measures.smallest_p_value(null, rule))
  return p_values, smallest


def _label_columns(readout: Readout, rule: str) -> dict[str, np.ndarray]:
  """One entry a feature of all layers: labels, passes, p and q values."""
  columns: dict[str, list[np.ndarray]] = {}
  decision = readout.decision
  p_values, smallest = _p_values(decision, rule)
  for layer, coherence in decision.coherences.items():
    passes = measures.passes_by_measure(coherence, decision.thresholds[layer])
    labels = decision.labels[layer]
    p = p_values[layer]
    rows = {
        'semantic': labels,
        **{f'{name}_passes': x for name, x in passes.items()},
        **measures.found_by_measures(passes),
        'p_value': p,
        'at_resolution': p <= smallest[layer],
    }
    if decision.resampled is not None:
      rates = decision.resampled[layer].rates
      rows['null_stability'] = np.where(labels, rates, 1 - rates)
    if readout.by_size:
      rows['k_stability'] = np.mean(
          [x.labels[layer] == labels for x in readout.by_size.values()], axis=0
      )
    for name, values in rows.items():
      columns.setdefault(name, []).append(values)
  joined = {name: np.concatenate(x) for name, x in columns.items()}
  joined['q_value'] = measures.q_values(joined['p_value'])
  prefix = tables.prefix_of(readout.name)
  return {prefix + name: x for name, x in joined.items()}
