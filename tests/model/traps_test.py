"""Plants the classic faults, one at a time, and sees the golden files object.

Each of these has changed numbers somewhere without changing a shape. A fault
that moved no logit by more than 1e-3 would mean that the golden files are
blind to it; the parity tests allow 5e-5.
"""

import contextlib
import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope
from ooc_jax.model import _layers
from ooc_jax.model import forward
from tests.model import golden_files

_MARGIN = 1e-3
# Enough for windows of 64 and every RoPE regime; see `Golden.short`.
_LENGTH = 160


def _difference(golden: golden_files.Golden, **changes) -> float:
  """Largest |Δlogit| when the config says something else."""
  model = golden.model
  config = dataclasses.replace(model.config, **changes)
  # Through a tap, so that no compiled function of another test is used.
  logits = forward(
      model.replace(config=config), golden.tokens, tap=lambda *_: _[-1]
  )
  logits = np.asarray(logits)[:, golden.positions]
  return float(np.abs(logits - golden.logits).max())


def _embedding_scale(value):
  """Replaces a derived property of the config."""
  return mock.patch.object(
      ModelConfig, 'embedding_scale', property(lambda _: value)
  )


_ROTARY = tuple(x for x in golden_files.NAMES if x != 'gpt2')
_GROUPED = tuple(x for x in golden_files.NAMES if not x.startswith('gpt'))


def _interleaved(x, positions, frequencies):
  """RoPE over pairs (2i, 2i + 1)."""
  x, rest = jnp.split(x, [2 * len(frequencies)], axis=-1)
  angles = positions[..., None] * jnp.asarray(frequencies, jnp.float32)
  cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
  even, odd = x[..., ::2], x[..., 1::2]
  pairs = [even * cos - odd * sin, odd * cos + even * sin]
  turned = jnp.stack(pairs, axis=-1).reshape(x.shape)
  return jnp.concatenate([turned, rest], axis=-1)


def _without_norms(*skipped: str):
  """Leaves out the norms of these names."""
  whole = _layers.RMSNorm.__call__

  def call(self, x, *tap):
    return x if self.name in skipped else whole(self, x, *tap)

  return mock.patch.object(_layers.RMSNorm, '__call__', call)


def _kv_head_by_remainder(golden: golden_files.Golden) -> golden_files.Golden:
  """Moves query heads such that head n reads key-value head n % K."""
  config = golden.model.config
  K, G = config.num_kv_heads, config.group_size
  order = np.arange(config.num_heads).reshape(G, K).T.ravel()
  params = jax.tree.map(lambda x: x, golden.model.params)
  for i in range(config.num_layers):
    attention = params[f'layer_{i}']['attention']
    attention['query'] = attention['query'][:, order]
    attention['output'] = attention['output'][order]
  return dataclasses.replace(golden, model=golden.model.replace(params=params))


def _window(by: int):
  """Moves the far edge of the sliding window."""
  whole = _layers.attention_mask

  def mask(length, window):
    return whole(length, window if window is None else window + by)

  return mock.patch.object(_layers, 'attention_mask', mask)


