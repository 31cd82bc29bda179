"""Scores of known answers, and agreement by its published example."""

import itertools
import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow as pa
import pytest

import ooc_jax
from ooc_jax import measures
from ooc_jax import results
from ooc_jax.experiments import intrusion
from tests import finished

# Krippendorff 2011, Computing Krippendorff's alpha-reliability, part C: four
# observers, twelve units, and 0.743 for nominal values.
_EXAMPLE = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


def _brute(chosen):
  """Alpha from its definition by pairs: 1 - observed / expected."""
  units = [
      [x for x in column if x >= 0] for column in np.asarray(chosen).T.tolist()
  ]
  units = [unit for unit in units if len(unit) > 1]
  n = sum(map(len, units))
  observed = sum(
      sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1)
      for unit in units
  )
  everything = [x for unit in units for x in unit]
  expected = sum(a != b for a, b in itertools.permutations(everything, 2))
  return 1 - (observed / n) / (expected / (n * (n - 1)))


class AlphaTest(absltest.TestCase):

  def test_published_example(self):
    rows = [line.split() for line in _EXAMPLE.strip().splitlines()]
    chosen = np.array([[-1 if x == '.' else int(x) for x in r] for r in rows])
    found = intrusion.krippendorff_alpha(chosen)
    self.assertAlmostEqual(found, 0.743, 3)
    self.assertAlmostEqual(found, _brute(chosen), 12)

  def test_is_that_of_all_pairs_and_0_by_chance(self):
    rng = np.random.default_rng(0)
    chosen = rng.integers(-1, 5, (4, 30))
    self.assertAlmostEqual(
        intrusion.krippendorff_alpha(chosen), _brute(chosen), 12
    )
    many = intrusion.krippendorff_alpha(rng.integers(0, 5, (3, 4000)))
    self.assertAlmostEqual(many, 0, delta=0.02)
    same = np.tile(rng.integers(0, 5, 30), (3, 1))
    self.assertAlmostEqual(intrusion.krippendorff_alpha(same), 1, 12)

  def test_none_without_two_answers_to_an_item(self):
    self.assertIsNone(intrusion.krippendorff_alpha(np.array([[0, 1, -1]])))
    self.assertIsNone(intrusion.krippendorff_alpha(np.full((2, 3), 1)))


