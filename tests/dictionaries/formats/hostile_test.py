"""Files from elsewhere that are damaged, or made to do harm."""

import json
import os
import pathlib
import struct
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import written
from tests.dictionaries.formats import hostile


class SafetensorsTest(hostile.HostileCase):

  def raw(self, header, data=b'', length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack('<Q', len(text) if length is None else length)
    (self.folder / 'params.safetensors').write_bytes(size + text + data)

  @parameterized.named_parameters(
      ('past_the_end', [33], 0, 132, b'\0' * 100),
      ('terabytes', [10**9, 10**6], 0, 4 * 10**15, b'\0' * 132),
      ('overflow', [2**40, 2**40], 0, 132, b'\0' * 132),
      ('backwards', [33], 132, 0, b'\0' * 132),
      ('hole', [33], 8, 140, b'\0' * 140),
      ('other_size', [34], 0, 132, b'\0' * 132),
      ('more_behind', [33], 0, 132, b'\0' * 200),
  )
  def test_offsets_that_lie(self, shape, start, end, data):
    entry = {'dtype': 'F32', 'shape': shape, 'data_offsets': [start, end]}
    self.raw({'b_enc': entry}, data)
    self.assert_refused('no whole safetensors file')

  @parameterized.parameters(0, 1, 10**6, 2**40, 2**64 - 1)
  def test_a_header_length_that_lies(self, length):
    self.raw({}, b'', length)
    self.assert_refused('no whole safetensors file')

  def test_headers_that_are_none(self):
    for text in (b'', b'[]', b'{', b'\xff\xfe', b'{"a": 1}', b'[' * 9000):
      self.raw(text)
      self.assert_refused('no whole safetensors file|does not hold the SAE')

  def test_a_web_page_instead(self):
    path = self.folder / 'params.safetensors'
    path.write_text('<!DOCTYPE html><html><body>404</body></html>')
    self.assert_refused('no whole safetensors file')

  @parameterized.parameters(np.int32, np.bool_, np.uint8)
  def test_other_types_are_refused_by_name(self, dtype):
    tensors = written.draw()
    tensors['b_enc'] = np.ones(written.F, dtype)
    written.write_gemma_scope_2(self.folder, tensors)
    self.assert_refused("tensor 'b_enc' is .*, and only F32, F16, BF16, F64")

  def test_names_are_printed_on_one_line(self):
    tensors = written.draw() | {'\x1b[31m\nred' * 50: np.ones(2, np.float32)}
    written.write_gemma_scope_2(self.folder, tensors)
    self.assertNotIn('\x1b', self.assert_refused('of no use here'))

  def test_a_file_of_another_program(self):
    save_file({'x': np.ones(3, np.float32)}, self.folder / 'w.safetensors')
    self.assert_refused(
        'of no SAE format that is read', self.folder / 'w.safetensors'
    )


class FolderTest(hostile.HostileCase):

  def outside(self, write, *args):
    folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder.parent))
    return write(folder, *args)

  def test_a_link_out_of_the_folder(self):
    """An unpacked archive may hold such; the file itself may be given."""
    elsewhere = self.outside(written.write_npz, written.draw())
    link = self.folder / 'params.npz'
    link.symlink_to(elsewhere / 'params.npz')
    self.assert_refused('is a link to .*, outside of its folder')
    self.assertEqual(load_dictionary(link).site.layer, 1)
    # Neither a link to the folder nor one inside of it leads out of it.
    inner = self.folder.parent / 'layer_2'
    inner.symlink_to(elsewhere)
    self.assertEqual(load_dictionary(inner).site.layer, 2)
    link.unlink()
    os.rename(elsewhere / 'params.npz', self.folder / 'moved')
    link.symlink_to('moved')
    self.assertEqual(load_dictionary(self.folder).site.layer, 1)

  @parameterized.parameters('cfg.json', 'sae_weights.safetensors')
  def test_a_link_to_one_of_two_files(self, name):
    config = {'hook_name': 'blocks.1.hook_resid_post'}
    tensors = {n: x for n, x in written.draw().items() if n != 'threshold'}
    elsewhere = self.outside(written.write_sae_lens, tensors, config)
    written.write_sae_lens(self.folder, tensors, config)
    load_dictionary(self.folder)
    (self.folder / name).unlink()
    (self.folder / name).symlink_to(elsewhere / name)
    self.assert_refused('is a link to')

  def test_a_folder_that_calls_itself_a_snapshot(self):
    """Only links into the blobs beside it are those of the hub's cache."""
    secret = self.outside(written.write_npz, written.draw())
    snapshot = self.folder / 'snapshots' / 'abc' / 'layer_1'
    snapshot.mkdir(parents=True)
    link = snapshot / 'params.npz'
    link.symlink_to(secret / 'params.npz')
    self.assert_refused('is a link to', snapshot)
    blobs = self.folder / 'blobs'
    blobs.mkdir()
    os.rename(secret / 'params.npz', blobs / '00')
    link.unlink()
    link.symlink_to('../../../blobs/00')
    load_dictionary(snapshot)

  def test_a_folder_of_links_into_a_cache(self):
    """The hub's blobs have no name of their own, and snapshots beside them."""
    elsewhere = self.outside(written.write_npz, written.draw())
    cache = elsewhere / 'models--someone--saes'
    (cache / 'snapshots').mkdir(parents=True)
    (cache / 'blobs').mkdir()
    os.rename(elsewhere / 'params.npz', cache / 'blobs' / '0a')
    (self.folder / 'params.npz').symlink_to(cache / 'blobs' / '0a')
    self.assertEqual(load_dictionary(self.folder).site.layer, 1)

  def test_a_pointer_in_place_of_the_file(self):
    text = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'
    for name in ('params.npz', 'params.safetensors', 'sae.pt'):
      path = self.folder / name
      path.write_text(text)
      self.assert_refused('Git LFS pointer: .*git lfs pull', path)
      self.assert_refused('Git LFS pointer', self.folder)
      path.unlink()

  def test_a_file_of_any_name_beside_a_config(self):
    config = {'hook_name': 'blocks.1.hook_resid_post'}
    tensors = {n: x for n, x in written.draw().items() if n != 'threshold'}
    written.write_sae_lens(self.folder, tensors, config)
    path = self.folder / 'sae_weights.safetensors'
    path.rename(self.folder / 'model.safetensors')
    self.assertEqual(load_dictionary(self.folder).site.layer, 1)
    save_file(tensors, path.with_name('b.safetensors'))
    self.assert_refused('2 files of weights .b.safetensors, model.safetensors')

  def test_weights_without_their_config(self):
    written.write_llama_scope(
        self.folder, written.draw(), written.llama_hyperparams()
    )
    (self.folder / 'hyperparams.json').unlink()
    path = self.folder / 'checkpoints' / 'final.safetensors'
    self.assert_refused(
        'of Llama Scope or dictionary_learning, .*hyperparams.json or'
        ' config.json that was beside it',
        path,
    )

  @parameterized.parameters('W_enc', 'W_dec', 'b_enc')
  def test_a_latent_that_is_not_a_number(self, name):
    tensors = written.draw()
    axis = list(tensors[name].shape).index(written.F)
    np.moveaxis(tensors[name], axis, 0)[5] = np.nan
    written.write_npz(self.folder, tensors)
    self.assert_refused(
        f"'{name}' holds NaN or infinity in 1 of 33 latents .5.;"
        ' where.*nan_rows'
    )
    dictionary = load_dictionary(self.folder, nan_rows='dead')
    good = written.draw()
    x = written.inputs().astype(np.float32)
    alive = np.arange(written.F) != 5
    np.testing.assert_array_equal(
        dictionary.decoder, good['W_dec'] * alive[:, None]
    )
    written_out = written.reading(good).encode(x) * alive
    written.assert_same(dictionary.encode(x), written_out)
    with self.assertRaisesRegex(InputError, "nan_rows='x' must be"):
      load_dictionary(self.folder, nan_rows='x')

  def test_a_bias_that_is_not_a_number_is_of_no_latent(self):
    tensors = written.draw()
    tensors['b_dec'][3] = np.nan
    written.write_npz(self.folder, tensors)
    for asked in ({}, {'nan_rows': 'dead'}):
      with self.assertRaisesRegex(InputError, 'infinity; download it again'):
        load_dictionary(self.folder, **asked)

  def test_things_that_are_no_files(self):
    (self.folder / 'params.safetensors').mkdir()
    os.mkfifo(self.folder / 'params.npz')  # Opening it would wait for ever.
    (self.folder / 'cfg.json').symlink_to('cfg.json')
    self.assert_refused('holds none of|cannot be opened')

  @parameterized.parameters('ae.pt', 'SAE.PTH', 'sae.pt')
  def test_torch_files_that_are_no_archive(self, name):
    path = self.folder / name
    path.write_bytes(b'\x80\x04.')
    if name != 'ae.pt':  # Which belongs to a config.
      self.assert_refused('no zip archive.*save_file', self.folder)
    self.assert_refused('no zip archive.*save_file', path)

  @parameterized.parameters('sae_weights.bin', 'a.pkl', 'SAE.CKPT')
  def test_pickles_are_named_with_what_to_take_instead(self, name):
    path = self.folder / name
    path.write_bytes(b'\x80\x04.')
    self.assert_refused('pickle reader only.*safetensors', path)
    self.assert_refused('pickle reader only.*safetensors')

  def test_a_pickle_beside_a_config(self):
    (self.folder / 'cfg.json').write_text('{}')
    (self.folder / 'sae_weights.bin').write_bytes(b'')
    self.assert_refused('sae_weights.bin is opened by a pickle reader only')

  def test_two_formats_in_one_folder(self):
    written.write_npz(self.folder, written.draw())
    written.write_gemma_scope_2(self.folder, written.draw())
    self.assert_refused('params.npz and params.safetensors')
    load_dictionary(self.folder / 'params.npz')

  def test_nothing_and_other_things(self):
    self.assert_refused('holds none of params.npz')
    (self.folder / 'notes.txt').write_text('x')
    self.assert_refused('no format that is read', self.folder / 'notes.txt')

  @parameterized.parameters(
      '<!DOCTYPE html><html>', '', '[1, 2]', '{"a": ', '[' * 100_000,
      '{"d_in": ' + '9' * 5000 + '}', 'NaN', '\ud800',
  )  # fmt: skip
  def test_configs_that_are_none(self, text):
    tensors = {n: x for n, x in written.draw().items() if n != 'threshold'}
    written.write_sae_lens(self.folder, tensors, {})
    data = text.encode('utf-8', 'surrogatepass')
    (self.folder / 'cfg.json').write_bytes(data)
    self.assert_refused('cfg.json')


if __name__ == '__main__':
  absltest.main()
