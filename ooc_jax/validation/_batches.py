"""One batch of windows: its sums, and the best windows with those of it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.dictionaries import Dictionary


class Top(NamedTuple):
  """[F, n] best values so far, and the window and position of each."""

  values: Array
  windows: Array
  positions: Array


def no_windows(size: int, n: int) -> Top:
  """Of so many features, before the first window."""
  shape = (size, n)
  # Each an array of its own, as a batch takes the memory of what it is given.
  return Top(
      jnp.zeros(shape, jnp.float32),
      jnp.full(shape, -1, jnp.int32),
      jnp.full(shape, -1, jnp.int32),
  )


@functools.partial(jax.jit, donate_argnames='state')
def add_features(
    state: tuple[Top, ...],
    dictionary: Dictionary,
    x: Float[Array, 'B T R'],
    y: Float[Array, 'B T D'] | None,
    counts: Bool[Array, '2 B'],
    first: Int[Array, ''] | int,
) -> tuple[tuple[Top, ...], tuple[dict[str, Array], Array | None]]:
  """The state with a batch, its sums, and four numbers of each window.

  These are how often features fire, the squares of the error and of what is to
  be written, and whether the window is decoded.

  Args:
    state: The best windows so far.
    dictionary: Whose features.
    x: What its encoder reads.
    y: What its decoder makes; None where it is not decoded.
    counts: Whether each window is there, and whether it is decoded.
    first: Number of the first window.
  """
  D = dictionary.decoder.shape[1]

  def fit(a: Array, y: Array) -> tuple[Array, Array, Array]:
    error = dictionary.decode(a) - y
    shifted = y - dictionary.decoder_bias.astype(jnp.float32)[None]
    return jnp.square(error).sum(), jnp.square(shifted).sum(), shifted.sum(0)

  def window(args: Any) -> Any:
    x, y, decoded = args
    a = dictionary.encode(x[1:])
    peak, place = _peak(a)
    none = (jnp.float32(0), jnp.float32(0), jnp.zeros(D, jnp.float32))
    fitted = none
    if y is not None:
      fitted = jax.lax.cond(
          decoded, fit, lambda a, y: none, a, y[1:].astype(jnp.float32)
      )
    fired = (a != 0).astype(jnp.float32).sum(axis=0)
    return peak, place, a.sum(axis=0), fired, fitted

  # One at a time: what is encoded is used while it is in the cache.
  peak, place, total, fired, fitted = jax.lax.map(window, (x, y, counts[1]))
  there = counts[0][:, None]
  fired = jnp.where(there, fired, 0.0)
  sums = {
      'sum': jnp.where(there, total, 0.0).sum(axis=0),
      'fired': fired.sum(axis=0),
      'y': fitted[2].sum(axis=0),
  }
  decoded = counts[1].astype(jnp.float32)
  numbers = jnp.stack([fired.sum(axis=1), *fitted[:2], decoded])
  peak = jnp.where(there, peak, 0.0)
  return (_merged(state[0], peak, place, first),), (sums, numbers)


@functools.partial(jax.jit, donate_argnames='state')
def add_neurons(
    state: tuple[Top, ...],
    x: Float[Array, 'B T M'],
    there: Bool[Array, 'B'],
    first: Int[Array, ''] | int,
) -> tuple[tuple[Top, ...], tuple[dict[str, Array], Array | None]]:

  def window(x: Array) -> Any:
    a = x[1:].astype(jnp.float32)
    return _peak(a), _peak(-a), a.sum(axis=0)

  high, low, total = jax.lax.map(window, x)
  tops = tuple(
      _merged(top, jnp.where(there[:, None], peak, 0.0), place, first)
      for top, (peak, place) in zip(state, (high, low), strict=True)
  )
  total = jnp.where(there[:, None], total, 0.0).sum(axis=0)
  return tops, ({'sum': total}, None)


def _peak(a: Float[Array, 't F']) -> tuple[Array, Array]:
  """[F] the largest, and its position in a window, which counts one more."""
  t = a.shape[0]
  peak = a.max(axis=0)
  at = jnp.arange(1, t + 1, dtype=jnp.int32)[:, None]
  # The first that is as large. An argmax takes ten times as long on processors.
  return peak, jnp.where(a == peak[None], at, t).min(axis=0)


def _merged(
    top: Top,
    peak: Float[Array, 'B F'],
    place: Int[Array, 'B F'],
    first: Int[Array, ''] | int,
) -> Top:
  """The best n of those so far and of the windows of a batch."""
  B, n = peak.shape[0], top.values.shape[1]
  window_B = (first + jnp.arange(B)).astype(jnp.int32)
  # What is there stands first: of equal values the earlier window stays.
  values = jnp.concatenate([top.values, peak.T], axis=1)
  windows = jnp.broadcast_to(window_B[None], peak.T.shape)
  windows = jnp.concatenate([top.windows, windows], axis=1)
  places = jnp.concatenate([top.positions, place.T], axis=1)
  best, chosen = jax.lax.top_k(values, n)
  windows = jnp.take_along_axis(windows, chosen, axis=1)
  places = jnp.take_along_axis(places, chosen, axis=1)
  none = best <= 0
  return Top(
      jnp.where(none, 0.0, best),
      jnp.where(none, -1, windows),
      jnp.where(none, -1, places),
  )
