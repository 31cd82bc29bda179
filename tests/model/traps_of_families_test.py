"""Plants the faults of biases, LayerNorm, fused tensors and partial rotation.

As `traps_test`, which has the faults of Llama and Gemma: each is seen by the
golden files, or is shown to be none.
"""

import contextlib
import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax.model import Rope
from ooc_jax.model import _layers
from ooc_jax.model import forward
from tests.model import golden_files

_MARGIN = 1e-3
_LENGTH = 160
_BIASED = ('gpt2', 'gpt_neox')
_QKV = ('query', 'key', 'value')


def _difference(golden, change=lambda name, x: x, **config) -> float:
  """Largest |Δlogit| with other parameters or another config.

  Args:
    golden: Of a model.
    change: Of the path of a parameter, joined with '/', and the parameter.
    **config: Fields that say something else.
  """
  model = golden.model
  params = jax.tree_util.tree_map_with_path(
      lambda path, x: change('/'.join(part.key for part in path), x),
      model.params,
  )
  model = model.replace(
      params=params, config=dataclasses.replace(model.config, **config)
  )
  # Through a tap, so that no compiled function of another test is used.
  logits = forward(model, golden.tokens, tap=lambda *_: _[-1])
  return float(np.abs(logits[:, golden.positions] - golden.logits).max())


def _zero(ending):
  return lambda name, x: jnp.zeros_like(x) if name.endswith(ending) else x


def _refused(golden, wrong: str, right: str):
  """Query, key and value as one read them from the fused tensor wrongly."""
  params = jax.tree.map(lambda x: x, golden.model.params)
  sizes = {'c': 3, 'n': golden.model.config.num_heads}
  for i in range(golden.model.config.num_layers):
    attention = params[f'layer_{i}']['attention']
    for kind, rows in (('', ' d'), ('_bias', '')):
      ours = 'c d n h' if rows else 'c n h'
      parts = np.stack([attention[name + kind] for name in _QKV])
      fused = einops.rearrange(parts, f'{ours} -> {right}{rows}')
      again = einops.rearrange(fused, f'{wrong}{rows} -> {ours}', **sizes)
      for name, x in zip(_QKV, again, strict=True):
        attention[name + kind] = jnp.asarray(x)
  return dataclasses.replace(golden, model=golden.model.replace(params=params))


