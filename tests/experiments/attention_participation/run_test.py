"""Experiment 2 from weights to folder, as a user runs it."""

import pathlib
import random
import signal
import subprocess
import sys
import time

from _attention_reader import by_head
from _attention_study import AttentionStudy
import _attention_text
from absl.testing import absltest
from absl.testing import parameterized
import attention_participation
import compare
import numpy as np
import pyarrow.parquet as pq

import ooc_jax
from ooc_jax import measures
from tests.experiments import scripts
from tests.tiny import make_checkpoint

_SCRIPT = pathlib.Path(attention_participation.__file__)
_SMALL = {
    'context': 9,
    'pairs': 4,
    'partners': 2,
    'alpha': 0.1,
    'nulls': 'none',
    'write_tokens': 0,
}


def _study(**settings):
  return AttentionStudy(**({'model': 'tiny'} | _SMALL | settings))


def _command(*args):
  small = [f'--{name}={value}' for name, value in _SMALL.items()]
  model = '--model=smollm2'  # Studied by its neurons, as any model can be.
  return [sys.executable, str(_SCRIPT), model, *small, *map(str, args)]


def _run(*args):
  return scripts.run(_command(*args))


def _float64_scores(model, rows, layer, head):
  """[F, F] from the definition, which the library never holds."""
  config = model.config
  params = model.params[f'layer_{layer}']
  d = np.asarray(rows, np.float64)
  d *= np.sqrt(d.shape[1]) / np.linalg.norm(d, axis=1, keepdims=True)
  gain = np.asarray(params['attention_norm']['weight'], np.float64)
  d *= gain + (1.0 if config.family == 'gemma2' else 0.0)
  attention = params['attention']
  q = d @ np.asarray(attention['query'], np.float64)[:, head]
  k = d @ np.asarray(attention['key'], np.float64)[:, head // config.group_size]
  scores = config.attention_scale * q @ k.T
  if (cap := config.attention_softcap) is not None:
    scores = cap * np.tanh(scores / cap)
  return scores


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  def _run(self, family='llama', name='out', mesh=None, **settings):
    self.weights = self.root / family
    if not self.weights.exists():
      make_checkpoint(self.weights, family)
    self.out = self.root / name
    return attention_participation.run(
        _study(**settings), self.out, str(self.weights), mesh
    ).summary

  def _layer(self, layer, out=None):
    name = f'layer={layer:02d}.parquet'
    return pq.read_table((out or self.out) / 'features' / name)

  @parameterized.parameters('llama', 'gemma2')
  def test_folder_holds_what_the_weights_say(self, family):
    summary = self._run(family, nulls='random', write_tokens=3)
    model = ooc_jax.load_model(self.weights)
    heads = pq.read_table(self.out / 'heads.parquet').to_pylist()
    self.assertLen(heads, 2 * 6)
    # Nothing is at the input of layer 0.
    self.assertEqual([row['layer'] for row in summary['layers']], [1, 2])
    every = {name: [] for name in measures.CONTEXTS}
    for layer in (1, 2):
      mlp = ooc_jax.load_dictionary('mlp', model=model, layer=layer - 1)
      table = self._layer(layer)
      self.assertEqual(table.num_rows, 36)
      for head in range(6):
        scores = _float64_scores(model, mlp.decoder, layer, head)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        expected = {
            'query_max': scores.max(axis=1),
            'query_mean': scores.mean(axis=1),
            'query_std': scores.std(axis=1),
            'key_max': scores.max(axis=0),
            'largest_weight': weights.max(axis=1),
            'largest_received': weights.max(axis=0),
            'received': weights.sum(axis=0),
            'self_weight': np.diag(weights),
            'entropy': -(weights * np.log(weights)).sum(axis=1),
        }
        for name, values in expected.items():
          np.testing.assert_allclose(
              by_head(table, name)[head],
              values,
              rtol=2e-4,
              atol=2e-5,
              err_msg=f'{name} {layer}.{head}',
          )
        np.testing.assert_array_equal(
            by_head(table, 'query_partners')[2 * head],
            scores.argmax(axis=1),
        )
        np.testing.assert_array_equal(
            by_head(table, 'key_partners')[2 * head], scores.argmax(axis=0)
        )
        row = heads[6 * (layer - 1) + head]
        self.assertEqual((row['layer'], row['head']), (layer, head))
        self.assertEqual(row['kv_head'], head // 3)
        largest = weights.max(axis=1)
        self.assertAlmostEqual(
            row['selectivity'], 36 * largest.mean(), delta=1e-3
        )
        self.assertAlmostEqual(
            row['diagonal_mass'], np.diag(weights).mean(), delta=1e-5
        )
        pair = np.unravel_index(scores.argmax(), scores.shape)
        self.assertEqual((row['best_query'], row['best_key']), pair)
        for name, column in zip(
            measures.CONTEXTS,
            ('query_max', 'largest_weight', 'key_max', 'largest_received'),
            strict=True,
        ):
          every[name].append(expected[column])
    self._check_shares(summary, heads, every)

  def _check_shares(self, summary, heads, every):
    """Pooled over all layers, heads and features, then counted."""
    counts = pq.read_table(self.out / 'participation.parquet')
    for name, found in every.items():
      values = np.asarray(found).reshape(2, 6, 36)
      cut = np.quantile(values, 0.75)
      side = summary['sides'][name]
      self.assertAlmostEqual(
          side['thresholds']['value'], cut, delta=1e-4 * max(1, abs(cut))
      )
      passed = values > cut
      np.testing.assert_array_equal(
          np.asarray(counts[f'{name}_heads']), passed.sum(axis=1).ravel()
      )
      for i, row in enumerate(side['layers']):
        heads_of = passed[i].sum(axis=0)
        self.assertAlmostEqual(
            row['participating']['share'], np.mean(heads_of >= 1)
        )
        self.assertAlmostEqual(
            row['at_least']['3']['share'], np.mean(heads_of >= 3)
        )
        self.assertAlmostEqual(row['mean_heads']['mean'], heads_of.mean())
        for head in range(6):
          self.assertAlmostEqual(
              heads[6 * i + head][f'{name}_share'], passed[i, head].mean()
          )
    shapes = pq.read_table(self.out / 'shapes.parquet').to_pylist()
    # Two layers have no shape, whatever the threshold.
    self.assertEqual({row['name'] for row in shapes}, {'undecided'})
    self.assertEqual(summary['shapes'], {'undecided': len(shapes)})
    # The first context stands at the top, for figures and comparisons.
    self.assertEqual(
        summary['layers'][0]['participating'],
        summary['sides']['query_pre']['layers'][0]['participating'],
    )
    for name in ('heads', 'sweep_key_post', 'participation_by_depth_query'):
      for suffix in ('png', 'pdf'):
        path = self.out / 'figures' / f'{name}.{suffix}'
        self.assertGreater(path.stat().st_size, 4000)

  def test_nulls_go_through_the_same_heads(self):
    summary = self._run(
        'gemma2', layers='2', participation='null:permuted', nulls='all'
    )
    model = ooc_jax.load_model(self.weights)
    table = pq.read_table(self.out / 'nulls_02.parquet')
    kinds = np.asarray(table['null'])
    self.assertEqual(set(kinds), {'random', 'permuted', 'tokens'})
    for kind in ('random', 'permuted', 'tokens'):
      self.assertEqual((kinds == kind).sum(), 36)
    null = {
        kind: np.stack(table.filter(kinds == kind)['query_pre'].to_numpy()).T
        for kind in set(kinds)
    }
    own = by_head(self._layer(2), 'query_max')
    for head in range(6):
      # Other keys than the features', with the same spread.
      self.assertFalse(np.isclose(null['permuted'][head], own[head]).any())
      rows = measures.isotropic_directions(36, 20, seed=2)
      scores = _float64_scores(model, rows, 2, head)
      np.testing.assert_allclose(
          null['random'][head], scores.max(axis=1), rtol=1e-4, atol=1e-5
      )
      mask = np.asarray(ooc_jax.circuits.readable_mask(model))
      rows = np.asarray(model.params['embedding'], np.float64)
      kept = np.random.default_rng((0, 2, 1)).choice(
          np.flatnonzero(mask), 36, replace=False
      )
      rows = rows[np.sort(kept)] - rows[mask].mean(axis=0)
      scores = _float64_scores(model, rows, 2, head)
      np.testing.assert_allclose(
          null['tokens'][head], scores.max(axis=1), rtol=1e-4, atol=1e-5
      )
    side = summary['sides']['query_pre']
    cuts = np.asarray(side['layers'][0]['thresholds'])
    np.testing.assert_array_equal(
        cuts, measures.null_cutoffs(null['permuted'], 0.1)
    )
    self.assertAlmostEqual(
        side['layers'][0]['participating']['share'],
        (own > cuts[:, None]).any(axis=0).mean(),
    )
    self.assertAlmostEqual(
        side['total']['nulls']['permuted'],
        (null['permuted'] > cuts[:, None]).any(axis=0).mean(),
    )

  def test_permuted_keys_keep_their_coordinates(self):
    """The seed of a layer and kv head gives each coordinate its own order."""
    self._run(layers='1', nulls='permuted')
    model = ooc_jax.load_model(self.weights)
    mlp = ooc_jax.load_dictionary('mlp', model=model, layer=0)
    table = pq.read_table(self.out / 'nulls_01.parquet')
    found = np.stack(table['query_pre'].to_numpy()).T
    for head in range(6):
      q = ooc_jax.circuits.head_queries(model, mlp.decoder, 1, head)
      k = ooc_jax.circuits.head_keys(model, mlp.decoder, 1, head)
      rng = np.random.default_rng((0, 1, head // 3))
      k = rng.permuted(np.asarray(k), axis=0)
      scores = model.config.attention_scale * np.asarray(q, np.float64) @ k.T
      np.testing.assert_allclose(found[head], scores.max(axis=1), rtol=1e-4)

  def test_sinks_are_left_out_as_keys(self):
    self._run(name='all', layers='2')
    before = self._layer(2)
    share = by_head(before, 'received').mean(axis=0) / 36
    limit = float(np.sort(share)[-5:-3].mean())
    self._run(name='some', layers='2', sink_share=limit)
    after = self._layer(2)
    sinks = share > limit
    self.assertEqual(sinks.sum(), 4)
    np.testing.assert_array_equal(np.asarray(after['sink']), sinks)
    partners = by_head(after, 'query_partners')
    self.assertFalse(np.isin(partners, np.flatnonzero(sinks)).any())
    self.assertTrue((by_head(after, 'received')[:, sinks] == 0).all())

  def test_without_sinks_nothing_changes_but_a_column_says_so(self):
    self._run(name='all', layers='1', nulls='none')
    before = self._layer(1)
    self._run(name='none', layers='1', nulls='none', sink_share=0.99)
    after = self._layer(1)
    self.assertFalse(np.asarray(after['sink']).any())
    for column in before.column_names:
      self.assertEqual(before[column], after[column])

  def test_any_mesh_gives_the_same_features(self):
    self._run(name='one', nulls='random', layers='1')
    alone = self._layer(1)
    self._run(name='two', nulls='random', layers='1', mesh='feature:4')
    many = self._layer(1)
    for column in ('query_partners', 'key_partners'):
      self.assertEqual(alone[column], many[column])
    for column in ('query_max', 'largest_weight', 'received', 'entropy'):
      np.testing.assert_allclose(
          by_head(alone, column), by_head(many, column), rtol=1e-5, atol=1e-6
      )

  def test_no_layer_is_computed_twice(self):
    self._run(nulls='random')
    before = scripts.digest(self.out)
    (self.out / 'features' / 'layer=01.parquet').unlink()
    (self.out / 'heads_02.parquet').unlink()
    stamp = (self.out / 'nulls_01.parquet').stat().st_mtime_ns
    self._run(nulls='random')
    self.assertEqual(scripts.digest(self.out), before)
    again = (self.out / 'nulls_01.parquet').stat().st_mtime_ns
    self.assertNotEqual(stamp, again)
    self._run(nulls='random')
    self.assertEqual((self.out / 'nulls_01.parquet').stat().st_mtime_ns, again)

  def test_another_configuration_is_refused_and_nothing_changes(self):
    self._run(layers='1')
    before = scripts.digest(self.out)
    with self.assertRaisesRegex(ooc_jax.InputError, 'holds another run'):
      self._run(layers='1', partners=3)
    self.assertEqual(scripts.digest(self.out), before)

  def test_more_heads_than_there_are(self):
    with self.assertRaisesRegex(ooc_jax.InputError, 'at_least=7.*6 heads'):
      self._run(at_least=7)

  def test_lines_name_every_layer_and_null(self):
    settings = {'examples': 3, 'nulls': 'all', 'write_tokens': 2}
    summary = self._run(**settings)
    lines = _attention_text.report_lines(_study(**settings), summary)
    self.assertEqual(
        [line.split()[0] for line in lines[:4]], ['layer', '1', '2', 'all']
    )
    text = '\n'.join(lines)
    for word in ('random', 'permuted', 'tokens', 'over depth', 'selectivity'):
      self.assertIn(word, text)
    self.assertLen(lines[lines.index('Most selective heads:') :], 5)

  def test_runs_are_compared(self):
    self._run(name='a', nulls='random')
    self._run(name='b', offset=1)
    found = compare.run(
        [self.root / 'a', self.root / 'b'],
        self.root / 'compared',
        side='key_pre',
    )
    self.assertIn('participating %', found.rows[0])
    self.assertLen(found.rows, 3)
    self.assertTrue(any('offset differs' in x for x in found.cautions))
    figures = self.root / 'compared' / 'figures'
    self.assertTrue((figures / 'participation_by_depth.png').is_file())


class CommandTest(parameterized.TestCase):
  """The script itself, in its own process."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  @parameterized.named_parameters(
      ('layer_0', ['--layers=0'], 'input of layer 0'),
      ('participation', ['--participation=median'], "'median'"),
      ('setting_of_experiment_1', ['--convention=raw'], 'convention'),
  )
  def test_bad_input_is_one_sentence(self, args, message):
    weights = make_checkpoint(self.root / 'model')
    done = _run(f'--weights={weights}', f'--out={self.root / "out"}', *args)
    self.assertNotEqual(done.returncode, 0)
    self.assertIn(message, done.stderr)
    self.assertNotIn('Traceback', done.stderr)
    self.assertFalse((self.root / 'out' / 'summary.json').exists())

  def test_killed_at_any_moment_it_continues_to_the_same_bytes(self):
    weights = make_checkpoint(self.root / 'model', num_hidden_layers=4)
    args = [f'--weights={weights}', '--nulls=random']
    whole = self.root / 'whole'
    start = time.monotonic()
    done = _run(*args, f'--out={whole}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('Most selective heads', done.stdout)
    seconds = time.monotonic() - start
    expected = scripts.digest(whole)
    rng = random.Random(0)
    broken = self.root / 'broken'
    for _ in range(2):
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


if __name__ == '__main__':
  absltest.main()
