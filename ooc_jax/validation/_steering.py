"""What a direction does to predictions when it is added to the stream.

Only the layers above the place of the addition are run again: one compiled
program serves every layer of a model. A strength is found for each direction,
so that features whose decoders differ in length, and layers whose streams do,
are moved equally far in what is predicted.
"""

from collections.abc import Iterator
import concurrent.futures
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax.dictionaries import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Site
from ooc_jax.model import no_tap
from ooc_jax.model import run_layers
from ooc_jax.model import stream_logits
from ooc_jax.validation._activations import make_tapped
from ooc_jax.validation._additions import adding
from ooc_jax.validation._additions import entry
from ooc_jax.validation._prefixes import Prefixes

# Mean Kullback-Leibler divergences, nats, at which an effect is read.
TARGETS = (0.25, 0.5)
_TOLERANCE = 0.01  # Of the logarithm of the divergence.
_STEPS, _SECANT_STEPS = 24, 12
_LOG_LIMITS = (-20.0, 30.0)  # Of a length: squares stay within float32.
_BLOCK = 8  # Directions that go through the model at once.


@dataclasses.dataclass(frozen=True)
class Effect:
  """What one direction does.

  Attributes:
    strengths: [2] length of what was added, for each of `TARGETS`.
    divergences: [2] mean KL(clean || steered) there, nats; NaN where no length
      gives the target.
    rise: [V] mean over prefixes and strengths of the places by which a token
      rises among those that count, over their number; NaN where it does not
      count, and everywhere where no length gives a target.
  """

  strengths: Float[np.ndarray, '2']
  divergences: Float[np.ndarray, '2']
  rise: Float[np.ndarray, 'V']

  def raised(self, k: int) -> Int[np.ndarray, 'k']:
    """The k tokens that rise most; -1 where no length gives a target."""
    if np.isnan(self.rise).all():
      return np.full(k, -1)
    order = np.argsort(-self.rise, kind='stable')  # NaN goes last.
    return order[:k]


class Steering:
  """Prefixes in a model, to add directions to at every position."""

  def __init__(self, model: Model, prefixes: Prefixes):
    """Runs the model once.

    Args:
      model: With all its parts.
      prefixes: To be read at their ends.
    """
    self._model = model
    config, last = model.config, model.config.num_layers - 1
    keys = [(Site.RESID_PRE, i) for i in range(last + 1)]
    keys.append((Site.RESID_POST, last))
    saved = make_tapped(config, tuple(keys))(model.params, prefixes.tokens)
    self._streams = [saved[key] for key in keys]
    self._at = (jnp.asarray(prefixes.rows), jnp.asarray(prefixes.positions))
    final = self._streams[-1][self._at]
    self._clean = _logits(model.params, final, config=config)
    log_p = jax.nn.log_softmax(self._clean)
    p = jnp.exp(log_p)
    self._distribution = (p, (p * log_p).sum(axis=1))  # Minus its entropy.

  @property
  def clean(self) -> Float[Array, 'n V']:
    """Logits at the prefixes without an addition."""
    return self._clean

  def logits(
      self,
      site: DictionarySite,
      added: Float[Array | np.ndarray, 'F D'],
      block: int = _BLOCK,
  ) -> Iterator[Float[np.ndarray, 'n V']]:
    """Logits at the prefixes with each of the vectors added.

    Args:
      site: Of the dictionary; the addition is where it writes.
      added: Vectors of the residual stream.
      block: How many at once.
    """
    params, config = self._model.params, self._model.config
    middle, first = entry(site, config)
    for count, rows in _blocks(added, block):
      finals = _final_streams(
          params,
          rows,
          self._streams[first],
          self._at,
          first,
          config=config,
          middle=middle,
      )
      for final in finals[:count]:
        yield np.asarray(_logits(params, final, config=config))

  def effects(
      self,
      site: DictionarySite,
      directions: Float[Array | np.ndarray, 'F D'],
      mask: Bool[np.ndarray, 'V'],
      block: int = _BLOCK,
  ) -> Iterator[Effect]:
    """Finds the strengths of each direction, and what rises there.

    Args:
      site: Of the dictionary; the addition is where it writes.
      directions: One a row; only where they point counts.
      mask: Tokens that count. The divergence is over all of them.
      block: Directions at once: [block · R, T, M] is held.
    """
    kept = np.flatnonzero(mask)
    clean = _mean_ranks(np.asarray(self._clean)[:, kept])
    params, config = self._model.params, self._model.config
    middle, first = entry(site, config)
    stream = self._streams[first]
    norms = jnp.linalg.norm(stream[self._at].astype(jnp.float32), axis=-1)
    guess = float(jnp.log(0.3 * jnp.median(norms)))

    def ranks(final: Float[Array, 'n D']) -> Float[np.ndarray, 'kept']:
      logits = np.asarray(_logits(params, final, config=config))
      return _mean_ranks(logits[:, kept])

    # A thread for either target, as a sort takes one and is half of the time
    # at late layers.
    with concurrent.futures.ThreadPoolExecutor(len(TARGETS)) as pool:
      for count, rows in _blocks(directions, block):
        solved = _solve(
            params,
            rows,
            guess,
            self._distribution,
            stream,
            self._at,
            first,
            config=config,
            middle=middle,
        )
        lengths, divergences = (np.asarray(x, np.float64) for x in solved[:2])
        found = lengths[0, ~np.isnan(divergences[0])]
        if found.size:
          guess = float(np.log(np.median(found)))
        for i in range(count):
          rise = np.full(len(mask), np.nan, np.float32)
          if not np.isnan(divergences[:, i]).any():
            steered = np.mean(list(pool.map(ranks, solved[2][:, i])), axis=0)
            rise[kept] = (clean - steered) / kept.size
          yield Effect(lengths[:, i], divergences[:, i], rise)


