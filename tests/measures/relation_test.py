"""Two courses over depth, together or apart."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import measures


def _relation(first, second, error=0.05):
  layers = np.arange(first.size)
  errors = np.full(first.size, error)
  return measures.relation_over_depth(layers, first, second, errors, errors)


class RelationTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(4)

  @parameterized.parameters(-1, 1)
  def test_planted_trends(self, sign):
    # The trends are judged as if neighbours could be much alike.
    t = np.linspace(0, 2, 24)
    noise = 0.1 * self.rng.normal(size=(2, 24))
    found = _relation(t + noise[0], 3 + sign * 0.7 * t + noise[1])
    self.assertEqual(found.sign, sign)
    self.assertLess(found.p_value, 0.01)
    self.assertEqual(np.sign(found.correlation), sign)
    self.assertEqual(np.sign(found.trends[1]), sign)

  @parameterized.parameters(-1, 1)
  def test_planted_roughness_without_a_trend(self, sign):
    """Layers that jump, one population with or against the other."""
    jumps = self.rng.normal(size=14)
    jumps -= np.polyval(np.polyfit(np.arange(14), jumps, 1), np.arange(14))
    noise = 0.2 * self.rng.normal(size=14)
    found = _relation(jumps, sign * jumps + noise)
    self.assertEqual(found.sign, sign)
    self.assertLess(found.p_value, 0.01)
    expected = np.corrcoef(jumps, sign * jumps + noise)[0, 1]
    self.assertAlmostEqual(found.correlation, expected, places=12)
    self.assertGreater(found.trend_p_value, 0.2)

  def test_chance_is_seldom_a_relation(self):
    hits = 0
    for _ in range(60):
      first, second = self.rng.normal(size=(2, 9))
      hits += _relation(first, second).p_value <= 0.05
    # 5 % of 60, and three standard errors.
    self.assertLessEqual(hits, 8)

  def test_smooth_courses_have_fewer_layers(self):
    t = np.linspace(0, 2 * np.pi, 24)
    smooth = _relation(np.sin(t), np.cos(t))
    rough = _relation(*self.rng.normal(size=(2, 24)))
    self.assertLess(smooth.effective_layers, 10)
    self.assertGreater(rough.effective_layers, 12)
    self.assertGreater(smooth.p_value, 0.1)

  def test_few_layers_decide_nothing(self):
    t = np.arange(5.0)
    self.assertEqual(_relation(t, -t), measures.Relation())
    self.assertEqual(measures.Relation().p_value, 1.0)

  def test_a_constant_course_has_no_relation(self):
    t = np.arange(8.0)
    found = _relation(np.ones(8), t)
    self.assertIsNone(found.correlation)
    self.assertGreater(found.p_value, 0.05)


if __name__ == '__main__':
  absltest.main()
