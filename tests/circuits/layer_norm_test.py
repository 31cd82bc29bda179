"""LayerNorm, learned positions and partial rotation in lens, QK and OV.

Against float64 NumPy from the definitions, on GPT-2 and Pythia models that
transformers wrote: LayerNorm(d) ⊙ g = (d - mean(d)) / std(d) ⊙ g.
"""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import mlp_dictionary
from ooc_jax.dictionaries import random_dictionary
from ooc_jax.model import Site
from ooc_jax.model import forward
from ooc_jax.model import run_with_taps
from tests.model import golden_files

_LAYER, _HEAD, _K = 1, 2, 6
_MODELS = ('gpt2', 'gpt_neox')


def _dictionary(model, lengths=(0.3, 9.0)):
  """Directions of many lengths, whose means are not zero."""
  drawn = random_dictionary(model, _LAYER, size=23)
  rng = np.random.default_rng(0)
  lengths = rng.uniform(*lengths, size=(23, 1)).astype(np.float32)
  return drawn.replace(decoder=(drawn.decoder + 0.2) * lengths)


def _array(model, path):
  node = model.params
  for name in path.split('/'):
    node = node[name]
  return np.asarray(node, np.float64)


def _normed(rows, gain):
  centred = rows - rows.mean(axis=1, keepdims=True)
  return centred / centred.std(axis=1, keepdims=True) * gain


def _heads(model, rows, name):
  gain = _array(model, f'layer_{_LAYER}/attention_norm/weight')
  weight = _array(model, f'layer_{_LAYER}/attention/{name}')[:, _HEAD]
  return _normed(rows, gain) @ weight


def _turned(x, offset, rotary, base=10_000.0):
  """The first `rotary` entries of a head, in pairs (i, i + rotary / 2)."""
  half = rotary // 2
  angles = offset * base ** -(2 * np.arange(half) / max(rotary, 1))
  out = x.copy()
  cos, sin = np.cos(angles), np.sin(angles)
  out[:, :half] = x[:, :half] * cos - x[:, half:rotary] * sin
  out[:, half:rotary] = x[:, half:rotary] * cos + x[:, :half] * sin
  return out


class LengthTest(parameterized.TestCase):

  @parameterized.product(length=(1e-24, 1e19), name=_MODELS)
  def test_lens_of_any_length(self, length, name):
    model = golden_files.load(name).model
    dictionary = _dictionary(model)
    scaled = dictionary.replace(decoder=dictionary.decoder * length)
    lens, same = (
        circuits.output_lens(model, x, k=5) for x in (scaled, dictionary)
    )
    np.testing.assert_array_equal(lens.top_ids, same.top_ids)
    np.testing.assert_allclose(lens.std, same.std, rtol=1e-5)


