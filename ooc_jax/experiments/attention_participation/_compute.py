"""What experiment 2 computes: a row a feature, a head and a null direction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
import numpy as np
import pyarrow as pa

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.circuits import AttentionStatistics
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments._memory import check_held
from ooc_jax.experiments._preparation import Preparation
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.experiments.attention_participation._heads import heads_table
from ooc_jax.experiments.attention_participation._inputs import LayerInput
from ooc_jax.experiments.attention_participation._inputs import StreamMean
from ooc_jax.experiments.attention_participation._inputs import layer_inputs
from ooc_jax.experiments.attention_participation._inputs import own_mean
from ooc_jax.experiments.attention_participation._nulls import nulls_table
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import mean_stream
from ooc_jax.model import random_weights
from ooc_jax.results import tables

_SCORES = {'max': 'maximum', 'mean': 'mean', 'std': 'std'}
_PARTNERS = {'partners': 'top_ids', 'scores': 'top_scores'}
_WEIGHTS = (
    'entropy',
    'largest_weight',
    'self_weight',
    'received',
    'largest_received',
)


@dataclasses.dataclass(frozen=True)
class AttentionTables:
  """The tables of every layer, by the layer of the attention.

  Attributes:
    num_layers: Of the model, not of the run.
    num_heads: Of a layer.
    tied: Whether the model's embedding is its unembedding.
    features: A row a feature: `features/layer=NN.parquet`.
    heads: A row a head: `heads_NN.parquet`.
    nulls: A row a null direction: `nulls_NN.parquet`; empty without a null.
  """

  num_layers: int
  num_heads: int
  tied: bool
  features: Mapping[int, tables.Columns]
  heads: Mapping[int, pa.Table]
  nulls: Mapping[int, tables.Columns]


class LayerTables(NamedTuple):
  """Of one layer: one row a feature, a null direction, a head."""

  features: pa.Table
  nulls: pa.Table | None
  heads: pa.Table


def compute(
    model: Model,
    dictionaries: Mapping[int, Dictionary],
    config: AttentionParticipation,
    *,
    mesh: Mesh | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> AttentionTables:
  """Sends dictionaries through queries and keys of the layers that read them.

  Args:
    model: With attention, norms, vocabulary tables and a tokenizer.
    dictionaries: Layer, as `load_dictionary` counts -> its dictionary. That of
      layer l is read by the attention of l + 1, and by that of l itself where
      it is of `resid_pre` or the embedding; the last layer's is not read.
    config: The settings; `layers` are those of the attention.
    mesh: That the model is spread over.
    progress: Goes through the layers, as `tqdm.tqdm` does.

  Raises:
    InputError: Model, dictionaries and settings do not fit.
  """
  check_model(model, config)
  inputs = layer_inputs(config, dictionaries, model.config.num_layers)
  check_distances_fit(config, model.config, inputs)
  computation = Computation(model, config, mesh)
  found = {
      layer: computation.tables(layer, inputs[layer](computation.model, mesh))
      for layer in progress(tuple(inputs))
  }
  return AttentionTables(
      **about(model.config),
      features={layer: x.features for layer, x in found.items()},
      heads={layer: x.heads for layer, x in found.items()},
      nulls={
          layer: x.nulls for layer, x in found.items() if x.nulls is not None
      },
  )


def about(config: ModelConfig) -> dict[str, Any]:
  """What `AttentionTables` say of the model."""
  return {
      'num_layers': config.num_layers,
      'num_heads': config.num_heads,
      'tied': config.tied,
  }


def check_model(model: Model, config: AttentionParticipation) -> None:
  """Refuses a model that the settings do not fit.

  Raises:
    InputError: It has no tokenizer, or too few heads.
  """
  if model.tokenizer is None:
    raise InputError(
        'The model has no tokenizer, and the tokens that a head writes cannot'
        ' be read without it; give a Model with one.'
    )
  if config.at_least > model.config.num_heads:
    raise InputError(
        f'at_least={config.at_least}: {config.model or "the model"} has'
        f' {model.config.num_heads} heads a layer; choose no more.'
    )


def check_distances_fit(
    config: AttentionParticipation, model: ModelConfig, layers: Iterable[int]
) -> None:
  """Refuses more distances of a head than there is memory for.

  Args:
    config: The settings.
    model: Of the model; a window or its positions are all there are.
    layers: Of the attention.

  Raises:
    InputError: Those of some layer cannot be held.
  """
  bounds = [model.windows[layer] or config.context for layer in layers]
  most = min(max(bounds), config.context, model.positions or config.context)
  # The angle at each, its sine and its cosine in float64, and the scores.
  check_held('context', most, 12 * model.head_dim + 4 * config.pairs)


class Computation:
  """One layer after the other; masks and strings are made once.

  Attributes:
    model: The one that is read: with weights drawn anew, where that is the
      control.
  """

  def __init__(
      self,
      model: Model,
      config: AttentionParticipation,
      mesh: Mesh | None = None,
  ):
    """Readies masks and strings.

    Args:
      model: With attention, norms, vocabulary tables and a tokenizer.
      config: The settings.
      mesh: That the model is spread over.

    """
    assert model.tokenizer is not None  # `check_model` has refused it.
    self._config, self._mesh = config, mesh
    # Of the trained model, also where the control draws other weights.
    self._mask, _ = Preparation(mesh).tokens(
        model.tokenizer, circuits.unembedding_table(model)
    )
    self._tokens = np.asarray(model.tokenizer.token_strings(), object)
    if config.control == 'random_weights':
      model = random_weights(model, config.seed)
    self.model = model
    self._means: np.ndarray | None = None  # [L, D], once one is asked for.

  def tables(self, layer: int, given: LayerInput) -> LayerTables:
    """All that a layer's heads make of the dictionary at their input."""
    config, dictionary = self._config, given.dictionary
    mean = self._mean(dictionary, layer)
    attention = self._statistics(dictionary, layer, mean)
    counts = _not_sinks(attention, config.sink_share, config.partners)
    if counts is not None and not counts.all():
      attention = self._statistics(dictionary, layer, mean, counts)
    return LayerTables(
        _features_table(attention, counts, given.origin),
        nulls_table(
            self.model, dictionary, layer, mean, config, self._mask, self._mesh
        ),
        heads_table(
            self.model,
            dictionary,
            attention,
            mean,
            config,
            self._mask,
            self._tokens,
            self._mesh,
        ),
    )

  def _mean(self, dictionary: Dictionary, layer: int) -> StreamMean:
    """The dictionary's, or an estimate where features stand on it."""
    length = self._config.length
    if (bias := own_mean(dictionary)) is not None:
      return StreamMean(bias, 'dictionary', length)
    if length is None:
      return StreamMean()
    if self._means is None:
      self._means = mean_stream(
          self.model, np.asarray(self._mask), seed=self._config.seed
      )
    return StreamMean(self._means[layer], 'estimate', length)

  def _statistics(
      self,
      dictionary: Dictionary,
      layer: int,
      mean: StreamMean,
      counts: np.ndarray | None = None,
  ) -> AttentionStatistics:
    statistics = circuits.attention_statistics(
        self.model,
        dictionary,
        layer,
        offset=self._config.offset,
        k=self._config.partners,
        counts=counts,
        mesh=self._mesh,
        **mean.arguments,
    )
    return jax.tree.map(circuits.to_host, statistics)


