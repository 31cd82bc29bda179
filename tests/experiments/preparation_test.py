"""Every study of a model reads what the first one found, and nothing else."""

import pathlib
from unittest import mock

from absl.testing import absltest
import jax
import numpy as np

import ooc_jax
from ooc_jax import _cache
from ooc_jax import circuits
from ooc_jax import experiments
from ooc_jax import measures
from ooc_jax.experiments._preparation import Preparation
from ooc_jax.experiments.attention_participation import _compute as attention
from ooc_jax.experiments.output_prediction import DictionaryReader
from ooc_jax.experiments.validation import _compute as validation
from tests import finished

_FOUND = ('table_moments', 'undertrained_at')


class PreparationTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.addCleanup(ooc_jax.set_cache_dir, None)
    self.enter_context(
        mock.patch.object(
            validation,
            'corpus_windows',
            lambda model, config: np.ones((3, config.length), np.int32),
        )
    )
    self.corpus = experiments.Validation(length=4)
    self.made = {
        name: self.enter_context(
            mock.patch.object(circuits, name, wraps=getattr(circuits, name))
        )
        for name in _FOUND
    }
    self.made['token_space'] = self.enter_context(
        mock.patch.object(measures, 'token_space', wraps=measures.token_space)
    )

  def _found(self, start):
    """What `start` found and had not been kept; and what it gives."""
    for own in self.made.values():
      own.reset_mock()
    given = start()
    return given, {name for name, x in self.made.items() if x.called}

  def _studies(self, family='llama'):
    model = ooc_jax.load_model(finished.checkpoint(family))
    return {
        'validation': lambda: validation.Validator(model, self.corpus),
        'attention': lambda: attention.Computation(
            model, experiments.AttentionParticipation()
        ),
        'output': lambda: DictionaryReader(
            model, experiments.OutputPrediction()
        ),
    }

  def test_each_study_reads_what_another_found(self):
    alone, found = {}, {}
    for name, start in self._studies().items():
      alone[name], found[name] = self._found(start)
    self.assertEqual(found['validation'], {*_FOUND, 'token_space'})
    self.assertEqual(found['attention'], {'undertrained_at'})
    self.assertEqual(found['output'], {*_FOUND, 'token_space'})
    ooc_jax.set_cache_dir(self.root)
    for name, start in self._studies().items():
      _, found[name] = self._found(start)
    self.assertEqual(found['validation'], {*_FOUND, 'token_space'})
    self.assertEqual(found['attention'], set())
    # Of the embedding, which no validation goes over.
    self.assertEqual(found['output'], {'table_moments'})
    for name, start in self._studies().items():
      again, found[name] = self._found(start)
      np.testing.assert_array_equal(again._mask, alone[name]._mask)
      if name == 'validation':
        again, alone[name] = again._labels, alone[name]._labels
      if name != 'attention':
        jax.tree.map(
            np.testing.assert_array_equal, again._space, alone[name]._space
        )
    self.assertEqual(set().union(*found.values()), set())

  def test_it_is_what_the_library_finds(self):
    ooc_jax.set_cache_dir(self.root)
    model = ooc_jax.load_model(finished.checkpoint('gemma2'))
    table = circuits.unembedding_table(model)
    for level in (None, 0.6):
      for _ in range(2):
        mask, suspects = Preparation().tokens(model.tokenizer, table, level)
        want = circuits.readable_mask(model, undertrained_cosine=level)
        np.testing.assert_array_equal(mask, want)
        self.assertEqual(suspects.shape, want.shape)
    for kind in measures.TOKEN_SPACES:
      for _ in range(2):
        space = Preparation().space(table, mask, kind)
        want = measures.token_space(table, mask, kind)
        np.testing.assert_allclose(space.norms, want.norms, rtol=1e-5)

  def test_another_model_is_found_anew(self):
    ooc_jax.set_cache_dir(self.root)
    self._found(self._studies()['validation'])
    found = self._found(self._studies('gemma2')['validation'])[1]
    self.assertEqual(found, {*_FOUND, 'token_space'})

  def test_a_stale_key_would_be_seen(self):
    """The tests here can fail: keys without the hash of the table."""
    ooc_jax.set_cache_dir(self.root)
    model = ooc_jax.load_model(finished.checkpoint('gemma2'))
    table = circuits.unembedding_table(model)
    right = _cache.digest
    with mock.patch.object(
        _cache, 'digest', lambda x: 'x' if x.ndim == 2 else right(x)
    ):
      mask, _ = Preparation().tokens(model.tokenizer, table, None)
      for start, made in ((table, True), (table + 1, False)):
        found = self._found(lambda x=start: Preparation().moments(x, mask))[1]
        self.assertEqual('table_moments' in found, made)
    for start, made in ((table + 1, True), (table + 1, False)):
      found = self._found(lambda x=start: Preparation().moments(x, mask))[1]
      self.assertEqual('table_moments' in found, made)

  def test_it_keeps_nothing_unless_it_is_told(self):
    with mock.patch.object(_cache, 'digest', side_effect=AssertionError):
      self._found(self._studies()['validation'])
    self.assertEmpty(list(self.root.iterdir()))


if __name__ == '__main__':
  absltest.main()
