"""Whatever stands in a config: a model that works, or an InputError."""

import copy
import json

from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import strategies as st
import numpy as np
import pytest

from ooc_jax._errors import InputError
from ooc_jax.model import ModelConfig
from ooc_jax.model import config_from_gguf
from ooc_jax.model import config_from_hf
from ooc_jax.model import parameter_shapes
from ooc_jax.model import rope_frequencies
from tests.fuzzed import fuzzed
from tests.model import real_configs as real

_WHERE = 'folder/of mine/config.json'
_DEEP = json.loads('[' * 800 + ']' * 800)
# Values that a damaged or hostile file may have anywhere.
_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 300),
        st.sampled_from([2**31, 2**63, 10**12, 10**400, -(10**400)]),
        st.floats(allow_nan=True, allow_infinity=True),
        st.text(max_size=5),
        st.sampled_from(['silu', 'gelu', 'llama', 'linear', 'llama3', _DEEP]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from([
                'factor', 'rope_type', 'type', 'rope_theta', 'low_freq_factor',
                'high_freq_factor', 'original_max_position_embeddings',
                'full_attention', 'sliding_attention', 'hidden_size', 'other',
            ]),  # fmt: skip
            inner,
            max_size=4,
        ),
    ),
    max_leaves=6,
)


class FuzzTest(parameterized.TestCase):
  """Whatever stands in a file: a config that works, or an InputError."""

  examples = 15

  def assert_works_or_is_refused(self, read, config):
    try:
      model_config = read(config)
    except InputError as error:
      self.assertStartsWith(str(error), _WHERE)
      self.assertLess(len(str(error)), 3000)
      return
    self.assertIsInstance(model_config, ModelConfig)
    hash(model_config)
    self.assertNotEmpty(parameter_shapes(model_config))
    for layer in range(model_config.num_layers):
      rope = model_config.rope_of(layer)
      frequencies = rope_frequencies(rope, model_config.head_dim)
      self.assertTrue(np.isfinite(frequencies).all())

  @parameterized.parameters('LLAMA31_8B', 'GEMMA2_9B', 'GEMMA3_270M')
  @fuzzed(data=st.data())
  def test_any_value_of_any_key(self, name, data):
    config = copy.deepcopy(getattr(real, name))
    more = ('rope_parameters', 'text_config', 'head_dim', 'rope_scaling')
    key = data.draw(st.sampled_from([*config, *more]))
    config[key] = data.draw(_JSON)
    self.assert_works_or_is_refused(lambda c: config_from_hf(c, _WHERE), config)

  @fuzzed(data=st.data())
  def test_any_value_of_any_nested_key(self, data):
    config = copy.deepcopy(real.GEMMA3_4B)
    text = config['text_config']
    key = data.draw(st.sampled_from([*text, 'layer_types', 'vocab_size']))
    text[key] = data.draw(_JSON)
    self.assert_works_or_is_refused(lambda c: config_from_hf(c, _WHERE), config)

  @parameterized.parameters(
      'rope_scaling', 'rope_parameters', 'rope_theta', 'both'
  )
  @fuzzed(data=st.data())
  def test_rotary_settings(self, key, data):
    name = data.draw(st.sampled_from(['LLAMA31_8B', 'GEMMA3_270M']))
    config = copy.deepcopy(getattr(real, name))
    if key == 'both':
      config['rope_parameters'] = {'rope_theta': data.draw(_JSON)}
      config['rope_theta'] = data.draw(_JSON)
      config.pop('rope_scaling')
    else:
      del config['rope_theta'], config['rope_scaling']
      config.pop('rope_local_base_freq', None)
      config[key] = data.draw(_JSON)
    self.assert_works_or_is_refused(lambda c: config_from_hf(c, _WHERE), config)

  @parameterized.parameters('GGUF_SMOLLM2', 'GGUF_GEMMA2_2B', 'GGUF_GEMMA3_4B')
  @fuzzed(data=st.data())
  def test_any_value_in_a_gguf_file(self, name, data):
    metadata = dict(getattr(real, name))
    key = data.draw(st.sampled_from([*metadata]))
    metadata[key] = data.draw(_JSON)
    self.assert_works_or_is_refused(
        lambda m: config_from_gguf(m, vocab_size=11, tied=True, where=_WHERE),
        metadata,
    )


@pytest.mark.slow
class LongFuzzTest(FuzzTest):
  examples = 300


if __name__ == '__main__':
  absltest.main()
