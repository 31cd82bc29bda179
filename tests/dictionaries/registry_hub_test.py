"""What a dictionary of the registry downloads, and from where."""

import os
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import flax
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import _locations
from ooc_jax.dictionaries import from_arrays
from ooc_jax.dictionaries import list_dictionaries
from ooc_jax.dictionaries import model_parts
from ooc_jax.dictionaries import plan_dictionary
from ooc_jax.dictionaries import save_dictionary
from ooc_jax.model import part_of
from tests.dictionaries import registry_test
from tests.dictionaries import torch_files
from tests.dictionaries import written
from tests.dictionaries.formats import qwen_scope_test
from tests.dictionaries.formats import transcoder_files_test
from tests.dictionaries.models import tiny_model

_COMMIT = '0123456789abcdef0123456789abcdef01234567'


class PlanTest(parameterized.TestCase):
  """What is known of a dictionary before it is read."""

  @parameterized.parameters(
      ('mlp', ('mlp', 'norms')),
      ('tokens', ('embedding',)),
      ('random', ()),
      ('gemma-scope-2b-pt-res-canonical', ()),
      ('gemma-scope-2b-pt-mlp/layer_{layer}/width_16k/average_l0_44', ()),
      ('gemma-scope-2b-pt-att-canonical', ('attention', 'norms')),
      ('gemma-2-2b/12-gemmascope-att-16k', ('attention', 'norms')),
      ('gemma-scope-2-1b-pt-transcoders-all', ('norms',)),
      ('llama_scope_lxa_8x/l{layer}a_8x', ()),
      # Which hook it is of is not known before it is read.
      ('someone/their-saes/layer_3', ('attention', 'norms')),
      ('nowhere.npz', ('attention', 'norms')),
  )
  def test_parts_of_the_model(self, source, parts):
    self.assertEqual(model_parts(source), parts)

  def test_what_was_saved_needs_no_part(self):
    folder = pathlib.Path(self.create_tempdir().full_path) / 'saved'
    save_dictionary(from_arrays(np.eye(3), layer=0, hook='attn_z'), folder)
    self.assertEqual(model_parts(folder), ())

  def test_the_parts_are_enough(self):
    model = tiny_model('gemma2')
    flat = flax.traverse_util.flatten_dict(model.params)
    for source in ('mlp', 'tokens', 'random'):
      few = {k: x for k, x in flat.items() if part_of(k) in model_parts(source)}
      params = flax.traverse_util.unflatten_dict(few)
      read = [
          load_dictionary(source, model=m, layer=1)
          for m in (model, model.replace(params=params))
      ]
      np.testing.assert_array_equal(read[0].decoder, read[1].decoder)
      np.testing.assert_array_equal(read[0].encoder, read[1].encoder)

  @parameterized.parameters(
      ('mlp', 36),
      ('random', 4096),
      ('tiny-gemma2-res/layer_{layer}', 1024),
      ('tiny-llama3-res', 1024),
  )
  def test_size_of_what_needs_no_download(self, source, size):
    plan = plan_dictionary(source, 1, tiny_model('gemma2').config)
    self.assertEqual(plan.size, size)
    self.assertEmpty(plan.files)

  def test_sizes_of_releases(self):
    releases = {r.name: r for r in list_dictionaries()}
    for release, name, size in (
        ('gemma-scope-2b-pt-res', 'embedding/width_4k/average_l0_6', 4096),
        ('gemma-scope-2b-pt-res', 'layer_5/width_1m/average_l0_9', 2**20),
        ('gemma-scope-9b-pt-res', 'layer_0/width_131k/average_l0_8', 2**17),
        ('gemma-scope-2-1b-pt-res', 'layer_7_width_65k_l0_big', 2**16),
        ('gemma-scope-2-1b-pt-res', 'layer_7_width_262k_l0_big', 2**18),
        ('llama_scope_lxr_8x', 'l0r_8x', 32768),
        ('llama_scope_lxm_32x', 'l31m_32x', 131072),
    ):
      self.assertEqual(releases[release].entries[name].size, size, name)
    tiny = load_dictionary('tiny-gemma2-res/layer_1')
    self.assertEqual(tiny.size, 1024)

  def test_what_is_not_known_before_it_is_read(self):
    config = tiny_model('gemma2').config
    with self.assertRaisesRegex(InputError, 'no release that is listed'):
      plan_dictionary('someone/saes/layer_1', 1, config)
    with self.assertRaisesRegex(InputError, 'nothing of layer 26'):
      plan_dictionary('gemma-scope-2b-pt-res-canonical', 26, config)


