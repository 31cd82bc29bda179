"""A program that computes in 64 bits calls us and gets the same numbers.

Under conftest's strict promotion a mixture of float32 and float64 is an error.
"""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import enable_x64
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np
import pyarrow as pa
import pytest

import ooc_jax
from ooc_jax import circuits
from ooc_jax import dictionaries
from ooc_jax import experiments
from ooc_jax import measures
from ooc_jax.dictionaries import training
from tests import finished

_F, _K = 40, 3
_PROGRAM = """
import jax
import numpy as np
import ooc_jax
assert jax.numpy.ones(1).dtype == 'float64'
model = ooc_jax.load_model('tiny-gemma2')
rows = np.random.default_rng(0).normal(size=(8, model.config.embed_dim))
mine = ooc_jax.dictionaries.from_arrays(rows, rows, layer=3)
lens = ooc_jax.output_lens(model, mine, k=3)
scores = ooc_jax.attention_statistics(model, mine, 4, heads=(0,), k=2)
print(lens.std.dtype, ooc_jax.coherence(model, lens).entropy.dtype,
      scores.query.std.dtype, ooc_jax.forward(model, [[1, 2]]).dtype)
"""


def _numbers(found):
  """Path -> array of all that is in a tree of arrays and tables."""
  numbers = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(
      found, is_leaf=lambda x: isinstance(x, pa.Table)
  ):
    name = jax.tree_util.keystr(path)
    if isinstance(leaf, pa.Table):
      for column in leaf.column_names:
        values = leaf[column].to_pylist()
        numbers[f'{name}.{column}'] = np.asarray(values)
    elif isinstance(leaf, jax.Array):
      if leaf.dtype != jnp.bfloat16:
        numbers[f'{name} {leaf.dtype}'] = np.asarray(leaf)
  return numbers


