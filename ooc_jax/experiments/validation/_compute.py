"""The tables of the validation: features on text, and added to the stream."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import pyarrow as pa

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax import validation
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments._agreement import heads_table
from ooc_jax.experiments._clock import timed
from ooc_jax.experiments._first import before_first
from ooc_jax.experiments._memory import held_together
from ooc_jax.experiments._preparation import Preparation
from ooc_jax.experiments._settings import chosen_layers
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.experiments.validation._labels import Labels
from ooc_jax.experiments.validation._scorer import Scorer
from ooc_jax.experiments.validation._windows import corpus_windows
from ooc_jax.experiments.validation._windows import windows_table
from ooc_jax.model import Model
from ooc_jax.model import random_weights
from ooc_jax.results import tables


@dataclasses.dataclass(frozen=True)
class LayerTables:
  """What is found of one dictionary.

  Attributes:
    features: A row a feature, `features/layer=NN`; its metadata has the health
      of the dictionary and what it took.
    null: A row a random direction.
    effects: How many tokens a lens and their rise have.
    windows: A row a feature and window of text in which it is largest; None
      where it was not read back.
    heads: How well its features predict the attention that reads them; None
      where none does.
  """

  features: pa.Table
  null: pa.Table
  effects: pa.Table
  windows: pa.Table | None = None
  heads: pa.Table | None = None


@dataclasses.dataclass(frozen=True)
class ValidationTables:
  """What `compute` finds.

  Attributes:
    num_layers: Of the model, not of the run.
    layers: Layer -> its tables.
    first: As `LayerTables.heads`, of the dictionary before layer 0; None where
      there is none.
  """

  num_layers: int
  layers: Mapping[int, LayerTables]
  first: pa.Table | None = None


def compute(
    model: Model,
    dictionaries: Mapping[int, Dictionary],
    config: Validation,
    *,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> ValidationTables:
  """Reads the features of dictionaries on text, and steers with some.

  Args:
    model: With all its parts and a tokenizer. Its own name and that of the
      dictionary in `config` are not read.
    dictionaries: By the layer as `load_dictionary` counts; with encoders. One
      of the embedding may stand under -1: of it the attention of layer 0 is
      predicted.
    config: The settings; its layers choose among the dictionaries.
    progress: Goes through the layers.

  Raises:
    InputError: A layer has no dictionary, a dictionary has no encoder, or as
      `validation.read_windows`.
  """
  num_layers = model.config.num_layers
  own = [x for x in dictionaries if x >= 0]
  layers = chosen_layers(config.layers, own, num_layers)
  validator = Validator(model, config)
  found = dict(validator.layers(layers, dictionaries, progress))
  first = None
  if -1 in dictionaries:
    first = validator.heads(before_first(dictionaries[-1]))
  return ValidationTables(num_layers, found, first)


class Validator:
  """What is found once a model and corpus, and the tables of a layer."""

  def __init__(self, model: Model, config: Validation):
    """Reads the corpus.

    Args:
      model: With all its parts.
      config: The settings.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
      raise InputError(
          'The model has no tokenizer, and a text cannot be read without it;'
          ' give Model(..., tokenizer=).'
      )
    self._config = config
    # Of the trained model, also where the control draws other weights.
    found = Preparation()
    self._mask, _ = found.tokens(
        tokenizer,
        circuits.unembedding_table(model),
        config.undertrained_cosine,
    )
    if config.control == 'random_weights':
      model = random_weights(model, config.seed)
    self.model = model
    self.windows = corpus_windows(model, config)
    space = found.space(
        circuits.unembedding_table(model), self._mask, config.token_space
    )
    self._labels = Labels(model, self._mask, space, self.windows, config)
    self._tokens = np.asarray(
        [*tokenizer.token_strings(), ''], object  # The last is of -1.
    )
    self._scorer = Scorer(model, np.asarray(self._mask), config)

  def layers(
      self,
      layers: Sequence[int],
      dictionaries: Mapping[int, Dictionary],
      progress: Callable[[Sequence[int]], Iterable[int]] = iter,
  ) -> Iterator[tuple[int, LayerTables]]:
    """The tables of one layer after the other.

    The text is read once for as many dictionaries as can be held together.

    Args:
      layers: Which.
      dictionaries: By layer.
      progress: Goes through the layers.
    """
    groups = held_together(layers, dictionaries)
    held: dict[int, Any] = {}
    for layer in progress(layers):
      if layer not in held:
        held = self._read(next(groups))
      yield layer, self._layer(layer, *held.pop(layer))

  def _read(self, group: Mapping[int, Dictionary]) -> dict[int, Any]:
    """Layer -> dictionary and random one, what they do, and how fast."""
    nulls = {x: self._null(x, own) for x, own in group.items()}
    # Random directions have the numbers below 0.
    with timed() as clock:
      found = validation.collect_activations(
          self.model,
          {**group, **{-1 - x: own for x, own in nulls.items()}},
          self.windows,
      )
    about = {
        'text_seconds': clock.seconds / len(group),
        'tokens_per_second': self.windows.size / clock.seconds,
        'compile_seconds': clock.compiling / len(group),
    }
    return {
        x: (own, found[x], nulls[x], found[-1 - x], about)
        for x, own in group.items()
    }

  def _null(self, layer: int, dictionary: Dictionary) -> Dictionary:
    """Random directions of the norms of a dictionary, at its site."""
    config = self._config
    size, seed = config.null_features, config.seed + 2 * layer + 1

    def rows(like: Array, seed: int) -> Float[Array, 'n R']:
      if config.null == 'matched':
        return measures.matched_directions(like, size, seed=seed)
      norms = jnp.linalg.norm(like.astype(jnp.float32), axis=1)
      return measures.isotropic_directions(
          size, like.shape[1], seed=seed, norms=norms
      )

    encoder = dictionary.encoder
    if encoder is None:
      dictionary.encode(np.zeros((1, self.model.config.embed_dim)))  # Refuses.
      raise AssertionError
    return dataclasses.replace(
        dictionary,
        decoder=rows(dictionary.decoder, seed),
        encoder=rows(encoder, seed + 1),
        encoder_bias=jnp.zeros(size, jnp.float32),
        threshold=jnp.zeros(size, jnp.float32),
        top_k=None,
        name='null',
        files=(),
    )

  def _layer(
      self,
      layer: int,
      dictionary: Dictionary,
      found: validation.FeatureActivations,
      null: Dictionary,
      null_found: validation.FeatureActivations,
      about: Mapping[str, float],
  ) -> LayerTables:
    of_neurons = validation.is_signed(dictionary, self.model.config)
    windows = windows_table(layer, found, self.windows, self._tokens)
    heads = self.heads(dictionary)
    signs = found.signs
    if of_neurons:
      dictionary = self._turned(dictionary, signs)
      found = found.turned(signs)
    with timed() as lens_clock:
      readouts, lens = self._readouts(dictionary, found)
    weights = self._labels.by_weights(lens, of_neurons)
    activations, judged = self._labels.by_activations(found)
    sampled, steered = self._drawn(layer, found, weights)
    site = dictionary.site
    rows = np.flatnonzero(steered)
    own = {name: x[rows] for name, x in readouts.items()}
    with timed() as steering_clock:
      scores, counts = self._scorer.scores(
          site,
          circuits.to_host(dictionary.decoder)[rows],
          found.max[rows],
          own,
      )
      null_readouts, _ = self._readouts(null, null_found)
      null_scores, _ = self._scorer.scores(
          site,
          circuits.to_host(null.decoder),
          null_found.max,
          null_readouts,
      )
    del null_scores['raised_ids']
    columns = {
        name: _spread(x, rows, dictionary.size) for name, x in scores.items()
    }
    columns |= {
        'mean_activation': found.mean,
        'max_activation': found.max.astype(np.float64),
        'peak_ids': readouts['peaks'].astype(np.int32),
        'lens_ids': readouts['decoder'].astype(np.int32),
        'semantic_weights': weights,
        'semantic_activations': activations,
        'judged': judged,
        'sampled': sampled,
        'steered': steered,
        **self._scorer.example(dictionary, columns, sampled),
    }
    if found.fires is not None:
      columns['fires'] = found.fires
    if of_neurons:
      columns['sign'] = signs
    for name in ('peak', 'lens', 'raised'):
      columns[f'{name}_tokens'] = self._tokens[columns[f'{name}_ids']].tolist()
    health = {
        **found.health._asdict(),
        **about,
        'lens_seconds': lens_clock.seconds,
        'steering_seconds': steering_clock.seconds,
        'compile_seconds': (
            about['compile_seconds']
            + lens_clock.compiling
            + steering_clock.compiling
        ),
    }
    lens_bins, rise_bins = np.nonzero(counts)
    return LayerTables(
        tables.with_health(tables.VALIDATION_FEATURES.build(columns), health),
        tables.VALIDATION_NULL.build(
            {'direction': np.arange(null.size), **null_scores}
        ),
        tables.VALIDATION_MAP.build({
            'lens': lens_bins.astype(np.int32),
            'rise': rise_bins.astype(np.int32),
            'tokens': counts[lens_bins, rise_bins].astype(np.int32),
        }),
        windows,
        heads,
    )

  def _turned(
      self, dictionary: Dictionary, signs: Int[np.ndarray, 'F']
  ) -> Dictionary:
    """Neurons as they write where they fire with the given sign."""
    rows = jnp.asarray(signs)[:, None]
    encoder = dictionary.encoder
    # A gate is open for either sign: only without one does the sign turn what
    # is read, too.
    if not self.model.config.gated and encoder is not None:
      encoder = encoder * rows.astype(encoder.dtype)
    decoder = dictionary.decoder
    return dataclasses.replace(
        dictionary,
        decoder=decoder * rows.astype(decoder.dtype),
        encoder=encoder,
    )

  def heads(self, dictionary: Dictionary) -> pa.Table | None:
    """How well attention is predicted in the layer that reads a dictionary."""
    layer = circuits.attention_layer(dictionary.site)
    windows = self.windows[: self._config.attention_windows]
    if layer is None or layer >= self.model.config.num_layers:
      return None
    if len(windows) < 2:
      return None
    return heads_table(
        validation.attention_agreement(
            self.model, dictionary, windows, layer, seed=self._config.seed
        )
    )

  def _readouts(
      self, dictionary: Dictionary, found: validation.FeatureActivations
  ) -> tuple[dict[str, Int[np.ndarray, 'F n']], circuits.Lens]:
    """Lists of tokens of each feature, and the lens of the decoder."""
    settings = {
        'k': self._config.k,
        'convention': self._config.convention,
        'mask': self._mask,
    }
    lens = circuits.output_lens(self.model, dictionary, **settings)
    none = np.full((dictionary.size, 1), validation.NO_TOKEN)
    readouts = {
        'decoder': circuits.to_host(lens.top_ids),
        'encoder': none,
        'peaks': found.peaks.tokens,
    }
    if dictionary.reads_stream:
      read = circuits.input_lens(self.model, dictionary, **settings)
      readouts['encoder'] = circuits.to_host(read.top_ids)
    return readouts, lens

  def _drawn(
      self,
      layer: int,
      found: validation.FeatureActivations,
      weights: np.ndarray,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Which features stand for all, and which are steered.

    Beside the first there are up to half as many that are semantic by weights
    and rarely fire: those that activations would miss.
    """
    config = self._config
    rng = np.random.default_rng([config.seed, layer])
    sampled = np.zeros(weights.size, bool)
    count = min(config.features, weights.size)
    sampled[rng.choice(weights.size, count, replace=False)] = True
    steered = sampled.copy()
    if found.fires is not None:
      missed = np.flatnonzero(weights & (found.fires < config.rare) & ~sampled)
      count = min(config.features // 2, missed.size)
      steered[rng.choice(missed, count, replace=False)] = True
    return sampled, steered


def _spread(
    values: np.ndarray, rows: Int[np.ndarray, 'n'], size: int
) -> np.ndarray:
  """The values at their rows; elsewhere NaN, or no token."""
  fill = np.nan if values.dtype.kind == 'f' else validation.NO_TOKEN
  whole = np.full((size, *values.shape[1:]), fill, values.dtype)
  whole[rows] = values
  return whole
