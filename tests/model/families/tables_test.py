"""The tables of all families, compared by what the tensors do, row by row."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np

from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from ooc_jax.model import parameter_shapes
from tests.checkpoints import tiny

_CASES = tuple(
    (f'{family}_{"tied" if tied else "untied"}', family, tied)
    for family in tiny.FAMILIES
    for tied in (True, False)
)
_GGUF_CASES = tuple(x for x in _CASES if x[1] in tiny.GGUF_FAMILIES)
# Family, tied, and which of the family's formats.
_FORMATS = (
    *((family, tied, 0) for _, family, tied in _CASES),
    *((family, tied, 1) for _, family, tied in _GGUF_CASES),
)
# Parameter -> tensor of transformers, and the product that gives theirs @ x.
_MATRICES = {
    'attention/query': ('self_attn.q_proj', 'd,dnh->nh'),
    'attention/key': ('self_attn.k_proj', 'd,dkh->kh'),
    'attention/value': ('self_attn.v_proj', 'd,dkh->kh'),
    'attention/output': ('self_attn.o_proj', 'nh,nhd->d'),
    'mlp/gate': ('mlp.gate_proj', 'd,dm->m'),
    'mlp/up': ('mlp.up_proj', 'd,dm->m'),
    'mlp/down': ('mlp.down_proj', 'm,md->d'),
}


def _config(family, tied):
  return config_from_hf(tiny.hf_config(family, tied=tied))


def _assert_same_meaning(family, tied, rules, stored, weights):
  """`rules` applied to `stored` do what the transformers weights do.

  Args:
    family: Of the model.
    tied: Whether the unembedding is the embedding.
    rules: The table under test.
    stored: The tensors it reads.
    weights: The same model as transformers names and lays it out.
  """
  ours = {rule.ours: rule.convert(stored[rule.theirs]) for rule in rules}
  checked = set()

  def same(name, actual, expected):
    checked.add(name)
    np.testing.assert_allclose(
        actual, expected, rtol=1e-6, atol=1e-6, err_msg=name
    )

  rng = np.random.default_rng(0)
  for i in range(tiny.SIZES.l):
    for name, (theirs, product) in _MATRICES.items():
      w = weights[f'model.layers.{i}.{theirs}.weight'].astype(np.float64)
      x = rng.normal(size=w.shape[1])
      name = f'layer_{i}/{name}'
      axes = len(product.split(',')[0])
      x_ours = x.reshape(ours[name].shape[:axes])
      same(name, np.einsum(product, x_ours, ours[name]).ravel(), w @ x)
    if tiny.facts_of(family).qkv_bias:
      for name, x in (('query', 'q'), ('key', 'k'), ('value', 'v')):
        stored_bias = weights[f'model.layers.{i}.self_attn.{x}_proj.bias']
        name = f'layer_{i}/attention/{name}_bias'
        same(name, ours[name].ravel(), stored_bias)
    for name, theirs in tiny.facts_of(family).norms.items():
      name = f'layer_{i}/{name}/weight'
      same(name, ours[name], weights[f'model.layers.{i}.{theirs}.weight'])
  same(
      'final_norm/weight',
      ours['final_norm/weight'],
      weights['model.norm.weight'],
  )
  tables = {'embedding': 'model.embed_tokens.weight'}
  if not tied:
    tables['unembedding'] = 'lm_head.weight'
  for name, theirs in tables.items():
    x = rng.normal(size=tiny.SIZES.d)
    same(name, np.einsum('d,vd->v', x, ours[name]), weights[theirs] @ x)
  # Every row of the table was compared, and every parameter has a row.
  assert checked == set(ours), checked ^ set(ours)
  assert checked == set(parameter_shapes(_config(family, tied)))


def _both(family, tied):
  """For each format: its table, the tensors it reads, and the true weights."""
  config = _config(family, tied)
  weights = tiny.tensors(family, tied=tied)
  found = [(families.hf_rules(config), weights, weights)]
  if family in tiny.GGUF_FAMILIES:
    stored = tiny.gguf_tensors(family, weights)
    found.append((families.gguf_rules(config), stored, weights))
  return found


def _with(rules, ending, **changes):
  """`rules` with one fault: the row whose parameter has that ending."""
  found = [rule for rule in rules if rule.ours.endswith(ending)]
  assert found, ending
  return tuple(
      dataclasses.replace(rule, **changes) if rule in found else rule
      for rule in rules
  )


class MeaningTest(parameterized.TestCase):

  @parameterized.named_parameters(*_CASES)
  def test_huggingface(self, family, tied):
    rules, stored, weights = _both(family, tied)[0]
    _assert_same_meaning(family, tied, rules, stored, weights)

  @parameterized.named_parameters(*_GGUF_CASES)
  def test_gguf(self, family, tied):
    rules, stored, weights = _both(family, tied)[1]
    _assert_same_meaning(family, tied, rules, stored, weights)

  def test_llama_rows_turn_as_ggml_turns_them(self):
    """q·k after RoPE: ggml's neighbouring pairs are our pairs of halves."""
    sizes, family = tiny.SIZES, 'llama'
    rules, stored, _ = _both(family, True)[1]
    ours = {rule.ours: rule.convert(stored[rule.theirs]) for rule in rules}
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, sizes.d))
    angles = rng.uniform(size=sizes.h // 2) * 3
    turn = np.exp(1j * angles)

    def interleaved(name, x, heads):
      rows = (stored[f'blk.1.{name}.weight'] @ x).reshape(heads, -1, 2)
      return rows[..., 0] + 1j * rows[..., 1]

    def halves(name, x):
      rows = np.einsum('d,dnh->nh', x, ours[f'layer_1/attention/{name}'])
      first, second = np.split(rows, 2, axis=-1)
      return first + 1j * second

    ggml = interleaved('attn_q', x, sizes.n) * turn
    np.testing.assert_allclose(ggml, halves('query', x) * turn, rtol=1e-6)
    ggml = interleaved('attn_k', y, sizes.k) * turn
    np.testing.assert_allclose(ggml, halves('key', y) * turn, rtol=1e-6)

  @parameterized.named_parameters(
      ('huggingface', 0, 'attention/output', 'd (h n) -> n h d'),
      ('huggingface_query', 0, 'attention/query', '(h n) d -> d n h'),
      ('gguf', 1, 'attention/output', 'd (h n) -> n h d'),
      ('gguf_key', 1, 'layer_2/attention/key', '(h p k) d -> d k (p h)'),
  )
  def test_swapped_heads_are_seen(self, which, ending, layout):
    """A round trip forgives this fault; the meaning does not."""
    rules, stored, weights = _both('llama', False)[which]
    rules = _with(rules, ending, layout=layout)
    with self.assertRaises(AssertionError):
      _assert_same_meaning('llama', False, rules, stored, weights)

  @parameterized.parameters('query', 'key')
  def test_forgotten_unpermutation_is_seen(self, name):
    rules, stored, weights = _both('llama', True)[1]
    row = next(rule for rule in rules if rule.ours.endswith(name))
    self.assertIn('h p', row.layout)
    plain = row.layout.replace('h p', 'p h', 1)
    with self.assertRaises(AssertionError):
      _assert_same_meaning(
          'llama', True, _with(rules, name, layout=plain), stored, weights
      )

  @parameterized.product(
      family=('gemma2', 'gemma3'),
      name=(
          'layer_1/attention_norm/weight',
          'layer_1/post_attention_norm/weight',
          'layer_1/mlp_norm/weight',
          'layer_1/post_mlp_norm/weight',
          'final_norm/weight',
      ),
  )
  def test_forgotten_minus_one_is_seen(self, family, name):
    rules, stored, weights = _both(family, True)[1]
    with self.assertRaises(AssertionError):
      _assert_same_meaning(
          family, True, _with(rules, name, offset=0.0), stored, weights
      )

  @parameterized.parameters('mlp_norm', 'post_attention_norm')
  def test_gemma_norms_in_llamas_places_are_seen(self, name):
    """`post_attention_layernorm` means another norm in Llama."""
    rules, stored, weights = _both('gemma2', True)[0]
    other = {
        'mlp_norm': 'post_attention_layernorm',
        'post_attention_norm': 'pre_feedforward_layernorm',
    }[name]
    faulty = tuple(
        dataclasses.replace(
            rule, theirs=f'model.layers.{rule.ours[6]}.{other}.weight'
        )
        if rule.ours.endswith(f'/{name}/weight')
        else rule
        for rule in rules
    )
    with self.assertRaises(AssertionError):
      _assert_same_meaning('gemma2', True, faulty, stored, weights)


class InverseTest(parameterized.TestCase):

  @parameterized.product(
      case=_FORMATS,
      dtype=(np.float32, np.float16, ml_dtypes.bfloat16),
  )
  def test_round_trip_is_bit_for_bit(self, case, dtype):
    family, tied, which = case
    rules, stored, _ = _both(family, tied)[which]
    for rule in rules:
      x = stored[rule.theirs].astype(dtype)
      there = rule.convert(x)
      back = rule.inverse().convert(there)
      self.assertEqual(there.dtype, dtype)
      self.assertEqual(back.shape, x.shape)
      self.assertEqual(back.tobytes(), x.tobytes(), rule.ours)
      again = rule.inverse().inverse()
      self.assertEqual(again.convert(x).tobytes(), there.tobytes())


if __name__ == '__main__':
  absltest.main()
