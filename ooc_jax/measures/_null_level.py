"""How a feature compares with random directions: thresholds, p and q.

Each measure of a feature becomes a count: how many of n random directions are
at least as coherent. A rule needs so many measures to pass, so what decides is
one of the three counts: the smallest under `any`, the second under `majority`,
the largest under `all`. It is called the deciding count.
"""

from jaxtyping import Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures import _checks
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._decision import LOW_IS_COHERENT
from ooc_jax.measures._decision import RULES
from ooc_jax.measures._decision import Thresholds
from ooc_jax.measures._decision import finite_measures
from ooc_jax.measures._decision import votes_needed

# A rule, or a measure that decides alone.
DECISIONS = (*RULES, *LOW_IS_COHERENT)


def _low_is_coherent(coherence: Coherence) -> Float[np.ndarray, '3 F']:
  values = finite_measures(coherence)
  return np.stack([x if LOW_IS_COHERENT[m] else -x for m, x in values.items()])


def _counts(coherence: Coherence, null: Coherence) -> Int[np.ndarray, '3 F']:
  """How many random directions are at least as coherent; ties count."""
  chance = np.sort(_low_is_coherent(null), axis=1)
  if not chance.size:
    raise InputError(
        'There is no random direction to compare with: give the coherence of a'
        ' few thousand.'
    )
  return np.stack([
      np.searchsorted(row, x, side='right')
      for row, x in zip(chance, _low_is_coherent(coherence), strict=True)
  ])


def _deciding(counts: np.ndarray, rule: str) -> Int[np.ndarray, 'F']:
  if rule in RULES:
    return np.sort(counts, axis=0)[votes_needed(rule) - 1]
  return counts[tuple(LOW_IS_COHERENT).index(rule)]


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
  _checks.check_known(rule, DECISIONS, 'rule')
  if not 0.0 < alpha < 1.0:
    raise InputError(
        f'The null thresholds have alpha {alpha}: give a number between 0 and'
        ' 1.'
    )
  deciding = np.sort(_deciding(_counts(null, null), rule))
  size = deciding.size
  allowed = int(alpha * size * (1 + 1e-12))  # 0.07 x 100 is 7.000000000000001.
  if not allowed:
    raise InputError(
        f'A share of {alpha} of {size} random directions is less than one: give'
        f' at least {int(np.ceil(1 / alpha))} directions, or a larger alpha.'
    )
  # A direction counts itself, so it passes if its deciding count is <= c.
  c = int(deciding[allowed]) - 1
  values = {}
  ordered = np.sort(_low_is_coherent(null), axis=1)
  for (measure, low), row in zip(LOW_IS_COHERENT.items(), ordered, strict=True):
    value = -np.inf if rule in LOW_IS_COHERENT and rule != measure else row[c]
    values[measure] = float(value if low else -value)
  return Thresholds(
      **values,
      kind='null',
      level=c / size,
      null_share=float((deciding <= c).mean()),
  )


def null_p_values(
    coherence: Coherence, null: Coherence
) -> dict[str, Float[np.ndarray, 'F']]:
  """P of each measure: (1 + count) / (1 + n), never under 1 / (1 + n).

  Args:
    coherence: The measures of F features.
    null: Those of n random directions.

  Returns:
    Measure to p values, in the order of `LOW_IS_COHERENT`.

  Raises:
    InputError: There is no random direction, or a measure is not finite.
  """
  counts = _counts(coherence, null)
  size = np.size(null.cosine)
  return {
      measure: (1 + row) / (1 + size)
      for measure, row in zip(LOW_IS_COHERENT, counts, strict=True)
  }


def rule_p_values(
    coherence: Coherence, null: Coherence, rule: str = 'any'
) -> Float[np.ndarray, 'F']:
  """One p a feature, for the rule as a whole.

  The smallest of three p values is small more often than it says. So the
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
  _checks.check_known(rule, DECISIONS, 'rule')
  chance = np.sort(_deciding(_counts(null, null), rule))
  # A random direction counts itself, so a feature is counted in, too.
  deciding = 1 + _deciding(_counts(coherence, null), rule)
  at_most = np.searchsorted(chance, deciding, side='right')
  return (1 + at_most) / (1 + chance.size)


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
