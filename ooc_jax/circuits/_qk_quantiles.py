"""Quantiles of scores over a fixed random sample of partners.

Order statistics are found by counting, which vectorises; a sort does not on
every device.

Axis letters: C rows, S sampled partners, H head width, c rows at once.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

LEVELS = (0.5, 0.75, 0.95)
_NORMAL = (0.0, 0.674, 1.645)  # The same quantiles of a normal distribution.
_BLOCK = 256
# Counts of the three levels travel in one float32: 128 of each fit in a byte.
_PART = 128
# Every fourth guess halves the bracket: by then it is empty of float32 numbers
# unless equal scores keep it open.
_MOST_GUESSES = 120


class Bracket(NamedTuple):
  """count(x <= low) < rank <= count(x <= high), or low is the minimum."""

  low: Float[Array, '3 c']
  high: Float[Array, '3 c']
  under: Int[Array, '3 c']  # count(x <= low)
  upto: Int[Array, '3 c']  # count(x <= high)


def rank_error(size: int, confidence: float = 0.95) -> float:
  """How far a sampled quantile's rank may be off, as a share of all partners.

  Dvoretzky-Kiefer-Wolfowitz with Massart's constant: with probability
  `confidence` the distribution function of a sample of `size` is nowhere
  further than sqrt(ln(2 / (1 - confidence)) / 2 size) from the true one; a
  sample without replacement is no worse. The last term is the step of the
  sample's own function.
  """
  return math.sqrt(math.log(2 / (1 - confidence)) / (2 * size)) + 1 / size


def sample(
    counts: Bool[Array, 'F'], size: int, seed: int
) -> tuple[Int[Array, 'S'], Bool[Array, 'S']]:
  """S = min(size, F) random partners in rising order, and which of them count.

  Those that count are drawn first: one that does not is in the sample only
  where fewer than `size` count.
  """
  F = counts.shape[0]
  if size >= F:
    return jnp.arange(F, dtype=jnp.int32), counts
  draw = jax.random.uniform(jax.random.key(seed), (F,))
  _, ids = jax.lax.top_k(jnp.where(counts, draw, -1.0), size)
  ids = jnp.sort(ids)
  return ids, counts[ids]


def sampled_quantiles(
    rows: Float[Array, 'C H'],
    partners: Float[Array, 'S H'],
    counts: Bool[Array, 'S'] | None,
) -> Float[Array, '3 C']:
  """Quantiles `LEVELS` of each row's scores with the partners that count.

  The quantile p of n scores is the ⌈p·n⌉-th smallest.
  """
  C, H = rows.shape
  rows = jnp.pad(rows, ((0, -C % _BLOCK), (0, 0)))
  S = len(partners)
  if S % _PART:
    counts = jnp.ones(S, bool) if counts is None else counts
    counts = jnp.pad(counts, (0, -S % _PART))
    partners = jnp.pad(partners, ((0, -S % _PART), (0, 0)))
  number = jnp.int32(S) if counts is None else counts.sum(dtype=jnp.int32)
  levels = jnp.asarray(np.asarray(LEVELS, np.float32))
  # Less a little: 0.95 in float32 is above 0.95, and 0.95 · 100 above 95.
  rank = jnp.ceil(levels * number.astype(jnp.float32) - 1e-3)

  def one_block(rows: Float[Array, 'c H']) -> Float[Array, '3 c']:
    scores = jnp.einsum(
        'sh,ch->sc', partners, rows, precision=jax.lax.Precision.HIGHEST
    )
    return _order_statistics(scores, counts, number, rank.astype(jnp.int32))

  found = jax.lax.map(one_block, rows.reshape(-1, _BLOCK, H))
  return jnp.moveaxis(found, 0, 1).reshape(len(LEVELS), -1)[:, :C]


def _order_statistics(
    x: Float[Array, 'S c'],
    counts: Bool[Array, 'S'] | None,
    number: Int[Array, ''],
    rank: Int[Array, '3'],
) -> Float[Array, '3 c']:
  """The rank-th smallest, from 1, of each column's entries that count."""
  lowest = highest = finite = x
  weight = jnp.ones((1, len(x)), jnp.float32)
  if counts is not None:
    lowest = jnp.where(counts[:, None], x, jnp.inf)
    highest = jnp.where(counts[:, None], x, -jnp.inf)
    finite = jnp.where(counts[:, None], x, 0.0)
    weight = counts.astype(jnp.float32)[None, :]
    x = lowest
  weight /= number.astype(jnp.float32)
  mean = jnp.einsum(
      'ns,sc->nc', weight, finite, precision=jax.lax.Precision.HIGHEST
  )
  spread = (jnp.square(finite - mean) * weight.T).sum(axis=0, keepdims=True)
  # Two guesses that would hold the quantile between them, were it normal.
  at = jnp.asarray(_NORMAL)[:, None]
  guesses = [mean + (at + d) * jnp.sqrt(spread) for d in (-0.1, 0.1)]
  shape = guesses[0].shape
  bracket = Bracket(
      low=jnp.broadcast_to(lowest.min(axis=0, keepdims=True), shape),
      high=jnp.broadcast_to(highest.max(axis=0, keepdims=True), shape),
      under=jnp.zeros(shape, jnp.int32),
      upto=jnp.broadcast_to(number, shape),
  )

  # The next guess is carried: made where it is used, XLA:CPU makes it again
  # for each entry of x.
  def step(state):
    i, bracket, guess = state
    bracket = _narrow(bracket, x, guess, rank)
    guess = jnp.where(i == 0, guesses[1], _guess(bracket, i, rank))
    return i + 1, bracket, _rising(guess, bracket)

  _, bracket, _ = jax.lax.while_loop(
      lambda state: (state[0] < _MOST_GUESSES) & _is_open(state[1], rank).any(),
      step,
      (0, bracket, _rising(guesses[0], bracket)),
  )
  low, high, under, upto = bracket
  # The first above low, or the last up to high: the first from the other side.
  up = (under == rank[:, None] - 1) & (upto != rank[:, None])
  sign = jnp.where(up, 1.0, -1.0)
  start = jnp.where(up, jnp.nextafter(low, jnp.inf), -high)
  signed = sign[:, None] * x[None]
  first = jnp.where(signed >= start[:, None], signed, jnp.inf).min(axis=1)
  return sign * first


