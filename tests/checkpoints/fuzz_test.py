"""Whatever a checkpoint says of itself: a model, or one InputError."""

import json
import pathlib
import struct
import tempfile

from absl.testing import absltest
from hypothesis import strategies as st
import jax
import jaxtyping
import numpy as np
import pytest
from safetensors.numpy import save

from ooc_jax import InputError
from ooc_jax import load_model
from tests.checkpoints import tiny
from tests.fuzzed import fuzzed

_SIZES = tiny.Sizes(l=1)
_NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, 10**400]),
    st.floats(),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=8), inner, max_size=3),
    ),
    max_leaves=6,
)


def _try(folder: pathlib.Path, parts=('norms',)) -> bool:
  """Whether it loads; anything but InputError fails the test."""
  try:
    model = load_model(folder, parts=parts)
  except InputError as error:
    message = str(error)
    assert '\n' not in message and len(message) < 4000, message
    assert str(folder if folder.is_dir() else folder.parent) in message, message
    return False
  except jaxtyping.TypeCheckError as error:
    # The tests' own hook, at a number that the config takes or refuses itself.
    assert 'ooc_jax.model._config' in str(error), error
    return False
  for leaf in jax.tree.leaves(model.params):
    assert np.isfinite(leaf).all()
  return True


class FuzzTest(absltest.TestCase):
  examples = 20

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)
    self.config = tiny.hf_config('gemma3', tied=True, sizes=_SIZES)
    self.weights = tiny.tensors('gemma3', tied=True, sizes=_SIZES)
    tiny.write_folder(self.folder, self.config, self.weights)
    self.assertTrue(_try(self.folder))

  @fuzzed(data=st.data())
  def test_config(self, data):
    config = dict(self.config)
    known = [
        *config, 'rope_scaling', 'rope_parameters', 'layer_types',
        'text_config', 'vision_config', 'quantization_config',
        'attn_logit_softcapping', 'attention_bias', 'sliding_window_size',
    ]  # fmt: skip
    for key in data.draw(st.lists(st.sampled_from(known), max_size=3)):
      config[key] = data.draw(_JSON)
    for key in data.draw(st.lists(st.sampled_from(known), max_size=1)):
      config.pop(key, None)
    (self.folder / 'config.json').write_text(json.dumps(config))
    _try(self.folder)

  @fuzzed(data=st.data())
  def test_rope(self, data):
    """The nested settings, which plain fuzz seldom reaches."""
    keys = [
        'rope_type', 'type', 'rope_theta', 'factor', 'low_freq_factor',
        'high_freq_factor', 'original_max_position_embeddings',
    ]  # fmt: skip
    kinds = st.sampled_from(['default', 'linear', 'llama3', 'yarn', 7, None])
    rope = data.draw(st.dictionaries(st.sampled_from(keys[1:]), _NUMBERS))
    rope['rope_type'] = data.draw(kinds)
    config = dict(self.config)
    if data.draw(st.booleans()):
      config['rope_scaling'] = rope
    else:
      del config['rope_theta'], config['rope_local_base_freq']
      config['rope_parameters'] = {
          'full_attention': rope,
          'sliding_attention': data.draw(st.one_of(st.just(rope), _JSON)),
      }
    (self.folder / 'config.json').write_text(json.dumps(config))
    _try(self.folder)

  @fuzzed(data=st.data())
  def test_safetensors_header(self, data):
    whole = save(self.weights)
    length = struct.unpack('<Q', whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    names = list(header)
    for name in data.draw(st.sets(st.sampled_from(names), max_size=2)):
      key = data.draw(st.sampled_from(['dtype', 'shape', 'data_offsets', '']))
      value = data.draw(
          st.one_of(
              _JSON,
              st.lists(st.integers(0, 700), max_size=3),
              st.sampled_from(['F16', 'I8', 'BF16', 'F64', 'F8_E5M2', 'BOOL']),
          )
      )
      header[name] = {**header[name], key: value} if key else value
    for name in data.draw(st.lists(st.text(max_size=9), max_size=1)):
      header[name] = data.draw(_JSON)
    text = json.dumps(header).encode()
    size = data.draw(st.one_of(st.just(len(text)), st.integers(0, 2**64 - 1)))
    body = struct.pack('<Q', size) + text + whole[8 + length :]
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(body))))
    (self.folder / 'model.safetensors').write_bytes(body[:cut])
    _try(self.folder)

  @fuzzed(data=st.binary(max_size=300))
  def test_any_bytes_for_a_file(self, data):
    for name in ('model.safetensors', 'config.json', 'm.gguf'):
      (self.folder / name).write_bytes(data)
    self.assertFalse(_try(self.folder / 'm.gguf'))
    self.assertFalse(_try(self.folder / 'model.safetensors'))

  @fuzzed(data=st.data())
  def test_index(self, data):
    shards = ['a.safetensors', 'b.safetensors']
    folder = self.folder
    (folder / 'model.safetensors').unlink(missing_ok=True)
    of = {name: shards[i % 2] for i, name in enumerate(self.weights)}
    for shard in shards:
      (folder / shard).write_bytes(
          save({k: x for k, x in self.weights.items() if of[k] == shard})
      )
    names = [*of, 'lm_head.weight', 'x', 'language_model.model.norm.weight']
    for name in data.draw(st.lists(st.sampled_from(names), max_size=2)):
      of[name] = data.draw(
          st.one_of(_JSON, st.sampled_from([*shards, 'c.safetensors', '../a']))
      )
    for name in data.draw(st.lists(st.sampled_from(names), max_size=2)):
      of.pop(name, None)
    index = {'weight_map': of}
    if data.draw(st.integers(0, 9)) == 0:
      index = data.draw(_JSON)
    file = folder / 'model.safetensors.index.json'
    file.write_text(json.dumps(index))
    _try(folder, parts=('norms', 'embedding'))

  @fuzzed(data=st.data())
  def test_gguf(self, data):
    """Some bytes of a whole file changed, or its end cut off."""
    path = self.folder / 'm.gguf'
    stored = tiny.gguf_tensors('gemma3', self.weights, _SIZES)
    tiny.write_gguf(path, 'gemma3', stored, sizes=_SIZES, vocabulary=True)
    body = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, 2500), max_size=3)):
      change = data.draw(st.binary(min_size=1, max_size=8))
      body[at : at + len(change)] = change
    path.write_bytes(
        body[: data.draw(st.one_of(st.none(), st.integers(0, 3000)))]
    )
    _try(path)


@pytest.mark.slow
class LongFuzzTest(FuzzTest):
  examples = 400


if __name__ == '__main__':
  absltest.main()
