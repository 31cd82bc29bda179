"""What the features of dictionaries do on text: one pass, nothing kept of it.

Windows go through the model in batches, with taps at the sites of all
dictionaries together. Of each batch only sums are added, and the best n windows
of every feature are kept, so that memory does not grow with the text.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Site
from ooc_jax.model import Transformer
from ooc_jax.model import run_with_taps

PEAKS = 20  # Windows that are kept of each feature.
_BATCH = 16  # Windows that go through the model at once.
_Key = tuple[Site, int]


class Health(NamedTuple):
  """How a dictionary does on a text, at positions after the first.

  Attributes:
    tokens: Positions.
    l0: Features that fire, a token; None of neurons.
    dead: Share of the features that fire nowhere; None of neurons.
    fvu: Σ‖y - ŷ‖² / Σ‖y - mean‖² of what is written at its site; None where
      that is not what the decoder makes.
  """

  tokens: int
  l0: float | None
  dead: float | None
  fvu: float | None


class Peaks(NamedTuple):
  """The windows in which each feature is largest, one place of each.

  Attributes:
    values: [F, n] activations, falling; 0 where there are fewer windows in
      which it fires.
    windows: [F, n] rows of the windows, -1 where there are none.
    positions: [F, n] where in the window, from 1.
    tokens: [F, n] the token there: the list A of the feature.
  """

  values: Float[np.ndarray, 'F n']
  windows: Int[np.ndarray, 'F n']
  positions: Int[np.ndarray, 'F n']
  tokens: Int[np.ndarray, 'F n']


@dataclasses.dataclass(frozen=True)
class FeatureActivations:
  """What F features did on a text.

  Attributes:
    fires: [F] positions at which it fires; None of neurons, which have no
      threshold.
    mean: [F] where it fires, NaN where it never does; of neurons over all
      positions.
    max: [F] the largest activation, 0 where it never fires.
    peaks: Where it is largest.
    low_peaks: Of neurons, where it is lowest, `values` rising; else None.
    health: Of the dictionary.
  """

  fires: Int[np.ndarray, 'F'] | None
  mean: Float[np.ndarray, 'F']
  max: Float[np.ndarray, 'F']
  peaks: Peaks
  low_peaks: Peaks | None
  health: Health


def is_signed(dictionary: Dictionary, config: ModelConfig) -> bool:
  """Whether the features are the neurons of an MLP, of either sign."""
  neurons = dictionary.site.hook == Site.MLP_NEURON
  return neurons and dictionary.size == config.mlp_dim


def dictionary_tap(config: ModelConfig, dictionary: Dictionary) -> _Key:
  """Where a forward pass has what the encoder reads; of neurons, themselves.

  Raises:
    InputError: There is no encoder.
  """
  site = dictionary.site
  signed = is_signed(dictionary, config)
  if not signed and dictionary.encoder is None:
    dictionary.encode(np.zeros((1, config.embed_dim), np.float32))  # Refuses.
  if site.hook == Site.EMBEDDING:
    return Site.RESID_PRE, 0
  if site.hook == Site.MLP_NEURON and not signed:
    return Site.MLP_IN, site.layer
  return site.reads


def collect_activations(
    model: Model,
    dictionaries: Mapping[int, Dictionary],
    windows: Int[np.ndarray, 'W T'],
    *,
    peaks: int = PEAKS,
    batch: int = _BATCH,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> dict[int, FeatureActivations]:
  """Goes over a text once, for all dictionaries together.

  The first position, whose norm is an outlier, is left out.

  Args:
    model: With all its parts.
    dictionaries: Any key -> dictionary with an encoder; or neurons.
    windows: Token ids, BOS first.
    peaks: n, windows to keep of each feature.
    batch: Windows at a time.
    progress: Goes through the numbers of the batches.

  Returns:
    Key -> what its features did.

  Raises:
    InputError: There is no window, or a dictionary has no encoder.
  """
  if not windows.size or windows.shape[1] < 2:
    raise InputError(
        f'The windows have the shape {windows.shape}; give at least one, of two'
        ' tokens or more.'
    )
  readers = {k: _Reader(model.config, d) for k, d in dictionaries.items()}
  keys = {key for reader in readers.values() for key in reader.keys}
  saved_of = make_tapped(model.config, tuple(sorted(keys)))
  count = -(-len(windows) // batch)
  states = {k: reader.empty(peaks) for k, reader in readers.items()}
  totals: dict[int, Any] = {}
  pending: dict[int, Any] = {}
  for i in progress(range(count)):
    rows = windows[i * batch : (i + 1) * batch]
    valid = np.arange(batch) < len(rows)
    padded = np.zeros((batch, windows.shape[1]), np.int32)
    padded[: len(rows)] = rows
    saved = saved_of(model.params, padded)
    before, pending = pending, {}
    for key, reader in readers.items():
      states[key], pending[key] = reader.add(
          states[key], saved, valid, i * batch
      )
    # Of the batch before: the device is never waited for.
    _accumulate(totals, before)
  _accumulate(totals, pending)
  tokens = len(windows) * (windows.shape[1] - 1)
  return {
      key: reader.result(totals[key], states[key], windows, tokens)
      for key, reader in readers.items()
  }


def _accumulate(totals: dict[int, Any], sums: Mapping[int, Any]) -> None:
  """Adds sums of a batch in float64."""
  for key, own in sums.items():
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), own)
    totals[key] = (
        jax.tree.map(np.add, totals[key], own) if key in totals else own
    )


@functools.lru_cache(maxsize=16)
def make_tapped(
    config: ModelConfig, keys: tuple[_Key, ...]
) -> Callable[[Any, Any], dict[_Key, Array]]:
  """A compiled function (params, tokens [B, T]) -> activations at `keys`.

  Layers and logits above the last of them are not computed.
  """

  @jax.jit
  def tapped(params: Any, tokens: Int[Array, 'B T']) -> dict[_Key, Array]:
    forward = functools.partial(Transformer(config).apply, {'params': params})
    _, saved = run_with_taps(forward, tokens, save=keys)
    return saved

  return tapped


class _Top(NamedTuple):
  """[F, n] best values so far, and the window and position of each."""

  values: Array
  windows: Array
  positions: Array


class _Reader:
  """How one dictionary is read, and what is kept of it."""

  def __init__(self, config: ModelConfig, dictionary: Dictionary):
    site = dictionary.site
    self.signed = is_signed(dictionary, config)
    reads = dictionary_tap(config, dictionary)
    writes = reads if site.hook == Site.EMBEDDING else site.writes
    # After Gemma's norm the decoder of heads has directions, but no lengths.
    relative = site.hook == Site.ATTN_Z and config.post_norms
    self._writes = None if self.signed or relative else writes
    self._reads = reads
    self.keys = [self._reads]
    if self._writes is not None:
      self.keys.append(self._writes)
    # Without its name and layer, one program serves all of a shape.
    self._dictionary = dataclasses.replace(
        dictionary, site=DictionarySite(0, site.hook), name='', files=()
    )

  def empty(self, n: int) -> tuple[_Top, ...]:
    """No window yet."""
    shape = (self._dictionary.size, n)
    none = jnp.full(shape, -1, jnp.int32)
    top = _Top(jnp.zeros(shape, jnp.float32), none, none)
    return (top, top) if self.signed else (top,)

  def add(
      self,
      state: tuple[_Top, ...],
      saved: Mapping[_Key, Array],
      valid: Bool[np.ndarray, 'B'],
      first: int,
  ) -> tuple[tuple[_Top, ...], dict[str, Array]]:
    """The state with a batch, and the sums of the batch alone."""
    x = saved[self._reads]
    if self.signed:
      return _add_neurons(state, x, valid, first)
    y = None if self._writes is None else saved[self._writes]
    return _add_features(state, self._dictionary, x, y, valid, first)

  def result(
      self,
      total: Mapping[str, Any],
      state: tuple[_Top, ...],
      windows: Int[np.ndarray, 'W T'],
      tokens: int,
  ) -> FeatureActivations:
    """All of it, on the host."""
    tops = [_peaks(top, windows) for top in state]
    largest = tops[0].values[:, 0]
    if self.signed:
      low = tops[1]._replace(values=-tops[1].values)
      return FeatureActivations(
          fires=None,
          mean=total['sum'] / tokens,
          max=largest,
          peaks=tops[0],
          low_peaks=low,
          health=Health(tokens, None, None, None),
      )
    fired = total['fired']
    mean = np.full(fired.shape, np.nan)
    np.divide(total['sum'], fired, out=mean, where=fired > 0)
    fvu = None
    if self._writes is not None:
      # About the decoder's bias, which is near the mean: the difference of two
      # large numbers would lose the digits of float32.
      shift = total['y'] / tokens
      variance = float(total['square'] - tokens * np.square(shift).sum())
      fvu = float(total['error']) / variance if variance > 0 else None
    return FeatureActivations(
        fires=fired.astype(np.int64),
        mean=mean,
        max=largest,
        peaks=tops[0],
        low_peaks=None,
        health=Health(
            tokens, float(fired.sum() / tokens), float((fired == 0).mean()), fvu
        ),
    )


def _peaks(top: _Top, windows: Int[np.ndarray, 'W T']) -> Peaks:
  values, rows, positions = (np.array(x) for x in top)
  tokens = windows[np.maximum(rows, 0), np.maximum(positions, 0)]
  return Peaks(values, rows, positions, np.where(rows < 0, -1, tokens))


@jax.jit
def _add_features(
    state: tuple[_Top, ...],
    dictionary: Dictionary,
    x: Float[Array, 'B T R'],
    y: Float[Array, 'B T D'] | None,
    valid: Bool[Array, 'B'],
    first: Int[Array, ''] | int,
) -> tuple[tuple[_Top, ...], dict[str, Array]]:
  counts = valid[:, None, None]
  a = jnp.where(counts, dictionary.encode(x[:, 1:]), 0.0)
  sums = {
      'sum': a.sum(axis=(0, 1)),
      'fired': (a != 0).sum(axis=(0, 1), dtype=jnp.float32),
  }
  if y is not None:
    y = y[:, 1:].astype(jnp.float32)
    error = jnp.where(counts, dictionary.decode(a) - y, 0.0)
    bias = dictionary.decoder_bias.astype(jnp.float32)[None, None]
    y = jnp.where(counts, y - bias, 0.0)
    sums |= {
        'error': jnp.square(error).sum(),
        'y': y.sum(axis=(0, 1)),
        'square': jnp.square(y).sum(),
    }
  return (_merged(state[0], a, first),), sums


@jax.jit
def _add_neurons(
    state: tuple[_Top, ...],
    x: Float[Array, 'B T M'],
    valid: Bool[Array, 'B'],
    first: Int[Array, ''] | int,
) -> tuple[tuple[_Top, ...], dict[str, Array]]:
  a = jnp.where(valid[:, None, None], x[:, 1:].astype(jnp.float32), 0.0)
  tops = (_merged(state[0], a, first), _merged(state[1], -a, first))
  return tops, {'sum': a.sum(axis=(0, 1))}


def _merged(
    top: _Top, a: Float[Array, 'B t F'], first: Int[Array, ''] | int
) -> _Top:
  """The best n of those so far and of the windows of a batch."""
  B, n = a.shape[0], top.values.shape[1]
  peak_BF = a.max(axis=1)
  place_BF = jnp.argmax(a, axis=1).astype(jnp.int32) + 1
  window_B = (first + jnp.arange(B)).astype(jnp.int32)
  # What is there stands first: of equal values the earlier window stays.
  values = jnp.concatenate([top.values, peak_BF.T], axis=1)
  windows = jnp.broadcast_to(window_B[None], peak_BF.T.shape)
  windows = jnp.concatenate([top.windows, windows], axis=1)
  places = jnp.concatenate([top.positions, place_BF.T], axis=1)
  best, chosen = jax.lax.top_k(values, n)
  windows = jnp.take_along_axis(windows, chosen, axis=1)
  places = jnp.take_along_axis(places, chosen, axis=1)
  none = best <= 0
  return _Top(
      jnp.where(none, 0.0, best),
      jnp.where(none, -1, windows),
      jnp.where(none, -1, places),
  )
