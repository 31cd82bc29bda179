"""What a Dictionary computes, and that JAX may transform it."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax import InputError
from ooc_jax import Site
from ooc_jax.dictionaries import HOOKS
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from tests.dictionaries import written


def _dictionary(tensors, **changes):
  fields = {
      'encoder': jnp.asarray(tensors['W_enc'].T),
      'decoder': jnp.asarray(tensors['W_dec']),
      'encoder_bias': jnp.asarray(tensors['b_enc']),
      'decoder_bias': jnp.asarray(tensors['b_dec']),
      'threshold': jnp.asarray(tensors['threshold']),
      'site': DictionarySite(1, 'resid_post'),
      'name': 'drawn',
  }
  return Dictionary(**(fields | changes))


class EncodeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.tensors = written.draw()
    self.dictionary = _dictionary(self.tensors)
    self.x = written.inputs()

  def test_matches_definition(self):
    sae = written.reading(self.tensors)
    written.assert_computes(self, self.dictionary, sae, self.x)

  def test_threshold_is_strict(self):
    """At the threshold a feature is silent; a step above, it is not."""
    dictionary = Dictionary(
        encoder=jnp.ones((1, 1)),
        decoder=jnp.ones((1, 1)),
        encoder_bias=jnp.zeros(1),
        decoder_bias=jnp.zeros(1),
        threshold=jnp.full(1, 0.75),
        site=DictionarySite(0, 'resid_pre'),
        name='one',
    )
    above = np.nextafter(np.float32(0.75), np.float32(1))
    x = np.array([[0.75], [above], [0.5]], np.float32)
    np.testing.assert_array_equal(dictionary.encode(x), [[0], [above], [0]])
    relu = dictionary.replace(threshold=jnp.zeros(1))
    x = np.array([[0.0], [1e-30], [-1.0]], np.float32)
    np.testing.assert_array_equal(
        relu.encode(x)[:, 0] > 0, [False, True, False]
    )

  @parameterized.parameters(0.0, 6.0)
  def test_top_k_keeps_the_k_largest_that_fire(self, lowered):
    """With the bias lowered by 6 fewer than k are over zero in most rows."""
    k = 5
    bias = self.tensors['b_enc'] - np.float32(lowered)
    dictionary = _dictionary(
        self.tensors,
        encoder_bias=jnp.asarray(bias),
        threshold=jnp.zeros(written.F),
        top_k=k,
    )
    pre = self.x @ self.tensors['W_enc'].astype(np.float64) + bias
    expected = np.zeros_like(pre)
    for row, out in zip(pre, expected, strict=True):
      best = np.argsort(-row)[:k]
      out[best] = np.maximum(row[best], 0)
    fewer = ((expected != 0).sum(axis=1) < k).mean()
    self.assertBetween(fewer, *((0.5, 1.0) if lowered else (0.0, 0.01)))
    actual = dictionary.encode(self.x.astype(np.float32))
    written.assert_same(actual, expected)

  def test_ties_of_top_k_keep_no_more_than_k(self):
    dictionary = _dictionary(
        self.tensors,
        encoder=jnp.ones((written.F, written.D)),
        encoder_bias=jnp.zeros(written.F),
        threshold=jnp.zeros(written.F),
        top_k=4,
    )
    a = np.asarray(dictionary.encode(np.ones(written.D, np.float32)))
    self.assertEqual((a != 0).sum(), 4)

  def test_any_batch_shape(self):
    x = self.x[:12].astype(np.float32)
    flat = self.dictionary.encode(x)
    shaped = self.dictionary.encode(x.reshape(3, 4, written.D))
    np.testing.assert_array_equal(shaped.reshape(12, written.F), flat)
    # One row alone is summed in another order.
    one = self.dictionary.encode(x[0])
    self.assertEqual(one.shape, (written.F,))
    np.testing.assert_allclose(one, flat[0], atol=1e-5)
    self.assertEqual(self.dictionary.decode(one).shape, (written.D,))

  def test_bfloat16_weights_are_read_exactly(self):
    rounded = {
        n: np.asarray(jnp.asarray(self.tensors[n], jnp.bfloat16), np.float32)
        for n in ('W_enc', 'W_dec')
    }
    dictionary = self.dictionary.replace(
        encoder=self.dictionary.encoder.astype(jnp.bfloat16),
        decoder=self.dictionary.decoder.astype(jnp.bfloat16),
    )
    sae = written.reading(self.tensors | rounded)
    written.assert_computes(self, dictionary, sae, self.x)

  @parameterized.parameters('encode', 'decode')
  def test_other_width_is_refused(self, method):
    with self.assertRaisesRegex(InputError, 'width'):
      getattr(self.dictionary, method)(np.ones((2, 7), np.float32))


class PytreeTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dictionary = _dictionary(written.draw(), top_k=3, files=('a',))
    self.x = jnp.asarray(written.inputs(), jnp.float32)

  def test_jit_and_grad(self):
    encode = jax.jit(lambda d, x: d.encode(x))
    np.testing.assert_allclose(
        encode(self.dictionary, self.x), self.dictionary.encode(self.x),
        atol=1e-5,
    )  # fmt: skip
    grad = jax.grad(lambda d: d.decode(d.encode(self.x)).sum())(self.dictionary)
    self.assertGreater(float(jnp.abs(grad.decoder).max()), 0)

  def test_tree_map_eval_shape_and_vmap_keep_what_is_static(self):
    shapes = jax.eval_shape(lambda d: d, self.dictionary)
    self.assertEqual(shapes.encoder.shape, (written.F, written.D))
    doubled = jax.tree.map(lambda x: 2 * x, self.dictionary)
    self.assertEqual(doubled.site, self.dictionary.site)
    self.assertEqual(doubled.top_k, 3)
    self.assertLen(jax.tree.leaves(self.dictionary), 5)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), self.dictionary, doubled)
    out = jax.vmap(lambda d: d.encode(self.x))(stacked)
    self.assertEqual(out.shape, (2, len(self.x), written.F))


class SiteTest(parameterized.TestCase):

  @parameterized.parameters(
      ('resid_pre', True, False),
      ('resid_mid', True, False),
      ('resid_post', True, False),
      ('embedding', True, False),
      ('mlp_neuron', True, True),
      ('mlp_in', True, True),
      ('attn_z', False, False),
      ('attn_out', False, False),
      ('mlp_out', False, False),
  )
  def test_what_is_in_the_stream(self, hook, reads, normed):
    site = DictionarySite(3, hook)
    self.assertIn(hook, HOOKS)
    self.assertEqual(site.reads_stream, reads)
    self.assertEqual(site.reads_normed, normed)

  def test_places_of_a_forward_pass(self):
    """Of one vocabulary: what is there has the name of the tap."""
    self.assertCountEqual(HOOKS, [place.value for place in Site])
    apart = ('mlp_in', 'mlp_neuron', 'attn_z')
    for place in set(Site) - {*apart, 'embedding'}:
      self.assertEqual(DictionarySite(3, place.value).tap, (place, 3))
    embedding = DictionarySite(0, 'embedding')
    self.assertEqual(embedding.tap, (Site.RESID_PRE, 0))
    for hook in apart:
      with self.assertRaisesRegex(InputError, f'hook {hook!r} reads at one'):
        _ = DictionarySite(3, hook).tap

  def test_hooks_are_the_listed_ones(self):
    self.assertLen(HOOKS, 9)


if __name__ == '__main__':
  absltest.main()
