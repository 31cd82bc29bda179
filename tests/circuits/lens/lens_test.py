"""The lens against float64 NumPy written from the definition."""

import dataclasses
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.stats

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.checkpoints import load_model
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import mlp_dictionary
from ooc_jax.dictionaries import random_dictionary
from tests.circuits import lens_oracle
from tests.tiny import make_checkpoint

_STATISTICS = ('mean', 'std', 'skewness', 'kurtosis', 'entropy', 'top_mass')


# One program for all tests that leave the sizes open.
_F, _V, _D, _K = 40, 2_000, 31, 10


def _draw(F=_F, V=_V, D=_D, seed=0):
  rng = np.random.default_rng(seed)
  directions = rng.normal(size=(F, D)).astype(np.float32)
  # A non-zero mean row: moments that ignore it lose digits.
  table = (rng.normal(size=(V, D)) + 0.5).astype(np.float32)
  gain = rng.uniform(0.5, 2.0, size=D).astype(np.float32)
  keep = rng.random(V) > 0.1
  return directions, gain, table, keep


class UnembeddingLensTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('one_small_block', 7, 61, 13, 5, None),
      ('many_blocks', 530, 17_011, 37, 20, 3.0),
  )
  def test_matches_definition(self, F, V, D, k, cap):
    self._check_definition(F, V, D, k, cap)

  @parameterized.named_parameters(
      ('whole_blocks', 512, 16_384, 24, 20, 30.0),
      ('one_row_over', 513, 8_193, 11, 1, None),
  )
  @pytest.mark.any_compiler
  def test_matches_definition_where_blocks_end(self, F, V, D, k, cap):
    self._check_definition(F, V, D, k, cap)

  def _check_definition(self, F, V, D, k, cap):
    directions, gain, table, keep = _draw(F, V, D)
    lens = circuits.unembedding_lens(
        jnp.asarray(directions),
        jnp.asarray(gain),
        jnp.asarray(table),
        jnp.asarray(keep),
        k=k,
        precision='exact',
        softcap=cap,
    )
    read = directions.astype(np.float64) * gain
    logits = read @ table.astype(np.float64).T
    lens_oracle.assert_lens(lens, lens_oracle.lens_of(logits, keep, k, cap))

  def test_bfloat16_table_is_read_exactly(self):
    directions, gain, table, keep = _draw(9, 300, 17)
    rounded = jnp.asarray(table, jnp.bfloat16)
    args = [jnp.asarray(x) for x in (directions, gain)]
    kwargs = {'k': 4, 'precision': 'exact'}
    lens = circuits.unembedding_lens(
        *args, rounded, jnp.asarray(keep), **kwargs
    )
    logits = (directions.astype(np.float64) * gain) @ np.asarray(
        rounded, np.float64
    ).T
    lens_oracle.assert_lens(lens, lens_oracle.lens_of(logits, keep, 4))

  @pytest.mark.any_compiler
  def test_no_masked_token_is_ever_found(self):
    directions, gain, table, keep = _draw(5, 100, 8)
    table[~keep] *= 50  # By far the largest logits, both ways.
    lens = circuits.unembedding_lens(
        *(jnp.asarray(x) for x in (directions, gain, table, keep)),
        k=int(keep.sum()),
        precision='exact',
    )
    for ids in (lens.top_ids, lens.bottom_ids):
      np.testing.assert_array_equal(
          np.sort(ids, axis=1), np.tile(np.flatnonzero(keep), (5, 1))
      )

  def test_ties_go_to_the_lower_id(self):
    rng = np.random.default_rng(0)
    few = rng.integers(-2, 3, size=(11, 6)).astype(np.float32)
    table = few[rng.integers(0, 11, size=9_000)]
    directions = rng.integers(-2, 3, size=(8, 6)).astype(np.float32)
    keep = rng.random(9_000) > 0.2
    lens = circuits.unembedding_lens(
        jnp.asarray(directions),
        jnp.ones(6),
        jnp.asarray(table),
        jnp.asarray(keep),
        k=30,
        precision='exact',
    )
    logits = directions.astype(np.float64) @ table.T
    expected = lens_oracle.lens_of(logits, keep, 30)
    np.testing.assert_array_equal(lens.top_ids, expected['top_ids'])
    np.testing.assert_array_equal(lens.bottom_ids, expected['bottom_ids'])

  @parameterized.parameters(1e-18, 1e12)
  def test_scale_of_directions_costs_no_digit(self, scale):
    directions, gain, table, keep = _draw()
    directions *= np.float32(scale)
    lens = circuits.unembedding_lens(
        *(jnp.asarray(x) for x in (directions, gain, table, keep)),
        k=_K,
        precision='exact',
    )
    logits = (directions.astype(np.float64) * gain) @ table.astype(float).T
    expected = lens_oracle.lens_of(logits, keep, _K)
    lens_oracle.assert_lens(
        lens, {n: expected[n] for n in (*_STATISTICS, 'top_ids')}
    )

  def test_permuting_features_permutes_rows(self):
    directions, gain, table, keep = _draw(600, 3_000, 16)
    order = np.random.default_rng(1).permutation(600)

    def lens(d):
      return circuits.unembedding_lens(
          *(jnp.asarray(x) for x in (d, gain, table, keep)),
          k=7,
          precision='exact',
      )

    whole = lens(directions)
    permuted = lens(directions[order])
    for name in ('top_ids', 'bottom_ids', *_STATISTICS):
      np.testing.assert_array_equal(
          getattr(permuted, name), np.asarray(getattr(whole, name))[order], name
      )

  def test_rotating_the_residual_basis_changes_nothing(self):
    directions, gain, table, keep = _draw()
    rotation = scipy.stats.special_ortho_group.rvs(_D, random_state=2)
    folded = directions.astype(np.float64) * gain

    def lens(d, t):
      return circuits.unembedding_lens(
          jnp.asarray(d, jnp.float32),
          jnp.ones(_D),
          jnp.asarray(t, jnp.float32),
          jnp.asarray(keep),
          k=_K,
          precision='exact',
      )

    plain, turned = lens(folded, table), lens(
        folded @ rotation, table @ rotation
    )
    np.testing.assert_array_equal(plain.top_ids, turned.top_ids)
    np.testing.assert_array_equal(plain.bottom_ids, turned.bottom_ids)
    for name in _STATISTICS:
      a, b = np.asarray(getattr(plain, name)), np.asarray(getattr(turned, name))
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(a).max())

  @pytest.mark.any_compiler
  def test_works_under_jit(self):
    args = [jnp.asarray(x) for x in _draw()]
    core = lambda *a: circuits.unembedding_lens(*a, k=_K, precision='exact')  # noqa: E731
    np.testing.assert_array_equal(
        jax.jit(core)(*args).top_ids, core(*args).top_ids
    )

  def test_zero_direction_has_zero_logits_and_uniform_softmax(self):
    _, gain, table, keep = _draw()
    lens = circuits.unembedding_lens(
        jnp.zeros((_F, _D)),
        *(jnp.asarray(x) for x in (gain, table, keep)),
        k=_K,
        precision='exact',
    )
    for name in ('mean', 'std', 'skewness', 'kurtosis'):
      np.testing.assert_array_equal(getattr(lens, name), 0.0, name)
    np.testing.assert_allclose(lens.entropy, np.log(keep.sum()), atol=1e-5)

  @parameterized.named_parameters(
      ('k_zero', {'k': 0}, 'k=0'),
      ('k_large', {'k': 91}, 'k=91'),
      ('precision', {'precision': 'fast'}, "'fast'"),
      ('mask', {'mask': jnp.ones(89, bool)}, 'mask'),
      ('mask_type', {'mask': jnp.ones(90, jnp.int32)}, 'mask'),
      ('width', {'directions': jnp.ones((4, 13))}, 'width'),
      ('gain', {'gain': jnp.ones(11)}, 'gain'),
      ('all_masked', {'mask': jnp.zeros(90, bool)}, '0 of 90'),
  )
  @pytest.mark.any_compiler
  def test_refuses(self, change, message):
    names = ('directions', 'gain', 'unembedding', 'mask')
    kwargs = dict(zip(names, map(jnp.asarray, _draw(4, 90, 12)), strict=True))
    kwargs |= {'k': 3, 'precision': 'exact'} | change
    arrays = [kwargs.pop(name) for name in names]
    # As users run it: without the test run's own shape checks in front.
    jaxtyping.config.update('jaxtyping_disable', True)
    self.addCleanup(jaxtyping.config.update, 'jaxtyping_disable', False)
    with self.assertRaisesRegex(InputError, message):
      circuits.unembedding_lens(*arrays, **kwargs)


class ModelLensTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.models = {}
    with tempfile.TemporaryDirectory() as folder:
      for family in ('llama', 'gemma2'):
        path = make_checkpoint(pathlib.Path(folder) / family, family)
        cls.models[family] = load_model(path)

  def _float64(self, family):
    model = self.models[family]
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), model.params)
    offset = 1.0 if family == 'gemma2' else 0.0
    table = params['embedding' if family == 'gemma2' else 'unembedding']
    return model, params, params['final_norm']['weight'] + offset, table

  @parameterized.product(
      family=('llama', 'gemma2'),
      convention=('raw', 'folded', 'normed', 'cosine'),
      centered=(False, True),
  )
  @pytest.mark.any_compiler
  def test_output_lens_matches_its_convention(
      self, family, convention, centered
  ):
    model, _, gain, table = self._float64(family)
    dictionary = mlp_dictionary(model, 1)
    d = np.asarray(dictionary.decoder, np.float64)
    keep = np.asarray(circuits.readable_mask(model))
    u = table
    if convention == 'cosine':
      u = u / np.linalg.norm(u, axis=1, keepdims=True)
    if centered:
      u = u - u[keep].mean(axis=0)
    unit = d / np.linalg.norm(d, axis=1, keepdims=True)
    read = {
        'raw': d,
        'folded': d * gain,
        'normed': np.sqrt(20) * unit * gain,
        'cosine': d * gain / np.linalg.norm(d * gain, axis=1, keepdims=True),
    }[convention]
    cap = 30.0 if family == 'gemma2' and convention != 'cosine' else None
    lens = circuits.output_lens(
        model, dictionary, k=6, convention=convention, centered=centered
    )
    lens_oracle.assert_lens(lens, lens_oracle.lens_of(read @ u.T, keep, 6, cap))
    self.assertIsNone(lens.active_share)

  @parameterized.product(
      family=('llama', 'gemma2'), convention=('raw', 'normed', 'cosine')
  )
  @pytest.mark.any_compiler
  def test_input_lens_and_active_share(self, family, convention):
    model, params, _, _ = self._float64(family)
    # As many as there are neurons, which the other tests here read.
    size = model.config.mlp_dim
    dictionary = random_dictionary(model, 2, size=size).replace(
        encoder_bias=jnp.linspace(-0.5, 0.7, size),
        threshold=jnp.linspace(0.0, 1.2, size),
    )
    e = np.asarray(dictionary.encoder, np.float64)
    scale = np.sqrt(20) if family == 'gemma2' else 1.0
    u = scale * params['embedding']
    unit = e / np.linalg.norm(e, axis=1, keepdims=True)
    keep = np.asarray(circuits.readable_mask(model))
    read = {'raw': e, 'normed': np.sqrt(20) * unit, 'cosine': unit}[convention]
    table = u
    if convention == 'cosine':
      table = u / np.linalg.norm(u, axis=1, keepdims=True)
    lens = circuits.input_lens(model, dictionary, k=6, convention=convention)
    lens_oracle.assert_lens(lens, lens_oracle.lens_of(read @ table.T, keep, 6))
    if convention == 'cosine':
      self.assertIsNone(lens.active_share)
      return
    pre = e @ u.T + np.asarray(dictionary.encoder_bias, np.float64)[:, None]
    active = pre[:, keep] > np.asarray(dictionary.threshold)[:, None]
    self.assertBetween(active.mean(), 0.1, 0.9)
    np.testing.assert_allclose(
        lens.active_share, active.mean(axis=1), atol=1e-6
    )

  @pytest.mark.any_compiler
  def test_input_lens_refuses_what_does_not_read_the_stream(self):
    model = self.models['gemma2']
    dictionary = random_dictionary(model, 1, size=7)
    elsewhere = dataclasses.replace(
        dictionary, site=DictionarySite(1, 'attn_z')
    )
    with self.assertRaisesRegex(InputError, 'attn_z of layer 1'):
      circuits.input_lens(model, elsewhere)
    transcoder = dataclasses.replace(
        dictionary, site=DictionarySite(1, 'mlp_in')
    )
    self.assertIsNone(circuits.input_lens(model, transcoder).active_share)

  @pytest.mark.any_compiler
  def test_normed_forgets_the_norm_and_raw_does_not(self):
    model = self.models['llama']
    dictionary = mlp_dictionary(model, 0)
    twice = dictionary.replace(decoder=2 * dictionary.decoder)
    for convention, factor in (('normed', 1.0), ('raw', 2.0)):
      one = circuits.output_lens(model, dictionary, k=6, convention=convention)
      two = circuits.output_lens(model, twice, k=6, convention=convention)
      np.testing.assert_allclose(
          two.top_logits, factor * one.top_logits, rtol=1e-6
      )

  @parameterized.product(
      length=(1e-30, 1e-24, 1e-18, 1e19, 1e30),
      convention=('normed', 'cosine'),
  )
  def test_a_direction_of_any_length_counts(self, length, convention):
    """Its squares are beyond float32; the direction is what it was."""
    model = self.models['llama']
    drawn = random_dictionary(model, 1, size=9)
    scaled = drawn.replace(decoder=drawn.decoder * jnp.float32(length))
    args = {'k': 5, 'convention': convention}
    unit = circuits.output_lens(model, drawn, **args)
    lens = circuits.output_lens(model, scaled, **args)
    self.assertGreater(float(unit.std.min()), 0.01)
    np.testing.assert_array_equal(lens.top_ids, unit.top_ids)
    for name in ('top_logits', 'bottom_logits', *_STATISTICS):
      np.testing.assert_allclose(
          getattr(lens, name),
          getattr(unit, name),
          rtol=1e-5,
          atol=1e-5,
          err_msg=name,
      )

  @pytest.mark.any_compiler
  def test_readable_mask_drops_special_and_padding_tokens(self):
    model = self.models['gemma2']
    keep = np.asarray(circuits.readable_mask(model))
    self.assertFalse(keep[:2].any())
    self.assertFalse(keep[-3:].any())
    self.assertGreater(keep.sum(), 80)

  @pytest.mark.any_compiler
  def test_unknown_convention_is_refused(self):
    model = self.models['llama']
    with self.assertRaisesRegex(InputError, "convention 'norm' is unknown"):
      circuits.output_lens(model, mlp_dictionary(model, 0), convention='norm')

  @pytest.mark.any_compiler
  def test_missing_part_names_what_to_load(self):
    model = self.models['llama']
    params = {k: v for k, v in model.params.items() if k != 'unembedding'}
    with self.assertRaisesRegex(InputError, "'unembedding' in parts"):
      circuits.output_lens(
          model.replace(params=params), mlp_dictionary(model, 0)
      )


if __name__ == '__main__':
  absltest.main()