@pytest.mark.slow
class FamilyTrapsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # The strict modes guard the product; the faults here are written tersely.
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_rank_promotion('allow'))
    stack.enter_context(jax.numpy_dtype_promotion('standard'))
    self.addCleanup(stack.close)

  def golden(self, name):
    return golden_files.load(name).short(_LENGTH)

  def assert_seen(self, difference):
    self.assertGreater(difference, _MARGIN)

  @parameterized.product(name=('qwen2', *_BIASED), which=_QKV)
  def test_bias_of_the_projections_dropped(self, name, which):
    golden = self.golden(name)
    difference = _difference(golden, _zero(f'{which}_bias'))
    if (name, which) == ('gpt2', 'key'):
      # Nothing turns: a query scores the same more with every key.
      self.assertLess(difference, 5e-5)
    else:
      self.assert_seen(difference)

  @parameterized.product(
      name=_BIASED,
      which=(
          'output_bias',
          'up_bias',
          'down_bias',
          'attention_norm/bias',
          'mlp_norm/bias',
          'final_norm/bias',
      ),
  )
  def test_bias_dropped(self, name, which):
    self.assert_seen(_difference(self.golden(name), _zero(which)))

  @parameterized.parameters(*_BIASED)
  def test_layer_norm_without_centring(self, name):
    whole = _layers.jnp.mean

    def mean(x, *args, **kwargs):
      # The mean of squares is never below zero everywhere; the other is.
      found = whole(x, *args, **kwargs)
      squares = bool((x >= 0).all())
      return found if squares else jnp.zeros_like(found)

    with mock.patch.object(_layers.jnp, 'mean', mean):
      self.assert_seen(_difference(self.golden(name)))

  @parameterized.parameters(
      ('gpt2', '(n c h)', '(c n h)'),
      ('gpt2', '(c h n)', '(c n h)'),
      ('gpt_neox', '(c n h)', '(n c h)'),
      ('gpt_neox', '(n h c)', '(n c h)'),
  )
  def test_fused_tensor_in_another_order(self, name, wrong, right):
    golden = self.golden(name)
    same = _refused(golden, right, right)
    self.assertLess(_difference(same), 5e-5)
    self.assert_seen(_difference(_refused(golden, wrong, right)))

  def test_square_matrix_transposed(self):
    """GPT-2's attn.c_proj is [in, out], and both are D."""

    def transposed(name, x):
      if not name.endswith('attention/output'):
        return x
      return x.reshape(40, 40).T.reshape(x.shape)

    self.assert_seen(_difference(self.golden('gpt2'), transposed))

  def test_rotary_part(self):
    golden = self.golden('gpt_neox')
    rope = golden.model.config.rope
    self.assertEqual(rope.rotary_dim, 4)
    self.assert_seen(_difference(golden, rope=Rope(base=rope.base)))
    six = dataclasses.replace(rope, rotary_dim=6)
    self.assert_seen(_difference(golden, rope=six))

  def test_rotary_part_at_the_end_of_a_head(self):
    right = _layers.apply_rope

    def last(x, positions, frequencies):
      return right(x[..., ::-1], positions, frequencies)[..., ::-1]

    with mock.patch.object(_layers, 'apply_rope', last):
      self.assert_seen(_difference(self.golden('gpt_neox')))

  def test_rotary_frequencies_of_the_whole_head(self):
    right = _layers.rope_frequencies

    def whole(rope, head_dim):
      return right(Rope(base=rope.base), head_dim)[:2]

    with mock.patch.object(_layers, 'rope_frequencies', whole):
      self.assert_seen(_difference(self.golden('gpt_neox')))

  def test_one_after_the_other_for_side_by_side(self):
    self.assert_seen(_difference(self.golden('gpt_neox'), parallel=False))
    self.assert_seen(_difference(self.golden('gpt2'), parallel=True))

  def test_positions_dropped_or_shifted(self):
    golden = self.golden('gpt2')
    self.assert_seen(_difference(golden, _zero('positions')))

    def shifted(name, x):
      return jnp.roll(x, 1, axis=0) if name == 'positions' else x

    self.assert_seen(_difference(golden, shifted))

  @parameterized.parameters(('gpt2', 'gelu'), ('gpt_neox', 'gelu_tanh'))
  def test_the_other_gelu(self, name, other):
    """The smallest fault: some 1e-4, and parity allows 5e-5."""
    difference = _difference(self.golden(name), activation=other)
    self.assertGreater(difference, 1e-4)

  def test_query_and_key_norms_after_the_rotation(self):
    """Their gains do not turn with the pairs."""
    whole, right, delayed = _layers.RMSNorm.__call__, _layers.apply_rope, []

    def call(self, x, *tap):
      if self.name not in ('query_norm', 'key_norm'):
        return whole(self, x, *tap)
      normed = whole(self, jnp.ones_like(x), *tap)  # The gain, nearly.
      delayed.append((normed, self.eps))
      return x

    def rope(x, positions, frequencies):
      gain, eps = delayed.pop(0)
      x = right(x, positions, frequencies)
      mean_square = (x * x).mean(axis=-1, keepdims=True)
      return x * jax.lax.rsqrt(mean_square + eps) * gain

    with (
        mock.patch.object(_layers.RMSNorm, '__call__', call),
        mock.patch.object(_layers, 'apply_rope', rope),
    ):
      self.assert_seen(_difference(self.golden('qwen3')))

  def test_query_and_key_norms_over_all_heads(self):
    whole = _layers.RMSNorm.__call__

    def call(self, x, *tap):
      out = whole(self, x, *tap)
      if self.name not in ('query_norm', 'key_norm'):
        return out
      own = (x * x).mean(axis=-1, keepdims=True)
      shared = (x * x).mean(axis=(-2, -1), keepdims=True)
      return out * jnp.sqrt(own / shared)

    with mock.patch.object(_layers.RMSNorm, '__call__', call):
      self.assert_seen(_difference(self.golden('qwen3')))


if __name__ == '__main__':
  absltest.main()