class AccuracyTest(absltest.TestCase):

  def test_one_rater_has_the_interval_of_a_share(self):
    correct = np.array([[True] * 12 + [False] * 8])
    found = intrusion.accuracy(correct, np.ones_like(correct))
    expected = measures.share_interval(correct[0])
    np.testing.assert_allclose(found, expected, atol=1e-6)

  def test_raters_who_say_the_same_are_no_more_answers(self):
    one = np.array([[True] * 12 + [False] * 8])
    given = np.ones((5, 20), bool)
    copies = intrusion.accuracy(np.repeat(one, 5, axis=0), given)
    alone = intrusion.accuracy(one, given[:1])
    self.assertAlmostEqual(copies.low, alone.low, delta=0.02)
    self.assertAlmostEqual(copies.high, alone.high, delta=0.02)
    # All right: as wide as of so many items.
    sure = intrusion.accuracy(np.ones((5, 20), bool), given)
    self.assertEqual(sure, measures.share_interval(np.ones(20, bool)))

  def test_intervals_cover_where_items_are_more_or_less_hard(self):
    rng = np.random.default_rng(0)
    covered, runs = 0, 300
    for _ in range(runs):
      hard = rng.beta(1, 1, size=30)
      correct = rng.random((4, 30)) < hard[None]
      given = rng.random((4, 30)) < 0.9
      found = intrusion.accuracy(correct, given)
      covered += found.low <= 0.5 <= found.high
    self.assertBetween(covered / runs, 0.9, 0.98)


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.out = pathlib.Path(self.create_tempdir().full_path) / 'page'

  def _page(self):
    folder = finished.run('output_prediction')
    return intrusion.make(
        folder, out=self.out, model=finished.checkpoint(), items=6
    )

  def _save(self, rater, choices):
    key = json.loads((self.out / 'key.json').read_text())
    path = self.out / f'{rater}.json'
    answers = {str(i): choice for i, choice in enumerate(choices)}
    path.write_text(
        json.dumps({'page': key['page'], 'rater': rater, 'answers': answers})
    )
    return path

  def test_lists_of_a_run_become_a_page_that_is_scored(self):
    items = self._page()
    kinds = [x.kind for x in items]
    self.assertEqual({kinds.count(x) for x in ('weights', 'random')}, {6})
    self.assertTrue((self.out / 'intrusion.html').is_file())
    # One rater finds every intruder of the weights and none other.
    right = [x.intruder if x.kind == 'weights' else -1 for x in items]
    wrong = [(x.intruder + 1) % 5 for x in items]
    first = [r if r >= 0 else w for r, w in zip(right, wrong, strict=True)]
    files = [self._save('A', first), self._save('B', wrong[:3])]
    rows, answers = intrusion.score_files(files, self.out)
    self.assertEqual(answers.raters, ('A', 'B'))
    total = {row.kind: row for row in rows if row.group == 'all'}
    self.assertEqual(total['random'].accuracy.share, 0)
    extra = sum(x == 'weights' for x in kinds[:3])
    self.assertEqual(total['weights'].answers, 6 + extra)
    self.assertAlmostEqual(total['weights'].accuracy.share, 6 / (6 + extra))
    by_layer = [x for x in rows if x.group.startswith('layer')]
    self.assertEqual(sum(x.items for x in by_layer), 6)
    by_label = [x for x in rows if x.group in ('semantic', 'other')]
    self.assertEqual(sum(x.items for x in by_label), 6)
    lines = intrusion.score_text(rows, answers)
    self.assertIn('2 raters; chance is 20%', lines[0])
    text = (self.out / 'scores.csv').read_text()
    self.assertStartsWith(text, 'list,group,items,answers')

  def test_refusals(self):
    self._page()
    good = self._save('A', [0] * 12)
    saved = json.loads(good.read_text())
    for change, reason in (
        ({'page': 'x'}, 'no answers to this page'),
        ({'rater': None}, 'lacks rater'),
        ({'answers': {}}, 'no answer'),
        ({'answers': {'99': 1}}, 'cannot be'),
        ({'answers': {'0': 5}}, 'cannot be'),
        ({'answers': {'0': True}}, 'cannot be'),
    ):
      bad = self.out / 'bad.json'
      bad.write_text(json.dumps(saved | change))
      with self.assertRaisesRegex(ooc_jax.InputError, reason):
        intrusion.score_files([bad], self.out)
    with self.assertRaisesRegex(ooc_jax.InputError, 'a second file of A'):
      intrusion.score_files([good, good], self.out)
    with self.assertRaisesRegex(ooc_jax.InputError, 'give the saved files'):
      intrusion.score_files([], self.out)
    with self.assertRaisesRegex(ooc_jax.InputError, 'no key.json'):
      intrusion.score_files([good], self.out / 'elsewhere')

  @pytest.mark.slow
  def test_a_validation_has_lists_by_activations_of_the_same_features(self):
    folder = self.out.parent / 'validation'
    settings = {'experiment': 'validation', 'model': 'tiny', 'k': 6}
    with results.ResultsFolder.open(folder, settings, provenance={}) as own:
      for layer in (0, 2):
        lens = [[f'w{f}.{i}' for i in range(6)] for f in range(20)]
        # The last fires in few windows.
        peaks = [[f'a{f}.{i // 2}' for i in range(8)] for f in range(19)]
        own.write_layer(
            layer,
            pa.table({
                'feature': list(range(20)),
                'semantic_weights': [f % 2 == 0 for f in range(20)],
                'lens_tokens': lens,
                'peak_tokens': [*peaks, ['x', 'y', *([''] * 6)]],
            }),
        )
      own.write_summary({'experiment': 'validation'})
    items = intrusion.make(
        folder, out=self.out, model=finished.checkpoint(), items=10
    )
    asked = {
        kind: {(x.layer, x.feature) for x in items if x.kind == kind}
        for kind in intrusion.KINDS
    }
    self.assertEqual([len(x) for x in asked.values()], [10, 10, 10])
    self.assertGreaterEqual(len(asked['weights'] & asked['activations']), 8)
    for item in items:
      if item.kind == 'activations':
        self.assertNotEqual(item.feature, 19)
        self.assertEqual(item.semantic, item.feature % 2 == 0)
        mine = {f'a{item.feature}.{i}' for i in range(4)}
        self.assertLen(mine & set(item.tokens), 4)
    self.assertIn('10 of activations', intrusion.text(items)[0])

  def test_a_run_of_another_experiment_is_refused(self):
    folder = finished.run('attention_participation')
    with self.assertRaisesRegex(ooc_jax.InputError, 'of experiment attention'):
      intrusion.make(folder, out=self.out)


if __name__ == '__main__':
  absltest.main()
