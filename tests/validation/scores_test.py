"""Scores of token lists against their definitions, by sets."""

from absl.testing import absltest
import numpy as np

from ooc_jax import validation


def _lists(rng, shape, size):
  rows = [rng.choice(size, shape[1], replace=False) for _ in range(shape[0])]
  return np.stack(rows)


class ScoresTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.peaks = rng.integers(0, 30, (12, 20))
    self.peaks[3, 5:] = -1
    self.peaks[4] = -1
    self.readout = _lists(rng, (12, 8), 30)
    self.readout[6] = -1
    self.raised = _lists(rng, (12, 8), 30)
    self.raised[7] = -1

  def _by_sets(self, f, g):
    """Input and output score of feature f with the readout of g."""
    T = set(self.readout[g]) - {-1}
    A = [t for t in self.peaks[f] if t >= 0]
    share = np.mean([t in T for t in A]) if A else np.nan
    S = set(self.raised[f]) - {-1}
    return share, len(S & T) / 8 if S and T else np.nan

  def test_are_shares_of_lists(self):
    expected = np.asarray([self._by_sets(f, f) for f in range(12)]).T
    found = (
        validation.share_in(self.peaks, self.readout),
        validation.share_of(self.raised, self.readout),
    )
    np.testing.assert_allclose(found, expected)

  def test_permuted_is_the_mean_over_all_others(self):
    for which, lists in enumerate((self.peaks, self.raised)):
      expected = [
          np.mean(
              [self._by_sets(f, g)[which] for g in range(12) if g not in (f, 6)]
          )
          for f in range(12)
      ]
      np.testing.assert_allclose(
          validation.permuted(lists, self.readout), expected
      )

  def test_permuted_of_permutations(self):
    """By drawing them, as a reader would."""
    rng = np.random.default_rng(1)
    peaks, readout = self.peaks[8:], self.readout[8:]
    drawn = []
    while len(drawn) < 4000:
      order = rng.permutation(4)
      if (order != np.arange(4)).all():
        drawn.append(validation.share_in(peaks, readout[order]))
    np.testing.assert_allclose(
        validation.permuted(peaks, readout), np.mean(drawn, axis=0), atol=0.01
    )

  def test_alone_there_is_no_other(self):
    one = np.asarray([[1, 2, 3]])
    self.assertTrue(np.isnan(validation.permuted(one, one)).all())

  def test_steering_score(self):
    logits = np.asarray([0.0, 3.0, 1.0, 2.0, -1.0], np.float32)
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(
        validation.steering_scores(logits, np.asarray([[0, 3], [4, 2]])),
        [(1 - 1 / 5) * p[3], (1 - 2 / 5) * p[2]],
        rtol=1e-6,
    )


if __name__ == '__main__':
  absltest.main()
