"""Chance: random directions, and thresholds, p and q against them.

Each measure of a feature becomes a count: how many of n random directions are
at least as coherent. A rule needs so many measures to pass, so what decides is
one of the counts: of three, the smallest under `any`, the second under
`majority`, the largest under `all`. It is called the deciding count. Where both
ends of the vocabulary are measured, each end has one, from random directions
read at that end, and the smaller decides.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._decision import RULES
from ooc_jax.measures._decision import Thresholds
from ooc_jax.measures._decision import by_end
from ooc_jax.measures._decision import finite_measures
from ooc_jax.measures._decision import votes_needed
from ooc_jax.measures._measure import Measure
from ooc_jax.measures._measure import check_known

# Where one null serves all layers: 328 of them are 1 %, and the threshold that
# they set is known to 6 % of its level.
NULL_SIZE = 32_768
_BLOCK = 256  # Directions at a time: [256, F] normal numbers are held.


def isotropic_directions(
    num_directions: int,
    width: int,
    *,
    seed: int,
    norms: Float[Array | np.ndarray, 'F'] | None = None,
) -> Float[Array, 'n D']:
  """Directions that are uniform on the sphere.

  Args:
    num_directions: n.
    width: D.
    seed: Of the draw; another seed for another layer draws other directions.
    norms: Of a dictionary's directions: each random one is given one of them,
      drawn with replacement. That matters under conventions that keep the norm
      (`raw`, `folded`), where it sets the entropy. 1 if None.

  Raises:
    InputError: There is no direction, no dimension or no norm.
  """
  _check(num_directions, width=width)
  key, norm_key = jax.random.split(jax.random.key(seed))
  rows = _unit_rows(key, num_directions, width)
  if norms is None:
    return rows
  _check(num_directions, norms=norms.size)
  # int32, or a program with 64-bit numbers would draw others.
  index = jax.random.randint(
      norm_key, (num_directions,), 0, norms.size, jnp.int32
  )
  return rows * jnp.asarray(norms)[index].astype(jnp.float32)[:, None]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _unit_rows(key, num_directions: int, width: int):
  # In one program, or four arrays of this size are held.
  rows = jax.random.normal(key, (num_directions, width), jnp.float32)
  return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def matched_directions(
    decoder: Float[Array | np.ndarray, 'F D'],
    num_directions: int,
    *,
    seed: int,
) -> Float[Array, 'n D']:
  """Normal directions with the mean and covariance of a dictionary's rows.

  A row is mean + sum_f g_f (decoder_f - mean) / sqrt(F), g of independent
  standard normals: a normal vector whose covariance is (1/F) sum_f (d_f - mean)
  (d_f - mean)^T exactly, of whatever rank, with no matrix to factorise.

  Args:
    decoder: One direction a row; rows may be sharded.
    num_directions: n.
    seed: Of the draw; another seed for another layer draws other numbers.

  Raises:
    InputError: There is no direction, or no row of `decoder`.
  """
  decoder = jnp.asarray(decoder)
  _check(num_directions, width=decoder.shape[1], rows=decoder.shape[0])
  return _matched(decoder, num_directions, seed)


@functools.partial(jax.jit, static_argnums=1)
def _matched(decoder_FD, num_directions: int, seed):
  decoder_FD = decoder_FD.astype(jnp.float32)
  mean_1D = jnp.mean(decoder_FD, axis=0, keepdims=True)
  size = decoder_FD.shape[0]

  def row_block(key):
    g_NF = jax.random.normal(key, (_BLOCK, size), jnp.float32)
    # Weights that sum to 0 give the centred rows without a second table.
    g_NF -= jnp.mean(g_NF, axis=1, keepdims=True)
    return mean_1D + jnp.matmul(
        g_NF, decoder_FD, precision='highest'
    ) / jnp.sqrt(jnp.float32(size))

  num_blocks = -(-num_directions // _BLOCK)
  keys = jax.random.split(jax.random.key(seed), num_blocks)
  rows = jax.lax.map(row_block, keys).reshape(-1, decoder_FD.shape[1])
  return rows[:num_directions]


def _check(num_directions: int, **sizes: int) -> None:
  for name, size in {'number of directions': num_directions, **sizes}.items():
    if size < 1:
      raise InputError(
          f'Random directions were asked for with a {name} of {size}: give at'
          ' least 1.'
      )


def allowed_of_null(alpha: float, size: int) -> int:
  """How many of `size` random directions may pass at a level alpha."""
  # 0.07 x 100 is 7.000000000000001, and 0.29 x 100 is 28.999999999999996.
  return int(alpha * size * (1 + 1e-12))


def check_alpha(alpha: float, size: int) -> None:
  """Refuses a level that is none, or under one direction of the null."""
  if not 0.0 < alpha < 1.0:
    raise InputError(
        f'The level alpha of the null is {alpha}: give a number between 0 and'
        ' 1.'
    )
  if not allowed_of_null(alpha, size):
    raise InputError(
        f'A share of {alpha} of {size} random directions is less than one: give'
        f' at least {int(np.ceil(1 / alpha))} directions, or a larger alpha.'
    )


def _check_decision(rule: str, coherence: Coherence) -> None:
  """Refuses what is neither a rule nor a measure that decides alone."""
  check_known(rule, (*RULES, *coherence), 'rule')


def lowered(coherence: Coherence) -> Float[np.ndarray, 'm F']:
  """The measures, turned so that low is coherent."""
  values = finite_measures(coherence)
  return np.stack([m.lowered(values[m.name]) for m in coherence.measures])


def _counts(coherence: Coherence, null: Coherence) -> Int[np.ndarray, 'm F']:
  """How many random directions are at least as coherent; ties count."""
  chance = np.sort(lowered(null), axis=1)
  if not chance.size:
    raise InputError(
        'There is no random direction to compare with: give the coherence of a'
        ' few thousand.'
    )
  return np.stack([
      np.searchsorted(row, x, side='right')
      for row, x in zip(chance, lowered(coherence), strict=True)
  ])


def _deciding(
    coherence: Coherence, null: Coherence, rule: str
) -> Int[np.ndarray, 'F']:
  return deciding_counts(_counts(coherence, null), coherence.measures, rule)


def deciding_counts(
    counts: Int[np.ndarray, 'm *F'], measures: Sequence[Measure], rule: str
) -> Int[np.ndarray, '*F']:
  """The one that decides under a rule, or that of a measure alone."""
  if rule not in RULES:
    return counts[[measure.name for measure in measures].index(rule)]
  ends = [
      np.sort(counts[places], axis=0)[votes_needed(rule, len(places)) - 1]
      for places in by_end(measures)
  ]
  return np.minimum.reduce(ends)


def null_thresholds(
    null: Coherence, alpha: float = 0.01, rule: str = 'any'
) -> Thresholds:
  """The thresholds at which the rule calls a share alpha of the null semantic.

  One level is common to the measures: each threshold is the value of the
  (c + 1)-th most coherent random direction, with one c, so that at most c pass
  each measure. c is the largest at which the rule as a whole passes at most
  alpha n of them. Ties go the safe way: of random directions with equal values
  all pass or none does, and the share may then be well under alpha.

  A feature passes a measure exactly if its `null_p_values` is at most
  (1 + c) / (1 + n).

  Args:
    null: The measures of n random directions, computed like the features'.
    alpha: The share of random directions that may be called semantic.
    rule: One of `RULES`; or a measure that decides alone, the others getting
      thresholds that nothing passes.

  Returns:
    Thresholds of kind `null`: `level` is c / n, `null_share` the share of
    random directions called semantic, at most alpha.

  Raises:
    InputError: alpha n is under 1, alpha is not between 0 and 1, the rule is
      unknown, or a measure is not finite.
  """
  return null_thresholds_at(null, (alpha,), rule)[0]


def null_thresholds_at(
    null: Coherence, alphas: Sequence[float], rule: str = 'any'
) -> list[Thresholds]:
  """`null_thresholds` at several levels, for little more than one."""
  _check_decision(rule, null)
  deciding = np.sort(_deciding(null, null, rule))
  size = deciding.size
  for alpha in alphas:
    check_alpha(alpha, size)
  ordered = np.sort(lowered(null), axis=1)
  found = []
  for alpha in alphas:
    # A random direction counts itself, so it passes if its count is <= c.
    c = int(deciding[allowed_of_null(alpha, size)]) - 1
    values = {}
    for m, row in zip(null.measures, ordered, strict=True):
      alone_elsewhere = rule in null and rule != m.name
      values[m.name] = m.never if alone_elsewhere else m.lowered(float(row[c]))
    share = float((deciding <= c).mean())
    found.append(
        Thresholds(values, kind='null', level=c / size, null_share=share)
    )
  return found


def null_p_values(
    coherence: Coherence, null: Coherence
) -> dict[str, Float[np.ndarray, 'F']]:
  """P of each measure: (1 + count) / (1 + n), never under 1 / (1 + n).

  Args:
    coherence: The measures of F features.
    null: Those of n random directions.

  Returns:
    Measure to p values, in the order of the measures.

  Raises:
    InputError: There is no random direction, or a measure is not finite.
  """
  counts = _counts(coherence, null)
  return {
      measure: (1 + row) / (1 + null.size)
      for measure, row in zip(coherence, counts, strict=True)
  }


def rule_p_values(
    coherence: Coherence, null: Coherence, rule: str = 'any'
) -> Float[np.ndarray, 'F']:
  """One p a feature, for the rule as a whole.

  The smallest of several p values is small more often than it says. So the
  deciding count of a feature is compared with the deciding counts of the
  random directions among themselves: p = (1 + how many have one at most as
  large) / (1 + n). It is valid, P(p <= a) <= a for a feature that is a random
  direction itself, however the measures depend on each other: were the feature
  put among the n, their counts could only grow, and then all n + 1 are
  exchangeable. Its resolution is 1 / (1 + n).

  Args:
    coherence: The measures of F features.
    null: Those of n random directions.
    rule: One of `RULES`, or a measure that decides alone.

  Raises:
    InputError: The rule is unknown, there is no random direction, or a measure
      is not finite.
  """
  _check_decision(rule, coherence)
  chance = np.sort(_deciding(null, null, rule))
  # A random direction counts itself, so a feature is counted in, too.
  deciding = 1 + _deciding(coherence, null, rule)
  at_most = np.searchsorted(chance, deciding, side='right')
  return (1 + at_most) / (1 + chance.size)


def smallest_p_value(null: Coherence, rule: str = 'any') -> float:
  """The p of a feature that is ahead of every random direction.

  Under `any` it is more than 1 / (1 + n): each measure has a direction that no
  other is ahead of. Features at it have p and q values at most so large.

  Args:
    null: The measures of n random directions.
    rule: As of `rule_p_values`.
  """
  _check_decision(rule, null)
  ahead = _deciding(null, null, rule) <= 1
  return float(1 + ahead.sum()) / (1 + null.size)


def q_values(p: Float[np.ndarray, 'F']) -> Float[np.ndarray, 'F']:
  """Benjamini and Hochberg's (1995, J. R. Stat. Soc. B 57:289) q values.

  Calling all features with q <= a semantic gives a share of false ones of at
  most a in expectation; also here, where all p values share one null (Bates et
  al. 2023, Ann. Stat. 51:149). With n random directions no p is under
  1 / (1 + n), so a few true features among many do not reach a small q: m of F
  need m >= F / (a (1 + n)), 40 of 16384 at a = 0.1 and n = 4096.

  Args:
    p: One a feature.

  Returns:
    q = min over larger p of p F / rank, in the order of the features.
  """
  order = np.argsort(p, kind='stable')
  ranks = np.arange(1, p.size + 1)
  q = np.minimum.accumulate((p[order] * p.size / ranks)[::-1])[::-1]
  values = np.empty_like(q)
  values[order] = np.minimum(q, 1.0)
  return values
