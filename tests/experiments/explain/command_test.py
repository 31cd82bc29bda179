"""One feature on a screen: its name, its text, and what is known of it."""

import contextlib
import json
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from huggingface_hub import constants
import pytest

import ooc_jax
from ooc_jax import InputError
from ooc_jax import experiments
from ooc_jax import export
from ooc_jax._text import display_width
from ooc_jax.experiments import explain
from ooc_jax.experiments.output_prediction import OutputPrediction
from tests.experiments import scripts

_LAYER, _FEATURE = 3, 538


class TextTest(absltest.TestCase):

  def test_no_token_drives_the_terminal(self):
    hostile = ['\x1b[31mred', '\u202eback', '\n', '"', '\u0301', '\x07']
    side = explain.Side(
        'output', [(x, 1.0) for x in hostile], [(x, 0.0) for x in hostile],
        [], 0.5, None,
    )  # fmt: skip
    found = explain.Explanation(
        name='\x1b]0;x',
        site=ooc_jax.dictionaries.DictionarySite(0, 'resid_post'),
        feature=0, size=1, norm=1.0, cosine=None, directions=9, sides=[side],
        attention_layer=1,
        heads=[explain.HeadUse(0, 0.5, {
            'query': [(0, 1.0)], 'key': [(0, 1.0)],
        }, hostile)],
        nearest=[(0, 0.5), (0, -1.0), (0, 1.0)],
        partner_tokens={0: hostile},
        writers=[explain.Writer(0, 0, 1.0, hostile)],
    )  # fmt: skip
    window = {'value': 1.0, 'peak': 1, 'tokens': hostile}
    known = explain.Known(
        {'output': 'x' * 60, 'attention': 'y' * 60, 'validation': '\x1bx'},
        {}, {}, {}, 0,
        {'fires': 0, 'peak_tokens': hostile}, 0, (window,),
    )  # fmt: skip
    lines = explain.text(explain.FeatureName(0, 0), found, known)
    for line in lines:
      self.assertTrue(line.isprintable(), repr(line))
      self.assertLessEqual(display_width(line), 100)
    self.assertIn('fires at 0 positions', '\n'.join(lines))


class NameTest(parameterized.TestCase):

  @parameterized.parameters(
      'https://www.neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/123',
      'neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/123?embed=true#x',
      'gemma-2-2b/0-gemmascope-res-16k/123',
  )
  def test_an_address(self, text):
    name = explain.parse_feature(text)
    self.assertEqual((name.layer, name.feature), (0, 123))
    self.assertEqual(name.model, 'google/gemma-2-2b')
    self.assertStartsWith(name.dictionary, 'gemma-scope-2b-pt-res')
    self.assertEqual(
        name.page,
        'https://www.neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/123',
    )

  def test_a_place(self):
    self.assertEqual(
        explain.parse_feature('3/538'), explain.FeatureName(3, 538)
    )

  @parameterized.parameters(
      (None, 'Say which feature'),
      ('3', 'is no feature; write LAYER/NUMBER'),
      ('3/x', 'is no feature'),
      ('https://neuronpedia.org/gemma-2-2b', 'is no feature'),
      ('no-model/0-res/1', 'No dictionary here is no-model/0-res'),
  )
  def test_what_is_no_feature(self, text, message):
    with self.assertRaisesRegex(InputError, message):
      explain.parse_feature(text)

  @mock.patch.object(constants, 'HF_HUB_OFFLINE', True)
  def test_without_the_weights_it_says_so(self):
    done = scripts.run_here(
        'explain', '--feature=https://www.neuronpedia.org/gemma-2-2b'
        '/0-gemmascope-res-16k/123', '--revision=none',
    )  # fmt: skip
    self.assertEqual(done.returncode, 2)
    self.assertRegex(done.stderr, 'error: .*google/gemma-2-2b.*local copy')
    self.assertEqual(done.stderr.count('\n'), 1)


class CommandTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    # Not where somebody has results, which would be found.
    self.enter_context(contextlib.chdir(self.create_tempdir().full_path))

  def _run(self, *flags):
    return scripts.run_here('explain', f'--feature={_LAYER}/{_FEATURE}', *flags)

  def test_with_and_without_results(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    config = experiments.load_config(
        'tiny_gemma2',
        {'layers': str(_LAYER), 'null_size': 100, 'layer_null_size': 100},
        OutputPrediction,
    )
    run = experiments.output_prediction.run(
        config, out=root / 'out', mesh=None, figures=False
    )
    alone = self._run()
    self.assertEqual(alone.returncode, 0, alone.stderr)
    lines = alone.stdout.splitlines()
    self.assertLess(len(lines), 34)
    self.assertLessEqual(max(map(display_width, lines)), 100)
    self.assertNotIn('limit', alone.stdout)
    done = self._run(f'--results={root}')
    text = done.stdout
    self.assertIn('  With what is in out.', text)
    limit = run.summary['layers'][0]['thresholds']['entropy']
    self.assertIn(f'limit {limit:.2f}', text)
    chosen = export.run(
        [root / 'out'],
        export.Export(
            to='jsonl',
            features=(f'{_LAYER}/{_FEATURE}',),
            out=str(root / 'rows'),
        ),
    )
    labels = json.loads(
        (chosen.folder / 'output_prediction/labels.jsonl').read_text()
    )
    word = 'coherent' if labels['coherent'] else 'not coherent'
    self.assertIn(f'Output side: {word}, ', text)
    for name in ('levenshtein', 'cosine', 'entropy'):
      passes = 'passes' if labels[f'{name}_passes'] else 'does not pass'
      self.assertIn(passes, text)
    # The two agree in what both know.
    row = json.loads(
        (chosen.folder / 'output_prediction/features.jsonl').read_text()
    )
    self.assertIn(f'{row["entropy"]:6.2f}  random', text)
    near = f'{row["nearest"][0]} ({row["nearest_cosines"][0]:.2f})'
    self.assertIn(f'. Nearest: {near}', text)
    # In results/ they are found unasked, and what is damaged passed over.
    (root / 'out').rename(root / 'results-run')
    (root / 'results').mkdir()
    (root / 'results-run').rename(root / 'results/out')
    place = config, _LAYER, _FEATURE
    with contextlib.chdir(root):
      self.assertEqual(
          explain.known(*place).folders, {'output_prediction': 'out'}
      )
      (root / 'results/out/labels.parquet').write_bytes(b'')
      self.assertEqual(explain.known(*place).folders, {})
      with self.assertRaisesRegex(InputError, 'labels.parquet'):
        explain.known(*place, where='results')

  def test_results_of_something_else(self):
    root = self.create_tempdir().full_path
    done = self._run(f'--results={root}')
    self.assertEqual(done.returncode, 2)
    self.assertIn(
        'has no results of tiny-gemma2-res/layer_{layer} of', done.stderr
    )

  @pytest.mark.slow
  def test_neurons_have_both_ends(self):
    done = scripts.run_here(
        'explain', '--feature=3/7', '--dictionary=mlp', '--heads=1'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('edit distance at the bottom', done.stdout)

  def test_tokens_are_read_by_the_first_layer(self):
    done = scripts.run_here(
        'explain', '--feature=0/300', '--dictionary=tokens', '--heads=1'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('Attention of layer 0', done.stdout)
    self.assertNotIn('Heads that can write it', done.stdout)

  def test_the_last_layer_is_read_by_no_attention(self):
    done = scripts.run_here('explain', '--feature=7/0')
    self.assertIn('Attention: no layer reads it.', done.stdout)
    self.assertIn('Heads that can write it', done.stdout)

  def test_a_feature_that_is_not_there(self):
    done = scripts.run_here('explain', '--feature=3/5000')
    self.assertEqual(done.returncode, 2)
    self.assertIn('error: There is no feature 5000', done.stderr)


if __name__ == '__main__':
  absltest.main()
