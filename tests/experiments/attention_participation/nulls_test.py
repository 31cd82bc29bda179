"""Nulls of experiment 2, and keys that everything attends to."""

import dataclasses

from absl.testing import absltest
import numpy as np
import pyarrow.parquet as pq

import ooc_jax
from ooc_jax import measures
from ooc_jax.experiments import attention_participation
from ooc_jax.results import tables
from tests.experiments.attention_participation import small


class NullsTest(absltest.TestCase):

  def test_nulls_go_through_the_same_heads(self):
    run, model = small.finished_run('gemma2'), small.model_of('gemma2')
    table = pq.read_table(run.folder / 'nulls_02.parquet')
    kinds = np.asarray(table['null'])
    self.assertEqual(set(kinds), {'random', 'permuted', 'tokens'})
    for kind in ('random', 'permuted', 'tokens'):
      self.assertEqual((kinds == kind).sum(), 36)
    null = {
        kind: np.stack(table.filter(kinds == kind)['query_pre'].to_numpy()).T
        for kind in set(kinds)
    }
    own = small.by_head(small.layer_of(run, 2), 'query_max')
    for head in range(6):
      # Other keys than the features', with the same spread.
      self.assertFalse(np.isclose(null['permuted'][head], own[head]).any())
      rows = measures.isotropic_directions(36, 20, seed=2)
      scores = small.float64_scores(model, rows, 2, head)
      np.testing.assert_allclose(
          null['random'][head], scores.max(axis=1), rtol=1e-4, atol=1e-5
      )
      mask = np.asarray(ooc_jax.circuits.readable_mask(model))
      rows = np.asarray(model.params['embedding'], np.float64)
      kept = np.random.default_rng((0, 2, 1)).choice(
          np.flatnonzero(mask), 36, replace=False
      )
      rows = rows[np.sort(kept)] - rows[mask].mean(axis=0)
      scores = small.float64_scores(model, rows, 2, head)
      np.testing.assert_allclose(
          null['tokens'][head], scores.max(axis=1), rtol=1e-4, atol=1e-5
      )
    config = dataclasses.replace(small.CONFIG, participation='null:permuted')
    summary = attention_participation.summarise(
        attention_participation.read_tables(
            ooc_jax.results.ResultsFolder.view(run.folder)
        ),
        config,
    ).summary
    side = summary['sides']['query_pre']
    row = side['layers'][1]
    cuts = np.asarray(row['thresholds'])
    np.testing.assert_array_equal(
        cuts, measures.null_cutoffs(null['permuted'], 0.1)
    )
    self.assertAlmostEqual(
        row['participating']['share'], (own > cuts[:, None]).any(axis=0).mean()
    )
    self.assertAlmostEqual(
        row['nulls']['permuted'],
        (null['permuted'] > cuts[:, None]).any(axis=0).mean(),
    )

  def test_permuted_keys_keep_their_coordinates(self):
    """The seed of a layer and kv head gives each coordinate its own order."""
    run, model = small.finished_run('llama'), small.model_of('llama')
    (mlp,) = small.neurons(model, 0).values()
    table = pq.read_table(run.folder / 'nulls_01.parquet')
    found = tables.null_statistic(table, 'permuted', 'query_pre')
    for head in range(6):
      q = ooc_jax.circuits.head_queries(model, mlp.decoder, 1, head)
      k = ooc_jax.circuits.head_keys(model, mlp.decoder, 1, head)
      rng = np.random.default_rng((0, 1, head // 3))
      k = rng.permuted(np.asarray(k), axis=0)
      scores = model.config.attention_scale * np.asarray(q, np.float64) @ k.T
      np.testing.assert_allclose(found[head], scores.max(axis=1), rtol=1e-4)

  def test_sinks_are_left_out_as_keys(self):
    before = small.layer_of(small.finished_run('llama'), 2)
    share = small.by_head(before, 'received') / 36
    limit = float(np.sort(share.ravel())[-5:-3].mean())
    after = small.computed(2, sink_share=limit).features[2]
    sinks = share > limit
    self.assertEqual(sinks.sum(), 4)
    # A head has its own: on mean over the heads none would be over the limit.
    self.assertLess(share.mean(axis=0).max(), limit)
    np.testing.assert_array_equal(small.by_head(after, 'sink'), sinks)
    partners = small.by_head(after, 'query_partners')
    for head in range(6):
      mine = np.flatnonzero(sinks[head])
      self.assertFalse(np.isin(partners[head], mine).any())
    self.assertTrue((small.by_head(after, 'received')[sinks] == 0).all())
    # Heads without one are as they were.
    same = ~sinks.any(axis=1)
    self.assertTrue(0 < same.sum() < 6)
    np.testing.assert_array_equal(
        small.by_head(after, 'received')[same],
        small.by_head(before, 'received')[same],
    )
    with self.assertRaisesRegex(ooc_jax.InputError, 'leaves 0 keys to head 0'):
      small.computed(2, sink_share=1e-30)

  def test_without_sinks_nothing_changes_but_a_column_says_so(self):
    before = small.layer_of(small.finished_run('llama'), 1)
    after = small.computed(1, sink_share=0.99).features[1]
    self.assertFalse(small.by_head(after, 'sink').any())
    for column in before.column_names:
      self.assertEqual(before[column], after[column])


if __name__ == '__main__':
  absltest.main()
