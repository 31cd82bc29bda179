"""The validation of a small model, from Python and from the command line."""

import dataclasses
import pathlib
import tempfile

from absl.testing import absltest
import numpy as np
import pytest

import ooc_jax
from ooc_jax import experiments
from ooc_jax import report
from ooc_jax import validation
from ooc_jax.dictionaries import from_arrays
from ooc_jax.experiments.validation import _claims
from ooc_jax.experiments.validation import _scores
from ooc_jax.results import ResultsFolder
from ooc_jax.results import tables
from tests import finished

SETTINGS = {
    'model': 'tiny',
    'features': 9,
    'null_features': 4,
    'windows': 30,
    'length': 12,
    'k': 8,
    'coherence_k': 6,
    'null_size': 200,
    'alpha': 0.1,
    'continued': 3,
}
_SCHEMA = tables.VALIDATION_FEATURES


def _sae(model, layer, size=40):
  """A dictionary whose features fire on some of the positions."""
  rng = np.random.default_rng(layer)
  D = model.config.embed_dim
  rows = rng.normal(size=(2, size, D)).astype(np.float32)
  threshold = np.linspace(0, 12, size).astype(np.float32)
  return from_arrays(
      rows[0], rows[1], layer=layer, threshold=threshold, name=f'own_{layer}'
  )


class RunTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = ooc_jax.load_model(finished.checkpoint('llama'))
    cls.saes = {layer: _sae(cls.model, layer) for layer in (0, 2)}
    cls.folder = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    corpus = cls.folder / 'text.txt'
    words = 'the king of the north walked to the river and old kings talk '
    corpus.write_text(words * 60)
    cls.config = experiments.Validation(**SETTINGS, corpus=str(corpus))
    cls.out = cls.folder / 'run'
    cls.run_ = experiments.validation.run(
        cls.config,
        model=cls.model,
        dictionaries=cls.saes,
        out=cls.out,
        figures=False,
    )

  def _table(self, layer):
    return ResultsFolder.view(self.out).read_layer(layer)

  def test_cost_is_that_of_the_text_that_was_read(self):
    cost = self.run_.summary['cost']
    tokens = self.run_.summary['layers'][0]['health']['tokens']
    self.assertEqual(cost['tokens'] * 11, tokens * 12)
    by_formula = validation.cost(
        self.model.config, [40, 40], tokens=cost['tokens'], window=12
    )
    self.assertEqual(cost['text_flops'], by_formula.activations)
    self.assertEqual(cost['lens_flops'], 2 * by_formula.output_lens)
    self.assertGreater(cost['text_seconds'], 0)

  def test_attention_of_the_layer_that_reads_is_predicted(self):
    # The last layer is read by none.
    (row,) = self.run_.summary['attention']
    self.assertEqual((row['layer'], row['dictionary_layer']), (1, 0))
    own = validation.attention_agreement(
        self.model,
        self.saes[0],
        validation.read_windows(
            self.config.corpus, self.model.tokenizer, length=12, limit=30
        ),
        1,
    ).predictors['sum_turned']
    found = row['predictors']['sum_turned']
    self.assertAlmostEqual(found['spearman'], own.mean[0], 12)
    self.assertAlmostEqual(found['null'], own.null.mean(), 12)
    lines = experiments.validation.text(self.run_.summary, self.config)
    self.assertTrue([x for x in lines if x.startswith('Attention: ')])
    self.assertTrue([x for x in lines if x.startswith('Cost: ')])

  @pytest.mark.slow
  def test_attention_of_layer_0_is_predicted_by_what_stands_before_it(self):
    D = self.model.config.embed_dim
    rows = np.random.default_rng(5).normal(size=(2, 40, D)).astype(np.float32)
    first = from_arrays(*rows, layer=0, hook='embedding', name='first')
    run = experiments.validation.run(
        dataclasses.replace(self.config, layers='0'),
        model=self.model,
        dictionaries={-1: first, **self.saes},
        out=self.folder / 'with_first',
        figures=False,
    )
    found = run.summary['attention']
    self.assertEqual([row['layer'] for row in found], [0, 1])
    self.assertIsNone(found[0]['dictionary_layer'])
    curves = report.attention_by_head(self.folder / 'with_first')
    self.assertEqual(curves.layers, (0, 1))
    for own, says in ((run, False), (self.run_, True)):
      lines = experiments.validation.text(own.summary, self.config)
      self.assertEqual(any('--first' in line for line in lines), says)

  def test_scores_are_those_of_the_lists_in_the_table(self):
    table = self._table(0)
    steered = _SCHEMA.array(table, 'steered').astype(bool)
    self.assertGreaterEqual(steered.sum(), 9)
    self.assertEqual(_SCHEMA.array(table, 'sampled').sum(), 9)
    raised, lens, peaks = (
        _SCHEMA.array(table, f'{name}_ids')[steered]
        for name in ('raised', 'lens', 'peak')
    )
    for name, expected in (
        ('output_decoder', validation.share_of(raised, lens)),
        ('input_decoder', validation.share_in(peaks, lens)),
        ('output_peaks', validation.share_of(raised, peaks)),
    ):
      found = _SCHEMA.array(table, name)
      np.testing.assert_allclose(found[steered], expected)
      self.assertTrue(np.isnan(found[~steered]).all())
    own = ooc_jax.output_lens(self.model, self.saes[0], k=8)
    np.testing.assert_array_equal(_SCHEMA.array(table, 'lens_ids'), own.top_ids)
    low = _SCHEMA.array(table, 'divergence_low')[steered]
    np.testing.assert_allclose(low[~np.isnan(low)], 0.25, rtol=0.02)

  def test_activations_are_those_of_the_pass(self):
    table = self._table(2)
    windows = validation.read_windows(
        self.config.corpus, self.model.tokenizer, length=12, limit=30
    )
    own = validation.collect_activations(
        self.model, {2: self.saes[2]}, windows
    )[2]
    np.testing.assert_array_equal(_SCHEMA.array(table, 'fires'), own.fires)
    health = tables.health_of(table)
    self.assertAlmostEqual(health['l0'], own.health.l0)
    self.assertAlmostEqual(health['fvu'], own.health.fvu, places=5)

  def test_windows_show_what_stands_about_each_peak(self):
    folder = ResultsFolder.view(self.out)
    found = folder.read_table(tables.validation_windows_name(2)).to_pylist()
    windows = validation.read_windows(
        self.config.corpus, self.model.tokenizer, length=12, limit=30
    )
    strings = self.model.tokenizer.token_strings()
    table = self._table(2)
    peaks = _SCHEMA.array(table, 'peak_tokens')
    largest = _SCHEMA.array(table, 'max_activation')
    for row in found:
      text = [strings[i] for i in windows[row['window']]]
      start = row['position'] - row['peak']
      self.assertEqual(text[start : start + len(row['tokens'])], row['tokens'])
      token = row['tokens'][row['peak']]
      self.assertEqual(token, peaks[row['feature']][row['rank']])
      if not row['rank']:
        self.assertAlmostEqual(row['value'], largest[row['feature']])
    fires = np.flatnonzero(_SCHEMA.array(table, 'fires'))
    self.assertEqual({row['feature'] for row in found}, set(fires))
    order = [(row['feature'], row['rank']) for row in found]
    self.assertEqual(order, sorted(order))

  def test_one_feature_a_layer_has_continuations(self):
    table = self._table(0)
    prompts = _SCHEMA.array(table, 'prompt')
    (row,) = [i for i, text in enumerate(prompts) if text]
    self.assertTrue(_SCHEMA.array(table, 'sampled')[row])
    self.assertLen(self.run_.summary['examples'], 2)

  def test_a_run_is_resumed_by_layer(self):
    first = self.out / 'features' / 'layer=00.parquet'
    before = first.read_bytes()
    (self.out / 'features' / 'layer=02.parquet').unlink()
    again = experiments.validation.run(
        self.config,
        model=self.model,
        dictionaries=self.saes,
        out=self.out,
        figures=False,
    )
    self.assertEqual(before, first.read_bytes())
    found = [row['scores'] for row in again.summary['layers']]
    self.assertEqual(found, [x['scores'] for x in self.run_.summary['layers']])

  def test_the_text_says_what_was_found(self):
    lines = '\n'.join(
        experiments.validation.text(self.run_.summary, self.config)
    )
    self.assertIn('O lens', lines)
    self.assertIn('not decided', lines)  # Of two layers there is no course.
    self.assertIn('0.25 nat', lines)
    self.assertIn('tokens a second', lines)

  @pytest.mark.slow
  def test_neurons_on_text_that_the_model_writes(self):
    config = dataclasses.replace(
        self.config, corpus='self', windows=8, layers='1', dictionary='mlp'
    )
    neurons = ooc_jax.load_dictionary('mlp', model=self.model, layer=1)
    lens = ooc_jax.output_lens(self.model, neurons, k=8)
    found = experiments.validation.compute(self.model, {1: neurons}, config)
    table = found.layers[1].features
    self.assertNotIn('fires', table.column_names)
    values = found.layers[1].windows['value'].to_numpy()
    self.assertLess(values.min(), 0)  # Of either sign.
    self.assertGreater(values.max(), 0)
    # Each by the sign that it fires with more, and all that follows with it.
    signs = _SCHEMA.array(table, 'sign')
    self.assertEqual(set(signs), {-1, 1})
    summary = experiments.validation.summarise(found, config).summary
    self.assertEqual(summary['layers'][0]['turned'], (signs < 0).mean())
    lines = experiments.validation._text._sign_lines(summary['layers'])
    self.assertIn('fire with more', lines[0])
    np.testing.assert_array_equal(
        _SCHEMA.array(table, 'lens_ids'),
        np.where((signs > 0)[:, None], lens.top_ids, lens.bottom_ids),
    )
    low = signs[_SCHEMA.array(table, 'steered').astype(bool)] < 0
    self.assertTrue(low.any())
    self.assertGreaterEqual(_SCHEMA.array(table, 'max_activation').min(), 0)
    self.assertIsNone(summary['layers'][0]['rare'])

  def test_figures_show_the_numbers_of_the_summary(self):
    curves = report.validation_curves(self.out)
    rows = self.run_.summary['layers']
    self.assertEqual(curves.layers, (0, 2))
    np.testing.assert_allclose(
        curves.scores['output_decoder'].random,
        [row['scores']['output_decoder']['random']['mean'] for row in rows],
    )
    np.testing.assert_allclose(curves.cells.sum(axis=1), 1)
    effects = report.lens_effects(self.out)
    table = self._table(0)
    known = ~np.isnan(_SCHEMA.array(table, 'lens_correlation'))
    kept = np.asarray(self.model.tokenizer.mask()).sum()
    self.assertLessEqual(effects.counts[0].sum(), known.sum() * kept)
    self.assertGreater(effects.counts[0].sum(), known.sum() * kept / 2)
    for figure in (
        report.scores_figure(curves),
        report.weights_figure(curves),
        report.lens_effects_figure(effects),
        report.examples_figure(report.examples(self.out)),
    ):
      self.assertIn('tiny', figure.get_suptitle() or figure.texts[0].get_text())

  def test_what_cannot_be_validated_is_refused(self):
    bare = dataclasses.replace(self.saes[0], encoder=None)
    with self.assertRaisesRegex(ooc_jax.InputError, 'no encoder'):
      experiments.validation.compute(self.model, {0: bare}, self.config)
    with self.assertRaisesRegex(ooc_jax.InputError, 'no dictionary of layer 1'):
      experiments.validation.compute(
          self.model, self.saes, dataclasses.replace(self.config, layers='1')
      )
    with self.assertRaisesRegex(ooc_jax.InputError, 'more than k'):
      experiments.Validation(k=5, coherence_k=6)