def _blocks(
    directions: Float[Array | np.ndarray, 'F D'], size: int
) -> Iterator[tuple[int, Float[np.ndarray, 'b D']]]:
  """So many at a time, the last filled up with its first; how many count."""
  directions = np.asarray(directions, np.float32)
  for start in range(0, len(directions), size):
    rows = directions[start : start + size]
    filling = np.repeat(rows[:1], size - len(rows), axis=0)
    yield len(rows), np.concatenate([rows, filling])


def _mean_ranks(logits: Float[np.ndarray, 'n V']) -> Float[np.ndarray, 'V']:
  """Mean over the rows of the place of each column, from 0 at the largest."""
  # In NumPy: on a processor its sort is 30 times as fast as XLA's.
  total = np.zeros(logits.shape[1])
  places = np.arange(logits.shape[1], dtype=np.float64)
  for row in -logits:
    total[np.argsort(row)] += places
  return total / len(logits)


@functools.partial(jax.jit, static_argnames=('config', 'middle'))
def _final_streams(
    params: Any,
    added: Float[Array, 'b D'],
    x: Float[Array, 'R T D'],
    at: tuple[Array, Array],
    first: Int[Array, ''] | int,
    *,
    config: ModelConfig,
    middle: bool,
) -> Float[Array, 'b n D']:
  """The last stream at the ends of the prefixes, with each vector added."""
  R, T, D = x.shape
  vectors = jnp.repeat(added, R, axis=0)[:, None].astype(x.dtype)
  streams = jnp.tile(x, (len(added), 1, 1))
  tap = no_tap
  if middle:
    tap = adding(vectors[:, 0], first, middle, config.num_layers)
  else:
    streams += vectors
  last = run_layers(config, params, streams, first, tap=tap)
  rows, positions = at
  return last.reshape(len(added), R, T, D)[:, rows, positions]


@functools.partial(jax.jit, static_argnames='config')
def _logits(
    params: Any, final: Float[Array, 'n D'], *, config: ModelConfig
) -> Float[Array, 'n V']:
  return stream_logits(config, params, final[None])[0]


class _Search(NamedTuple):
  """Where the search for each length is: x log length, y log KL there.

  A root lies between `low` and `high`, as far as these are finite.
  """

  x: Float[Array, 'b']
  y: Float[Array, 'b']
  last_x: Float[Array, 'b']
  last_y: Float[Array, 'b']
  low: Float[Array, 'b']
  high: Float[Array, 'b']
  done: Bool[Array, 'b']
  finals: Float[Array, 'b n D']
  steps: Int[Array, '']


