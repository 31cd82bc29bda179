"""Whatever a file says of itself: a dictionary, or one InputError."""

import json
import pathlib
import struct
import tempfile
import zipfile

from absl.testing import absltest
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import Dictionary
from tests.dictionaries import torch_files
from tests.dictionaries import written
from tests.dictionaries.formats import dictionary_learning_test
from tests.dictionaries.formats import llama_scope_r1_test
from tests.dictionaries.formats import transcoder_files_test
from tests.dictionaries.models import tiny_model

_SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
_NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400, 1e-300, 1e300]),
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
_HOOKS = st.sampled_from([
    'blocks.1.hook_resid_post',
    'blocks.1.attn.hook_z',
    'blocks.1.ln2.hook_normalized',
    'blocks.99999.hook_mlp_out',
    'model.layers.1.output',
    'model.layers.٣.output',
    'hook_embed',
])
_VALUES = st.one_of(
    _JSON,
    _HOOKS,
    st.sampled_from(['standard', 'topk', 'gated', 'jumprelu', 'relu']),
    st.fixed_dictionaries({'in': _NUMBERS, 'out': _NUMBERS}),
    st.fixed_dictionaries({'hook_name': _HOOKS, 'k': _NUMBERS}),
)
_SAE_LENS = {
    'architecture': 'standard',
    'd_in': written.D,
    'd_sae': written.F,
    'hook_name': 'blocks.1.hook_resid_post',
    'apply_b_dec_to_input': True,
    'normalize_activations': 'none',
    'activation_fn': 'relu',
    'activation_fn_kwargs': {},
    'k': 5,
    'rescale_acts_by_decoder_norm': False,
    'hook_head_index': None,
    'hook_name_out': None,
    'metadata': {},
}
_GEMMA = {
    'hf_hook_point_in': 'model.layers.1.output',
    'width': written.F,
    'architecture': 'jump_relu',
}

_SPARSIFY = {
    'activation': 'topk',
    'd_in': written.D,
    'num_latents': written.F,
    'expansion_factor': 2,
    'k': 5,
    'signed': False,
    'transcode': False,
}


def _changes(config):
  return st.dictionaries(
      st.sampled_from(sorted(config)), _VALUES, min_size=1, max_size=4
  )


def _try(folder: pathlib.Path) -> bool:
  """Whether it loads; anything but InputError fails the test."""
  try:
    dictionary = load_dictionary(folder, model=tiny_model('gemma2'))
  except InputError as error:
    message = str(error)
    assert '\n' not in message and len(message) < 2000, message
    return False
  assert isinstance(dictionary, Dictionary)
  for x in (dictionary.encoder, dictionary.decoder, dictionary.decoder_bias):
    assert np.isfinite(np.asarray(x, np.float32)).all()
  assert dictionary.decoder.shape[1] == written.D
  return True


