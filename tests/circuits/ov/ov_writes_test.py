"""Writes from features to features, and copying, against float64 NumPy."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.dictionaries import token_dictionary
from tests.circuits import attention_models
from tests.circuits import qk_oracle

_LAYER, _HEAD = 1, 4


def _all_writes(model, source, readers, head=_HEAD):
  """Float64 [S, T]."""
  w = qk_oracle.writes(model, source.decoder, _LAYER, head)
  return w @ np.asarray(readers, np.float64).T


def _assert_copying(copying, x, k):
  """`x` [F, F]: what the head adds to reader j where it reads feature i."""
  own = np.diag(x)
  scale = x.std()
  np.testing.assert_allclose(copying.self_write, own, atol=1e-5 * scale)
  z = (own - x.mean(axis=1)) / x.std(axis=1)
  np.testing.assert_allclose(copying.z_score, z, atol=1e-4)
  rank = (x > own[:, None]).sum(axis=1)
  np.testing.assert_array_equal(copying.in_top, rank < k)
  np.testing.assert_allclose(copying.positive_share, (own > 0).mean())
  np.testing.assert_allclose(copying.copy_score, (rank < k).mean())
  eigenvalues = np.linalg.eigvals(x.T)
  expected = eigenvalues.real.sum() / np.abs(eigenvalues).sum()
  np.testing.assert_allclose(copying.eigenvalue_score, expected, atol=1e-5)


class OvWritesTest(parameterized.TestCase):

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_matches_definition(self, family):
    model = attention_models.tiny_model(family)
    source = attention_models.dictionary(model, 1, size=37)
    target = attention_models.dictionary(model, 2, size=53, seed=8)
    found = circuits.ov_writes(model, source, target, _LAYER, _HEAD, k=7)
    x = _all_writes(model, source, target.encoder)
    falling = np.argsort(-x, axis=1, kind='stable')[:, :7]
    rising = np.argsort(x, axis=1, kind='stable')[:, :7]
    np.testing.assert_array_equal(found.top_ids, falling)
    np.testing.assert_array_equal(found.bottom_ids, rising)
    atol = 1e-5 * x.std()
    for name, value in (
        ('top_values', np.take_along_axis(x, falling, axis=1)),
        ('bottom_values', np.take_along_axis(x, rising, axis=1)),
        ('mean', x.mean(axis=1)),
        ('std', x.std(axis=1)),
    ):
      np.testing.assert_allclose(
          getattr(found, name), value, rtol=1e-4, atol=atol, err_msg=name
      )

  def test_targets_in_bfloat16(self):
    model = attention_models.tiny_model('llama')
    source = attention_models.dictionary(model, 1, size=37)
    target = attention_models.dictionary(model, 2, size=53)
    target = target.replace(encoder=target.encoder.astype(jnp.bfloat16))
    found = circuits.ov_writes(model, source, target, _LAYER, _HEAD, k=7)
    x = _all_writes(model, source, target.encoder)
    falling = np.argsort(-x, axis=1, kind='stable')[:, :7]
    np.testing.assert_array_equal(found.top_ids, falling)

  @pytest.mark.any_compiler
  def test_refusals(self):
    model = attention_models.tiny_model('llama')
    source = attention_models.dictionary(model, 1, size=37)
    elsewhere = attention_models.at_site(source, 1, 'attn_out')
    with self.assertRaisesRegex(InputError, 'reads attn_out of layer 1'):
      circuits.ov_writes(model, source, elsewhere, _LAYER, _HEAD)
    with self.assertRaisesRegex(InputError, 'reads attn_out of layer 0'):
      at_input = attention_models.at_site(source, 0, 'attn_out')
      circuits.ov_copying(model, at_input, _LAYER, _HEAD)
    with self.assertRaisesRegex(InputError, 'k=38'):
      circuits.ov_writes(model, source, source, _LAYER, _HEAD, k=38)
    with self.assertRaisesRegex(InputError, 'not of layer 2'):
      circuits.ov_writes(model, source, source, 2, _HEAD)


class OvCopyingTest(parameterized.TestCase):

  @parameterized.parameters('llama', 'gemma2')
  def test_matches_definition(self, family):
    model = attention_models.tiny_model(family)
    dictionary = attention_models.dictionary(model, 1, size=37)
    copying = circuits.ov_copying(model, dictionary, _LAYER, _HEAD, k=5)
    x = _all_writes(model, dictionary, dictionary.encoder)
    _assert_copying(copying, x, 5)

  @parameterized.parameters('llama', 'gemma2')
  @pytest.mark.any_compiler
  def test_tokens_are_read_by_the_unembedding(self, family):
    model = attention_models.tiny_model(family)
    tokens = token_dictionary(model)
    copying = circuits.ov_copying(model, tokens, _LAYER, _HEAD, k=5)
    gain = np.asarray(circuits.final_gain(model), np.float64)
    readers = np.asarray(circuits.unembedding_table(model), np.float64) * gain
    _assert_copying(copying, _all_writes(model, tokens, readers), 5)

  def test_tokens_of_bfloat16(self):
    model = attention_models.tiny_model('gemma2')
    model = model.replace(
        params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), model.params)
    )
    tokens = token_dictionary(model)
    copying = circuits.ov_copying(model, tokens, _LAYER, _HEAD, k=5)
    gain = np.asarray(circuits.final_gain(model), np.float64)
    readers = np.asarray(circuits.unembedding_table(model), np.float64) * gain
    _assert_copying(copying, _all_writes(model, tokens, readers), 5)

  @parameterized.parameters('llama', 'gemma2')
  @pytest.mark.any_compiler
  def test_planted_copying_head(self, family):
    # The head reads and writes the same 8 dimensions; the features lie there.
    model = attention_models.tiny_model(family)
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(20, 8)))
    rows = rng.normal(size=(29, 8)) @ basis.T
    dictionary = attention_models.dictionary(model, 1, size=29)
    dictionary = dictionary.replace(
        decoder=jnp.asarray(rows, jnp.float32),
        encoder=jnp.asarray(rows, jnp.float32)
        / np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32),
    )
    gains = attention_models.gain(model, 1, 'attention_norm')
    value = attention_models.weight(model, 1, 'value')
    output = attention_models.weight(model, 1, 'output')
    value[:, _HEAD // 3] = basis / gains[:, None]
    output[_HEAD] = basis.T
    output[_HEAD - 1] = -basis.T  # The same kv head, and takes away.
    if model.config.post_norms:
      post = attention_models.gain(model, 1, 'post_attention_norm')
      output[_HEAD - 1 : _HEAD + 1] /= post
    planted = attention_models.with_weights(
        model, 1, value=value, output=output
    )
    found = [
        circuits.ov_copying(planted, dictionary, _LAYER, head, k=1)
        for head in range(6)
    ]
    copies = found[_HEAD]
    np.testing.assert_allclose(copies.self_write, np.sqrt(20), rtol=1e-5)
    self.assertEqual(copies.copy_score, 1.0)
    self.assertEqual(copies.positive_share, 1.0)
    self.assertAlmostEqual(copies.eigenvalue_score, 1.0, places=5)
    self.assertGreater(np.asarray(copies.z_score).min(), 1.5)
    takes = found[_HEAD - 1]
    self.assertEqual(takes.positive_share, 0.0)
    self.assertAlmostEqual(takes.eigenvalue_score, -1.0, places=5)
    for head in (0, 1, 2, 5):
      self.assertLess(found[head].copy_score, 0.3)
      self.assertLess(abs(found[head].eigenvalue_score), 0.8)

  @pytest.mark.any_compiler
  def test_tokens_need_their_own_rows(self):
    model = attention_models.tiny_model('llama')
    tokens = token_dictionary(model)
    fewer = tokens.replace(decoder=tokens.decoder[:50])
    with self.assertRaisesRegex(InputError, 'the same tokens'):
      circuits.ov_copying(model, fewer, _LAYER, _HEAD)


if __name__ == '__main__':
  absltest.main()
