"""Every format against SAELens's own loader, by the ids of its list.

Needs the extra `parity`, and is skipped without it. The files are small and
made here, where the real ones would be on the hub; both sides find them under
the real repository and path.
"""

import contextlib
import json
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save_file

from ooc_jax import load_dictionary
from ooc_jax.dictionaries import _locations
from ooc_jax.dictionaries import _releases
from tests.dictionaries import torch_files
from tests.dictionaries import written
from tests.dictionaries.formats import dictionary_learning_test
from tests.dictionaries.formats import llama_scope_r1_test
from tests.dictionaries.formats import one_file_test
from tests.dictionaries.formats import transcoder_files_test
from tests.dictionaries.models import tiny_model
from tests.dictionaries.models import tiny_tensors

torch = pytest.importorskip('torch')
sae_lens = pytest.importorskip('sae_lens')
yaml = pytest.importorskip('yaml')
# ruff: noqa: E402
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.saes import sae as sae_module

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings('ignore'),  # Theirs.
]
_TOLERANCE = 1e-5


class HubCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  def place(self, source: str) -> pathlib.Path:
    """Where the files of an id belong."""
    release, _, name = source.partition('/')
    listed = _releases.read_list()[release]
    row = next(r for r in listed['saes'] if r['id'] == name)
    return self.root / listed['repo_id'] / str(row['path'])

  def fetch(self, repo_id, filename, subfolder=None, **_):
    path = self.root / repo_id / (subfolder or '') / filename
    if not path.is_file():
      raise loaders.EntryNotFoundError(f'{path} is not there')
    return str(path)

  def fetch_ours(self, repo, name, revision):
    del revision  # There is one.
    try:
      return pathlib.Path(self.fetch(repo, name))
    except loaders.EntryNotFoundError as error:
      raise _locations.MissingFile(str(error)) from None

  def theirs(self, source, **sizes):
    release, _, name = source.partition('/')
    sizes = {'d_in': written.D, 'd_sae': written.F} | sizes
    own = sae_module.get_config_overrides

    def shapes(repo, filename):
      arrays = load_file(self.fetch(repo, filename))
      return {n: list(x.shape) for n, x in arrays.items()}

    def overrides(*args):
      return own(*args) | sizes

    with contextlib.ExitStack() as stack:
      for target, attribute, replacement in (
          (loaders, 'hf_hub_download', self.fetch),
          (loaders, 'get_safetensors_tensor_shapes', shapes),
          (sae_module, 'get_config_overrides', overrides),
      ):
        stack.enter_context(mock.patch.object(target, attribute, replacement))
      return sae_lens.SAE.from_pretrained(release, name)

  def ours(self, source, **asked):
    with mock.patch.object(_locations, 'fetch_file', self.fetch_ours):
      return load_dictionary(source, **asked)

  def assert_same(self, ours, theirs, *, gain=None, decode=True):
    x = written.inputs().astype(np.float32)
    with torch.no_grad():
      read = x if gain is None else (x * gain).astype(np.float32)
      a = theirs.encode(torch.tensor(read)).numpy()
      back = theirs.decode(torch.tensor(a)).numpy()
    self.assertBetween((a != 0).mean(), 0.05, 0.95)
    written.assert_same(ours.encode(x), a, _TOLERANCE)
    if decode:
      written.assert_same(ours.decode(a), back, _TOLERANCE)


