"""GGUF files of every family and quantisation: whole, cut and refused."""

import dataclasses
import pathlib
import struct
import sys
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ooc_jax
from ooc_jax import InputError
from ooc_jax import load_model
from ooc_jax.checkpoints.gguf import _header
from ooc_jax.checkpoints.gguf import _source
from tests.checkpoints import tiny

_Kind = gguf.GGMLQuantizationType
_DEQUANTISED = sorted(gguf.quants._type_traits, key=int)


def _can_quantise(kind):
  try:
    gguf.quants.quantize(np.ones((2, 256), np.float32), kind)
  except NotImplementedError:  # Of some kinds the package reads only.
    return False
  return True


_QUANTISED = [k for k in (_Kind.F16, *_DEQUANTISED) if _can_quantise(k)]
_OF_32 = [k for k in _QUANTISED if 32 % gguf.GGML_QUANT_SIZES[k][0] == 0]


class GGUFTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.path = self.folder / 'm.gguf'

  def write(self, family='llama', tied=True, sizes=tiny.SIZES, **kwargs):
    weights = tiny.tensors(family, tied=tied, sizes=sizes)
    stored = tiny.gguf_tensors(family, weights, sizes)
    return tiny.write_gguf(self.path, family, stored, sizes=sizes, **kwargs)

  def error(self, source=None):
    with self.assertRaises(InputError) as caught:
      load_model(source or self.path)
    message = str(caught.exception)
    self.assertNotIn('\n', message)
    self.assertIn(str(source or self.path), message)
    return message


def _logits(model):
  return np.asarray(ooc_jax.forward(model, jnp.asarray(tiny.TOKENS)))


def _assert_close(params, expected):
  """Equal, but for 1 + weight: Gemma's norms, which GGUF rounds to 2**-23."""
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1.2e-7),
      params,
      expected,
  )


def _as_folder(folder, family, tied, sizes, weights, **changes):
  config = tiny.hf_config(family, tied=tied, sizes=sizes, **changes)
  return load_model(tiny.write_folder(folder / 'hf', config, weights))


