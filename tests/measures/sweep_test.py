"""The sweep: each cell is what deciding that way gives."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError

_LAYERS = {0: 101, 3: 67, 4: 150}
_SINGLE = tuple(m.name for m in measures.MEASURES[:3])


def _random(seed, size, shift=0.0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(3, size)).astype(np.float32) + np.float32(shift)
  return measures.Coherence(-x[0], x[1], -x[2])


def _inputs():
  layers = {x: _random(x, n, 0.3 * x) for x, n in _LAYERS.items()}
  nulls = {x: _random(100 + x, 499 + x) for x in _LAYERS}
  return layers, nulls


def _cell(rows, **where):
  (row,) = [r for r in rows if all(r[k] == v for k, v in where.items())]
  return row


class SweepTest(parameterized.TestCase):

  def test_every_way_to_decide_once_for_every_layer(self):
    layers, nulls = _inputs()
    fixed = measures.fixed_thresholds(
        dict.fromkeys(_SINGLE, 0.5), measures.MEASURES[:3]
    )
    rows = measures.sweep(layers, nulls, fixed=fixed)
    keys = {
        (r['rule'], r['measure'], r['kind'], r['level'], r['layer'])
        for r in rows
    }
    self.assertLen(keys, len(rows))
    # 0.001 of 499 is under one direction and left out.
    levels = 4 + len(measures.SWEEP_QUANTILES) + 1
    self.assertLen(rows, 6 * levels * 4)
    self.assertNotIn(0.001, {r['level'] for r in rows})
    self.assertEqual({r['layer'] for r in rows}, {*_LAYERS, -1})
    self.assertEqual(measures.WHOLE_MODEL, -1)
    for row in rows:
      self.assertEqual(bool(row['rule']), not row['measure'])
      self.assertIsInstance(row['share'], float)
      self.assertIsInstance(row['null_share'], float)

  @parameterized.product(rule=measures.RULES, layer=tuple(_LAYERS))
  def test_votes(self, rule, layer):
    layers, nulls = _inputs()
    rows = measures.sweep(layers, nulls)
    cuts = measures.null_thresholds(nulls[layer], 0.03, rule)
    row = _cell(rows, rule=rule, kind='null', level=0.03, layer=layer)
    labels = measures.is_semantic(layers[layer], cuts, rule)
    self.assertEqual(row['share'], labels.mean())
    self.assertEqual(row['null_share'], cuts.null_share)
    cuts = measures.quantile_thresholds(list(layers.values()), 0.9)
    row = _cell(rows, rule=rule, kind='quantile', level=0.9, layer=layer)
    labels = measures.is_semantic(layers[layer], cuts, rule)
    self.assertEqual(row['share'], labels.mean())
    labels = measures.is_semantic(nulls[layer], cuts, rule)
    self.assertEqual(row['null_share'], labels.mean())

  @parameterized.parameters(*_SINGLE)
  def test_a_measure_alone_has_all_of_alpha(self, measure):
    layers, nulls = _inputs()
    rows = measures.sweep(layers, nulls)
    row = _cell(rows, measure=measure, kind='null', level=0.1, layer=4)
    p = measures.null_p_values(layers[4], nulls[4])[measure]
    # 50 of 503 may pass, and 51 / 504 is the p of the next.
    self.assertEqual(row['share'], (p <= 51 / 504 + 1e-9).mean())
    self.assertEqual(row['null_share'], 50 / 503)
    row = _cell(rows, measure=measure, kind='quantile', level=0.7, layer=4)
    cuts = measures.quantile_thresholds(list(layers.values()), 0.7)
    want = measures.passes_by_measure(layers[4], cuts)[measure].mean()
    self.assertEqual(row['share'], want)

  def test_the_whole_model_pools_features(self):
    layers, nulls = _inputs()
    rows = measures.sweep(layers, nulls)
    for kind, level in (('null', 0.1), ('quantile', 0.5)):
      way = {'rule': 'any', 'kind': kind, 'level': level}
      each = [_cell(rows, **way, layer=x) for x in _LAYERS]
      whole = _cell(rows, **way, layer=-1)
      sizes = list(_LAYERS.values())
      want = np.average([r['share'] for r in each], weights=sizes)
      np.testing.assert_allclose(whole['share'], want, rtol=1e-12)
      sizes = [499 + x for x in _LAYERS]
      want = np.average([r['null_share'] for r in each], weights=sizes)
      np.testing.assert_allclose(whole['null_share'], want, rtol=1e-12)

  def test_fixed(self):
    layers, nulls = _inputs()
    cuts = measures.fixed_thresholds(
        {'levenshtein': -0.5, 'cosine': 1.0, 'entropy': 0.25},
        measures.MEASURES[:3],
    )
    rows = measures.sweep(layers, nulls, fixed=cuts)
    row = _cell(rows, rule='majority', kind='fixed', layer=3)
    labels = measures.is_semantic(layers[3], cuts, 'majority')
    self.assertEqual((row['share'], row['level']), (labels.mean(), None))

  def test_without_a_null(self):
    layers, _ = _inputs()
    rows = measures.sweep(layers, quantiles=(0.8,))
    self.assertLen(rows, 6 * 4)
    self.assertEqual({r['kind'] for r in rows}, {'quantile'})
    self.assertEqual({r['null_share'] for r in rows}, {None})

  def test_shares_rise_with_alpha_and_fall_with_the_quantile(self):
    layers, nulls = _inputs()
    rows = measures.sweep(layers, nulls)
    for kind, sign in (('null', 1), ('quantile', -1)):
      shares = [
          r['share']
          for r in rows
          if r['rule'] == 'any' and r['kind'] == kind and r['layer'] == 0
      ]
      self.assertGreater(min(sign * np.diff(shares)), 0.0)

  def test_a_layer_without_a_null(self):
    layers, nulls = _inputs()
    del nulls[3]
    with self.assertRaisesRegex(InputError, 'no null for layer 3'):
      measures.sweep(layers, nulls)


if __name__ == '__main__':
  absltest.main()