class HubTest(parameterized.TestCase):
  """A cache as huggingface_hub keeps it: snapshots are links into blobs."""

  def setUp(self):
    super().setUp()
    self.cache = pathlib.Path(self.create_tempdir().full_path)
    registry_test.offline(self, str(self.cache))

  def fill(self, repo, written_folder, folder, commit=_COMMIT, branch='main'):
    """Puts the files of a folder into the cache, as of a commit."""
    root = self.cache / f'models--{repo.replace("/", "--")}'
    snapshot = root / 'snapshots' / commit / folder
    (root / 'blobs').mkdir(parents=True, exist_ok=True)
    (root / 'refs').mkdir(exist_ok=True)
    (root / 'refs' / branch).write_text(commit)
    for file in sorted(p for p in written_folder.rglob('*') if p.is_file()):
      blob = root / 'blobs' / f'{len(os.listdir(root / "blobs")):040}'
      file.rename(blob)
      link = snapshot / file.relative_to(written_folder)
      link.parent.mkdir(parents=True, exist_ok=True)
      link.symlink_to(os.path.relpath(blob, link.parent))
    return root

  def make(self, write, *args):
    return write(self.cache / 'made', *args)

  def test_a_canonical_id(self):
    place = 'layer_1/width_16k/average_l0_102'
    made = self.make(written.write_npz, written.draw())
    self.fill('google/gemma-scope-2b-pt-res', made, place)
    name = 'gemma-scope-2b-pt-res-canonical/layer_1/width_16k/canonical'
    for source, asked in (
        (name, {}),
        ('gemma-scope-2b-pt-res-canonical', {'layer': 1}),
        ('gemma-2-2b/1-gemmascope-res-16k', {}),
    ):
      dictionary = load_dictionary(source, model=tiny_model('gemma2'), **asked)
      self.assertEqual(dictionary.name, name)
      self.assertEqual(dictionary.site.layer, 1)
      self.assertEqual(dictionary.site.hook, 'resid_post')
      np.testing.assert_array_equal(dictionary.decoder, written.draw()['W_dec'])
    # And as a folder or file of the hub, or of the cache.
    repo = 'google/gemma-scope-2b-pt-res'
    snapshot = pathlib.Path(dictionary.files[0])
    for source in (
        f'{repo}/{place}',
        f'{repo}/{place}/params.npz',
        snapshot.parent,
        snapshot,
    ):
      dictionary = load_dictionary(source)
      self.assertEqual(dictionary.name, str(source))
      self.assertEqual(dictionary.site.hook, 'resid_post')
      self.assertEqual(dictionary.site.layer, 1)

  def test_llama_scope_of_a_revision(self):
    repo, folder = (
        'fnlp/Llama3_1-8B-Base-LXR-8x',
        'Llama3_1-8B-Base-L2R-8x',
    )
    other = _COMMIT[::-1]
    for commit, branch, seed in ((_COMMIT, 'main', 0), (other, 'old', 1)):
      made = self.make(
          written.write_llama_scope,
          written.draw(seed),
          written.llama_hyperparams(sparsity_include_decoder_norm=False),
      )
      self.fill(repo, made, folder, commit, branch)
    name = 'llama_scope_lxr_8x/l2r_8x'
    for revision, seed in ((None, 0), ('old', 1), (_COMMIT, 0)):
      dictionary = load_dictionary(name, revision=revision)
      np.testing.assert_array_equal(
          dictionary.encoder_bias, written.draw(seed)['b_enc']
      )
    # Both files are of one commit.
    commits = {p.split('/snapshots/')[1][:40] for p in dictionary.files}
    self.assertEqual(commits, {_COMMIT})
    with self.assertRaisesRegex(InputError, 'layer 2, and layer 3 was asked'):
      load_dictionary(name, layer=3)

  def test_a_release_that_holds_another_site(self):
    made = self.make(
        written.write_llama_scope,
        written.draw(),
        written.llama_hyperparams(
            hook_point_in='blocks.5.hook_mlp_out',
            hook_point_out='blocks.5.hook_mlp_out',
        ),
    )
    self.fill('fnlp/Llama3_1-8B-Base-LXR-8x', made, 'Llama3_1-8B-Base-L5R-8x')
    with self.assertRaisesRegex(InputError, "hook 'mlp_out'"):
      load_dictionary('llama_scope_lxr_8x/l5r_8x')

  @parameterized.parameters(True, False)
  def test_gemma_scope_2_with_and_without_config(self, with_config):
    config = {'hf_hook_point_in': 'model.layers.1.output'}
    made = self.make(
        written.write_gemma_scope_2,
        written.draw(),
        config if with_config else None,
    )
    place = 'resid_post_all/layer_1_width_16k_l0_small'
    self.fill('google/gemma-scope-2-270m-pt', made, place)
    dictionary = load_dictionary(
        'gemma-scope-2-270m-pt-res-all/layer_1_width_16k_l0_small'
    )
    self.assertEqual(dictionary.site.hook, 'resid_post')
    self.assertLen(dictionary.files, 1 + with_config)

  def test_one_file_a_layer_at_the_root(self):
    made = self.cache / 'made'
    torch_files.write_pt(
        made / 'layer3.sae.pt', qwen_scope_test.stored(), byteorder=b'little'
    )
    # The k of its name is more than the 33 features here.
    repo = 'Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50'
    self.fill(repo, made, '')
    source = 'qwen-scope-3-1.7b-base-w32k-l50/layer3'
    with self.assertRaisesRegex(InputError, 'names no k between 1 and 33'):
      load_dictionary(source)
    for name, asked in (
        (source, {}),
        ('qwen-scope-3-1.7b-base-w32k-l50', {'layer': 3}),
        (repo, {'layer': 3}),
        (f'{repo}/layer3.sae.pt', {}),
    ):
      dictionary = load_dictionary(name, top_k=4, **asked)
      self.assertEqual(dictionary.site.layer, 3)
      self.assertLen(dictionary.files, 1)

  def test_a_cross_layer_transcoder(self):
    made = self.cache / 'made'
    made.mkdir()
    encoder, decoder = transcoder_files_test.cross_layer(1)
    save_file(encoder, made / 'W_enc_1.safetensors')
    save_file(decoder, made / 'W_dec_1.safetensors')
    (made / 'config.yaml').write_text('feature_input_hook: hook_resid_mid\n')
    self.fill('mntss/clt-gemma-2-2b-2.5M', made, '')
    release = 'mntss-gemma-2-2b-2.5m-clt-as-per-layer'
    for source in (f'{release}/layer_1', 'gemma-2-2b/1-clt-hp'):
      dictionary = load_dictionary(source, to_layer=3)
      self.assertEqual(dictionary.site.reads, ('resid_mid', 1))
      self.assertEqual(dictionary.site.writes, ('mlp_out', 3))
      self.assertLen(dictionary.files, 3)

  def test_a_normalisation_that_the_list_alone_says(self):
    tensors = {n: x for n, x in written.draw().items() if n != 'threshold'}
    config = {'hook_point': 'blocks.8.hook_resid_pre'}
    made = self.make(written.write_sae_lens, tensors, config)
    self.fill(
        'JoshEngels/Mistral-7B-Residual-Stream-SAEs', made, 'mistral_7b_layer_8'
    )
    dictionary = load_dictionary('mistral-7b-res-wg/blocks.8.hook_resid_pre')
    self.assertIsNone(dictionary.encoder)
    with self.assertRaisesRegex(InputError, 'constant_norm_rescale'):
      dictionary.encode(written.inputs().astype(np.float32))

  def test_any_repository_in_sae_lens_format(self):
    config = {
        'hook_name': 'blocks.2.hook_resid_post',
        'architecture': 'jumprelu',
    }
    made = self.make(written.write_sae_lens, written.draw(), config)
    self.fill('someone/their-saes', made, '')
    dictionary = load_dictionary('someone/their-saes', revision='main')
    self.assertEqual(dictionary.site.layer, 2)

  def test_what_is_not_in_the_cache(self):
    with self.assertRaisesRegex(InputError, 'hub cannot be reached'):
      load_dictionary('gemma-scope-2b-pt-res-canonical', layer=3)
    with self.assertRaisesRegex(InputError, 'hub cannot be reached'):
      load_dictionary('someone/their-saes/layer_3/params.npz')

  @parameterized.parameters(True, False)
  def test_a_branch_that_moves_between_two_files(self, reachable):
    """Both files come from the commit that the first one was found in."""
    repo = 'fnlp/Llama3_1-8B-Base-LXR-8x'
    config = written.llama_hyperparams()
    for commit, seed in ((_COMMIT[::-1], 1), (_COMMIT, 0)):
      made = self.make(written.write_llama_scope, written.draw(seed), config)
      root = self.fill(repo, made, 'Llama3_1-8B-Base-L2R-8x', commit)
    hub = _locations.huggingface_hub
    find = hub.try_to_load_from_cache

    def find_and_move(*args, **kwargs):
      path = find(*args, **kwargs)
      if path is not None:
        (root / 'refs' / 'main').write_text(_COMMIT[::-1])
      return path

    def fetch_and_move(*args):
      path = find_and_move(*args[:2], revision=args[2])
      if path is None:
        kind = _locations.MissingFile if reachable else InputError
        raise kind('no such file')
      return pathlib.Path(path)

    with (
        mock.patch.object(_locations, 'fetch_file', fetch_and_move),
        mock.patch.object(hub, 'try_to_load_from_cache', find_and_move),
    ):
      dictionary = load_dictionary('llama_scope_lxr_8x/l2r_8x')
    np.testing.assert_array_equal(
        dictionary.encoder_bias, written.draw(0)['b_enc']
    )

  def test_an_unreachable_hub_is_asked_once(self):
    made = self.make(written.write_gemma_scope_2, written.draw())
    self.fill('someone/saes', made, 'resid_post/layer_1')
    error = InputError('no network')
    with mock.patch.object(
        _locations, 'fetch_file', side_effect=error
    ) as fetch:
      dictionary = load_dictionary('someone/saes/resid_post/layer_1')
      self.assertEqual(dictionary.site.layer, 1)
      self.assertEqual(fetch.call_count, 1)
      with self.assertRaisesRegex(InputError, 'no network'):
        load_dictionary('someone/saes/resid_post/layer_2')
      self.assertEqual(fetch.call_count, 2)

  def test_a_pickle_on_the_hub_is_not_even_fetched(self):
    with mock.patch.object(_locations, 'fetch_file') as fetch:
      with self.assertRaisesRegex(InputError, 'pickle reader only'):
        load_dictionary('someone/their-saes/ae.pkl')
    fetch.assert_not_called()

  def test_a_local_copy_has_no_revision(self):
    made = self.make(written.write_npz, written.draw())
    with self.assertRaisesRegex(InputError, "no revision 'main'"):
      load_dictionary(made, revision='main', layer=1)


if __name__ == '__main__':
  absltest.main()