class LoadTest(GGUFTest):

  @parameterized.product(family=tiny.GGUF_FAMILIES, tied=(True, False))
  def test_same_model_as_from_safetensors(self, family, tied):
    weights = tiny.tensors(family, tied=tied)
    expected = _as_folder(self.folder, family, tied, tiny.SIZES, weights)
    model = load_model(self.write(family, tied))
    # GGUF holds the constants in float32.
    eps = model.config.norm_eps
    self.assertAlmostEqual(eps, 1e-5, places=12)
    config = dataclasses.replace(model.config, norm_eps=1e-5)
    self.assertEqual(config, expected.config)
    model = model.replace(config=config)
    _assert_close(model.params, expected.params)
    logits = _logits(expected)
    self.assertGreater(np.std(logits), 0.02)
    # Logits are up to order 1: a few roundings of the norms' weights.
    np.testing.assert_allclose(_logits(model), logits, rtol=0, atol=3e-6)
    self.assertEqual(model.files, (str(self.path),))

  @parameterized.parameters(*_OF_32)
  def test_quantised_model_is_the_model_of_its_rounded_weights(self, kind):
    sizes = tiny.BLOCKS_OF_32
    for family in ('llama', 'gemma3'):
      weights = tiny.tensors(family, tied=True, sizes=sizes)
      # Blocks run along rows, which the permutation of rows leaves whole.
      rounded = {
          name: (
              gguf.quants.dequantize(gguf.quants.quantize(x, kind), kind)
              if x.ndim == 2
              else x
          )
          for name, x in weights.items()
      }
      expected = _as_folder(self.folder, family, True, sizes, rounded)
      model = load_model(self.write(family, sizes=sizes, kind=kind))
      for leaf in jax.tree.leaves(model.params):
        self.assertEqual(leaf.dtype, np.float32)
      _assert_close(model.params, expected.params)
      np.testing.assert_array_equal(
          model.params['layer_1']['attention']['query'],
          expected.params['layer_1']['attention']['query'],
      )

  def test_every_quantisation_of_the_package(self):
    """Random bytes, also those of kinds that only llama.cpp can write."""
    self.assertGreaterEqual(len(_DEQUANTISED), 20)
    self.assertIn(_Kind.BF16, _DEQUANTISED)
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(self.path, 'llama')
    raws = {}
    for kind in (_Kind.F32, _Kind.F16, *_DEQUANTISED):
      _, size = gguf.GGML_QUANT_SIZES[kind]
      # More than one of the pieces that are dequantised at a time.
      raw = rng.integers(0, 256, (70, 18 * 256), np.uint8)
      raw = raw[:, : raw.shape[1] // size * size]
      raws[kind.name] = (raw, kind)
      writer.add_tensor(kind.name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with mock.patch.object(_source, '_ELEMENTS', 2**12):
      source = _source.GGUFSource(self.path)
      for name, (raw, kind) in raws.items():
        with np.errstate(all='ignore'):  # Random scales overflow.
          expected = gguf.quants.dequantize(raw, kind)
        actual = source.read(name)
        self.assertEqual(actual.dtype, np.float32)
        self.assertEqual(actual.shape, source.tensors()[name].shape)
        self.assertEqual(source.tensors()[name].dtype, name)
        np.testing.assert_array_equal(actual, expected, err_msg=name)
        self.assertGreater(np.unique(actual).size, 3)
        part = source.read(name, (slice(3, 50), slice(8, 40)))
        np.testing.assert_array_equal(part, actual[3:50, 8:40], err_msg=name)

  @parameterized.parameters('float16', 'bfloat16')
  def test_dtype(self, dtype):
    whole = load_model(self.write(kind=_Kind.BF16))
    model = load_model(self.path, dtype=dtype)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b.astype(dtype)),
        model.params,
        whole.params,
    )

  def test_rope_frequencies_are_used(self):
    """The tensor divides the frequencies, as Llama 3.1's scaling does."""
    weights = tiny.tensors('llama', tied=True)
    stored = tiny.gguf_tensors('llama', weights)
    factor = np.full(tiny.SIZES.h // 2, 4.0, np.float32)
    plain = load_model(tiny.write_gguf(self.path, 'llama', stored))
    stored['rope_freqs.weight'] = factor
    model = load_model(tiny.write_gguf(self.path, 'llama', stored))
    self.assertEqual(model.config.rope.divisors, (4.0,) * 4)
    expected = _as_folder(
        self.folder, 'llama', True, tiny.SIZES, weights,
        rope_scaling={'rope_type': 'linear', 'factor': 4.0},
    )  # fmt: skip
    np.testing.assert_allclose(
        _logits(model), _logits(expected), rtol=0, atol=3e-6
    )
    self.assertGreater(np.abs(_logits(model) - _logits(plain)).max(), 1e-3)

  @parameterized.parameters(0.0, -1.0, np.nan, np.inf)
  def test_rope_frequencies_that_are_none(self, value):
    stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=True))
    stored['rope_freqs.weight'] = np.array([1, 1, value, 1], np.float32)
    tiny.write_gguf(self.path, 'llama', stored)
    self.assertIn('a RoPE divisor is not above zero', self.error())

  def test_tokenizer_is_kept(self):
    model = load_model(self.write(vocabulary=True))
    self.assertEqual(model.tokenizer.decode([2, 0, 19]), 'CAT')
    self.assertEqual(model.tokenizer.encode('CAT'), [30, 19])
    self.assertIsNone(load_model(self.write()).tokenizer)

  def test_known_by_its_first_bytes(self):
    """Model stores name files by their hash."""
    self.write()
    for name in ('sha256-abc', 'M.GGUF'):
      blob = self.path.rename(self.folder / name)
      self.assertEqual(load_model(blob).config.vocab_size, tiny.SIZES.v)
      self.path = blob

  def test_parts(self):
    model = load_model(self.write('gemma2'), parts=['norms'])
    self.assertEqual(
        set(model.params), {'layer_0', 'layer_1', 'layer_2', 'final_norm'}
    )
    reads = []
    true_read = _source.GGUFSource.read

    def spy(source, name, index=None):
      reads.append(name)
      return true_read(source, name, index)

    with mock.patch.object(_source.GGUFSource, 'read', spy):
      load_model(self.path, parts=['unembedding'])
    self.assertEqual(reads, ['token_embd.weight', 'output_norm.weight'])

  def test_loaded_weights_do_not_follow_the_file(self):
    model = load_model(self.write())
    before = jax.tree.map(np.array, model.params)
    data = self.path.read_bytes()
    with self.path.open('r+b') as f:
      f.write(b'\x7f' * len(data))
    jax.tree.map(np.testing.assert_array_equal, model.params, before)


