"""What is found once a model is the same where an earlier run found it."""

import dataclasses
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import ooc_jax
from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import _preparation
from ooc_jax.experiments.output_prediction import _prepared
from tests import finished


def _leaves(prepared):
  return jax.tree.leaves(prepared._replace(model=None))


class PreparedTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.addCleanup(ooc_jax.set_cache_dir, None)

  def _prepare(self, model, found, **settings):
    """Prepared, and whether it was found in files."""
    with (
        mock.patch.object(
            circuits, 'table_moments', wraps=circuits.table_moments
        ) as moments,
        mock.patch.object(
            measures, 'token_space', wraps=measures.token_space
        ) as space,
    ):
      prepared = _prepared.prepare(model, OutputPrediction(**settings))
    self.assertEqual(not (moments.called or space.called), found, settings)
    return prepared

  @parameterized.product(
      family=('gemma2', 'llama'),  # Tied, and not.
      settings=(
          {},
          {'token_space': 'centred', 'undertrained_cosine': None},
          {'convention': 'cosine', 'token_space': 'top_removed'},
          {'control': 'random_weights', 'readouts': 'output'},
      ),
  )
  def test_is_the_same_a_second_time(self, family, settings):
    model = ooc_jax.load_model(finished.checkpoint(family))
    want = self._prepare(model, False, **settings)
    ooc_jax.set_cache_dir(self.root)
    self._prepare(model, False, **settings)
    # Of weights that are read again.
    again = ooc_jax.load_model(finished.checkpoint(family))
    got = self._prepare(again, True, **settings)
    self.assertEqual(got.moments.keys(), want.moments.keys())
    self.assertEqual(
        jax.tree.structure(got._replace(model=None)),
        jax.tree.structure(want._replace(model=None)),
    )
    for ours, theirs in zip(_leaves(got), _leaves(want), strict=True):
      np.testing.assert_array_equal(ours, theirs)
    # And it is what the library finds.
    table = circuits.unembedding_table(got.model)
    kind = settings.get('token_space', 'whitened')
    space = measures.token_space(table, got.mask, kind)
    ids = np.arange(len(table)).reshape(-1, 8)
    np.testing.assert_allclose(
        measures.mean_pairwise_cosine(ids, got.space),
        measures.mean_pairwise_cosine(ids, space),
        atol=1e-6,
    )

  def test_what_it_hangs_on_is_found_anew(self):
    model = ooc_jax.load_model(finished.checkpoint('gemma2'))
    ooc_jax.set_cache_dir(self.root)
    self._prepare(model, False)
    self._prepare(model, False, token_space='centred')
    self._prepare(model, False, control='random_weights')
    self._prepare(model, False, control='random_weights', seed=1)
    params = dict(model.params)
    params['embedding'] = params['embedding'].at[5, 0].add(1.0)
    self._prepare(dataclasses.replace(model, params=params), False)
    with mock.patch.object(_preparation, '_VERSION', 9):
      self._prepare(model, False)
    readable = model.tokenizer.mask().copy()
    readable[np.flatnonzero(readable)[:5]] = False
    with mock.patch.object(type(model.tokenizer), 'mask', lambda _: readable):
      self._prepare(model, False)
    # What it does not hang on.
    self._prepare(model, True, k=5, alpha=0.05, precision='exact')

  def test_damaged_files_are_found_anew(self):
    model = ooc_jax.load_model(finished.checkpoint('gemma2'))
    ooc_jax.set_cache_dir(self.root)
    want = self._prepare(model, False)
    for path in (self.root / 'prepared').iterdir():
      path.write_bytes(path.read_bytes()[:-1])
    got = self._prepare(model, False)
    for ours, theirs in zip(_leaves(got), _leaves(want), strict=True):
      np.testing.assert_array_equal(ours, theirs)
    self._prepare(model, True)


if __name__ == '__main__':
  absltest.main()