def _narrow(
    bracket: Bracket,
    x: Float[Array, 'S c'],
    at: Float[Array, '3 c'],
    rank: Int[Array, '3'],
) -> Bracket:
  """The bracket after counting at `at`, which rises with the level."""
  first, second, third = at
  marks = jnp.where(
      x <= first[None],
      1.0 + 2**8 + 2**16,
      jnp.where(
          x <= second[None],
          2.0**8 + 2**16,
          jnp.where(x <= third[None], 2.0**16, 0.0),
      ),
  )
  sums = marks.reshape(-1, _PART, x.shape[1]).sum(axis=1).astype(jnp.int32)
  count = jnp.stack([(sums >> shift & 255).sum(axis=0) for shift in (0, 8, 16)])
  enough = count >= rank[:, None]
  down, up = enough & (at < bracket.high), ~enough & (at > bracket.low)
  return Bracket(
      low=jnp.where(up, at, bracket.low),
      high=jnp.where(down, at, bracket.high),
      under=jnp.where(up, count, bracket.under),
      upto=jnp.where(down, count, bracket.upto),
  )


def _guess(
    bracket: Bracket, step: Int[Array, ''], rank: Int[Array, '3']
) -> Float[Array, '3 c']:
  """Where the rank would be, were the entries even within the bracket."""
  low, high, under, upto = bracket
  share = (rank[:, None] - under).astype(jnp.float32) - 0.5
  share = share / (upto - under).astype(jnp.float32)
  share = jnp.where(step % 4 == 3, 0.5, jnp.clip(share, 0.02, 0.98))
  return low + share * (high - low)


def _rising(at: Float[Array, '3 c'], bracket: Bracket) -> Float[Array, '3 c']:
  """Guesses such that one chain of choices counts all three."""
  at = jnp.clip(at, bracket.low, bracket.high)
  return jnp.stack([at[0], at[:2].max(axis=0), at.max(axis=0)])


def _is_open(bracket: Bracket, rank: Int[Array, '3']) -> Bool[Array, '3 c']:
  low, high, under, upto = bracket
  found = (upto == rank[:, None]) | (under == rank[:, None] - 1)
  middle = low + 0.5 * (high - low)
  return ~found & (low < middle) & (middle < high)
