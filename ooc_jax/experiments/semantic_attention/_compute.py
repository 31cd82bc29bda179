"""Experiment 3: both other experiments, and their features side by side."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
from typing import Any

from jax.sharding import Mesh
import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import output_prediction
from ooc_jax.experiments.attention_participation import AttentionParticipation
from ooc_jax.experiments.attention_participation import AttentionTables
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.experiments.semantic_attention import _populations
from ooc_jax.experiments.semantic_attention._config import SemanticAttention
from ooc_jax.experiments.semantic_attention._statements import statements
from ooc_jax.experiments.semantic_attention._statements import verdict_sweep
from ooc_jax.model import Model
from ooc_jax.results import tables as schemas


@dataclasses.dataclass(frozen=True)
class SemanticTables:
  """The two populations of every layer, of all labellings.

  Attributes:
    num_layers: Of the model, not of the run.
    tied: Whether the model's embedding is its unembedding.
    populations: A row a context, layer and population: `populations.parquet`.
    effects: A row a context and layer: `effects.parquet`.
    statements: The verdicts, and the tests they rest on.
    sweep: The verdicts under other labels and ways over heads.
  """

  num_layers: int
  tied: bool
  populations: pa.Table
  effects: pa.Table
  statements: Mapping[str, Any]
  sweep: Sequence[Mapping[str, Any]]


def compute(
    model: Model,
    dictionaries: Mapping[int, Dictionary],
    config: SemanticAttention,
    *,
    labels: OutputPrediction | None = None,
    attention: AttentionParticipation | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> SemanticTables:
  """Runs experiments 1 and 2 on the same dictionaries, and joins them.

  Args:
    model: With all that both need.
    dictionaries: Layer, as `load_dictionary` counts -> its dictionary.
    config: The settings of this experiment.
    labels: Of experiment 1, whose `layers` become those that attention reads;
      None is the default.
    attention: Of experiment 2; None is the default.
    mesh: That the model is spread over.
    progress: Goes through the layers of each.

  Raises:
    InputError: Model, dictionaries and settings do not fit.
  """
  attended = attention_participation.compute(
      model,
      dictionaries,
      attention or AttentionParticipation(),
      mesh=mesh,
      progress=progress,
  )
  labels = at_layers(labels or OutputPrediction(), dictionary_layers(attended))
  predicted = output_prediction.compute(
      model, dictionaries, labels, mesh=mesh, progress=progress
  )
  summary = output_prediction.summarise(predicted, labels)
  return tables_of(summary.tables[schemas.LABELS_NAME], attended, config)


def at_layers(
    labels: OutputPrediction, layers: Sequence[int]
) -> OutputPrediction:
  """The settings of experiment 1 at these layers."""
  return dataclasses.replace(labels, layers=','.join(map(str, layers)))


def dictionary_layers(attention: AttentionTables) -> list[int]:
  """The layers of experiment 1 whose features experiment 2 has."""
  layers = map(schemas.dictionary_layer, attention.features.values())
  return sorted({x for x in layers if x is not None})


def tables_of(
    labels: pa.Table, attention: AttentionTables, config: SemanticAttention
) -> SemanticTables:
  """Populations and effects under every labelling that all layers have.

  Args:
    labels: The table of experiment 1.
    attention: The tables of experiment 2.
    config: The settings.

  Raises:
    InputError: The two have no layer in common, or another number of features.
  """
  ways = {x: _join(labels, attention, x) for x in _populations.OVER_HEADS}
  layers = ways[config.over_heads]
  populations, effects = [], []
  for name in _populations.LABELLINGS:
    if all(name in one.labels for one in layers):
      populations += _populations.population_rows(layers, name)
      effects += _populations.effect_rows(layers, name, least=config.least)
  return SemanticTables(
      num_layers=attention.num_layers,
      tied=attention.tied,
      populations=schemas.POPULATIONS.build_rows(populations),
      effects=schemas.EFFECTS.build_rows(effects),
      statements=statements(layers, attention.tied, config.least),
      sweep=verdict_sweep(ways, attention.tied, config.least),
  )


def _join(
    labels: pa.Table, attention: AttentionTables, over_heads: str
) -> list[_populations.Layer]:
  """The features of both experiments, layer by layer."""
  layer_of_label = np.asarray(labels['layer'])
  choices = _choices(labels)
  layers = []
  for layer, features in attention.features.items():
    origin = schemas.dictionary_layer(features)
    mine = layer_of_label == (-1 if origin is None else origin)
    if not mine.any():
      continue
    own = {
        name: {labelling: x[mine] for labelling, x in choice.items()}
        for name, choice in choices.items()
    }
    layers.append(
        _populations.layer_of(
            layer,
            {
                name: schemas.ATTENTION_FEATURES.array(features, column)
                for name, column in schemas.STATISTIC.items()
            },
            own['semantic'],
            over_heads,
            _chance(attention.nulls.get(layer)),
            own,
        )
    )
  if not layers:
    raise InputError(
        'The labels are of no layer whose features attention reads: run'
        ' experiment 1 at the layers before.'
    )
  return layers


def _choices(labels: pa.Table) -> dict[str, dict[str, np.ndarray]]:
  """Name -> labelling -> labels: the run's own, and others it could have."""
  found: dict[str, dict[str, np.ndarray]] = {}
  names = [f'{measure.name}_passes' for measure in measures.ALL_MEASURES]
  for labelling in _populations.LABELLINGS:
    prefix = schemas.prefix_of(labelling)
    for name in ('semantic', 'coherent', *names):
      column = prefix + name
      if column in labels.column_names and not labels[column].null_count:
        found.setdefault(name, {})[labelling] = np.asarray(labels[column])
    if f'{prefix}p_value' in labels.column_names:
      p_values = np.asarray(labels[f'{prefix}p_value'])
      for alpha in measures.SWEEP_ALPHAS:
        found.setdefault(f'p <= {alpha:g}', {})[labelling] = p_values <= alpha
  return found


def _chance(nulls: schemas.Columns | None) -> dict[str, np.ndarray]:
  """Context -> [N, n] of the first null; empty where there was none."""
  if nulls is None:
    return {}
  first = nulls['null'][0].as_py()
  return {
      name: schemas.null_statistic(nulls, first, name)
      for name in measures.CONTEXTS
  }
