"""Experiment 1 of one model: its layers' tables and its nulls."""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

import _labels
import _memory
import _sides
from _study import Study
import _summary
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
import pyarrow as pa

import ooc_jax
from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax import results

# Below the level at which tokens are masked: what is left is still reported.
_SUSPECT_COSINE = 0.5
_COLUMNS = {
    'top_ids': 'token ids of the largest logits',
    'top_tokens': 'their text',
    'top_logits': 'their logits',
    'bottom_ids': 'token ids of the smallest logits',
    'bottom_tokens': 'their text',
    'bottom_logits': 'their logits',
    'mean': 'of the logits over the tokens that count',
    'std': 'of the logits over the tokens that count',
    'skewness': 'of the logits over the tokens that count',
    'kurtosis': 'excess, of the logits over the tokens that count',
    'entropy': 'of the softmax over the tokens that count, nats',
    'top_mass': 'probability of the top tokens',
    'top_entropy': 'of the top tokens renormalised, nats',
    **{measure.name: measure.description for measure in measures.MEASURES},
    'undertrained': 'how many of the top tokens look under-trained',
}
_ACTIVE = 'share of tokens over the threshold of the feature'
_SHARED = 'share of the top tokens that are top tokens of the output side too'


class Reader:
  """What is computed once a model, the table of a layer, and the nulls."""

  def __init__(
      self,
      model: ooc_jax.Model,
      study: Study,
      sides: Sequence[str],
      mesh: Mesh | None = None,
  ):
    """Readies masks, strings and token space.

    Args:
      model: With the parts that the sides need, and a tokenizer.
      study: The settings.
      sides: Of `parse_sides`.
      mesh: That the model is spread over.
    """
    tokenizer = model.tokenizer
    assert tokenizer is not None  # The caller has refused it.
    self._study, self._sides, self._mesh = study, sides, mesh
    # Of the trained model, also where the control draws other weights: the
    # same tokens are compared.
    self._mask = circuits.readable_mask(
        model, undertrained_cosine=study.undertrained_cosine
    )
    table = circuits.unembedding_table(model)
    self._suspects = circuits.to_host(
        circuits.undertrained_tokens(
            table, np.asarray(tokenizer.unheld()), cosine=_SUSPECT_COSINE
        )
    )
    if study.control == 'random_weights':
      model = ooc_jax.model.random_weights(model, study.seed)
      table = circuits.unembedding_table(model)
    self._model = model
    self._moments = _moments(model, study, sides, self._mask, mesh)
    self._space = measures.token_space(table, self._mask, study.token_space)
    self._strings = measures.model_strings(model)
    self._tokens = np.asarray(tokenizer.token_strings(), object)
    _memory.give_back()

  def table(self, layer: int) -> pa.Table:
    """One row a feature of the dictionary at `layer`."""
    dictionary = self._dictionary(layer)
    columns: dict[str, Any] = {}
    descriptions: dict[str, str] = {}
    for side in _sides.readable(self._sides, dictionary):
      prefix = '' if side == 'output' else f'{side}_'
      lens, coherence = self._read(side, dictionary)
      found = self._columns(lens, coherence)
      texts = dict(_COLUMNS)
      if side == 'input' and lens.active_share is not None:
        found['active_share'] = circuits.to_host(lens.active_share)
        texts['active_share'] = _ACTIVE
      if side != 'output':
        found['shared'] = _shared(columns['top_ids'], found['top_ids'])
        texts['shared'] = _SHARED
      columns |= {f'{prefix}{name}': x for name, x in found.items()}
      descriptions |= {f'{prefix}{name}': x for name, x in texts.items()}
    table = results.features_table(columns, descriptions=descriptions)
    # A file of dictionaries is known once its layer is reached, so its hash is
    # kept with the layer and not in config.json.
    return _summary.with_weights(table, hashes(dictionary.files))

  def null(self, layer: int) -> pa.Table:
    """The measures of random directions, from every side.

    Args:
      layer: Whose dictionary they are matched to, or `ALL_LAYERS`; see
        `null_layers`.
    """
    own = None if layer == _labels.ALL_LAYERS else self._dictionary(layer)
    sides = self._sides if own is None else _sides.readable(self._sides, own)
    tables = []
    for side in sides:
      if own is None:
        rows = None
      else:
        rows = own.encoder if side == 'input' else own.decoder
      random = _sides.of_directions(self._directions(rows, layer))
      _, coherence = self._read(side, random)
      tables.append(_labels.null_table(side, layer, coherence))
    return pa.concat_tables(tables)

  def _directions(self, own: Any, layer: int) -> Any:
    study = self._study
    if study.null == 'matched':
      return measures.matched_directions(
          own, study.null_size, seed=study.seed + layer
      )
    return measures.isotropic_directions(
        study.null_size,
        self._model.config.embed_dim,
        seed=study.seed,
        norms=None if own is None else jnp.linalg.norm(own, axis=1),
    )

  def _dictionary(self, layer: int) -> ooc_jax.Dictionary:
    return ooc_jax.load_dictionary(
        self._study.dictionary,
        model=self._model,
        layer=layer,
        mesh=self._mesh,
    )

  def _read(
      self, side: str, dictionary: ooc_jax.Dictionary
  ) -> tuple[ooc_jax.Lens, measures.Coherence]:
    study = self._study
    lens = _sides.lens_of(
        side,
        self._model,
        dictionary,
        k=study.k,
        convention=study.convention,
        centered=study.centered,
        precision=study.precision,
        mask=self._mask,
        moments=self._moments.get(side),
    )
    _memory.give_back()
    coherence = ooc_jax.coherence(
        self._model, lens, space=self._space, strings=self._strings
    )
    _memory.give_back()
    return lens, coherence

  def _columns(
      self, lens: ooc_jax.Lens, coherence: measures.Coherence
  ) -> dict[str, Any]:
    top, bottom = map(circuits.to_host, (lens.top_ids, lens.bottom_ids))
    derived = {
        'top_tokens': self._tokens[top].tolist(),
        'bottom_tokens': self._tokens[bottom].tolist(),
        **coherence,
        'undertrained': self._suspects[top].sum(axis=1, dtype=np.int32),
    }
    return {
        name: (
            derived[name]
            if name in derived
            else circuits.to_host(getattr(lens, name))
        )
        for name in _COLUMNS
    }


