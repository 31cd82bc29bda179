"""Orbax folders that are damaged, cut or of another format."""

import gc
import json
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import load_model
from tests.checkpoints import orbax_test


class DamageTest(orbax_test.OrbaxTest):

  def _change(self, **changes):
    path = self.target / 'ooc_jax.json'
    manifest = json.loads(path.read_text())
    manifest['config'] |= changes
    path.write_text(json.dumps(manifest))

  @parameterized.parameters(
      ({'vocab_size': 30},),
      ({'vocab_size': 32},),
      ({'embed_dim': 19},),
      ({'mlp_dim': 29},),
      ({'head_dim': 10},),
      ({'num_layers': 2, 'windows': [3, None]},),
      ({'num_layers': 4, 'windows': [3, None, 3, None]},),
      ({'tied': False},),
      ({'family': 'gemma2'},),
  )
  def test_config_of_another_shape(self, changes):
    self.saved()
    self._change(**changes)
    self.assertRegex(
        self.error(), 'its config describes|config does not desc|without its'
    )

  @parameterized.parameters(
      ({'norm_eps': -1.0},),
      ({'num_heads': '6'},),
      ({'windows': None},),
      ({'windows': 7},),
      ({'family': 'bert'},),
      ({'rope': None},),
      ({'rope': {'base': 'x'}},),
      ({'rope': []},),
      ({'rope': {'base': 1e4, 'llama3': {'factor': 1}, 'divisors': None}},),
      ({'sink': 1},),
  )
  def test_config_that_is_none(self, changes):
    self.saved()
    self._change(**changes)
    self.assertIn('ooc_jax.json', self.error())

  @parameterized.parameters('1', 'null', '"2"')
  def test_another_format(self, number):
    self.saved()
    path = self.target / 'ooc_jax.json'
    path.write_text(
        path.read_text().replace('"format": 3', f'"format": {number}')
    )
    self.assertIn('this version reads 2 and 3; convert', self.error())

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_a_folder_of_format_2(self, family):
    """It has no fields for what a family's models have in common."""
    model = self.saved(family)
    path = self.target / 'ooc_jax.json'
    manifest = json.loads(path.read_text())
    for name in (
        'activation', 'norm_offset', 'scale_embedding', 'post_norms', 'qk_norm'
    ):  # fmt: skip
      del manifest['config'][name]
    path.write_text(json.dumps(manifest | {'format': 2}))
    again = load_model(self.target)
    self.assertEqual(again.config, model.config)
    orbax_test.assert_same_bits(again.params, model.params)

  @parameterized.parameters(
      '{}', '[]', '', '<html>', '{"format": 3}', '{"format": 3, "config": {}}'
  )
  def test_manifest_that_is_none(self, text):
    self.saved()
    (self.target / 'ooc_jax.json').write_text(text)
    self.assertIn('ooc_jax.json', self.error())

  def test_every_file_missing_or_cut(self):
    model = self.saved()
    files = [f for f in self.target.rglob('*') if f.is_file()]
    self.assertGreater(len(files), 20)
    inside = 0
    for file in files:
      if file.name == 'ooc_jax.json' or '/layer_' in str(file):
        continue  # The one has its own tests, the others are many and alike.
      data = file.read_bytes()
      inside += 1
      file.unlink()
      self.assertIn(f'{file} is missing', self.error())
      if not data:
        file.write_bytes(data)
        continue
      file.write_bytes(data[:-1])
      self.assertIn(
          f'{file} has {len(data) - 1} bytes, and {len(data)} bytes were',
          self.error(),
      )
      file.write_bytes(data)
    self.assertGreater(inside, 18)
    orbax_test.assert_same_bits(load_model(self.target).params, model.params)

  @parameterized.parameters('manifest.ocdbt', '_METADATA')
  # Orbax leaves coroutines behind when it fails, and says so when they go.
  @pytest.mark.filterwarnings('ignore')
  def test_first_byte_changed(self, name):
    self.saved()
    file = next((self.target / 'params/embedding').rglob(name))
    data = file.read_bytes()
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    self.assertIn(' is damaged (', self.error(parts=['embedding']))
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      gc.collect()

  @pytest.mark.slow
  @pytest.mark.filterwarnings('ignore')
  def test_changed_bytes_are_refused_or_harmless(self):
    """Of the files that lead to the arrays; the arrays have no checksum."""
    model = self.saved()
    rng = np.random.default_rng(0)
    refused = 0
    for name in ('manifest.ocdbt', '_METADATA'):
      for file in sorted(self.target.rglob(name)):
        data = bytearray(file.read_bytes())
        at = int(rng.integers(len(data)))
        data[at] ^= int(rng.integers(1, 256))
        old = file.read_bytes()
        file.write_bytes(data)
        try:
          again = load_model(self.target)
        except InputError as error:
          refused += 1
          self.assertIn(' is damaged (', str(error))
        else:
          orbax_test.assert_same_bits(again.params, model.params)
        file.write_bytes(old)
    self.assertGreater(refused, 3)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      gc.collect()


if __name__ == '__main__':
  absltest.main()