@functools.partial(jax.jit, static_argnames=('config', 'middle'))
def _solve(
    params: Any,
    directions: Float[Array, 'b D'],
    guess: Float[Array, ''] | float,
    clean: tuple[Float[Array, 'n V'], Float[Array, 'n']],
    x: Float[Array, 'R T D'],
    at: tuple[Array, Array],
    first: Int[Array, ''] | int,
    *,
    config: ModelConfig,
    middle: bool,
) -> tuple[
    Float[Array, 'targets b'],
    Float[Array, 'targets b'],
    Float[Array, 'targets b n D'],
]:
  """Lengths, divergences (NaN where not on target) and last streams.

  By secants of log KL against log length, whose slope is two for a small
  addition, so that few passes are needed; by halving where a secant leaves the
  bracket, or they take too long.
  """
  norms = jnp.linalg.norm(directions, axis=1, keepdims=True)
  units = directions / jnp.maximum(norms, jnp.finfo(jnp.float32).tiny)
  p, minus_entropy = clean

  def log_divergence(final: Float[Array, 'n D']) -> Float[Array, '']:
    logits = _logits(params, final, config=config)
    cross = jax.nn.logsumexp(logits, axis=1) - (p * logits).sum(axis=1)
    return jnp.log(jnp.maximum((minus_entropy + cross).mean(), 1e-7))

  def step(s: _Search, goal: Float[Array, '']) -> _Search:
    run = s.x - s.last_x
    slope = jnp.where(jnp.abs(run) > 1e-6, (s.y - s.last_y) / run, 2.0)
    jump = (goal - s.y) / jnp.clip(slope, 0.5, 4.0)
    new = jnp.clip(s.x + jnp.clip(jump, -3.0, 3.0), *_LOG_LIMITS)
    halve = (new <= s.low) | (new >= s.high) | (s.steps >= _SECANT_STEPS)
    halve &= jnp.isfinite(s.low) & jnp.isfinite(s.high)
    new = jnp.where(halve, (s.low + s.high) / 2, new)
    new = jnp.where(s.done, s.x, new)
    finals = _final_streams(
        params,
        jnp.exp(new)[:, None] * units,
        x,
        at,
        first,
        config=config,
        middle=middle,
    )
    y = jax.lax.map(
        lambda z: jax.lax.cond(
            z[0], lambda z: z[1], lambda z: log_divergence(z[2]), z
        ),
        (s.done, s.y, finals),
    )
    under = y < goal
    return _Search(
        x=new,
        y=y,
        # Those that are found stay as they are, with what led to them.
        last_x=jnp.where(s.done, s.last_x, s.x),
        last_y=jnp.where(s.done, s.last_y, s.y),
        low=jnp.where(under, new, jnp.where(s.low < new, s.low, -jnp.inf)),
        high=jnp.where(under, jnp.where(s.high > new, s.high, jnp.inf), new),
        done=jnp.abs(y - goal) < _TOLERANCE,
        finals=finals,
        steps=s.steps + 1,
    )

  b = len(directions)
  none = jnp.full(b, jnp.inf, jnp.float32)
  goals = jnp.log(jnp.asarray(TARGETS, jnp.float32))

  def find(s: _Search, goal: Float[Array, '']) -> tuple[_Search, Any]:
    # The last two points serve the next target too; brackets do not.
    s = s._replace(
        low=-none, high=none, done=jnp.zeros(b, bool), steps=jnp.int32(0)
    )
    s = jax.lax.while_loop(
        lambda s: ~s.done.all() & (s.steps < _STEPS),
        lambda s: step(s, goal),
        s,
    )
    divergences = jnp.where(s.done, jnp.exp(s.y), jnp.nan)
    return s, (jnp.exp(s.x), divergences, s.finals)

  x0, y0 = jnp.full(b, guess, jnp.float32), jnp.full(b, goals[0])
  shape = (b, at[0].size, x.shape[-1])
  _, found = jax.lax.scan(
      find,
      _Search(
          x=x0,
          y=y0,
          last_x=x0,
          last_y=y0,
          low=-none,
          high=none,
          done=jnp.zeros(b, bool),
          finals=jnp.zeros(shape, x.dtype),
          steps=jnp.int32(0),
      ),
      goals,
  )
  return found