class LoadersTest(HubCase):

  @parameterized.parameters(
      'gemma-scope-2b-pt-res-canonical/layer_1/width_16k/canonical',
      'gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6',
      'gemma-scope-2b-pt-mlp-canonical/layer_1/width_16k/canonical',
      'gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76',
  )
  def test_gemma_scope(self, source):
    written.write_npz(self.place(source), written.draw())
    sizes = {'d_out': written.D} if 'transcoders' in source else {}
    self.assert_same(self.ours(source), self.theirs(source, **sizes))

  @parameterized.parameters(
      'gemma-scope-2-1b-pt-res/layer_7_width_16k_l0_small',
      'gemma-scope-2-1b-it-mlp-all/layer_3_width_262k_l0_big',
  )
  def test_gemma_scope_2(self, source):
    written.write_gemma_scope_2(self.place(source), written.draw())
    self.assert_same(self.ours(source), self.theirs(source))

  @parameterized.parameters('', '_affine')
  def test_gemma_scope_2_transcoder(self, ending):
    name = f'layer_1_width_16k_l0_small{ending}'
    source = f'gemma-scope-2-1b-pt-transcoders-all/{name}'
    tensors = written.draw()
    if ending:
      # Zero: it is no feature, and is not read here.
      tensors['affine_skip_connection'] = np.zeros(
          (written.D, written.D), np.float32
      )
    written.write_gemma_scope_2(self.place(source), tensors)
    gain_name = 'model.layers.1.pre_feedforward_layernorm.weight'
    gain = 1 + tiny_tensors('gemma2')[gain_name]
    ours = self.ours(source, model=tiny_model('gemma2'))
    self.assertEqual(ours.site.reads, ('mlp_in', 1))
    self.assertEqual(ours.site.writes, ('mlp_out', 1))
    theirs = self.theirs(source, d_out=written.D)
    self.assert_same(ours, theirs, gain=gain)

  def test_llama_scope(self):
    source = 'llama_scope_lxr_8x/l2r_8x'
    scale = (
        _releases.releases()['llama_scope_lxr_8x'][1].entries['l2r_8x'].scale
    )  # Theirs folds the list's, ours the file's.
    norm = float(np.sqrt(written.D) / scale)
    config = written.llama_hyperparams(
        sparsity_include_decoder_norm=False,
        dataset_average_activation_norm={'in': norm, 'out': norm},
        jump_relu_threshold=0.2 / scale,
    )
    written.write_llama_scope(self.place(source), written.draw(), config)
    self.assert_same(self.ours(source), self.theirs(source))

  def test_llama_scope_r1(self):
    source = 'llama_scope_r1_distill/l2r_800m_slimpajama'
    llama_scope_r1_test.write(self.place(source))
    # Their config knows a whole factor only; the size is given.
    config = self.place(source) / 'config.json'
    values = json.loads(config.read_text())
    theirs_config = json.dumps(values | {'expansion_factor': 1})
    ours = self.ours(source)
    config.write_text(theirs_config)
    self.assert_same(ours, self.theirs(source))

  @parameterized.parameters(
      *(k for k in dictionary_learning_test.KINDS if k != 'AutoEncoderNew')
  )
  def test_dictionary_learning(self, kind):
    source = (
        'sae_bench_gemma-2-2b_topk_width-2pow12_date-1109/'
        'blocks.12.hook_resid_post__trainer_0'
    )
    dictionary_learning_test.write(
        self.place(source),
        kind,
        layer=12,
        submodule_name='resid_post_layer_12',
    )
    self.assert_same(self.ours(source), self.theirs(source))

  def test_qwen_scope(self):
    source = 'qwen-scope-3-1.7b-base-w32k-l50/layer3'
    size = 120  # More than the 50 that the name of the repository says.
    t = written.draw(size=size)
    torch_files.write_pt(
        self.place(source),
        {
            'W_enc': np.ascontiguousarray(t['W_enc'].T),
            'W_dec': np.ascontiguousarray(t['W_dec'].T),
            'b_enc': t['b_enc'],
            'b_dec': t['b_dec'],
        },
    )
    ours = self.ours(source)
    self.assertEqual(ours.top_k, 50)
    self.assert_same(ours, self.theirs(source, d_sae=size))

  @parameterized.parameters(
      ('goodfire-llama-3.1-8b-instruct/layer_19', '_linear'),
      ('deepseek-r1-distill-llama-8b-qresearch/blocks.19.hook_resid_post', ''),
  )
  def test_one_file(self, source, ending):
    tensors = one_file_test.linear(f'encoder{ending}', f'decoder{ending}')
    torch_files.write_pt(self.place(source), tensors)
    self.assert_same(self.ours(source), self.theirs(source))

  def test_hook_z(self):
    source = 'gpt2-small-hook-z-kk/blocks.1.hook_z'
    t = written.draw(width=written.HEADS)
    names = ('W_enc', 'W_dec', 'b_enc', 'b_dec')
    path = self.place(source)
    torch_files.write_pt(path, {n: t[n] for n in names})
    config = {
        'act_size': written.HEADS,
        'dict_size': written.F,
        'act_name': 'blocks.1.attn.hook_z',
    }
    path.with_name(f'{path.stem}_cfg.json').write_text(json.dumps(config))
    theirs = self.theirs(source, d_in=written.HEADS, reshape_activations='none')
    ours = self.ours(source, model=tiny_model('gemma2'))
    x = written.inputs(written.HEADS).astype(np.float32)
    with torch.no_grad():
      a = theirs.encode(torch.tensor(x)).numpy()
    written.assert_same(ours.encode(x), a, _TOLERANCE)

  def test_transcoder_of_one_layer(self):
    source = 'mwhanna-qwen3-4b-transcoders/layer_1'
    path = self.place(source)
    path.parent.mkdir(parents=True)
    save_file(transcoder_files_test.one_layer(), path)
    keys = {'d_model': written.D, 'd_feature': written.F, 'batch_size': 8}
    wandb = {key: {'value': x} for key, x in keys.items()}
    (path.parent / 'wandb-config.yaml').write_text(yaml.safe_dump(wandb))
    (path.parent / 'config.yaml').write_text(
        'model_name: Qwen/Qwen3-4B\nfeature_input_hook: mlp.hook_in\n'
        'feature_output_hook: hook_mlp_out\n'
    )
    gain = tiny_tensors('llama')[
        'model.layers.1.post_attention_layernorm.weight'
    ]
    ours = self.ours(source, model=tiny_model('llama'))
    theirs = self.theirs(source, d_out=written.D)
    self.assert_same(ours, theirs, gain=gain)

  def test_transcoder_across_layers(self):
    """Theirs adds the decoders up; so do ours, one by one."""
    source = 'mntss-gemma-2-2b-2.5m-clt-as-per-layer/layer_1'
    folder = self.place(source).parent
    folder.mkdir(parents=True)
    encoder, decoder = transcoder_files_test.cross_layer(1)
    save_file(encoder, folder / 'W_enc_1.safetensors')
    save_file(decoder, folder / 'W_dec_1.safetensors')
    (folder / 'config.yaml').write_text(
        'model_name: google/gemma-2-2b\nfeature_input_hook: hook_resid_mid\n'
        'feature_output_hook: hook_mlp_out\n'
    )
    theirs = self.theirs(source, d_out=written.D)
    each = [self.ours(source, to_layer=layer) for layer in (1, 2, 3)]
    self.assert_same(each[0], theirs, decode=False)
    total = sum(np.asarray(d.decoder) for d in each)
    written.assert_same(total, theirs.W_dec.detach().numpy(), _TOLERANCE)

  @parameterized.parameters('none', 'expected_average_only_in')
  def test_their_own(self, norm):
    source = 'gpt2-small-mlp-tm/blocks.1.hook_mlp_out'
    tensors = written.draw()
    del tensors['threshold']
    config = {
        'hook_point': 'blocks.1.hook_mlp_out',
        'd_in': written.D,
        'd_sae': written.F,
        'dtype': 'float32',
        'model_name': 'gpt2-small',
        'normalize_activations': norm,
    }
    written.write_sae_lens(self.place(source), tensors, config)
    self.assert_same(self.ours(source), self.theirs(source))


