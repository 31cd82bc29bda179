"""What the features of dictionaries do on text: one pass, nothing kept of it.

Windows go through the model in batches, with taps at the sites of all
dictionaries together. Of each batch only sums are added, and the best n windows
of every feature are kept, so that memory grows with the text by three numbers a
window. The host is a batch ahead of the device and never waits for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
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
from ooc_jax.validation._batches import Top
from ooc_jax.validation._batches import add_features
from ooc_jax.validation._batches import add_neurons
from ooc_jax.validation._batches import no_windows

PEAKS = 20  # Windows that are kept of each feature.
_BATCH = 16  # Windows that go through the model at once.
# Windows, evenly spread, that are decoded for the unexplained variance: of all
# of them the decoder would take as long as the encoder.
_DECODED = 64
_NORMAL = 1.96  # Standard errors to either end of a 95% interval.
_Key = tuple[Site, int]


class Health(NamedTuple):
  """How a dictionary does on a text, at positions after the first.

  Intervals are of 95%, for other windows of the same kind of text.

  Attributes:
    tokens: Positions.
    l0: Features that fire, a token; None of neurons.
    dead: Share of the features that fire nowhere; None of neurons.
    fvu: Σ‖y - ŷ‖² / Σ‖y - mean‖² of what is written at its site, in windows
      that are evenly spread; None where that is not what the decoder makes.
    l0_low: Of its interval; None where there is none.
    l0_high: See `l0_low`.
    fvu_low: Of its interval; None where there is none.
    fvu_high: See `fvu_low`.
  """

  tokens: int
  l0: float | None = None
  dead: float | None = None
  fvu: float | None = None
  l0_low: float | None = None
  l0_high: float | None = None
  fvu_low: float | None = None
  fvu_high: float | None = None


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

  @property
  def signs(self) -> Int[np.ndarray, 'F']:
    """1; -1 of neurons that fire with the other sign more.

    That is where the largest activations of either sign, as many windows as
    are kept, have the larger sum.
    """
    signs = np.ones(self.max.size, np.int32)
    if self.low_peaks is not None:
      signs[(self.peaks.values + self.low_peaks.values).sum(axis=1) < 0] = -1
    return signs

  def turned(self, signs: Int[np.ndarray, 'F']) -> 'FeatureActivations':
    """Where a sign is -1, what stands for minus the neuron."""
    if self.low_peaks is None:
      return self
    low = self.low_peaks
    turn = (signs < 0)[:, None]

    def ends(first: Peaks, second: Peaks) -> Peaks:
      return Peaks(
          *(np.where(turn, y, x) for x, y in zip(first, second, strict=True))
      )

    minus = (x._replace(values=-x.values) for x in (low, self.peaks))
    peaks, low = map(ends, (self.peaks, low), minus)
    return dataclasses.replace(
        self,
        mean=self.mean * signs,
        max=peaks.values[:, 0],
        peaks=peaks,
        low_peaks=low,
    )


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
  decoded = np.arange(len(windows)) % max(1, len(windows) // _DECODED) == 0
  states = {k: reader.empty(peaks) for k, reader in readers.items()}
  totals = {k: _Totals() for k in readers}
  pending: dict[int, Any] = {}
  for i in progress(range(count)):
    rows = windows[i * batch : (i + 1) * batch]
    counts = np.zeros((2, batch), bool)  # Whether it is there, and decoded.
    counts[0, : len(rows)] = True
    counts[1, : len(rows)] = decoded[i * batch : (i + 1) * batch]
    padded = np.zeros((batch, windows.shape[1]), np.int32)
    padded[: len(rows)] = rows
    saved = saved_of(model.params, padded)
    before, pending = pending, {}
    for key, reader in readers.items():
      states[key], pending[key] = reader.add(
          states[key], saved, counts, i * batch
      )
    # Of the batch before: the device is never waited for.
    for key, sums in before.items():
      totals[key].add(sums)
  for key, sums in pending.items():
    totals[key].add(sums)
  return {
      key: reader.result(totals[key], states[key], windows)
      for key, reader in readers.items()
  }


class _Totals:
  """Sums of batches in float64, and numbers of each window."""

  def __init__(self) -> None:
    self._sums: dict[str, np.ndarray] = {}
    self._windows: list[np.ndarray] = []

  def add(self, found: tuple[Mapping[str, Array], Array | None]) -> None:
    """Of a batch."""
    sums, windows = found
    for name, value in sums.items():
      own = np.asarray(value, np.float64)
      self._sums[name] = self._sums[name] + own if name in self._sums else own
    if windows is not None:
      self._windows.append(np.asarray(windows, np.float64))

  def __getitem__(self, name: str) -> np.ndarray:
    return self._sums[name]

  def windows(self, count: int) -> Float[np.ndarray, 'numbers W']:
    """The numbers of each window, without those that fill the last batch."""
    return np.concatenate(self._windows, axis=1)[:, :count]


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

  def empty(self, n: int) -> tuple[Top, ...]:
    """No window yet."""
    size = self._dictionary.size
    return tuple(no_windows(size, n) for _ in range(2 if self.signed else 1))

  def add(
      self,
      state: tuple[Top, ...],
      saved: Mapping[_Key, Array],
      counts: Bool[np.ndarray, '2 B'],
      first: int,
  ) -> tuple[tuple[Top, ...], tuple[dict[str, Array], Array | None]]:
    """The state with a batch, and the sums of the batch alone."""
    x = saved[self._reads]
    if self.signed:
      return add_neurons(state, x, counts[0], first)
    y = None if self._writes is None else saved[self._writes]
    return add_features(state, self._dictionary, x, y, counts, first)

  def result(
      self,
      total: _Totals,
      state: tuple[Top, ...],
      windows: Int[np.ndarray, 'W T'],
  ) -> FeatureActivations:
    """All of it, on the host."""
    tops = [_peaks(top, windows) for top in state]
    largest = tops[0].values[:, 0]
    W, t = windows.shape[0], windows.shape[1] - 1
    if self.signed:
      low = tops[1]._replace(values=-tops[1].values)
      return FeatureActivations(
          fires=None,
          mean=total['sum'] / (W * t),
          max=largest,
          peaks=tops[0],
          low_peaks=low,
          health=Health(W * t),
      )
    fired = total['fired']
    mean = np.full(fired.shape, np.nan)
    np.divide(total['sum'], fired, out=mean, where=fired > 0)
    active, error, square, decoded = total.windows(W)
    l0 = _ratio(active, np.full(W, float(t)))
    fvu = (None, None, None)
    if self._writes is not None:
      # About the decoder's bias, which is near the mean: the difference of two
      # large numbers would lose the digits of float32.
      moved = np.square(total['y']).sum() / (decoded.sum() * t)
      if square.sum() > moved:
        used = decoded > 0
        share = 1 - moved / square.sum()
        fvu = _ratio(error[used], share * square[used])
    return FeatureActivations(
        fires=fired.astype(np.int64),
        mean=mean,
        max=largest,
        peaks=tops[0],
        low_peaks=None,
        health=Health(
            W * t, l0[0], float((fired == 0).mean()), fvu[0], *l0[1:], *fvu[1:]
        ),
    )


def _ratio(
    parts: Float[np.ndarray, 'W'], wholes: Float[np.ndarray, 'W']
) -> tuple[float, float | None, float | None]:
  """Σ parts / Σ wholes with its interval over windows.

  By the linear form of a ratio (Cochran, Sampling Techniques, 1977, 6.4).
  """
  ratio, W = float(parts.sum() / wholes.sum()), parts.size
  if W < 2:
    return ratio, None, None
  rest = np.square(parts - ratio * wholes).sum() * W / (W - 1)
  half = _NORMAL * float(np.sqrt(rest) / wholes.sum())
  return ratio, ratio - half, ratio + half


def _peaks(top: Top, windows: Int[np.ndarray, 'W T']) -> Peaks:
  values, rows, positions = (np.array(x) for x in top)
  tokens = windows[np.maximum(rows, 0), np.maximum(positions, 0)]
  return Peaks(values, rows, positions, np.where(rows < 0, -1, tokens))
