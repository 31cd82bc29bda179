"""The tables of experiment 1: features and random directions, read out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import itertools
from typing import Any

from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import pyarrow as pa

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import from_arrays
from ooc_jax.experiments._memory import check_held
from ooc_jax.experiments._settings import chosen_layers
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_readouts
from ooc_jax.experiments.output_prediction._prepared import prepare
from ooc_jax.model import Model
from ooc_jax.results import tables

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
  layers = chosen_layers(config.layers, dictionaries, model.config.num_layers)
  isotropic = isotropic_directions(config, model.config.embed_dim)
  reader = DictionaryReader(model, config, mesh)
  directions = {
      x: reader.directions(x, layers, dictionaries, isotropic)
      for x in null_layers(layers)
  }
  features = {x: reader.features(dictionaries[x]) for x in progress(layers)}
  return OutputTables(model.config.num_layers, features, directions)


def null_layers(layers: Sequence[int]) -> list[int]:
  """Layers whose random directions are read, with `tables.ALL_LAYERS`.

  Isotropic ones are read the same way at every layer: no measure depends on
  the length of a direction. Those matched to a dictionary are its own.
  """
  return [tables.ALL_LAYERS, *layers]


def ends_of(config: OutputPrediction, dictionary: Dictionary) -> str:
  """The ends of the vocabulary that count, one of `measures.ENDS`."""
  if config.ends != 'auto':
    return config.ends
  return 'both' if dictionary.site.hook == 'mlp_neuron' else 'top'


def check_nulls_fit(config: OutputPrediction, embed_dim: int) -> None:
  """Refuses more random directions than there is memory for.

  Args:
    config: The settings.
    embed_dim: D, their width.
  """
  names = ('null_size',)
  if config.null == 'matched':
    names = ('layer_null_size', 'null_size')
  name = min(names, key=lambda x: getattr(config, x))
  # As they are drawn, and normed; and what a lens keeps of each.
  each = 4 * (2 * embed_dim + 4 * config.k)
  check_held(name, getattr(config, name), each)


def isotropic_directions(
    config: OutputPrediction, embed_dim: int
) -> Float[np.ndarray, 'n D']:
  """The isotropic random directions of a run.

  While they are drawn they take four times their memory: so before the tables
  of a reader take theirs.

  Args:
    config: The settings.
    embed_dim: D, their width.
  """
  check_nulls_fit(config, embed_dim)
  size = config.null_size
  if config.null != 'isotropic':
    size = min(size, config.layer_null_size)
  return np.asarray(
      measures.isotropic_directions(size, embed_dim, seed=config.seed)
  )


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
    check_nulls_fit(config, model.config.embed_dim)
    self._config, self._mesh = config, mesh
    self._readouts = parse_readouts(config.readouts, model.config.tied)
    self.model, self._mask, self._suspects, self._moments, self._space = (
        prepare(model, config, mesh)
    )
    self._strings = measures.model_strings(model)
    # Of the sweep, where the vocabulary has so many tokens.
    kept = int(np.asarray(self._mask).sum())
    sweep = [k for k in tables.SWEEP_SIZES if k <= kept]
    self._sizes = tuple(dict.fromkeys((config.k, *sweep)))
    self._tokens = np.asarray(tokenizer.token_strings(), object)

  @property
  def mask(self) -> Bool[Array, 'V']:
    """The tokens that count."""
    return self._mask

  def features(self, dictionary: Dictionary) -> pa.Table:
    """One row a feature; who reads files adds their hashes.

    The nearest features are left out where there are as many as tokens, or
    more: to find them would take as long as a readout, or longer.
    """
    columns: dict[str, Any] = {}
    readouts = self._readouts_of(dictionary)
    ends = ends_of(self._config, dictionary)
    for readout in readouts:
      lens, by_size = self.read(readout, dictionary, ends, self._sizes)
      lens = lens.first(self._config.k, self._config.spread)
      own = self._columns(lens, by_size.pop(self._config.k))
      for size, coherence in by_size.items():
        own |= {
            tables.size_column(measure.name, size): coherence[measure.name]
            for measure in coherence.measures
            if measure.finds == 'coherent'
        }
      if readout == 'input' and lens.active_share is not None:
        own['active_share'] = circuits.to_host(lens.active_share)
      if readout != 'output':
        own['shared'] = _shared(own['top_ids'], columns['top_ids'])
      prefix = tables.prefix_of(readout)
      columns |= {prefix + name: values for name, values in own.items()}
    neighbours = self._config.neighbours
    if neighbours and 1 < dictionary.size < self._mask.size:
      nearest = circuits.nearest_directions(
          dictionary.decoder, neighbours, mesh=self._mesh
      )
      columns['nearest'] = circuits.to_host(nearest.ids)
      columns['nearest_cosines'] = circuits.to_host(nearest.cosines)
    table = tables.output_features(readouts).build(columns)
    return tables.with_weights(table, {})

  def directions(
      self,
      layer: int,
      layers: Sequence[int],
      dictionaries: Mapping[int, Dictionary],
      isotropic: Float[np.ndarray, 'n D'] | None,
  ) -> pa.Table:
    """The measures of random directions, in every readout.

    Args:
      layer: One of `null_layers`.
      layers: Of the run.
      dictionaries: Among them those of the layers.
      isotropic: `isotropic_directions`, needed for `tables.ALL_LAYERS` alone.
    """
    config, shared = self._config, layer == tables.ALL_LAYERS
    kind = 'isotropic' if shared else 'matched'
    decides = config.null == kind
    if shared:
      assert isotropic is not None
      size = len(isotropic)
    else:
      size = min(config.null_size, config.layer_null_size)
      size = size if decides else max(size // 8, 100)
    own = dictionaries[layers[0] if shared else layer]
    ends = ends_of(config, own)
    parts = []
    for readout in self._readouts if shared else self._readouts_of(own):
      if isotropic is not None and shared:
        random = isotropic
      else:
        random = measures.matched_directions(
            own.encoder if readout == 'input' else own.decoder,
            size,
            seed=config.seed + layer,
        )
      # As many tokens as the run reads, of all; as many as the sweep reads, of
      # some.
      some = min(size, config.layer_null_size) if decides else 0
      # As many at a time as there are features, the last ones with others to
      # fill up: one program for all, and no more memory than features take.
      at_once = min(len(own.decoder), size)
      starts = (*range(0, some, at_once), *range(some, size, at_once))
      for start, end in itertools.pairwise((*starts, size)):
        rows = random[start:end]
        count = len(rows)
        if count < at_once:
          rows = np.concatenate([rows, random[: at_once - count]])
        null = from_arrays(rows, rows, layer=0, name='null')
        sizes = self._sizes if end <= some else ()
        _, by_size = self.read(readout, null, ends, sizes, bottom=ends != 'top')
        parts += [
            tables.DIRECTIONS.build({
                'side': [readout] * count,
                'null': [kind] * count,
                'layer': np.full(count, layer),
                'k': np.full(count, k),
                **{x: values[:count] for x, values in coherence.items()},
            })
            for k, coherence in by_size.items()
        ]
    return pa.concat_tables(parts)

  def _readouts_of(self, dictionary: Dictionary) -> tuple[str, ...]:
    """Those that it has: not every encoder reads the stream."""
    return tuple(
        x for x in self._readouts if x != 'input' or dictionary.reads_stream
    )

  def read(
      self,
      readout: str,
      dictionary: Dictionary,
      ends: str,
      sizes: Sequence[int],
      *,
      bottom: bool = True,
  ) -> tuple[circuits.Lens, dict[int, measures.Coherence]]:
    """The lens of the largest k, and the measures at each number of tokens.

    Args:
      readout: One of `tables.READOUTS`.
      dictionary: What is read; of more rows than features, if one likes.
      ends: One of `measures.ENDS`.
      sizes: Numbers of tokens beside that of the run.
      bottom: Whether the lens has the bottom, too.
    """
    config = self._config
    lens = circuits.output_lens if readout == 'output' else circuits.input_lens
    if readout == 'embedding':
      dictionary = _read_by_decoder(dictionary)
    whole = lens(
        self.model,
        dictionary,
        # The same for all that is read, or entropies would differ in their last
        # digits, and ranks among random directions with them.
        k=max(self._sizes),
        convention=config.convention,
        centered=config.centered,
        precision=config.precision,
        kernel=config.kernel,
        spread=config.spread,
        both_ends=ends != 'top',
        bottom=bottom,
        mask=self._mask,
        moments=self._moments.get(readout),
    )
    return whole, measures.lens_coherences(
        whole,
        self._strings,
        self._space,
        tuple(dict.fromkeys((config.k, *sizes))),
        measures=measures.measures_at(ends),
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