class RefusalTest(GGUFTest):

  def test_without_the_package(self):
    self.write()
    with mock.patch.dict(sys.modules, {'gguf': None}):
      self.assertIn("pip install 'ooc_jax[gguf]'", self.error())

  def test_extra_and_missing_tensors(self):
    stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=True))
    stored['blk.1.attn_q.bias'] = np.ones(48, np.float32)
    del stored['blk.2.ffn_up.weight']
    tiny.write_gguf(self.path, 'llama', stored)
    message = self.error()
    self.assertIn('no rule reads blk.1.attn_q.bias', message)
    self.assertIn('blk.2.ffn_up.weight is missing', message)

  def test_no_embedding(self):
    stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=True))
    del stored['token_embd.weight']
    tiny.write_gguf(self.path, 'llama', stored)
    self.assertIn('has no matrix token_embd.weight', self.error())

  @parameterized.parameters(np.nan, np.inf)
  def test_not_finite(self, value):
    stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=True))
    name = 'blk.2.ffn_up.weight'
    stored[name] = stored[name].copy()
    stored[name][27, 19] = value
    tiny.write_gguf(self.path, 'llama', stored)
    self.assertIn(f"'{name}' holds NaN or infinity", self.error())

  @parameterized.parameters(_Kind.Q8_K, _Kind.Q8_1, _Kind.I32, _Kind.F64)
  def test_types_that_nothing_dequantises(self, kind):
    stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=True))
    block, size = gguf.GGML_QUANT_SIZES[kind]
    name = 'blk.1.ffn_gate.weight'
    stored[name] = np.zeros((28, size * max(1, 32 // block)), np.uint8)
    tiny.write_gguf(self.path, 'llama', stored, raw={name: kind})
    with self.assertRaisesRegex(InputError, f'type {kind.name} and shape'):
      _source.GGUFSource(self.path).read(name)
    self.error()

  def test_missing_file(self):
    self.assertIn('does not exist; check the path', self.error())

  def test_folder_named_like_a_file(self):
    self.path.mkdir()
    self.assertIn('cannot be read: Is a directory', self.error())

  @parameterized.parameters(
      b'', b'G', b'GGUF', b'GGML\x03\0\0\0' + b'\0' * 100, b'<html></html>',
      b'\x80\x04\x95pickle',
  )  # fmt: skip
  def test_other_files(self, data):
    for name in ('m.gguf', 'M.GGUF'):
      path = self.folder / name
      path.write_bytes(data)
      self.assertIn('is no whole GGUF file', self.error(path))

  def test_cut_anywhere(self):
    """The header at many lengths, the data at some."""
    data = self.write('gemma3', vocabulary=True).read_bytes()
    table_ends = min(
        row.start for row in _header.read_header(memoryview(data))[1].values()
    )
    for length in range(0, table_ends - 32, 5):
      with self.assertRaises(_header.HeaderError):
        _header.read_header(memoryview(data[:length]))
    rng = np.random.default_rng(0)
    lengths = [
        *rng.integers(0, table_ends, 12),
        *rng.integers(table_ends, len(data) - 32, 3),
        table_ends,
        len(data) - 32,
    ]
    for length in lengths:
      self.path.write_bytes(data[:length])
      self.assertRegex(self.error(), 'no whole GGUF file|too short for it')

  def changed_bytes(self, count):
    """Nothing but InputError, and no long wait."""
    data = bytearray(self.write(vocabulary=True).read_bytes())
    rng = np.random.default_rng(0)
    started, refused = time.monotonic(), 0
    for at in rng.integers(4, 4000, count):
      old, data[at] = data[at], rng.integers(256)
      self.path.write_bytes(data)
      try:
        load_model(self.path, parts=['norms'])
      except InputError:
        refused += 1
      data[at] = old
    self.assertBetween(refused, count // 6, count - 1)
    self.assertLess(time.monotonic() - started, count)

  def test_some_bytes_changed(self):
    self.changed_bytes(12)

  @pytest.mark.slow
  def test_any_byte_changed(self):
    self.changed_bytes(300)


def _string(text):
  return struct.pack('<Q', len(text)) + text


class HeaderTest(GGUFTest):

  def test_same_as_the_packages_reader(self):
    """Every type of value, and the place of every tensor."""
    writer = gguf.GGUFWriter(self.path, 'llama')
    writer.add_custom_alignment(4096)
    for name, value in (
        ('uint8', 200), ('int8', -100), ('uint16', 60_000), ('int16', -30_000),
        ('uint32', 2**32 - 5), ('int32', -(2**31)), ('uint64', 2**64 - 5),
        ('int64', -(2**63)), ('float32', 1.1), ('float64', 1.1),
        ('bool', True), ('string', 'a▁é\n'),
    ):  # fmt: skip
      getattr(writer, f'add_{name}')(f'x.{name}', value)
    for name, value in (
        ('ints', [1, -2, 3]), ('floats', [1.5, -2.25]), ("text", ["a", "é"]),
        ('flags', [True, False]),
    ):  # fmt: skip
      writer.add_array(f'x.{name}', value)
    shapes = [(3, 5), (2, 3, 7), (11,), (2, 3, 5, 7)]
    for i, shape in enumerate(shapes):
      writer.add_tensor(f't{i}', np.ones(shape, np.float32) * i)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source = _source.GGUFSource(self.path)
    reader = gguf.GGUFReader(self.path)
    for name, field in reader.fields.items():
      if not name.startswith('GGUF.'):
        value = source.metadata[name]
        self.assertEqual(value, field.contents(), name)
        self.assertIs(type(value), type(field.contents()))
    self.assertLen(source.metadata, len(reader.fields) - 3)
    for tensor, shape in zip(reader.tensors, shapes, strict=True):
      self.assertEqual(source.tensors()[tensor.name].shape, shape)
      np.testing.assert_array_equal(source.read(tensor.name), tensor.data)

  def test_a_vocabulary_is_read_quickly(self):
    """262144 pieces in well under a second; the package takes 12 s."""
    body = _string(b'k') + struct.pack('<IIQ', 9, 8, 2**18)
    body += _string('▁token'.encode()) * 2**18
    header = b'GGUF' + struct.pack('<IQQ', 3, 0, 1) + body
    started = time.process_time()
    metadata, _ = _header.read_header(memoryview(header))
    self.assertLess(time.process_time() - started, 2)
    self.assertEqual(metadata['k'][-1], '▁token')


if __name__ == '__main__':
  absltest.main()