def _not_sinks(
    attention: AttentionStatistics, share: float | None, partners: int
) -> np.ndarray | None:
  """[N, F] false for sinks: keys that get more than a share of a head's weight.

  The weight that key j gets of head n is Σ_i softmax_j(A_n[i, ·])_j, over all F
  features as queries; they give F in all, so a sink of a head is a key with
  Σ_i softmax_j(A_n[i, ·])_j / F > share. A key may be one in a head and none in
  the next.
  """
  if share is None:
    return None
  received = np.asarray(attention.received, np.float64)
  keep = received <= share * received.shape[1]
  few = keep.sum(axis=1) < partners
  if few.any():
    raise InputError(
        f'sink_share={share} leaves {keep[few][0].sum()} keys to head'
        f' {few.argmax()} of layer {attention.layer}, and {partners} partners'
        ' are kept; choose a larger share.'
    )
  return keep


def _features_table(
    attention: AttentionStatistics,
    counts: np.ndarray | None,
    origin: int | None,
) -> pa.Table:
  """One row a feature, from statistics [N, F]."""
  columns = {name: getattr(attention, name) for name in _WEIGHTS}
  for role in measures.ROLES:
    scores = getattr(attention, role)
    for name, field in (_SCORES | _PARTNERS).items():
      columns[f'{role}_{name}'] = getattr(scores, field)
  if attention.bias is not None:
    columns['query_bias'] = attention.bias.query
    columns['key_bias'] = attention.bias.key
  if counts is not None:
    columns['sink'] = ~counts
  table = tables.ATTENTION_FEATURES.build(columns)
  # Who reads files adds their hashes.
  return tables.with_weights(tables.with_dictionary_layer(table, origin), {})
