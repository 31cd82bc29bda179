"""Checkpoints as people have them, not as the hub does."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import gguf
import jax.numpy as jnp
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_model
from ooc_jax.model import config_from_gguf
from ooc_jax.model import config_from_hf
from ooc_jax.model import forward
from tests.checkpoints import tiny
from tests.model import real_configs

_TOKENS = jnp.asarray(tiny.TOKENS)
_POINTER = (
    'version https://git-lfs.github.com/spec/v1\n'
    f'oid sha256:{"ab" * 32}\nsize 4976698672\n'
)


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def model(self, name, **changes):
    config = tiny.hf_config('llama', tied=True, **changes)
    weights = tiny.tensors('llama', tied=True)
    return tiny.write_folder(self.folder / name, config, weights)

  def test_keys_that_change_no_number(self):
    unsloth = {
        'unsloth_fixed': True,
        'unsloth_version': '2025.3.19',
        'model_name': 'unsloth/Llama-3.2-1B',
        'max_sequence_length': 2048,
        'pad_token_id': 128004,
        'unk_token_id': 0,
    }
    old = {
        'temperature': 1.0,
        'do_sample': False,
        'num_beams': 1,
        'return_dict_in_generate': False,
        'torchscript': False,
        'pruned_heads': {},
        'sliding_window': None,
        'add_cross_attention': False,
        'chat_template': '{{ messages }}',
        '_attn_implementation_autoset': True,
    }
    plain = config_from_hf(real_configs.LLAMA31_8B)
    for keys in (unsloth, old):
      self.assertEqual(config_from_hf(real_configs.LLAMA31_8B | keys), plain)

  @parameterized.parameters(
      ({'pruned_heads': {'0': [1]}}, 'pruned_heads'),
      ({'sliding_window': 64}, 'sliding_window = 64'),
      ({'rope_scale': 2.0}, "unknown keys \\['rope_scale'\\]"),
  )
  def test_keys_that_do(self, change, message):
    with self.assertRaisesRegex(InputError, message):
      config_from_hf(real_configs.LLAMA31_8B | change)

  @parameterized.parameters('config.json', 'model.safetensors')
  def test_a_pointer_is_no_file(self, name):
    path = self.model('m')
    (path / name).write_text(_POINTER)
    with self.assertRaisesRegex(InputError, f'{name} is a Git LFS pointer'):
      load_model(path)

  def test_a_pointer_is_no_gguf(self):
    path = self.folder / 'm.gguf'
    path.write_text(_POINTER)
    with self.assertRaisesRegex(InputError, 'm.gguf is a Git LFS pointer'):
      load_model(path)

  def test_an_adapter_is_no_model(self):
    path = self.folder / 'adapter'
    path.mkdir()
    (path / 'adapter_model.safetensors').write_bytes(b'')
    (path / 'adapter_config.json').write_text(
        json.dumps({'base_model_name_or_path': 'meta-llama/Llama-3.2-1B'})
    )
    with self.assertRaisesRegex(
        InputError, 'an adapter of meta-llama/Llama-3.2-1B .*merge'
    ):
      load_model(path)


class GGUFTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=False))

  def expected(self):
    config = tiny.hf_config('llama', tied=False)
    weights = tiny.tensors('llama', tied=False)
    path = tiny.write_folder(self.folder / 'hf', config, weights)
    return forward(load_model(path), _TOKENS)

  def test_a_tokenizer_beside_it_is_read(self):
    path = tiny.write_gguf(self.folder / 'm.gguf', 'llama', self.stored)
    self.assertIsNone(load_model(path).tokenizer)
    tiny.word_level(31).save(str(self.folder / 'tokenizer.json'))
    model = load_model(path)
    self.assertEqual(model.tokenizer.encode('w3 w30'), [3, 30])
    self.assertIn(str(self.folder / 'tokenizer.json'), model.files)

  @parameterized.parameters(('Mistral 7B v0.1', True), ('Llama 3.2 1B', False))
  def test_a_mistral_without_its_window(self, name, of_mistral):
    path = tiny.write_gguf(
        self.folder / 'm.gguf', 'llama', self.stored, name=name
    )
    model = load_model(path)
    self.assertLen(model.notes, of_mistral)
    for note in model.notes:
      self.assertIn('do not say whether its attention slides', note)
    self.assertEqual(set(model.config.windows), {None})
    np.testing.assert_allclose(
        forward(model, _TOKENS), self.expected(), rtol=1e-5, atol=1e-5
    )

  def test_parts(self):
    """As llama-gguf-split writes them: the first says all, each its number."""
    names = sorted(self.stored)
    paths = []
    for i in range(3):
      path = self.folder / f'm-{i + 1:05}-of-00003.gguf'
      part = {name: self.stored[name] for name in names[i::3]}
      if i:
        writer = gguf.GGUFWriter(path, 'llama')
        # llama.cpp's further parts say nothing of the model.
        writer.kv_data[0].pop('general.architecture', None)
      else:
        whole = self.folder / 'whole.gguf'
        tiny.write_gguf(whole, 'llama', part)
        writer = _copied(whole, path)
      writer.add_uint16('split.no', i)
      writer.add_uint16('split.count', 3)
      writer.add_int32('split.tensors.count', len(names))
      for name, x in part.items():
        writer.add_tensor(name, x)
      _write(writer)
      paths.append(path)
    expected = self.expected()
    for path in paths:
      model = load_model(path)
      self.assertEqual(model.files, tuple(map(str, paths)))
      np.testing.assert_allclose(
          forward(model, _TOKENS), expected, rtol=1e-6, atol=1e-7
      )
    renamed = self.folder / 'renamed.gguf'
    renamed.write_bytes(paths[0].read_bytes())
    with self.assertRaisesRegex(InputError, 'one of 3 parts, and its name'):
      load_model(renamed)
    paths[1].write_bytes(paths[2].read_bytes())
    with self.assertRaisesRegex(InputError, 'not say that it is part 2 of 3'):
      load_model(paths[0])
    paths[1].unlink()
    with self.assertRaisesRegex(InputError, 'm-00002-of-00003.gguf is missing'):
      load_model(paths[0])

  def test_arrays_of_one_value_and_ollamas_keys(self):
    plain = real_configs.GGUF_SMOLLM2
    config = config_from_gguf(plain, vocab_size=49152, tied=True)
    layers = plain['llama.block_count']
    arrays = plain | {
        'llama.attention.head_count_kv': [3] * layers,
        'llama.feed_forward_length': [1536] * layers,
    }
    self.assertEqual(
        config_from_gguf(arrays, vocab_size=49152, tied=True), config
    )
    arrays['llama.feed_forward_length'][4] = 1537
    with self.assertRaisesRegex(InputError, 'one value a layer'):
      config_from_gguf(arrays, vocab_size=49152, tied=True)
    ollama = plain | {
        'llama.attention.head_dim': 64,
        'llama.vision.block_count': 27,
        'llama.mm.tokens_per_image': 256,
    }
    self.assertEqual(
        config_from_gguf(ollama, vocab_size=49152, tied=True), config
    )
    with self.assertRaisesRegex(InputError, 'attention.head_dim is 32'):
      config_from_gguf(
          ollama
          | {
              'llama.attention.head_dim': 32,
              'llama.attention.key_length': 64,
          },
          vocab_size=49152,
          tied=True,
      )

  def test_which_layers_slide_said_one_by_one(self):
    plain = real_configs.GGUF_GEMMA3_4B
    config = config_from_gguf(plain, vocab_size=262208, tied=True)
    slides = [window is not None for window in config.windows]
    key = 'gemma3.attention.sliding_window_pattern'
    self.assertEqual(
        config_from_gguf(plain | {key: slides}, vocab_size=262208, tied=True),
        config,
    )
    other = config_from_gguf(
        plain | {key: slides[::-1]}, vocab_size=262208, tied=True
    )
    self.assertEqual(other.windows, config.windows[::-1])


def _copied(source: pathlib.Path, path: pathlib.Path) -> gguf.GGUFWriter:
  """A writer with the metadata of another file."""
  writer = gguf.GGUFWriter(path, 'llama')
  for key, field in gguf.GGUFReader(source).fields.items():
    if key.startswith(('GGUF.', 'general.architecture')):
      continue
    writer.add_key_value(key, field.contents(), field.types[0])
  return writer


def _write(writer: gguf.GGUFWriter) -> None:
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


if __name__ == '__main__':
  absltest.main()