class ClaimsTest(absltest.TestCase):
  """Verdicts on labels that are made up."""

  def _labels(self, weights, activations, both, size=1000):
    w, a = np.zeros((2, size), bool)
    w[: int(weights * size)] = True
    shared = int(both * size)
    a[:shared] = True
    extra = int(activations * size) - shared
    a[size - extra :] = extra > 0
    return w, a

  def test_missed_features(self):
    def layer(rare, semantic, p, effect):
      row = {'features': rare, 'semantic': semantic, 'p_value': p}
      return {'rare': row | {'scored': semantic, 'output_p_value': effect}}

    for rows, verdict in (
        ([layer(50, 10, 1e-9, 1e-3), layer(9, 2, 0.01, 0.2)], 'supported'),
        ([layer(50, 10, 1e-9, 0.6), layer(9, 2, 0.01, 0.2)], 'not decided'),
        ([layer(50, 0, 1.0, None)], 'not supported'),
        ([layer(5, 0, 1.0, None)], 'not decided'),
        ([{'rare': None}], 'not decided'),  # Neurons.
    ):
      self.assertEqual(_claims._missed(rows)['verdict'], verdict)

  def test_other_features(self):
    apart = [self._labels(0.3, 0.3, 0.05)] * 4
    self.assertEqual(_claims._other(apart)['verdict'], 'supported')
    alike = [self._labels(0.3, 0.3, 0.25)] * 4
    self.assertEqual(_claims._other(alike)['verdict'], 'not supported')
    self.assertEqual(
        _claims._other([self._labels(0.3, 0.3, 0.15)])['verdict'],
        'not decided',
    )

  def test_other_courses(self):
    layers = np.arange(12)
    rising = [self._labels(0.1 + 0.04 * i, 0.2, 0.05) for i in layers]
    self.assertEqual(_claims._depth(layers, rising)['verdict'], 'supported')
    few = _claims._depth(layers[:3], rising[:3])
    self.assertEqual(few['verdict'], 'not decided')
    together = [
        self._labels(0.1 + 0.04 * i, 0.1 + 0.04 * i, 0.05) for i in layers
    ]
    self.assertEqual(
        _claims._depth(layers, together)['verdict'], 'not supported'
    )

  def test_one_sided_tests_hold_their_level(self):
    """Scores are shares of few tokens, most of them 0."""
    rng = np.random.default_rng(0)
    p = []
    for _ in range(2000):
      values = rng.binomial(25, 0.04, 64) / 25
      p.append(_scores.welch(values, rng.binomial(25, 0.04, 24) / 25))
    # Few and skewed numbers: a little over the level.
    self.assertLess(np.mean(np.asarray(p) <= 0.05), 0.08)
    self.assertEqual(_scores.one_sided(np.zeros(9)), 1.0)
    self.assertEqual(_scores.one_sided(np.ones(9)), 0.0)


if __name__ == '__main__':
  absltest.main()
