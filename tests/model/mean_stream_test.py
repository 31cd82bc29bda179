"""The mean of the stream, over texts that are made by hand."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ooc_jax
from ooc_jax import model as room
from ooc_jax.model import Site
from ooc_jax.model import Transformer
from tests import finished


def _streams(model, tokens):
  """Layer -> [B, T, D]."""
  places = [(Site.RESID_PRE, x) for x in range(model.config.num_layers)]
  _, saved = room.run_with_taps(
      lambda t, tap: Transformer(model.config).apply(
          {'params': model.params}, t, tap=tap
      ),
      tokens,
      save=places,
  )
  return [np.asarray(saved[place], np.float64) for place in places]


class MeanStreamTest(absltest.TestCase):

  @pytest.mark.slow
  def test_is_that_of_the_texts(self):
    """With one token to draw there is one text: BOS and it, twice."""
    for family in ('llama', 'gemma2'):
      model = ooc_jax.load_model(finished.checkpoint(family))
      mask = np.zeros(model.config.vocab_size, bool)
      mask[11] = True
      prefix = list(model.tokenizer.encode('')) or [11]
      text = jnp.asarray([[*prefix, 11, 11]], jnp.int32)
      expected = np.stack([x[0, -1] for x in _streams(model, text)])
      # Of 33 texts, the last is alone in its batch.
      found = room.mean_stream(model, mask, draws=33)
      self.assertEqual(found.shape, (3, model.config.embed_dim))
      np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

  def test_first_layer_is_the_mean_of_drawn_tokens(self):
    """The last token is one that the model predicts."""
    model = ooc_jax.load_model(finished.checkpoint('llama'))
    found = room.mean_stream(model, draws=2000, seed=3)
    rng = np.random.default_rng(0)
    prefix = list(model.tokenizer.encode(''))
    V = model.config.vocab_size
    texts = np.array([
        [*(prefix or rng.integers(V, size=1)), x]
        for x in rng.integers(V, size=2000)
    ])
    logits = ooc_jax.forward(model, jnp.asarray(texts, jnp.int32))[:, -1]
    chance = np.asarray(jax.nn.softmax(logits)).mean(axis=0)
    table = np.asarray(model.params['embedding'], np.float64)
    expected = chance @ table
    error = table.std(axis=0) * np.sqrt(2 / 2000)
    self.assertLess(np.abs(found[0] - expected).max(), 5 * error.max())
    again = room.mean_stream(model, draws=2000, seed=3)
    np.testing.assert_array_equal(found, again)

  def test_refused(self):
    model = ooc_jax.load_model(finished.checkpoint('llama'))
    with self.assertRaisesRegex(ooc_jax.InputError, '0 texts of'):
      room.mean_stream(model, draws=0)
    with self.assertRaisesRegex(ooc_jax.InputError, '512 texts of 0 tokens'):
      room.mean_stream(model, np.zeros(model.config.vocab_size, bool))


if __name__ == '__main__':
  absltest.main()
