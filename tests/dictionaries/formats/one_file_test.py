"""SAEs of one `.pt` file, of which the list or the tensors say the kind."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import _locations
from ooc_jax.dictionaries import _registry
from tests.dictionaries import torch_files
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model


def linear(encoder: str, decoder: str, width=written.D):
  t = written.draw(width=width)
  return {
      f'{encoder}.weight': np.ascontiguousarray(t['W_enc'].T),
      f'{encoder}.bias': t['b_enc'],
      f'{decoder}.weight': np.ascontiguousarray(t['W_dec'].T),
      f'{decoder}.bias': t['b_dec'],
  }


class OneFileTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.relu = written.reading(written.draw(), threshold=np.zeros(written.F))

  def from_list(self, source, tensors, **asked):
    """Loads an id of the list, whose file is here and not on the hub."""
    named = _registry.find_entry(source, None)
    path = self.folder / (named.entry.folder or '.') / named.entry.file
    torch_files.write_pt(path, tensors)
    real = _locations.fetch_file
    self.addCleanup(setattr, _locations, 'fetch_file', real)

    def fetch(repo, name, revision):
      del revision  # There is one.
      self.assertEqual(repo, named.release.repo)
      found = self.folder / name
      if not found.is_file():
        raise _locations.MissingFile(f'{name} is not there.')
      return found

    _locations.fetch_file = fetch
    return load_dictionary(source, **asked)

  @parameterized.parameters('Llama-3.1-8B-Instruct-SAE-l19.pth', 'x-l19.pt')
  def test_goodfire(self, name):
    tensors = linear('encoder_linear', 'decoder_linear')
    path = torch_files.write_pt(self.folder / name, tensors)
    for source in (path, self.folder):
      dictionary = load_dictionary(source)
      self.assertEqual(
          (dictionary.site.layer, dictionary.site.hook), (19, 'resid_post')
      )
      written.assert_computes(self, dictionary, self.relu, written.inputs())

  def test_a_name_without_a_layer(self):
    tensors = linear('encoder_linear', 'decoder_linear')
    path = torch_files.write_pt(self.folder / 'sae.pt', tensors)
    with self.assertRaisesRegex(InputError, 'give layer='):
      load_dictionary(path)
    self.assertEqual(load_dictionary(path, layer=3).site.layer, 3)

  @parameterized.parameters(
      ('goodfire-llama-3.1-8b-instruct/layer_19', '_linear'),
      ('deepseek-r1-distill-llama-8b-qresearch/blocks.19.hook_resid_post', ''),
  )
  def test_ids_of_the_list(self, source, ending):
    tensors = linear(f'encoder{ending}', f'decoder{ending}')
    dictionary = self.from_list(source, tensors)
    self.assertEqual(dictionary.site.layer, 19)
    written.assert_computes(self, dictionary, self.relu, written.inputs())

  def test_outputs_of_heads(self):
    t = written.draw(width=written.HEADS)
    names = ('W_enc', 'W_dec', 'b_enc', 'b_dec')
    dictionary = self.from_list(
        'gpt2-small-hook-z-kk/blocks.1.hook_z',
        {name: t[name] for name in names},
        model=tiny_model('gemma2'),
    )
    self.assertEqual(dictionary.site.reads, ('attn_z', 1))
    self.assertEqual(dictionary.site.writes, ('attn_out', 1))
    x = written.inputs(written.HEADS)
    w = {name: t[name].astype(np.float64) for name in names}
    expected = np.maximum((x - w['b_dec']) @ w['W_enc'] + w['b_enc'], 0)
    written.assert_same(dictionary.encode(x.astype(np.float32)), expected)
    self.assertEqual(dictionary.decoder.shape, (written.F, written.D))


if __name__ == '__main__':
  absltest.main()