class X64Test(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.rows = rng.normal(size=(2, _F, 20))
    self.rows[0, 3] = 0

  def model(self, family='gemma2'):
    return ooc_jax.load_model(finished.checkpoint(family))

  def dictionary(self, layer=1):
    return dictionaries.from_arrays(*self.rows, layer=layer)

  def check_same(self, compute, tolerance=2e-6):
    expected = _numbers(compute())
    self.assertNotEmpty(expected)
    with enable_x64(True):
      found = _numbers(compute())
    self.assertEqual(list(found), list(expected))
    for name, values in expected.items():
      if values.dtype.kind != 'f':
        np.testing.assert_array_equal(found[name], values, name)
        continue
      scale = np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values))
      np.testing.assert_allclose(
          found[name], values, tolerance, tolerance * scale, err_msg=name
      )

  @parameterized.parameters(('normed', 'exact'), ('cosine', 'screened'))
  def test_lenses(self, convention, precision):
    self.check_lenses(convention, precision)

  @parameterized.product(
      convention=circuits.CONVENTIONS, precision=('exact', 'screened')
  )
  @pytest.mark.slow
  def test_all_lenses(self, convention, precision):
    self.check_lenses(convention, precision)

  def check_lenses(self, convention, precision):
    about = {'convention': convention, 'precision': precision}

    def compute():
      model, mine = self.model(), self.dictionary()
      out = ooc_jax.output_lens(model, mine, _K, centered=True, **about)
      read = ooc_jax.input_lens(model, mine, _K, **about)
      return out, read, measures.coherence(model, out)

    self.check_same(compute)

  @pytest.mark.slow
  def test_tied_tokens_are_recomputed(self):
    rng = np.random.default_rng(1)
    table = np.repeat(rng.normal(size=(5, 20)), 120, axis=0)

    def compute():
      arrays = (x.astype(np.float32) for x in (self.rows[1], table))
      directions, rows = map(jnp.asarray, arrays)
      lens = circuits.unembedding_lens(
          directions,
          jnp.ones(20, jnp.float32),
          rows,
          jnp.ones(len(rows), bool),
          k=_K,
          precision='screened',
      )
      self.assertTrue(bool(lens.recomputed.all()))
      return lens

    self.check_same(compute)

  def test_arrays_of_64_bits(self):
    """Rounded to float32 once, where they come in."""
    with enable_x64(True):
      wide = jnp.asarray(self.rows[0])
      self.assertEqual(wide.dtype, jnp.float64)
      table = jnp.asarray(np.random.default_rng(2).normal(size=(99, 20)))
      gain, mask = jnp.ones(20), jnp.ones(99, bool)
      lens = circuits.unembedding_lens(wide, gain, table, mask, k=_K)
      narrow = (x.astype(jnp.float32) for x in (wide, gain, table))
      expected = circuits.unembedding_lens(*narrow, mask, k=_K)
      found = circuits.qk_statistics(wide, wide, scale=0.3, k=_K)
      self.assertEqual(found.query.mean.dtype, jnp.float32)
    self.assertEqual(lens.std.dtype, jnp.float32)
    np.testing.assert_array_equal(lens.top_ids, expected.top_ids)
    np.testing.assert_allclose(lens.std, expected.std, 2e-6)

  @pytest.mark.slow
  def test_attention(self):
    self.check_attention('gemma2')

  @pytest.mark.slow
  def test_attention_with_query_key_norms(self):
    self.check_attention('gemma3')

  def check_attention(self, family):
    def compute():
      model, mine = self.model(family), self.dictionary()
      attended = ooc_jax.attention_statistics(
          model, mine, 2, offset=3, heads=(1, 5), k=_K
      )
      bias = np.asarray(mine.decoder[3], np.float32) + 0.2
      on_mean = ooc_jax.attention_statistics(
          model, mine, 2, heads=(5,), k=_K, bias=bias, length=0.5
      )
      return (
          attended,
          on_mean,
          circuits.bias_profiles(model, bias, 2, (1, 5), context=9),
          circuits.head_profiles(model, mine, attended, pairs=4, context=9),
          ooc_jax.ov_lens(model, mine, 2, 1, k=_K),
          circuits.ov_writes(model, mine, mine, 2, 1, k=_K),
          circuits.ov_copying(model, mine, 2, 1),
          ooc_jax.forward(model, jnp.asarray([[5, 3, 4]])),
      )

    self.check_same(compute)

  @pytest.mark.slow
  def test_a_mesh(self):
    mesh = jax.make_mesh(
        (2, 2), ('feature', 'vocab'), axis_types=(AxisType.Auto,) * 2
    )

    def compute():
      model = ooc_jax.load_model(finished.checkpoint('gemma2'), mesh=mesh)
      mine = self.dictionary()
      return (
          ooc_jax.output_lens(model, mine, _K, mesh=mesh),
          ooc_jax.attention_statistics(model, mine, 2, mesh=mesh, k=_K),
      )

    self.check_same(compute)

  def test_random_directions(self):
    self.check_same(
        lambda: (
            measures.isotropic_directions(
                50, 20, seed=3, norms=np.linalg.norm(self.rows[0], axis=1)
            ),
            measures.matched_directions(self.rows[0], 50, seed=3),
            dictionaries.random_dictionary(self.model(), 1, size=30),
        )
    )

  @pytest.mark.slow
  def test_experiments(self):
    labels = experiments.OutputPrediction(
        k=_K, null_size=100, alpha=0.1, layers='0,1'
    )
    attention = experiments.AttentionParticipation(
        context=5,
        pairs=3,
        partners=2,
        nulls='random',
        write_tokens=2,
        layers='1,2',
    )

    def compute():
      model = self.model('llama')
      mine = {layer: self.dictionary(layer) for layer in (0, 1)}
      found = experiments.semantic_attention.compute(
          model,
          mine,
          experiments.SemanticAttention(least=2),
          labels=labels,
          attention=attention,
      )
      predicted = experiments.output_prediction.compute(model, mine, labels)
      return found.populations, found.effects, predicted.features

    self.check_same(compute)

  @pytest.mark.slow
  def test_training(self):
    recipe = training.TrainingRecipe(
        width=32, steps=6, l0=3.0, start_ratio=1.5, chunk=32, warmup=2
    )

    def compute():
      rng = np.random.default_rng(5)
      x = jnp.asarray(rng.normal(size=(2, 64, 20)), jnp.float32)
      state = training.init_sae_state(recipe, x)
      step = training.make_sae_step(recipe)
      for _ in range(2):
        state, losses = step(state, x)
      return state.params, losses

    # Optax raises its decay rates to their powers in 64 bits.
    self.check_same(compute, 2e-5)

  @pytest.mark.slow
  def test_the_variable(self):
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {'JAX_ENABLE_X64': '1', 'JAX_PLATFORMS': 'cpu'},
        cwd=pathlib.Path(__file__).parents[1],
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(done.stdout.split(), ['float32'] * 4)


if __name__ == '__main__':
  absltest.main()
