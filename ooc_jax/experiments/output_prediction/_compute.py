"""The tables of experiment 1: features and random directions, read out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
import numpy as np
import pyarrow as pa

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import from_arrays
from ooc_jax.experiments._settings import parse_layers
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_readouts
from ooc_jax.model import Model
from ooc_jax.model import random_weights
from ooc_jax.results import tables

# Below the level at which tokens are masked: what is left is still reported.
_SUSPECT_COSINE = 0.5
_FROM_LENS = (
    ('top_ids', 'top_logits', 'bottom_ids', 'bottom_logits')
    + ('mean', 'std', 'skewness', 'kurtosis')
    + ('entropy', 'top_mass', 'top_entropy')
)


@dataclasses.dataclass(frozen=True)
class OutputTables:
  """What `compute` finds, as the files that it becomes.

  Attributes:
    num_layers: Of the model, not of the run.
    features: Layer -> a row a feature, `features/layer=NN`.
    directions: Random directions with their measures, of every readout, by the
      layer they belong to; `tables.ALL_LAYERS` where they serve all.
  """

  num_layers: int
  features: Mapping[int, pa.Table]
  directions: Mapping[int, pa.Table]


def compute(
    model: Model,
    dictionaries: Mapping[int, Dictionary],
    config: OutputPrediction,
    *,
    mesh: Mesh | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> OutputTables:
  """Reads every feature of the dictionaries, and random directions beside them.

  Args:
    model: With the parts `config.parts`, and a tokenizer. Its own name and
      that of the dictionary in `config` are not read.
    dictionaries: By the layer as `load_dictionary` counts.
    config: The settings; its layers choose among the dictionaries.
    mesh: That the model is spread over.
    progress: Gives the layers on, one by one, and may say where it is.

  Raises:
    InputError: A layer has no dictionary, or as `output_lens`.
  """
  layers = chosen_layers(config, dictionaries, model.config.num_layers)
  reader = DictionaryReader(model, config, mesh)
  directions = {
      x: reader.directions(x, dictionaries) for x in null_layers(config, layers)
  }
  features = {x: reader.features(dictionaries[x]) for x in progress(layers)}
  return OutputTables(model.config.num_layers, features, directions)


def chosen_layers(
    config: OutputPrediction,
    dictionaries: Mapping[int, Dictionary],
    num_layers: int,
) -> list[int]:
  """The layers of a run.

  Raises:
    InputError: One has no dictionary, or none is left.
  """
  if config.layers == 'all':
    layers = sorted(dictionaries)
  else:
    layers = parse_layers(config.layers, num_layers)
  missing = [x for x in layers if x not in dictionaries]
  if missing or not layers:
    raise InputError(
        f'layers={config.layers!r}: there is no dictionary of layer'
        f' {missing[0] if missing else "any"}; there are those of'
        f' {sorted(dictionaries)}.'
    )
  return layers


def null_layers(
    config: OutputPrediction, layers: Sequence[int]
) -> Sequence[int]:
  """Layers that need random directions of their own, or `tables.ALL_LAYERS`.

  Random directions of length 1 are read the same way at every layer. They
  differ by layer where they are matched to a dictionary, or have the lengths
  of its rows, which only some conventions read.
  """
  if config.null == 'isotropic' and config.convention in ('normed', 'cosine'):
    return [tables.ALL_LAYERS]
  return layers


class DictionaryReader:
  """What is found once a model, and the tables of a layer."""

  def __init__(
      self, model: Model, config: OutputPrediction, mesh: Mesh | None = None
  ):
    """Readies masks, strings and token space.

    Args:
      model: With the parts `config.parts`, and a tokenizer.
      config: The settings.
      mesh: That the model is spread over.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
      raise InputError(
          'The model has no tokenizer, and top tokens cannot be read without'
          ' it; give Model(..., tokenizer=).'
      )
    self._config, self._mesh = config, mesh
    self._readouts = parse_readouts(config.readouts, model.config.tied)
    # Of the trained model, also where the control draws other weights: the
    # same tokens are compared.
    self._mask = circuits.readable_mask(
        model, undertrained_cosine=config.undertrained_cosine
    )
    table = circuits.unembedding_table(model)
    self._suspects = circuits.to_host(
        circuits.undertrained_tokens(
            table, np.asarray(tokenizer.unreachable()), cosine=_SUSPECT_COSINE
        )
    )
    if config.control == 'random_weights':
      model = random_weights(model, config.seed)
      table = circuits.unembedding_table(model)
    self.model = model
    self._moments = self._table_moments()
    self._space = measures.token_space(
        table,
        self._mask,
        config.token_space,
        moments=self._moments.get('output'),
    )
    self._strings = measures.model_strings(model)
    self._tokens = np.asarray(tokenizer.token_strings(), object)

  def features(self, dictionary: Dictionary) -> pa.Table:
    """One row a feature; who reads files adds their hashes."""
    columns: dict[str, Any] = {}
    readouts = self._readouts_of(dictionary)
    for readout in readouts:
      lens, coherence = self._read(readout, dictionary)
      own = self._columns(lens, coherence)
      if readout == 'input' and lens.active_share is not None:
        own['active_share'] = circuits.to_host(lens.active_share)
      if readout != 'output':
        own['shared'] = _shared(own['top_ids'], columns['top_ids'])
      prefix = tables.prefix_of(readout)
      columns |= {prefix + name: values for name, values in own.items()}
    table = tables.output_features(readouts).build(columns)
    return tables.with_weights(table, {})

  def directions(
      self, layer: int, dictionaries: Mapping[int, Dictionary]
  ) -> pa.Table:
    """The measures of random directions, in every readout.

    Args:
      layer: One of `null_layers`.
      dictionaries: Among them that of the layer.
    """
    own = None if layer == tables.ALL_LAYERS else dictionaries[layer]
    readouts = self._readouts if own is None else self._readouts_of(own)
    rows = []
    for readout in readouts:
      likeness = None
      if own is not None:
        likeness = own.encoder if readout == 'input' else own.decoder
      random = self._random(likeness, layer)
      _, coherence = self._read(
          readout, from_arrays(random, random, layer=0, name='null')
      )
      size = coherence.size
      rows.append(
          tables.DIRECTIONS.build({
              'side': [readout] * size,
              'layer': np.full(size, layer),
              **coherence,
          })
      )
    return pa.concat_tables(rows)

  def _random(
      self, likeness: Float[Array, 'F D'] | None, layer: int
  ) -> Float[Array, 'n D']:
    config = self._config
    if config.null == 'matched' and likeness is not None:
      return measures.matched_directions(
          likeness, config.null_size, seed=config.seed + layer
      )
    return measures.isotropic_directions(
        config.null_size,
        self.model.config.embed_dim,
        seed=config.seed,
        norms=None if likeness is None else jnp.linalg.norm(likeness, axis=1),
    )

  def _readouts_of(self, dictionary: Dictionary) -> tuple[str, ...]:
    """Those that it has: not every encoder reads the stream."""
    return tuple(
        x for x in self._readouts if x != 'input' or dictionary.reads_stream
    )

  def _read(
      self, readout: str, dictionary: Dictionary
  ) -> tuple[circuits.Lens, measures.Coherence]:
    config = self._config
    lens = circuits.output_lens if readout == 'output' else circuits.input_lens
    if readout == 'embedding':
      dictionary = _read_by_decoder(dictionary)
    found = lens(
        self.model,
        dictionary,
        k=config.k,
        convention=config.convention,
        centered=config.centered,
        precision=config.precision,
        spread=config.spread,
        mask=self._mask,
        moments=self._moments.get(readout),
    )
    return found, measures.coherence(
        self.model, found, space=self._space, strings=self._strings
    )

  def _columns(
      self, lens: circuits.Lens, coherence: measures.Coherence
  ) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: circuits.to_host(getattr(lens, name)) for name in _FROM_LENS
    }
    top = columns['top_ids']
    return columns | {
        'top_tokens': self._tokens[top].tolist(),
        'bottom_tokens': self._tokens[columns['bottom_ids']].tolist(),
        **coherence,
        'undertrained': self._suspects[top].sum(axis=1, dtype=np.int32),
    }

  def _table_moments(self) -> Mapping[str, circuits.TableMoments]:
    """Of the table of each readout: found once, and once for a tied model."""
    if self._config.convention == 'cosine':  # Divides rows by their norms.
      return {}
    found: dict[int, circuits.TableMoments] = {}
    moments = {}
    for readout in self._readouts:
      if readout == 'output':
        table = circuits.unembedding_table(self.model)
      else:
        table = circuits.embedding_table(self.model)
      if id(table) not in found:
        found[id(table)] = circuits.table_moments(
            table, self._mask, mesh=self._mesh
        )
      moments[readout] = found[id(table)]
    return moments


def _read_by_decoder(dictionary: Dictionary) -> Dictionary:
  """Features that read what they write, at a site of the raw stream."""
  return dataclasses.replace(
      dictionary,
      encoder=dictionary.decoder,
      site=dataclasses.replace(dictionary.site, hook='resid_post'),
  )


def _shared(
    ours: Int[np.ndarray, 'F k'], theirs: Int[np.ndarray, 'F k']
) -> Float[np.ndarray, 'F']:
  """Share of the ids of a row of `ours` that are in that of `theirs`."""
  common = [
      np.intersect1d(a, b, assume_unique=True).size
      for a, b in zip(ours, theirs, strict=True)
  ]
  return np.asarray(common, np.float32) / ours.shape[1]
