"""Experiment 2 of one model: what is computed at a layer."""

from typing import NamedTuple

import _attention_heads
import _attention_nulls
from _attention_study import AttentionStudy
from _attention_study import dictionary_of
import _reader
import _summary
import jax
from jax.sharding import Mesh
import numpy as np
import pyarrow as pa

import ooc_jax
from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax import results

# Column of the table of features for each context of participation.
STATISTIC = {
    'query_pre': 'query_max',
    'query_post': 'largest_weight',
    'key_pre': 'key_max',
    'key_post': 'largest_received',
}
_SCORES = {
    'max': ('maximum', 'largest score'),
    'mean': ('mean', 'mean score'),
    'std': ('std', 'standard deviation of the scores'),
}
_WEIGHTS = {
    'entropy': "of a query's weights, nats",
    'largest_weight': "of a query's weights, the largest",
    'self_weight': 'of a query on its own key',
    'received': 'sum of the weights on a key',
    'largest_received': 'largest weight on a key',
}

_ORIGIN = b'ooc_jax.dictionary_layer'


class LayerTables(NamedTuple):
  """Of one layer: one row a feature, a null direction, a head."""

  features: pa.Table
  nulls: pa.Table | None
  heads: pa.Table


class AttentionReader:
  """What is computed once a model, and the tables of a layer."""

  def __init__(
      self,
      model: ooc_jax.Model,
      study: AttentionStudy,
      mesh: Mesh | None = None,
  ):
    """Readies masks and strings.

    Args:
      model: With attention, norms, vocabulary tables and a tokenizer.
      study: The settings.
      mesh: That the model is spread over.
    """
    tokenizer = model.tokenizer
    assert tokenizer is not None  # The caller has refused it.
    self._study, self._mesh = study, mesh
    # Of the trained model, also where the control draws other weights.
    self._mask = circuits.readable_mask(model)
    self._tokens = np.asarray(tokenizer.token_strings(), object)
    if study.control == 'random_weights':
      model = ooc_jax.model.random_weights(model, study.seed)
    self._model = model

  def tables(self, layer: int) -> LayerTables:
    """All that a layer's heads make of the dictionary at their input."""
    study = self._study
    dictionary, origin = dictionary_of(study, layer, self._model, self._mesh)
    attention = self._statistics(dictionary, layer)
    counts = _sinks(attention, study.sink_share)
    if counts is not None and not counts.all():
      attention = self._statistics(dictionary, layer, counts)
    features = _features_table(attention, counts, origin)
    # A file of dictionaries is known once its layer is reached, so its hash is
    # kept with the layer and not in config.json.
    return LayerTables(
        _summary.with_weights(features, _reader.hashes(dictionary.files)),
        _attention_nulls.nulls_table(
            self._model, dictionary, layer, study, self._mask, self._mesh
        ),
        _attention_heads.heads_table(
            self._model,
            dictionary,
            attention,
            study,
            self._mask,
            self._tokens,
            self._mesh,
        ),
    )

  def _statistics(
      self,
      dictionary: ooc_jax.Dictionary,
      layer: int,
      counts: np.ndarray | None = None,
  ) -> ooc_jax.AttentionStatistics:
    study = self._study
    found = ooc_jax.attention_statistics(
        self._model,
        dictionary,
        layer,
        offset=study.offset,
        k=study.partners,
        counts=counts,
        mesh=self._mesh,
    )
    return jax.tree.map(circuits.to_host, found)


def _sinks(
    attention: ooc_jax.AttentionStatistics, share: float | None
) -> np.ndarray | None:
  """[F] false for keys that get more than a share of all weight."""
  if share is None:
    return None
  received = np.asarray(attention.received, np.float64)
  keep = received.mean(axis=0) <= share * received.shape[1]
  if not keep.any():
    raise ooc_jax.InputError(
        f'sink_share={share} leaves out every key of layer {attention.layer};'
        ' choose a larger one.'
    )
  return keep


def _features_table(
    attention: ooc_jax.AttentionStatistics,
    counts: np.ndarray | None,
    origin: int | None,
) -> pa.Table:
  """One row a feature; a column of a number for each head is a list [N]."""
  columns, texts = {}, {}
  for role in measures.ROLES:
    scores = getattr(attention, role)
    for name, (field, text) in _SCORES.items():
      columns[f'{role}_{name}'] = _by_feature(getattr(scores, field))
      texts[f'{role}_{name}'] = f'as a {role}, of each head: {text}'
    for name, field in (('partners', 'top_ids'), ('scores', 'top_scores')):
      columns[f'{role}_{name}'] = _by_feature(getattr(scores, field))
      texts[f'{role}_{name}'] = (
          f'as a {role}, {scores.top_ids.shape[-1]} best partners of each head,'
          f' head after head: {"ids" if name == "partners" else "scores"}'
      )
  for name, text in _WEIGHTS.items():
    columns[name] = _by_feature(getattr(attention, name))
    texts[name] = f'of each head: {text}'
  if counts is not None:
    columns['sink'] = ~counts
    texts['sink'] = 'left out as a key'
  table = results.features_table(columns, descriptions=texts)
  facts = {_ORIGIN: '' if origin is None else str(origin)}
  return table.replace_schema_metadata((table.schema.metadata or {}) | facts)


def dictionary_layer(table: pa.Table) -> int | None:
  """By which experiment 1 knows the features of a layer's input."""
  text = table.schema.metadata[_ORIGIN].decode()
  return int(text) if text else None


def _by_feature(x) -> np.ndarray:
  """[N, F, ...] as [F, N · ...]."""
  x = np.moveaxis(np.asarray(x), 0, 1)
  return np.ascontiguousarray(x.reshape(x.shape[0], -1))


def by_head(table: pa.Table, name: str) -> np.ndarray:
  """[N, F] of a column of lists."""
  column = table[name].combine_chunks()
  size = column.type.list_size
  return column.flatten().to_numpy().reshape(-1, size).T


def statistics_of(table: pa.Table) -> dict[str, np.ndarray]:
  """What participation is decided by: context -> [N, F]."""
  return {x: by_head(table, STATISTIC[x]) for x in measures.CONTEXTS}