class FuzzTest(absltest.TestCase):
  examples = 60

  def settings(self):
    return hypothesis.settings(_SETTINGS, max_examples=self.examples)

  def setUp(self):
    super().setUp()
    self.outcomes = set()

  def _check(self, write, *args, name='layer_1'):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / name
      path.mkdir()
      write(path, *args)
      self.outcomes.add(_try(path))

  def tearDown(self):
    # Both ways were walked: the strategy is neither too wild nor too tame.
    self.assertEqual(self.outcomes, {True, False})
    super().tearDown()

  def test_sae_lens_config(self):
    tensors = {n: x for n, x in written.draw().items() if n != 'threshold'}

    @self.settings()
    @hypothesis.given(changes=_changes(_SAE_LENS))
    def check(changes):
      self._check(written.write_sae_lens, tensors, _SAE_LENS | changes)

    check()

  def test_llama_scope_config(self):
    good = written.llama_hyperparams()

    @self.settings()
    @hypothesis.given(changes=_changes(good))
    def check(changes):
      self._check(written.write_llama_scope, written.draw(), good | changes)

    check()

  def test_sparsify_config(self):

    @self.settings()
    @hypothesis.given(changes=_changes(_SPARSIFY))
    def check(changes):
      config = _SPARSIFY | changes
      write = written.write_sparsify
      self._check(write, written.draw(), config, name='layers.1')

    check()

  @pytest.mark.slow
  def test_dictionary_learning_config(self):
    good = {
        'dict_class': 'AutoEncoderTopK',
        'layer': 1,
        'submodule_name': 'resid_post_layer_1',
        'k': 5,
    }
    tensors = dictionary_learning_test.stored('AutoEncoderTopK')
    value = st.one_of(_VALUES, st.sampled_from(dictionary_learning_test.KINDS))

    def write(path, config):
      torch_files.write_pt(path / 'ae.pt', tensors)
      (path / 'config.json').write_text(json.dumps(config))

    @self.settings()
    @hypothesis.example(config={'trainer': good})
    @hypothesis.given(
        config=st.dictionaries(
            st.sampled_from(sorted(good)), value, max_size=3
        ).map(lambda changes: {'trainer': good | changes})
        | _JSON
    )
    def check(config):
      self._check(write, config)

    check()

  def test_llama_scope_r1_config(self):
    good = {
        'd_model': written.D,
        'expansion_factor': None,
        'hook_point_in': 'blocks.1.hook_resid_post',
        'hook_point_out': 'blocks.1.hook_resid_post',
        'norm_activation': 'dataset-wise',
        'dataset_average_activation_norm': {'in': 5.0, 'out': 5.0},
        'sparsity_include_decoder_norm': False,
        'apply_decoder_bias_to_pre_encoder': False,
    }

    @self.settings()
    @hypothesis.given(changes=_changes(good))
    def check(changes):
      self._check(
          lambda path: llama_scope_r1_test.write(path, **(good | changes))
      )

    check()

  def test_transcoder_yaml(self):
    keys = st.sampled_from(
        ['feature_input_hook', 'feature_output_hook', 'model_name', '- x', '']
    )
    values = st.one_of(
        st.sampled_from(
            ['mlp.hook_in', 'hook_resid_mid', "'hook_mlp_out'", '!!python/x y',
             '&a [*a, *a]', '{', '|', '? :']
        ),
        st.text(max_size=12),
        _JSON.map(repr),
    )  # fmt: skip

    def write(path, lines):
      save_file(transcoder_files_test.one_layer(), path / 'layer_1.safetensors')
      text = '\n'.join(f'{key}: {value}' for key, value in lines)
      (path / 'config.yaml').write_bytes(text.encode('utf-8', 'surrogatepass'))

    @self.settings()
    @hypothesis.example(lines=[])
    @hypothesis.example(lines=[('feature_input_hook', 'x')])
    @hypothesis.given(lines=st.lists(st.tuples(keys, values), max_size=4))
    def check(lines):
      self._check(write, lines)

    check()

  def test_gemma_scope_2_config(self):

    @self.settings()
    @hypothesis.given(changes=_changes(_GEMMA))
    def check(changes):
      config = _GEMMA | changes
      self._check(written.write_gemma_scope_2, written.draw(), config)

    check()

  def test_safetensors_header(self):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder)
      written.write_gemma_scope_2(path, written.draw())
      whole = (path / 'params.safetensors').read_bytes()
    (size,) = struct.unpack('<Q', whole[:8])
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    entry = st.one_of(
        _JSON,
        st.fixed_dictionaries({
            'dtype': st.sampled_from(['F32', 'F64', 'BF16', 'I8', 'BOOL', 'X']),
            'shape': st.lists(_NUMBERS, max_size=3),
            'data_offsets': st.lists(_NUMBERS, max_size=3),
        }),
    )

    def write(path, changes):
      text = json.dumps(header | changes).encode()
      (path / 'params.safetensors').write_bytes(
          struct.pack('<Q', len(text)) + text + data
      )

    @self.settings()
    @hypothesis.given(
        changes=st.dictionaries(
            st.sampled_from(sorted(header)), entry, max_size=2
        )
    )
    def check(changes):
      self._check(write, changes)

    check()

  def test_npy_header(self):
    tensors = written.draw()
    known = st.sampled_from(
        ["'<f4'", "'<f8'", "'|O'", 'False', 'True', '(33,)']
    )
    value = st.one_of(known, _JSON.map(repr), st.text(max_size=12))

    def write(path, parts):
      descr, order, shape, length = parts
      text = (
          f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape},"
          ' }\n'
      ).encode('utf-8', 'surrogatepass')
      size = len(text) if length is None else length
      member = b'\x93NUMPY\x01\x00' + struct.pack('<H', size) + text
      written.write_npz(
          path, {n: x for n, x in tensors.items() if n != 'b_enc'}
      )
      with zipfile.ZipFile(path / 'params.npz', 'a') as archive:
        archive.writestr('b_enc.npy', member + tensors['b_enc'].tobytes())

    @self.settings()
    @hypothesis.example(parts=("'<f4'", 'False', '(33,)', None))
    @hypothesis.given(
        parts=st.tuples(
            value, value, value, st.none() | st.integers(0, 2**16 - 1)
        )
    )
    def check(parts):
      self._check(write, parts)

    check()


@pytest.mark.slow
class LongFuzzTest(FuzzTest):
  examples = 400


if __name__ == '__main__':
  absltest.main()