class SavedTest(parameterized.TestCase):
  """What SAELens writes itself: SAEs, and checkpoints of a training."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  def filled(self, kind, config):
    torch.manual_seed(0)
    sae = kind(config)
    t = written.draw()
    with torch.no_grad():
      for name in ('W_enc', 'W_dec', 'b_enc', 'b_dec'):
        getattr(sae, name).copy_(torch.tensor(t[name]))
      if hasattr(sae, 'topk_threshold'):
        sae.topk_threshold.fill_(0.9)
    return sae

  @parameterized.product(
      kind=('BatchTopK', 'MatryoshkaBatchTopK'), rescale=(False, True)
  )
  def test_training_checkpoints(self, kind, rescale):
    extra = {}
    if kind == 'MatryoshkaBatchTopK':
      extra['matryoshka_widths'] = [8, written.F]
    config = getattr(sae_lens, f'{kind}TrainingSAEConfig')(
        d_in=written.D,
        d_sae=written.F,
        k=6,
        rescale_acts_by_decoder_norm=rescale,
        **extra,
    )
    config.metadata.hook_name = 'blocks.1.hook_resid_post'
    sae = self.filled(getattr(sae_lens, f'{kind}TrainingSAE'), config)
    sae.save_model(self.root / 'training')
    sae.save_inference_model(self.root / 'inference')
    theirs = sae_lens.SAE.load_from_disk(self.root / 'inference')
    for name in ('training', 'inference'):
      HubCase.assert_same(self, load_dictionary(self.root / name), theirs)

  @parameterized.product(rescale=(False, True), subtract=(False, True))
  def test_top_k(self, rescale, subtract):
    config = sae_lens.TopKSAEConfig(
        d_in=written.D,
        d_sae=written.F,
        k=6,
        rescale_acts_by_decoder_norm=rescale,
        apply_b_dec_to_input=subtract,
    )
    config.metadata.hook_name = 'blocks.1.hook_resid_post'
    sae = self.filled(sae_lens.TopKSAE, config)
    sae.save_model(self.root / 'sae')
    theirs = sae_lens.SAE.load_from_disk(self.root / 'sae')
    HubCase.assert_same(self, load_dictionary(self.root / 'sae'), theirs)


class ListTest(absltest.TestCase):

  def test_the_list_is_theirs_whole(self):
    path = pathlib.Path(sae_lens.__file__).with_name('pretrained_saes.yaml')
    theirs = yaml.safe_load(path.read_text())
    ours = _releases.read_list()
    self.assertEqual(list(ours), list(theirs))
    for name, release in theirs.items():
      self.assertEqual(ours[name], release, name)
    self.assertEqual(sum(len(x['saes']) for x in ours.values()), 13857)


if __name__ == '__main__':
  absltest.main()
