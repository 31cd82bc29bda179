"""Which features are semantic by weights, and which by activations.

Both by the same measures of how tokens go together, those of the top tokens of
the lens and those at which a feature peaks, each against chance of its own:
random directions, and tokens drawn as often as the corpus has them. Of neurons,
which have either sign, both ends count on both sides. A softmax is of a lens
alone, so sharpness is no part of this.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from jaxtyping import Array, Bool, Int
import numpy as np

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax import validation
from ooc_jax.dictionaries import from_arrays
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.model import Model


@dataclasses.dataclass(frozen=True)
class _Lists:
  """Lists of tokens in place of a lens, as far as `lens_coherence` reads it."""

  top_ids: Int[np.ndarray, 'F k']
  bottom_ids: Int[np.ndarray, 'F k']

  def turned(self) -> '_Lists':
    """The ends changed about."""
    return _Lists(self.bottom_ids, self.top_ids)


class Labels:
  """What is found once a model and corpus, and the labels of a dictionary."""

  def __init__(
      self,
      model: Model,
      mask: Bool[Array, 'V'],
      space: measures.TokenSpace,
      windows: Int[np.ndarray, 'W T'],
      config: Validation,
  ):
    """Readies strings.

    Args:
      model: With its unembedding and a tokenizer.
      mask: Tokens of a lens that count.
      space: In which the cosine of two tokens is taken.
      windows: The corpus.
      config: The settings.
    """
    self._model, self._mask, self._config = model, mask, config
    self._space = space
    self._strings = measures.model_strings(model)
    counts = np.bincount(
        windows[:, 1:].ravel(), minlength=model.config.vocab_size
    )
    self._frequencies = counts / counts.sum()
    self._known: dict[Any, measures.Thresholds] = {}

  def by_weights(
      self, lens: circuits.Lens, signed: bool
  ) -> Bool[np.ndarray, 'F']:
    """Of the features of a lens."""
    k = self._config.coherence_k
    ids = [circuits.to_host(x)[:, :k] for x in (lens.top_ids, lens.bottom_ids)]
    return measures.is_semantic(
        self._coherence(_Lists(*ids), signed),
        self._weight_thresholds(signed),
        self._config.rule,
    )

  def by_activations(
      self, found: validation.FeatureActivations
  ) -> tuple[Bool[np.ndarray, 'F'], Bool[np.ndarray, 'F']]:
    """Labels, False where there are too few peaks; and where there are not."""
    low = found.low_peaks
    tops = found.peaks.tokens
    bottoms = tops if low is None else low.tokens
    counts = np.minimum((tops >= 0).sum(axis=1), (bottoms >= 0).sum(axis=1))
    labels = np.zeros(len(tops), bool)
    judged = counts >= min(self._config.rare, tops.shape[1])
    for n in np.unique(counts[judged]):
      rows = np.flatnonzero(judged & (counts == n))
      lists = _Lists(tops[rows, :n], bottoms[rows, :n])
      labels[rows] = measures.is_semantic(
          self._coherence(lists, low is not None),
          self._activation_thresholds(int(n), low is not None),
          self._config.rule,
      )
    return labels, judged

  def _coherence(self, lists: _Lists, signed: bool) -> measures.Coherence:
    return measures.lens_coherence(
        lists, self._strings, self._space, measures=_measures(signed)
    )

  def _weight_thresholds(self, signed: bool) -> measures.Thresholds:
    config = self._config
    if (known := self._known.get(signed)) is not None:
      return known
    rows = measures.isotropic_directions(
        config.null_size, self._model.config.embed_dim, seed=config.seed
    )
    lens = circuits.output_lens(
        self._model,
        from_arrays(rows, layer=0, name='null'),
        k=config.coherence_k,
        convention=config.convention,
        mask=self._mask,
    )
    ids = [circuits.to_host(x) for x in (lens.top_ids, lens.bottom_ids)]
    self._known[signed] = self._thresholds(_Lists(*ids), signed)
    return self._known[signed]

  def _activation_thresholds(self, n: int, signed: bool) -> measures.Thresholds:
    config = self._config
    if (known := self._known.get((n, signed))) is not None:
      return known
    rng = np.random.default_rng([config.seed, n])
    ids = rng.choice(
        self._frequencies.size,
        (2, config.null_size, n),
        p=self._frequencies,
    )
    null = _Lists(*ids.astype(np.int32))
    self._known[n, signed] = self._thresholds(null, signed)
    return self._known[n, signed]

  def _thresholds(self, null: _Lists, signed: bool) -> measures.Thresholds:
    return measures.null_thresholds(
        self._coherence(null, signed), self._config.alpha, self._config.rule
    )


def _measures(signed: bool) -> Sequence[measures.Measure]:
  ends = 'both' if signed else 'top'
  return [m for m in measures.measures_at(ends) if m.finds == 'coherent']


def agreement(
    weights: Bool[np.ndarray, 'F'], activations: Bool[np.ndarray, 'F']
) -> dict[str, Any]:
  """The 2 x 2 table of two labellings, and their correlation.

  Returns:
    Counts `both`, `weights`, `activations` (alone) and `neither`; `phi`, None
    where a labelling is constant.
  """
  counts: dict[str, Any] = {
      'both': int((weights & activations).sum()),
      'weights': int((weights & ~activations).sum()),
      'activations': int((~weights & activations).sum()),
      'neither': int((~weights & ~activations).sum()),
  }
  varies = weights.std() > 0 and activations.std() > 0
  phi = float(np.corrcoef(weights, activations)[0, 1]) if varies else None
  return counts | {'phi': phi}


def difference(
    weights: Bool[np.ndarray, 'F'], activations: Bool[np.ndarray, 'F']
) -> tuple[float, float]:
  """Of the shares of two labellings of the same features, and its error."""
  d = weights.astype(float) - activations
  # As for shares, no error is 0: half a feature differs either way.
  n = d.size
  variance = (np.square(d).sum() + 1) / (n + 1) - np.square(d.mean())
  return float(d.mean()), float(np.sqrt(variance / n))
