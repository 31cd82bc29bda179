"""Experiment 1 from weights to folder, as a user runs it."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from _study import Study
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import output_prediction
import pyarrow.parquet as pq
from tokenizers import pre_tokenizers

import ooc_jax
from ooc_jax import results
from tests.experiments import scripts
from tests.tiny import make_checkpoint

_ROOT = pathlib.Path(__file__).parents[2]
_SCRIPT = _ROOT / 'experiments' / 'output_prediction.py'


def _study(**settings):
  return Study(**({'model': 'tiny', 'k': 5, 'examples': 4} | settings))


def _command(*args):
  model = '--model=smollm2'  # Studied by its neurons, as any model can be.
  return [sys.executable, str(_SCRIPT), model, *map(str, args)]


def _run(*args):
  return scripts.run(_command(*args))


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)

  @parameterized.product(
      family=('llama', 'gemma2'), dictionary=('mlp', 'random', 'tokens')
  )
  def test_folder_holds_what_the_library_computes(self, family, dictionary):
    weights = make_checkpoint(self.root / 'model', family)
    layers = '0' if dictionary == 'tokens' else '0-1'
    outcome = output_prediction.run(
        _study(dictionary=dictionary, layers=layers),
        self.root / 'out',
        str(weights),
    )
    model = ooc_jax.load_model(weights)
    directions = ooc_jax.load_dictionary(dictionary, model=model, layer=0)
    lens = ooc_jax.output_lens(model, directions, k=5)
    coherence = ooc_jax.coherence(model, lens)
    table = pq.read_table(self.root / 'out' / 'features' / 'layer=00.parquet')
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
    for name in ('levenshtein', 'cosine'):
      np.testing.assert_array_equal(
          table[name].to_numpy(), getattr(coherence, name), name
      )
    strings = model.tokenizer.token_strings()
    self.assertEqual(
        table['top_tokens'][2].as_py(),
        [strings[i] for i in np.asarray(lens.top_ids)[2]],
    )
    labels = pq.read_table(self.root / 'out' / 'labels.parquet')
    rows = outcome.summary['layers']
    self.assertEqual(len(rows), len(layers) // 2 + 1)
    self.assertEqual(labels.num_rows, sum(row['features'] for row in rows))
    first = labels.filter(np.asarray(labels['layer']) == 0)
    self.assertAlmostEqual(
        np.asarray(first['semantic']).mean(), rows[0]['semantic']['share']
    )
    self.assertTrue((self.root / 'out/figures/semantic_by_depth.png').is_file())
    self.assertTrue((self.root / 'out/figures/semantic_by_depth.pdf').is_file())

  def test_quantile_thresholds_pool_all_layers(self):
    weights = make_checkpoint(self.root / 'model')
    outcome = output_prediction.run(
        _study(thresholds='quantile:0.6'), self.root / 'out', str(weights)
    )
    columns = {'levenshtein': 0.4, 'cosine': 0.6, 'entropy': 0.4}
    tables = [
        pq.read_table(path)
        for path in sorted((self.root / 'out' / 'features').iterdir())
    ]
    self.assertLen(tables, 3)
    for name, quantile in columns.items():
      pooled = np.concatenate([t[name].to_numpy() for t in tables])
      self.assertAlmostEqual(
          outcome.summary['thresholds'][name],
          float(np.quantile(pooled.astype(np.float64), quantile)),
          places=12,
      )

  def test_no_layer_is_computed_twice(self):
    weights = make_checkpoint(self.root / 'model')
    study = _study()
    output_prediction.run(study, self.root / 'out', str(weights))
    before = scripts.digest(self.root / 'out')
    (self.root / 'out' / 'features' / 'layer=01.parquet').unlink()
    stamps = {
        p.name: p.stat().st_mtime_ns
        for p in (self.root / 'out' / 'features').iterdir()
    }
    output_prediction.run(study, self.root / 'out', str(weights))
    self.assertEqual(scripts.digest(self.root / 'out'), before)
    for path in (self.root / 'out' / 'features').iterdir():
      if path.name in stamps:
        self.assertEqual(path.stat().st_mtime_ns, stamps[path.name])

  @parameterized.parameters(
      ('k',), ('convention',), ('thresholds',), ('weights',)
  )
  def test_another_configuration_is_refused_and_nothing_changes(self, what):
    weights = make_checkpoint(self.root / 'model')
    study = _study(layers='1')
    output_prediction.run(study, self.root / 'out', str(weights))
    before = scripts.digest(self.root / 'out')
    other = {
        'k': {'k': 6},
        'convention': {'convention': 'raw'},
        'thresholds': {'thresholds': 'quantile:0.8'},
        'weights': {},
    }[what]
    if what == 'weights':
      make_checkpoint(weights, seed=1)
    with self.assertRaisesRegex(ooc_jax.InputError, 'out'):
      output_prediction.run(
          _study(layers='1', **other), self.root / 'out', str(weights)
      )
    self.assertEqual(scripts.digest(self.root / 'out'), before)

  def test_model_without_tokenizer_is_refused(self):
    weights = make_checkpoint(self.root / 'model')
    (weights / 'tokenizer.json').unlink()
    with self.assertRaisesRegex(ooc_jax.InputError, 'tokenizer'):
      output_prediction.run(_study(), self.root / 'out', str(weights))
    self.assertFalse((self.root / 'out').exists())


class CommandTest(parameterized.TestCase):
  """The script itself, in its own process."""

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)

  def test_prints_table_and_examples(self):
    weights = make_checkpoint(self.root / 'model')
    done = _run(
        f'--weights={weights}', f'--out={self.root / "out"}', '--k=5',
        '--examples=3', '--layers=0,2',
    )  # fmt: skip
    self.assertEqual(done.returncode, 0, done.stderr)
    lines = done.stdout.splitlines()
    self.assertTrue(lines[2].split()[0] == '0' and lines[3].split()[0] == '2')
    self.assertTrue(lines[4].split()[0] == 'all')
    self.assertLen([x for x in lines if ' feature ' in x], 3)
    self.assertNotIn('Traceback', done.stderr)

  # What a setting may be is in study_test; here, how a refusal looks.
  @parameterized.named_parameters(
      ('missing_file', ['--weights=nowhere.gguf'], 'nowhere.gguf'),
      ('unknown_model', ['--model=smolm2'], "'smollm2'"),
      ('layer_too_high', ['--layers=7'], 'layers 0 to 2'),
      ('k_too_large', ['--k=1000'], 'k=1000'),
      ('argument', ['smollm2'], 'smollm2'),
  )
  def test_bad_input_is_one_sentence(self, args, message):
    weights = make_checkpoint(self.root / 'model')
    out = self.root / 'out'
    base = [f'--out={out}', '--k=5']
    if not any(a.startswith(('--weights', '--model')) for a in args):
      base.append(f'--weights={weights}')
    done = _run(*base, *args)
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn(message, done.stderr)
    self.assertNotIn('Traceback', done.stderr)
    errors = [x for x in done.stderr.splitlines() if x.startswith('error: ')]
    self.assertLen(errors, 1)
    self.assertEqual(errors[0], done.stderr.splitlines()[-1])
    self.assertFalse((out / 'summary.json').exists())

  def test_killed_at_any_moment_it_continues_to_the_same_bytes(self):
    weights = make_checkpoint(self.root / 'model', num_hidden_layers=5)
    args = [f'--weights={weights}', '--k=5']
    whole = self.root / 'whole'
    start = time.monotonic()
    self.assertEqual(_run(*args, f'--out={whole}').returncode, 0)
    seconds = time.monotonic() - start
    expected = scripts.digest(whole)
    self.assertLen([n for n in expected if n.startswith('features')], 5)
    rng = random.Random(0)
    broken = self.root / 'broken'
    for _ in range(4):
      process = subprocess.Popen(
          _command(*args, f'--out={broken}'),
          stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL,
          env=scripts.environment(),
      )
      # Most of a run is import and compilation: kill in its later part.
      time.sleep(seconds * rng.uniform(0.5, 1.0))
      process.send_signal(signal.SIGKILL)
      process.wait()
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
    weights = make_checkpoint(self.root / 'model')
    tokenizer = json.loads((weights / 'tokenizer.json').read_text())
    vocab = tokenizer['model']['vocab']
    # Text that turns the reading direction round, as byte-level BPE spells it.
    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
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
    done = _run(
        f'--weights={weights}', f'--out={self.root / "out"}', '--k=5',
        '--examples=30',
    )  # fmt: skip
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertNotIn('\u202e', done.stdout + done.stderr)
    self.assertIn(r'\u202ecba', done.stdout)


if __name__ == '__main__':
  absltest.main()