# Of the golden files more than of the code: a fault of the code is seen by
# parity_test, in the default tests.
@pytest.mark.slow
class TrapsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # The strict modes guard the product; the faults here are written tersely.
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_rank_promotion('allow'))
    stack.enter_context(jax.numpy_dtype_promotion('standard'))
    self.addCleanup(stack.close)

  def golden(self, name: str) -> golden_files.Golden:
    return golden_files.load(name).short(_LENGTH)

  def assert_seen(self, difference: float):
    self.assertGreater(difference, _MARGIN)

  @parameterized.parameters(*golden_files.NAMES)
  def test_no_fault_no_difference(self, name):
    self.assertLess(_difference(self.golden(name)), 5e-5)

  @parameterized.parameters('gemma2', 'gemma3')
  def test_norm_offset_dropped(self, name):
    self.assert_seen(_difference(self.golden(name), norm_offset=0.0))

  def test_norm_offset_added_in_llama(self):
    self.assert_seen(_difference(self.golden('llama'), norm_offset=1.0))

  @parameterized.parameters(*_ROTARY)
  def test_rope_interleaved(self, name):
    with mock.patch.object(_layers, 'apply_rope', _interleaved):
      self.assert_seen(_difference(self.golden(name)))

  @parameterized.parameters(*_ROTARY)
  def test_rope_backwards(self, name):
    """Rotated the other way, q·k depends on the distance, but mirrored."""
    right = _layers.apply_rope
    with mock.patch.object(
        _layers, 'apply_rope', lambda x, p, f: right(x, -p, f)
    ):
      self.assert_seen(_difference(self.golden(name)))

  @parameterized.parameters(*_GROUPED)
  def test_kv_head_by_remainder(self, name):
    golden = self.golden(name)
    self.assert_seen(_difference(_kv_head_by_remainder(golden)))

  @parameterized.parameters('gemma2', 'gemma3', 'gemma3_nested')
  def test_scale_of_head_width_or_of_residual_width(self, name):
    golden = self.golden(name)
    c = golden.model.config
    by_head = c.head_dim**-0.5
    by_residual = (c.embed_dim / c.num_heads) ** -0.5
    self.assert_seen(_difference(golden, attention_scale=by_head))
    self.assert_seen(_difference(golden, attention_scale=by_residual))

  def test_scale_of_residual_width_in_llama(self):
    golden = self.golden('llama')
    c = golden.model.config
    scale = (c.embed_dim / c.num_heads) ** -0.5
    self.assert_seen(_difference(golden, attention_scale=scale))

  @parameterized.parameters('attention_softcap', 'final_softcap')
  def test_softcap_dropped_or_of_the_wrong_size(self, name):
    golden = self.golden('gemma2')
    cap = getattr(golden.model.config, name)
    self.assert_seen(_difference(golden, **{name: None}))
    self.assert_seen(_difference(golden, **{name: 1.05 * cap}))

  @parameterized.parameters('gemma2', 'gemma3')
  def test_embedding_scale_dropped_or_applied_twice(self, name):
    golden = self.golden(name)
    self.assert_seen(_difference(golden, scale_embedding=False))
    with _embedding_scale(float(golden.model.config.embed_dim)):
      self.assert_seen(_difference(golden))

  def test_embedding_scaled_in_llama(self):
    golden = self.golden('llama')
    self.assert_seen(_difference(golden, scale_embedding=True))

  @parameterized.parameters(
      'gemma2', 'gemma3', 'gemma3_nested', 'mistral', 'qwen2'
  )
  def test_window_off(self, name):
    golden = self.golden(name)
    # The mask only: in Gemma 3 the window also chooses the RoPE.
    whole = _layers.attention_mask
    with mock.patch.object(
        _layers, 'attention_mask', lambda length, _: whole(length, None)
    ):
      self.assert_seen(_difference(golden))

  @parameterized.product(
      name=('gemma2', 'gemma3', 'gemma3_nested', 'mistral', 'qwen2'),
      by=(-1, 1),
  )
  def test_window_off_by_one(self, name, by):
    with _window(by):
      self.assert_seen(_difference(self.golden(name)))

  @parameterized.parameters('gemma2', 'gemma3', 'gemma3_nested', 'qwen2')
  def test_window_on_the_other_layers(self, name):
    golden = self.golden(name)
    windows = golden.model.config.windows
    swapped = tuple(64 if w is None else None for w in windows)
    shifted = windows[1:] + windows[:1]
    self.assert_seen(_difference(golden, windows=swapped))
    self.assert_seen(_difference(golden, windows=shifted))

  def test_llama3_scaling_dropped(self):
    golden = self.golden('llama')
    base = golden.model.config.rope.base
    self.assert_seen(_difference(golden, rope=Rope(base=base)))

  def test_llama3_scaling_without_interpolation(self):
    """Each frequency kept or divided, none between."""
    golden = self.golden('llama')
    right = _layers.rope_frequencies

    def nearest(rope, head_dim):
      plain = right(Rope(base=rope.base), head_dim)
      scaled = right(rope, head_dim)
      keep = scaled > plain / 2
      return np.where(keep, plain, plain / rope.llama3.factor)

    with mock.patch.object(_layers, 'rope_frequencies', nearest):
      self.assert_seen(_difference(golden))

  def test_linear_scaling_dropped_or_put_on_local_layers(self):
    golden = self.golden('gemma3_nested')
    rope, local = golden.model.config.rope, golden.model.config.local_rope
    self.assert_seen(_difference(golden, rope=Rope(base=rope.base)))
    scaled = Rope(base=local.base, linear_factor=rope.linear_factor)
    self.assert_seen(_difference(golden, local_rope=scaled))

  @parameterized.parameters('gemma3', 'gemma3_nested')
  def test_one_rope_for_all_layers(self, name):
    golden = self.golden(name)
    config = golden.model.config
    self.assert_seen(_difference(golden, local_rope=None))
    self.assert_seen(_difference(golden, rope=config.local_rope))

  @parameterized.product(
      name=('gemma2', 'gemma3'),
      norm=('post_attention_norm', 'post_mlp_norm'),
  )
  def test_post_norm_dropped(self, name, norm):
    with _without_norms(norm):
      self.assert_seen(_difference(self.golden(name)))

  @parameterized.product(
      name=('gemma3', 'gemma3_nested', 'qwen3'),
      norm=('query_norm', 'key_norm'),
  )
  def test_qk_norm_dropped(self, name, norm):
    with _without_norms(norm):
      self.assert_seen(_difference(self.golden(name)))

  @parameterized.parameters('gemma2', 'gemma3')
  def test_gelu_exact_for_tanh(self, name):
    """A small fault: 3.5e-3 in Gemma 2, 6.1e-3 in Gemma 3."""

    exact = lambda x: x * jax.scipy.special.ndtr(x)  # noqa: E731
    with mock.patch.dict(_layers._ACTIVATIONS, gelu_tanh=exact):
      self.assert_seen(_difference(self.golden(name)))

  @parameterized.parameters('llama', 'gemma2')
  def test_activation_of_the_other_family(self, name):
    other = {'llama': 'gelu_tanh', 'gemma2': 'silu'}
    self.assert_seen(_difference(self.golden(name), activation=other[name]))

  def test_untied_model_read_as_tied(self):
    self.assert_seen(_difference(self.golden('llama'), tied=True))

  def test_norm_epsilon_of_another_family(self):
    golden = self.golden('llama')
    self.assert_seen(_difference(golden, norm_eps=1e-3))

  def test_final_norm_dropped(self):
    with _without_norms('final_norm'):
      self.assert_seen(_difference(self.golden('llama')))

  def test_tied_model_with_another_unembedding(self):
    golden = self.golden('llama_tied')
    other = jnp.flip(golden.model.params['embedding'], axis=0)
    params = golden.model.params | {'unembedding': other}
    golden = dataclasses.replace(
        golden, model=golden.model.replace(params=params)
    )
    self.assertLess(_difference(golden), 5e-5)  # Tied: not looked at.
    self.assert_seen(_difference(golden, tied=False))

  def test_positions_from_one(self):
    """No fault: RoPE knows distances only."""
    golden = self.golden('llama')
    right = _layers.apply_rope
    with mock.patch.object(
        _layers, 'apply_rope', lambda x, p, f: right(x, p + 1, f)
    ):
      self.assertLess(_difference(golden), 1e-4)


if __name__ == '__main__':
  absltest.main()
