"""Labels that matter, and more at one depth: against permuted labels.

Which of a layer's features are labelled says nothing under the null, so every
permutation of the labels within a layer is as likely. Cliff's delta is a sum of
ranks, and its covariance over the permutations is known exactly, between
contexts of attention and between labellings too (Hoeffding 1951, Ann. Math.
Stat. 22:558). What a layer's weights do to all of its features alike, such as
their scale, changes no rank.

Shapes: L layers, F features, C contexts, P labellings.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import NamedTuple

from jaxtyping import Bool, Float, Shaped
import numpy as np
from scipy import special

from ooc_jax._errors import InputError
from ooc_jax.measures._null import q_values

VERDICTS = ('supported', 'not supported', 'not decided')
_DRAWS = 2**14  # Of the largest of C normal numbers.
_POWER = 0.8


class PermutedDeltas(NamedTuple):
  """Cliff's deltas of one layer, and their covariance under permuted labels.

  Attributes:
    deltas: [P, C], over 0 where the labelled features have the larger values.
    covariance: [P, C, P, C].
  """

  deltas: np.ndarray
  covariance: np.ndarray


def permuted_deltas(
    values: Float[np.ndarray, 'C F'], labels: Bool[np.ndarray, 'P F']
) -> PermutedDeltas:
  """Cliff's delta of every labelling in every context, and chance.

  With c the centred labels (n of them true, m false) and r the centred
  midranks, delta = 2 c·r / (n m), and over permutations of all labels together
  cov(delta, delta') = 4 (c·c') (r·r') / (n m n' m' (F - 1)).

  Args:
    values: A number a feature in each context.
    labels: The labellings.

  Raises:
    InputError: A labelling is of all features or of none, or a value is not
      finite.
  """
  size = values.shape[1]
  true = labels.sum(axis=1)
  if not (np.isfinite(values).all() and np.all((true > 0) & (true < size))):
    raise InputError(
        f'Of {size} features {true.tolist()} are labelled, or a value is not'
        ' finite: nothing can be permuted, so leave the layer out.'
    )
  ranks = np.asarray([_midranks(x) for x in values]) - (size + 1) / 2
  scaled = (labels - true[:, None] / size) * 2
  scaled /= (true * (size - true))[:, None]
  return PermutedDeltas(
      scaled @ ranks.T,
      np.einsum('pq,cd->pcqd', scaled @ scaled.T, ranks @ ranks.T) / (size - 1),
  )


def _midranks(values: np.ndarray) -> np.ndarray:
  _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts - 1) / 2)[places]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelTrends:
  """Changes over depth in C contexts, against permuted labels.

  Attributes:
    change: [C] from the first layer to the last, by a weighted line.
    error: [C] standard deviation of that under permuted labels.
    p_value: [C] two-sided, corrected for the C contexts together.
    least_change: [C] of what size a change is found in 80 of 100 cases.
  """

  change: np.ndarray
  error: np.ndarray
  p_value: np.ndarray
  least_change: np.ndarray


def label_trends(
    layers: Shaped[np.ndarray, 'L'],
    deltas: Float[np.ndarray, 'L C'],
    covariances: Float[np.ndarray, 'L C C'],
    *,
    alpha: float = 0.05,
) -> LabelTrends:
  """Whether deltas have a slope over depth that permuted labels do not have.

  The slope is that of least squares, weighted by what permuted labels do to
  delta. P is the chance that the largest of C normal numbers with the
  covariance of the slopes is as large (single-step max-T, Westfall and Young
  1993), or Bonferroni's where that is smaller.

  A small p says that the labels matter, and not alike at all depths. Layers may
  also differ without a trend: `depth_shape` of the deltas has the p of a trend
  that reckons with that.

  Args:
    layers: Their numbers, rising; two or more.
    deltas: Of `permuted_deltas`, or a difference of two.
    covariances: Of the deltas of a layer, under permuted labels. A variance of
      0 is that of a layer that says nothing.
    alpha: Level of `least_change`.
  """
  variances = np.einsum('lcc->lc', covariances)
  # The covariance of a difference may be a rounding error.
  known = variances > 1e-12 * max(variances.max(), 1e-300)
  weights = np.where(known, 1 / np.where(known, variances, 1.0), 0.0)
  depth = (layers - layers[0]) / (layers[-1] - layers[0])
  total = np.maximum(weights.sum(axis=0), 1e-300)
  contrast = weights * (depth[:, None] - weights.T @ depth / total)
  scale = np.einsum('lc,l->c', contrast, depth)
  said = scale > 1e-12 * total
  contrast = np.where(said, contrast / np.where(said, scale, 1.0), 0.0)
  change = np.einsum('lc,lc->c', contrast, deltas)
  covariance = np.einsum('lc,ld,lcd->cd', contrast, contrast, covariances)
  error = np.sqrt(np.diag(covariance))
  unit = np.where(said, error, 1.0)
  largest = _largest_by_chance(covariance / np.outer(unit, unit))
  z = np.abs(change / unit)
  as_large = largest.size - np.searchsorted(largest, z)
  p_value = np.minimum(
      (1 + as_large) / (1 + largest.size), 2 * z.size * special.ndtr(-z)
  )
  needed = np.quantile(largest, 1 - alpha) + special.ndtri(_POWER)
  return LabelTrends(
      change=change,
      error=error,
      p_value=np.minimum(np.where(said, p_value, 1.0), 1.0),
      least_change=np.where(said, needed * error, np.inf),
  )


def _largest_by_chance(correlation: np.ndarray) -> np.ndarray:
  """Rising sizes of the largest of normal numbers correlated like this."""
  variances, vectors = np.linalg.eigh(correlation)
  root = vectors * np.sqrt(np.maximum(variances, 0.0))
  return np.sort(np.abs(root @ _normal(len(root))).max(axis=0))


@functools.cache
def _normal(size: int) -> np.ndarray:
  return np.random.default_rng(0).normal(size=(size, _DRAWS))


def verdict(
    signs: Sequence[int],
    p_values: Sequence[float],
    expected: int,
    *,
    alpha: float = 0.05,
    corrected: bool = False,
) -> str:
  """What tests of one statement say of it together.

  supported: at least one test finds the expected sign with q <= alpha, and
    none the opposite.
  not supported: at least one finds the opposite sign with q <= alpha; also
    where others find the expected one, as the statement is then not general.
  not decided: none finds either.

  Args:
    signs: Of each test, -1, 0 or 1.
    p_values: Of each, two-sided.
    expected: -1 or 1.
    alpha: Level of q.
    corrected: Whether the p values are corrected for all of the tests, and are
      q; else q is Benjamini and Hochberg's.

  Raises:
    InputError: There are more or fewer signs than p values.
  """
  if len(signs) != len(p_values):
    raise InputError(
        f'There are {len(signs)} signs and {len(p_values)} p values: give one'
        ' of each a test.'
    )
  q = np.asarray(p_values, np.float64)
  if q.size and not corrected:
    q = q_values(q)
  found = {
      sign for sign, x in zip(signs, q, strict=True) if sign and x <= alpha
  }
  if -expected in found:
    return 'not supported'
  return 'supported' if expected in found else 'not decided'
