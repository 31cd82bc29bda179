"""What heads say about the next token, against float64 NumPy."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.circuits.ov import _ov_lens
from tests.circuits import attention_models
from tests.circuits import lens_oracle
from tests.circuits import qk_oracle

_K = 6


@pytest.mark.any_compiler
class OvLensTest(parameterized.TestCase):

  @parameterized.product(
      family=('llama', 'gemma2'),
      convention=('raw', 'folded', 'normed', 'cosine'),
      centered=(False, True),
  )
  def test_matches_its_convention(self, family, convention, centered):
    model = attention_models.tiny_model(family)
    dictionary = attention_models.dictionary(model, 1, size=37)
    head = 4
    w = qk_oracle.writes(model, dictionary.decoder, 1, head)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), model.params)
    gain = params['final_norm']['weight'] + (family == 'gemma2')
    u = params['embedding' if family == 'gemma2' else 'unembedding']
    keep = np.asarray(circuits.readable_mask(model))
    if convention == 'cosine':
      u = u / np.linalg.norm(u, axis=1, keepdims=True)
    if centered:
      u = u - u[keep].mean(axis=0)
    read = {
        'raw': w,
        'folded': w * gain,
        'normed': (
            np.sqrt(20) * w / np.linalg.norm(w, axis=1, keepdims=True) * gain
        ),
        'cosine': w * gain / np.linalg.norm(w * gain, axis=1, keepdims=True),
    }[convention]
    cap = 30.0 if family == 'gemma2' and convention != 'cosine' else None
    lens = circuits.ov_lens(
        model, dictionary, 1, head, k=_K, convention=convention,
        centered=centered,
    )  # fmt: skip
    expected = lens_oracle.lens_of(read @ u.T, keep, _K, cap)
    lens_oracle.assert_lens(lens, expected, rtol=5e-5)

  def test_every_head_is_its_own(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 2, size=37)
    keep = np.asarray(circuits.readable_mask(model))
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), model.params)
    table = params['final_norm']['weight'] * params['unembedding']
    for head in range(6):
      w = qk_oracle.writes(model, dictionary.decoder, 2, head)
      lens = circuits.ov_lens(
          model, dictionary, 2, head, k=_K, convention='folded'
      )
      expected = lens_oracle.lens_of(w @ table.T, keep, _K, None)
      np.testing.assert_array_equal(lens.top_ids, expected['top_ids'])

  @parameterized.parameters('normed', 'cosine')
  def test_write_of_nothing(self, convention):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1, size=37)
    dictionary = dictionary.replace(decoder=dictionary.decoder.at[5].set(0.0))
    lens = circuits.ov_lens(
        model, dictionary, 1, 0, k=_K, convention=convention
    )
    np.testing.assert_array_equal(lens.top_logits[5], 0)
    kept = int(circuits.readable_mask(model).sum())
    np.testing.assert_allclose(lens.entropy[5], np.log(kept), rtol=1e-6)

  def test_own_mask(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1, size=37)
    mask = np.arange(model.config.vocab_size) % 3 == 1
    lens = circuits.ov_lens(
        model, dictionary, 1, 0, k=_K, mask=jnp.asarray(mask)
    )
    self.assertTrue(mask[lens.top_ids].all())
    np.testing.assert_array_equal(lens.mask, mask)

  def test_refusals(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1, size=37)
    for change, message in (
        ({'head': 6}, 'no head 6'),
        ({'layer': 2}, 'attention of layer 1, not of layer 2'),
        ({'convention': 'norm'}, "convention 'norm' is unknown"),
        ({'k': 0}, 'k=0'),
    ):
      kwargs = {'layer': 1, 'head': 0} | change
      with self.assertRaisesRegex(InputError, message):
        circuits.ov_lens(model, dictionary, **kwargs)


class TableTest(parameterized.TestCase):

  @parameterized.product(
      dtype=(jnp.float32, jnp.bfloat16), unit_rows=(False, True)
  )
  def test_is_the_product(self, dtype, unit_rows):
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.normal(size=(53, 12)), dtype).at[7].set(0)
    output = jnp.asarray(rng.normal(size=(5, 12)), jnp.float32)
    expected = np.asarray(rows, np.float64)
    if unit_rows:
      norm = np.linalg.norm(expected, axis=1, keepdims=True)
      expected = expected / np.where(norm > 0, norm, 1)
    expected = expected @ np.asarray(output, np.float64).T
    # Seven blocks, of which the last reaches back.
    with mock.patch.object(_ov_lens, '_ROWS', 8):
      actual = _ov_lens.read_output(rows, output, unit_rows=unit_rows)
    self.assertEqual(actual.dtype, jnp.float32)
    np.testing.assert_allclose(actual, expected, atol=2e-6)

  def test_sharded_rows_stay_where_they_are(self):
    rng = np.random.default_rng(0)
    mesh = jax.make_mesh(
        (8,), ('vocab',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    rows = jnp.asarray(rng.normal(size=(64, 12)), jnp.bfloat16)
    output = jnp.asarray(rng.normal(size=(5, 12)), jnp.float32)
    sharding = jax.NamedSharding(mesh, jax.P('vocab'))
    with mock.patch.object(_ov_lens, '_ROWS', 3):
      actual = _ov_lens.read_output(jax.device_put(rows, sharding), output)
    self.assertLen(actual.devices(), 8)
    expected = np.asarray(rows, np.float64) @ np.asarray(output, np.float64).T
    np.testing.assert_allclose(actual, expected, atol=2e-6)


if __name__ == '__main__':
  absltest.main()
