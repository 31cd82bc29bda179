"""Experiment 1 from weights to folder, as a user runs it."""

import functools
import json
import pathlib
import random
import shutil
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import pre_tokenizers

import ooc_jax
from ooc_jax import results
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import output_prediction
from tests import finished
from tests.experiments import scripts
from tests.tiny import make_checkpoint

_ROOT = pathlib.Path(__file__).parents[3]
_SCRIPT = _ROOT / 'experiments' / 'output_prediction.py'


def _config(**settings):
  return OutputPrediction(**(
      {'model': 'tiny', 'k': 5, 'examples': 4}
      | finished.SMALL['output_prediction']
      | settings
  ))


def _run_into(out, weights, **settings):
  return output_prediction.run(
      _config(**settings), model=weights, out=out, figures=False
  )


def _command(*args):
  model = '--model=smollm2'  # Studied by its neurons, as any model can be.
  return [sys.executable, str(_SCRIPT), model, *scripts.SMALL, *map(str, args)]


def _run(*args):
  return scripts.run(_command(*args))


def _hostile(folder):
  """A model with text that turns the reading direction round."""
  weights = make_checkpoint(folder)
  tokenizer = json.loads((weights / 'tokenizer.json').read_text())
  vocab = tokenizer['model']['vocab']
  # As byte-level BPE spells it.
  byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  hostile = byte_level.pre_tokenize_str('\u202ecba')[0][0]
  merged = [n for n in vocab if len(n) > 2 and '|' not in n][:40]
  merges = tokenizer['model']['merges']
  for i, name in enumerate(merged):
    vocab[f'{hostile}{i}'] = vocab.pop(name)
  tokenizer['model']['merges'] = [
      m for m in merges if not set(m) & set(merged)
      and ''.join(m) not in merged
  ]  # fmt: skip
  (weights / 'tokenizer.json').write_text(json.dumps(tokenizer))
  return weights


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)

  @parameterized.parameters(('llama', 'mlp'), ('gemma2', 'tokens'))
  def test_folder_holds_what_the_library_computes(self, *case):
    self._check_folder(*case)

  @parameterized.parameters(
      ('gemma2', 'mlp'),
      ('gemma2', 'random'),
      ('llama', 'random'),
      ('llama', 'tokens'),
  )
  @pytest.mark.slow
  def test_other_folders_hold_it(self, *case):
    self._check_folder(*case)

  def _check_folder(self, family, dictionary):
    layers = '0' if dictionary == 'tokens' else '0-1'
    out = finished.run(
        'output_prediction', family, dictionary=dictionary, layers=layers, k=5
    )
    summary = results.ResultsFolder.view(out).read_summary()
    weights = finished.checkpoint(family)
    model = ooc_jax.load_model(weights)
    directions = ooc_jax.load_dictionary(dictionary, model=model, layer=0)
    lens = ooc_jax.output_lens(model, directions, k=5, spread=1.5)
    coherence = ooc_jax.coherence(model, lens)
    table = pq.read_table(out / 'features' / 'layer=00.parquet')
    self.assertEqual(table.num_rows, directions.size)
    np.testing.assert_array_equal(
        np.asarray(table['top_ids'].to_pylist()), lens.top_ids
    )
    # The run takes std from the table's covariance, which rounds otherwise;
    # kurtosis + 3 divides by its fourth power.
    for name in ('entropy', 'kurtosis', 'top_mass'):
      np.testing.assert_allclose(
          table[name].to_numpy(), getattr(lens, name), 2e-6, 5e-6, err_msg=name
      )
    np.testing.assert_array_equal(
        table['levenshtein'].to_numpy(), coherence.levenshtein
    )
    # The run takes several numbers of tokens through one product.
    np.testing.assert_allclose(
        table['cosine'].to_numpy(), coherence.cosine, atol=3e-7
    )
    # Of as many features as tokens, or more, they would cost a readout.
    names = {'nearest', 'nearest_cosines'}
    if dictionary == 'mlp':
      decoder = np.asarray(directions.decoder, np.float64)
      unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
      cosine = unit @ unit.T
      np.fill_diagonal(cosine, -np.inf)
      ids = np.argsort(-cosine, axis=1)[:, :10]
      self.assertEqual(table['nearest'].to_pylist(), ids.tolist())
      np.testing.assert_allclose(
          table['nearest_cosines'].to_pylist(),
          np.take_along_axis(cosine, ids, 1),
          atol=3e-7,
      )
    else:
      self.assertGreaterEqual(directions.size, model.config.vocab_size)
      self.assertEqual(names & set(table.column_names), set())
    strings = model.tokenizer.token_strings()
    self.assertEqual(
        table['top_tokens'][2].as_py(),
        [strings[i] for i in np.asarray(lens.top_ids)[2]],
    )
    labels = pq.read_table(out / 'labels.parquet')
    rows = summary['layers']
    self.assertEqual(len(rows), len(layers) // 2 + 1)
    self.assertEqual(labels.num_rows, sum(row['features'] for row in rows))
    first = labels.filter(np.asarray(labels['layer']) == 0)
    passed = {
        name: np.asarray(first[f'{name}_passes'])
        for name in ('levenshtein', 'cosine', 'entropy')
    }
    np.testing.assert_array_equal(
        first['coherent'], passed['levenshtein'] | passed['cosine']
    )
    np.testing.assert_array_equal(first['sharp'], passed['entropy'])
    self.assertAlmostEqual(
        np.asarray(first['semantic']).mean(), rows[0]['semantic']['share']
    )
    self.assertFalse((out / 'figures').exists())

  def test_without_neighbours(self):
    model = ooc_jax.load_model(finished.checkpoint())
    rows = np.random.default_rng(0).normal(size=(7, 20)).astype(np.float32)
    own = {1: ooc_jax.dictionaries.from_arrays(rows, layer=1)}
    for neighbours, width in ((0, None), (10, 6), (3, 3)):
      config = _config(model=None, neighbours=neighbours, readouts='output')
      table = output_prediction.compute(model, own, config).features[1]
      if width is None:
        self.assertNotIn('nearest', table.column_names)
      else:
        self.assertEqual(table.schema.field('nearest').type.list_size, width)

  def test_quantile_thresholds_pool_all_layers(self):
    out = finished.run('output_prediction', thresholds='quantile:0.6', k=5)
    summary = results.ResultsFolder.view(out).read_summary()
    columns = {'levenshtein': 0.4, 'cosine': 0.6, 'entropy': 0.4}
    tables = [
        pq.read_table(path) for path in sorted((out / 'features').iterdir())
    ]
    self.assertLen(tables, 3)
    for name, quantile in columns.items():
      pooled = np.concatenate([t[name].to_numpy() for t in tables])
      self.assertAlmostEqual(
          summary['thresholds'][name],
          float(np.quantile(pooled.astype(np.float64), quantile)),
          places=12,
      )

  def test_no_layer_is_computed_twice(self):
    out = self.root / 'out'
    shutil.copytree(finished.run('output_prediction', k=5, examples=4), out)
    before = scripts.digest(out)
    (out / 'features' / 'layer=01.parquet').unlink()
    stamps = {
        p.name: p.stat().st_mtime_ns for p in (out / 'features').iterdir()
    }
    _run_into(out, finished.checkpoint())
    self.assertEqual(scripts.digest(out), before)
    for path in (out / 'features').iterdir():
      if path.name in stamps:
        self.assertEqual(path.stat().st_mtime_ns, stamps[path.name])

  @parameterized.parameters(
      ('k',), ('convention',), ('thresholds',), ('weights',)
  )
  def test_another_configuration_is_refused_and_nothing_changes(self, what):
    out = self.root / 'out'
    shutil.copytree(finished.run('output_prediction', k=5, examples=4), out)
    before = scripts.digest(out)
    other = {
        'k': {'k': 6},
        'convention': {'convention': 'raw'},
        'thresholds': {'thresholds': 'quantile:0.8'},
        'weights': {},
    }[what]
    weights = finished.checkpoint()
    if what == 'weights':
      weights = make_checkpoint(self.root / 'model', seed=1)
    with self.assertRaisesRegex(ooc_jax.InputError, 'out'):
      _run_into(out, weights, **other)
    self.assertEqual(scripts.digest(out), before)

  def test_model_without_tokenizer_is_refused(self):
    weights = make_checkpoint(self.root / 'model')
    (weights / 'tokenizer.json').unlink()
    with self.assertRaisesRegex(ooc_jax.InputError, 'tokenizer'):
      _run_into(self.root / 'out', weights)
    self.assertFalse((self.root / 'out').exists())

  def test_a_loaded_model_and_dictionaries_of_ones_own(self):
    model = ooc_jax.load_model(finished.checkpoint())
    rows = np.random.default_rng(0).normal(size=(2, 7, 20)).astype(np.float32)
    own = {
        1: ooc_jax.dictionaries.from_arrays(rows[0], rows[1], layer=1),
        2: ooc_jax.dictionaries.from_arrays(rows[1], layer=2),
    }
    config = _config(model=None, null_size=200)
    found = output_prediction.compute(model, own, config)
    self.assertEqual(list(found.features), [1, 2])
    self.assertIn('input_top_ids', found.features[1].column_names)
    self.assertNotIn('input_top_ids', found.features[2].column_names)
    summary = output_prediction.summarise(found, config)
    out = self.root / 'out'
    unnamed = model.replace(files=())

    def run(model, own):
      return output_prediction.run(
          config, model=model, dictionaries=own, out=out, figures=False
      )

    outcome = run(unnamed, own)
    self.assertEqual(
        pq.read_table(out / 'features' / 'layer=01.parquet')['top_ids'],
        found.features[1]['top_ids'],
    )
    schema = {'schema': outcome.summary['schema']}
    self.assertEqual(outcome.summary, summary.summary | schema)
    self.assertEqual(
        output_prediction.text(summary.summary, config),
        output_prediction.text(outcome.summary, config),
    )
    # Without files, arrays tell one run from another.
    before = scripts.digest(out)
    run(unnamed, own)
    for other in (
        (model.replace(params=jax.tree.map(lambda x: x * 2, model.params),
                       files=()), own),
        (unnamed, own | {2: own[2].replace(decoder=own[2].decoder + 1)}),
        (unnamed, {1: own[1]}),
    ):  # fmt: skip
      with self.assertRaisesRegex(ooc_jax.InputError, 'another run'):
        run(*other)
    self.assertEqual(scripts.digest(out), before)

  def test_layers_choose_among_the_dictionaries(self):
    model = ooc_jax.load_model(finished.checkpoint())
    one = ooc_jax.load_dictionary('mlp', model=model, layer=1)
    config = _config(layers='1', readouts='output', null_size=200)
    found = output_prediction.compute(model, {0: one, 1: one}, config)
    self.assertEqual(list(found.features), [1])
    for given in ({0: one}, {}):
      with self.assertRaisesRegex(ooc_jax.InputError, "layers='1'"):
        output_prediction.compute(model, given, config)


class CommandTest(parameterized.TestCase):
  """The script itself, in its own process."""

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)

  @classmethod
  @functools.cache
  def _printed(cls):
    """What a run prints of hostile tokens, and the folder of its results."""
    root = tempfile.TemporaryDirectory()
    cls.addClassCleanup(root.cleanup)
    weights, out = _hostile(pathlib.Path(root.name) / 'model'), root.name
    done = _run(
        f'--weights={weights}', f'--out={out}/out', '--k=5', '--examples=30',
        '--layers=0,2',
    )  # fmt: skip
    return done, pathlib.Path(out) / 'out'

  def test_prints_table_and_examples(self):
    done, out = self._printed()
    self.assertEqual(done.returncode, 0, done.stderr)
    lines = done.stdout.splitlines()
    self.assertTrue(lines[2].split()[0] == '0' and lines[3].split()[0] == '2')
    self.assertTrue(lines[4].split()[0] == 'all')
    self.assertLen([x for x in lines if ' feature ' in x], 30)
    figures = out / 'figures'
    self.assertTrue((figures / 'semantic_by_depth.png').is_file())
    self.assertFalse((figures / 'semantic_by_depth.pdf').exists())
    self.assertNotIn('Traceback', done.stderr)

  # What a setting may be is in settings_test; here, how a refusal looks.
  @parameterized.named_parameters(
      ('missing_file', ['--weights=nowhere.gguf'], 'nowhere.gguf'),
      ('unknown_model', ['--model=smolm2'], "'smollm2'"),
      ('layer_too_high', ['--layers=7'], 'layers 0 to 2'),
      ('k_too_large', ['--k=1000'], 'k=1000'),
      ('argument', ['smollm2'], 'smollm2'),
  )
  def test_bad_input_is_one_sentence(self, args, message):
    out = self.root / 'out'
    base = ['--model=smollm2', f'--out={out}', '--k=5']
    if not any(a.startswith('--weights') for a in args):
      base.append(f'--weights={finished.checkpoint()}')
    done = scripts.run_here('output_prediction', *base, *args)
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn(message, done.stderr)
    self.assertNotIn('Traceback', done.stderr)
    errors = [x for x in done.stderr.splitlines() if x.startswith('error: ')]
    self.assertLen(errors, 1)
    self.assertEqual(errors[0], done.stderr.splitlines()[-1])
    self.assertFalse((out / 'summary.json').exists())

  @pytest.mark.slow
  def test_killed_at_any_moment_it_continues_to_the_same_bytes(self):
    weights = make_checkpoint(self.root / 'model', num_hidden_layers=5)
    args = [f'--weights={weights}', '--k=5']
    whole = self.root / 'whole'
    self.assertEqual(_run(*args, f'--out={whole}').returncode, 0)
    expected = scripts.digest(whole)
    self.assertLen([n for n in expected if n.startswith('features')], 5)
    rng = random.Random(0)
    broken = self.root / 'broken'
    # Most of a run is import and compilation: it is killed where it writes, in
    # each of its parts.
    for place in ('config.json', 'features/layer=01*', 'directions_01*',
                  'figures/*'):  # fmt: skip
      self.assertFalse(any(broken.glob(place)), place)
      scripts.kill(
          _command(*args, f'--out={broken}'),
          lambda place=place: any(broken.glob(place)),
          rng.uniform(0, 0.1),
      )
    done = _run(*args, f'--out={broken}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(scripts.digest(broken), expected)

  def test_second_process_is_refused(self):
    weights = make_checkpoint(self.root / 'model')
    out = self.root / 'out'
    with results.ResultsFolder.open(out, {'x': 1}, provenance={}):
      done = _run(f'--weights={weights}', f'--out={out}', '--k=5')
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn(str(out), done.stderr)

  def test_hostile_token_text_never_reaches_the_terminal_raw(self):
    done, _ = self._printed()
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertNotIn('\u202e', done.stdout + done.stderr)
    self.assertIn(r'\u202ecba', done.stdout)


if __name__ == '__main__':
  absltest.main()
