"""dictionary_learning's classes against their own words, in float64."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import torch_files
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model

_K, _LEVEL = 5, 0.6


def stored(kind: str) -> dict[str, np.ndarray]:
  """The tensors of a class, as its `state_dict` has them."""
  t = written.draw()
  linear = {
      'encoder.weight': np.ascontiguousarray(t['W_enc'].T),
      'decoder.weight': np.ascontiguousarray(t['W_dec'].T),
  }
  rows = {name: t[name] for name in ('W_enc', 'W_dec', 'b_enc', 'b_dec')}
  rng = np.random.default_rng(3)
  level = np.array(_LEVEL, np.float32)
  k = np.array(_K, np.int32)
  return {
      'AutoEncoder': linear | {'encoder.bias': t['b_enc'], 'bias': t['b_dec']},
      'AutoEncoderNew': (
          linear | {'encoder.bias': t['b_enc'], 'decoder.bias': t['b_dec']}
      ),
      'GatedAutoEncoder': (
          linear
          | {'decoder_bias': t['b_dec']}
          | {
              name: rng.normal(size=written.F).astype(np.float32)
              for name in ('r_mag', 'gate_bias', 'mag_bias')
          }
      ),
      'AutoEncoderTopK': (
          linear
          | {'encoder.bias': t['b_enc'], 'b_dec': t['b_dec']}
          | {'k': k, 'threshold': level}
      ),
      'BatchTopKSAE': (
          linear
          | {'encoder.bias': t['b_enc'], 'b_dec': t['b_dec']}
          | {'k': k, 'threshold': level}
      ),
      'MatryoshkaBatchTopKSAE': (
          rows
          | {'k': k, 'threshold': level}
          | {'group_sizes': np.array([8, 25], np.int64)}
      ),
      'JumpReluAutoEncoder': rows | {'threshold': t['threshold']},
  }[kind]


KINDS = (
    'AutoEncoder', 'AutoEncoderNew', 'GatedAutoEncoder', 'AutoEncoderTopK',
    'BatchTopKSAE', 'MatryoshkaBatchTopKSAE', 'JumpReluAutoEncoder',
)  # fmt: skip


def _encode(kind, tensors, x):
  """What the class computes, in its own words."""
  w = written.draw()
  w = {name: t.astype(np.float64) for name, t in w.items()}
  if kind == 'GatedAutoEncoder':
    own = {n: t.astype(np.float64) for n, t in tensors.items()}
    read = (x - w['b_dec']) @ w['W_enc']
    gate = read + own['gate_bias'] > 0
    return gate * np.maximum(np.exp(own['r_mag']) * read + own['mag_bias'], 0)
  if kind in ('JumpReluAutoEncoder', 'AutoEncoderNew'):
    pre = x @ w['W_enc'] + w['b_enc']
  else:
    pre = (x - w['b_dec']) @ w['W_enc'] + w['b_enc']
  a = np.maximum(pre, 0)
  if kind == 'JumpReluAutoEncoder':
    return a * (pre > w['threshold'])
  if 'Batch' in kind:
    return a * (a > np.float32(_LEVEL))
  if kind == 'AutoEncoderTopK':
    out = np.zeros_like(a)
    for row, kept in zip(a, out, strict=True):
      best = np.argsort(-row)[:_K]
      kept[best] = row[best]
    return out
  return a


def write(folder, kind, *, to='ae.pt', **changes):
  """A folder of a training, as the library leaves it."""
  config = {
      'trainer': (
          {
              'dict_class': kind,
              'activation_dim': written.D,
              'dict_size': written.F,
              'layer': 2,
              'lm_name': 'google/gemma-2-2b',
              'submodule_name': 'resid_post_layer_2',
              'k': _K,
          }
          | changes
      ),
      'buffer': {'ctx_len': 128},
  }
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  if to == 'ae.pt':
    torch_files.write_pt(folder / to, stored(kind))
  else:
    save_file(
        {n: x for n, x in stored(kind).items() if x.dtype == np.float32},
        folder / to,
    )
  return folder


class DictionaryLearningTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'trainer_0'

  @parameterized.product(kind=KINDS, to=('ae.pt', 'ae.safetensors'))
  def test_computes(self, kind, to):
    dictionary = load_dictionary(write(self.folder, kind, to=to))
    self.assertEqual(
        (dictionary.site.layer, dictionary.site.hook), (2, 'resid_post')
    )
    self.assertLen(dictionary.files, 2)
    self.assertEqual(
        dictionary.top_k, _K if kind == 'AutoEncoderTopK' else None
    )
    x = written.inputs()
    expected = _encode(kind, stored(kind), x)
    actual = np.asarray(dictionary.encode(x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    w = written.draw()
    written.assert_same(
        dictionary.decode(actual), expected @ w['W_dec'] + w['b_dec']
    )

  def test_a_file_by_its_path(self):
    folder = write(self.folder, 'AutoEncoder')
    self.assertEqual(load_dictionary(folder / 'ae.pt').size, written.F)
    # A JumpReLU of rows beside this config is not SAELens's.
    folder = write(self.folder, 'JumpReluAutoEncoder')
    dictionary = load_dictionary(folder / 'ae.pt')
    np.testing.assert_array_equal(
        dictionary.encoder_bias, written.draw()['b_enc']
    )

  @parameterized.parameters(
      ('resid_post_layer_3', 'resid_post'),
      ('mlp_out_layer_3', 'mlp_out'),
      ('attention_out_layer_3', 'attn_out'),
  )
  def test_sites(self, name, hook):
    write(self.folder, 'AutoEncoder', layer=3, submodule_name=name)
    self.assertEqual(load_dictionary(self.folder).site.hook, hook)
    inner = self.folder.parent / name / 'trainer_1'
    write(inner, 'AutoEncoder', layer=3, submodule_name=None)
    site = load_dictionary(inner).site
    self.assertEqual((site.layer, site.hook), (3, hook))

  def test_a_norm_after_the_module(self):
    write(self.folder, 'AutoEncoder', submodule_name='mlp_out_layer_2')
    with self.assertRaisesRegex(InputError, 'norms before it is added'):
      load_dictionary(self.folder, model=tiny_model('gemma2'))

  @parameterized.parameters(
      ('AutoEncoderTopK', {'k': 0}, 'k is 0, and must be between 1 and the 33'),
      ('AutoEncoderTopK', {'dict_class': 'X'}, "dict_class 'X' does not say"),
      ('BatchTopKSAE', {'dict_class': 3}, "'dict_class' is 3, and must be a t"),
  )
  def test_refuses(self, kind, changes, message):
    write(self.folder, kind, **changes)
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(self.folder)

  def test_k_that_only_the_weights_have(self):
    write(self.folder, 'AutoEncoderTopK', k=None)
    self.assertEqual(load_dictionary(self.folder).top_k, _K)

  def test_a_threshold_that_training_never_found(self):
    write(self.folder, 'BatchTopKSAE')
    tensors = stored('BatchTopKSAE')
    tensors['threshold'] = np.array(-1, np.float32)
    torch_files.write_pt(self.folder / 'ae.pt', tensors)
    threshold = load_dictionary(self.folder).threshold
    np.testing.assert_array_equal(threshold, np.zeros(written.F))


if __name__ == '__main__':
  absltest.main()
