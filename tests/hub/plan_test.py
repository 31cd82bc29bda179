"""Plans of dictionaries on the hub: their size, and nothing downloaded."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from safetensors.numpy import save_file

from ooc_jax.checkpoints import fetch_file
from ooc_jax.dictionaries import plan_dictionary
from tests.dictionaries import torch_files
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model
from tests.hub.hub_case import HubCase

_TRANSCODER = (
    'mwhanna-qwen3-4b-transcoders/layer_3',
    'mwhanna/qwen3-4b-transcoders',
    'layer_3.safetensors',
)
_NATIVE = (
    'gpt2-small-res-jb/blocks.3.hook_resid_pre',
    'jbloom/GPT2-Small-SAEs-Reformatted',
    'blocks.3.hook_resid_pre/sae_weights.safetensors',
)
_CROSS = (
    'mntss-gemma-2-2b-2.5m-clt-as-per-layer/layer_3',
    'mntss/clt-gemma-2-2b-2.5M',
    'W_enc_3.safetensors',
)
_TORCH = (
    'llama-3.1-8b-instruct-andyrdt/resid_post_layer_3_trainer_1',
    'andyrdt/saes-llama-3.1-8b-instruct',
    'resid_post_layer_3/trainer_1/ae.pt',
)
_CONFIG = tiny_model('gemma2').config


class PlanTest(HubCase):

  def publish(self, repo, files):
    folder = self.new_folder('saes')
    for name, tensors in files.items():
      path = folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      if name.endswith('.pt'):
        torch_files.write_pt(path, tensors)
      else:
        save_file(tensors, path)
    self.hub.publish(repo, folder)

  def headers_alone(self, *names):
    """Whether at most the beginning of these files was sent."""
    self.assertEmpty([p for p in self.cache.rglob('blobs/*') if p.is_file()])
    asked = [a for a in self.hub.asked if a.method == 'GET' and a.file]
    self.assertTrue(all(a.range == 'bytes=0-100000' for a in asked), asked)

  @parameterized.parameters(_TRANSCODER, _NATIVE)
  def test_the_header_says_the_size(self, name, repo, file):
    tensors = written.draw(size=4000)
    if repo.startswith('mwhanna'):
      tensors['W_enc'] = np.ascontiguousarray(tensors['W_enc'].T)
    self.publish(repo, {file: tensors})
    plan = plan_dictionary(name, 3, _CONFIG)
    self.assertEqual((plan.size, plan.exact), (4000, True))
    (planned,) = plan.files
    self.assertGreater(planned.size, 4000 * 2 * written.D * 4)
    self.assertFalse(planned.cached)
    self.headers_alone(file)

  def test_what_is_here_is_read_here(self):
    name, repo, file = _TRANSCODER
    tensors = written.draw()
    tensors['W_enc'] = np.ascontiguousarray(tensors['W_enc'].T)
    self.publish(repo, {file: tensors})
    fetch_file(repo, file, None)
    self.hub.forget()
    plan = plan_dictionary(name, 3, _CONFIG)
    self.assertEqual((plan.size, plan.files[0].cached), (written.F, True))
    self.assertEmpty(self.hub.downloaded())

  def test_both_files_of_a_cross_layer_transcoder(self):
    name, repo, file = _CROSS
    encoder = {'W_enc_3': np.zeros((50, written.D), np.float32)}
    decoder = {'W_dec_3': np.zeros((50, 4, written.D), np.float32)}
    self.publish(repo, {file: encoder, 'W_dec_3.safetensors': decoder})
    plan = plan_dictionary(name, 3, _CONFIG)
    self.assertEqual(plan.size, 50)
    small, large = (x.size for x in plan.files)
    self.assertGreater(large, 3.5 * small)

  def test_a_torch_file_says_it_by_its_bytes(self):
    name, repo, file = _TORCH
    tensors = {
        'encoder.weight': np.zeros((4000, written.D), np.float32),
        'decoder.weight': np.zeros((written.D, 4000), np.float32),
        'encoder.bias': np.zeros(4000, np.float32),
    }
    self.publish(repo, {file: tensors})
    plan = plan_dictionary(name, 3, _CONFIG)
    self.assertFalse(plan.exact)
    self.assertBetween(plan.size, 4000, 4010)
    self.headers_alone(file)

  def test_another_model(self):
    name, repo, file = _TRANSCODER
    tensors = {'W_enc': np.zeros((50, written.D + 1), np.float32)}
    self.publish(repo, {file: tensors})
    message = self.error(plan_dictionary, name, 3, _CONFIG)
    self.assertIn(f'has the encoder [50, {written.D + 1}]', message)
    self.assertIn(f'stream of {written.D};', message)

  def test_no_safetensors_file(self):
    name, repo, file = _TRANSCODER
    self.hub.publish(repo, {file: b'\xff' * 100})
    message = self.error(plan_dictionary, name, 3, _CONFIG)
    self.assertIn('layer_3.safetensors of mwhanna/qwen3', message)


if __name__ == '__main__':
  absltest.main()