@pytest.mark.any_compiler
class LayerNormTest(parameterized.TestCase):

  def case(self, name):
    model = golden_files.load(name).model
    dictionary = _dictionary(model)
    return model, dictionary, np.asarray(dictionary.decoder, np.float64)

  def rotary(self, model):
    rope = model.config.rope
    return 0 if rope is None else rope.rotary_dim

  @parameterized.product(
      name=_MODELS, convention=('raw', 'folded', 'normed', 'cosine')
  )
  def test_lens(self, name, convention):
    model, dictionary, d = self.case(name)
    table = np.asarray(circuits.unembedding_table(model), np.float64)
    gain = _array(model, 'final_norm/weight')
    centred = d - d.mean(axis=1, keepdims=True)
    rows = {
        'raw': d,
        'folded': centred * gain,
        'normed': _normed(d, gain),
        'cosine': centred * gain,
    }[convention]
    if convention == 'cosine':
      rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
      table = table / np.linalg.norm(table, axis=1, keepdims=True)
    logits = rows @ table.T
    lens = circuits.output_lens(
        model,
        dictionary,
        k=_K,
        convention=convention,
        mask=jnp.ones(len(table), bool),
    )
    order = np.argsort(-logits, axis=1)[:, :_K]
    np.testing.assert_array_equal(lens.top_ids, order)
    np.testing.assert_allclose(
        lens.top_logits,
        np.take_along_axis(logits, order, axis=1),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(lens.std, logits.std(axis=1), rtol=1e-5)
    # Without centring the numbers are others: the test would see the fault.
    if convention != 'raw':
      plain = d / np.sqrt((d * d).mean(axis=1, keepdims=True)) * gain
      off = np.abs(plain @ table.T - logits).max() / np.abs(logits).max()
      self.assertGreater(off, 0.01)

  @parameterized.product(name=_MODELS, offset=(0, 3, 500))
  def test_scores(self, name, offset):
    model, dictionary, d = self.case(name)
    queries = _heads(model, d, 'query')
    queries = _turned(queries, offset, self.rotary(model))
    scores = queries @ _heads(model, d, 'key').T
    scores *= model.config.attention_scale
    found = circuits.attention_statistics(
        model, dictionary, _LAYER, offset=offset, heads=[_HEAD], k=_K
    )
    order = np.argsort(-scores, axis=1)[:, :_K]
    np.testing.assert_array_equal(found.query.top_ids[0], order)
    np.testing.assert_allclose(
        found.query.maximum[0], scores.max(axis=1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        found.key.maximum[0], scores.max(axis=0), rtol=1e-5, atol=1e-6
    )

  @parameterized.parameters(*_MODELS)
  def test_profile(self, name):
    model, dictionary, d = self.case(name)
    pairs = np.array([[0, 1], [5, 2], [7, 7]])
    profile = circuits.rope_profile(
        model, dictionary, _LAYER, _HEAD, pairs, context=2048
    )
    # No further than there are positions.
    offsets = 610 if name == 'gpt2' else 2048
    self.assertEqual(profile.scores.shape, (3, offsets))
    queries = _heads(model, d, 'query')[pairs[:, 0]]
    keys = _heads(model, d, 'key')[pairs[:, 1]]
    for offset in (0, 1, 17, 600):
      turned = _turned(queries, offset, self.rotary(model))
      scores = (turned * keys).sum(axis=1) * model.config.attention_scale
      np.testing.assert_allclose(
          profile.scores[:, offset], scores, rtol=1e-4, atol=1e-5
      )
    flat = float(np.ptp(profile.scores, axis=1).max())
    if name == 'gpt2':
      self.assertEqual(flat, 0.0)
    else:
      self.assertGreater(flat, 0.01)

  @parameterized.parameters('gpt2', 'gpt_neox', 'qwen2', 'llama')
  def test_constants_of_a_head_are_no_part_of_a_feature(self, name):
    """Query and key of a zero stream: biases alone."""
    model = golden_files.load(name).model
    found = circuits.head_constants(model, _LAYER, _HEAD)
    if name == 'llama':
      self.assertIsNone(found)
      return
    kv_head = _HEAD // model.config.group_size
    for constant, which, index in zip(
        found, ('query', 'key'), (_HEAD, kv_head), strict=True
    ):
      expected = _array(model, f'layer_{_LAYER}/attention/{which}_bias')[index]
      if name != 'qwen2':
        bias = _array(model, f'layer_{_LAYER}/attention_norm/bias')
        weight = _array(model, f'layer_{_LAYER}/attention/{which}')[:, index]
        expected = expected + bias @ weight
      np.testing.assert_allclose(constant, expected, rtol=1e-5, atol=1e-6)
      self.assertGreater(np.linalg.norm(expected), 0.3)
    # Queries and keys of features are the same whatever the biases.
    dictionary = random_dictionary(model, _LAYER, size=5)
    without = model.replace(
        params=jax.tree_util.tree_map_with_path(
            lambda path, x: x * 0 if 'bias' in path[-1].key else x, model.params
        )
    )
    np.testing.assert_array_equal(
        circuits.head_queries(model, dictionary.decoder, _LAYER, _HEAD),
        circuits.head_queries(without, dictionary.decoder, _LAYER, _HEAD),
    )

  def test_offset_past_the_last_position(self):
    model, dictionary, _ = self.case('gpt2')
    with self.assertRaisesRegex(InputError, '610 positions'):
      circuits.attention_statistics(model, dictionary, _LAYER, offset=610)

  @parameterized.product(name=_MODELS, convention=('raw', 'normed', 'cosine'))
  def test_what_a_head_writes(self, name, convention):
    model, dictionary, d = self.case(name)
    writes = _heads(model, d, 'value') @ (
        _array(model, f'layer_{_LAYER}/attention/output')[_HEAD]
    )
    table = np.asarray(circuits.unembedding_table(model), np.float64)
    gain = _array(model, 'final_norm/weight')
    rows = writes if convention == 'raw' else _normed(writes, gain)
    if convention == 'cosine':
      rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
      table = table / np.linalg.norm(table, axis=1, keepdims=True)
    logits = rows @ table.T
    lens = circuits.ov_lens(
        model,
        dictionary,
        _LAYER,
        _HEAD,
        k=_K,
        convention=convention,
        mask=jnp.ones(len(table), bool),
    )
    order = np.argsort(-logits, axis=1)[:, :_K]
    np.testing.assert_array_equal(lens.top_ids, order)
    np.testing.assert_allclose(lens.std, logits.std(axis=1), rtol=1e-4)

  @parameterized.parameters(*_MODELS)
  def test_neurons_read_what_the_norm_leaves(self, name):
    """Their encoder on a stream is their input less its bias, times the RMS."""
    golden = golden_files.load(name).short(9)
    model = golden.model
    key, stream = (Site.MLP_IN, _LAYER), (Site.RESID_PRE, _LAYER)
    if name == 'gpt2':
      stream = (Site.RESID_MID, _LAYER)
    _, saved = run_with_taps(
        lambda x, tap: forward(model, x, tap=tap),
        golden.tokens,
        save=[key, stream],
    )
    neurons = mlp_dictionary(model, _LAYER)
    x = np.asarray(saved[stream], np.float64)
    spread = x.std(axis=-1, keepdims=True)
    up = _array(model, f'layer_{_LAYER}/mlp/up')
    gain = _array(model, f'layer_{_LAYER}/mlp_norm/weight')
    normed = np.asarray(saved[key], np.float64)
    np.testing.assert_allclose(
        x @ np.asarray(neurons.encoder, np.float64).T / spread,
        (normed * gain) @ up,
        rtol=1e-3,
        atol=1e-3,
    )
    self.assertEqual(neurons.site, DictionarySite(_LAYER, 'mlp_neuron'))


if __name__ == '__main__':
  absltest.main()