def _moments(
    model: ooc_jax.Model,
    study: Study,
    sides: Sequence[str],
    mask: Any,
    mesh: Mesh | None,
) -> Mapping[str, circuits.TableMoments]:
  """Of the table of each side: found once, and once for a tied model."""
  if study.convention == 'cosine':  # Divides rows by their norms.
    return {}
  found: dict[int, circuits.TableMoments] = {}
  out = {}
  for side in sides:
    if side == 'output':
      table = circuits.unembedding_table(model)
    else:
      table = circuits.embedding_table(model)
    if id(table) not in found:
      found[id(table)] = circuits.table_moments(table, mask, mesh=mesh)
    out[side] = found[id(table)]
  return out


def null_layers(study: Study, layers: Sequence[int]) -> Sequence[int]:
  """Layers that need a null of their own; `ALL_LAYERS` stands for them all.

  Random directions of length 1 are read the same way at every layer. They
  differ by layer where they are matched to a dictionary, or have the lengths
  of its rows, which only some conventions read.
  """
  if study.null == 'isotropic' and study.convention in ('normed', 'cosine'):
    return [_labels.ALL_LAYERS]
  return layers


def _shared(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
  """[F] share of the k ids of a row of `ours` that are in that of `theirs`."""
  common = [
      np.intersect1d(a, b, assume_unique=True).size
      for a, b in zip(ours, theirs, strict=True)
  ]
  return np.asarray(common, np.float32) / ours.shape[1]


def hashes(files: Sequence[str]) -> Mapping[str, str]:
  """SHA-256 of every file, by its name in its repository or folder."""
  if not files:
    return {}
  root = pathlib.Path(
      os.path.commonpath([str(pathlib.Path(f).parent) for f in files])
  )
  found = {}
  for file in map(pathlib.Path, files):
    origin = ooc_jax.checkpoints.hub_origin(file)
    if origin is None:
      name = file.relative_to(root).as_posix()
    else:
      name = f'{origin.repo}@{origin.commit}/{origin.name}'
    found[name] = results.sha256_file(file)
  return found
