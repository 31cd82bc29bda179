"""The conversion tables, compared by what the tensors do, row by row."""

import dataclasses
import time

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np

from ooc_jax import InputError
from ooc_jax.checkpoints import _rules
from ooc_jax.checkpoints._convert import convert
from ooc_jax.checkpoints._source import TensorInfo
from ooc_jax.model import PARTS
from ooc_jax.model import config_from_hf
from ooc_jax.model import parameter_shapes
from tests.checkpoints import tiny

_CASES = tuple(
    (f'{family}_{"tied" if tied else "untied"}', family, tied)
    for family in tiny.FAMILIES
    for tied in (True, False)
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
_LLAMA_NORMS = {
    'attention_norm': 'input_layernorm',
    'mlp_norm': 'post_attention_layernorm',
}
_GEMMA_NORMS = {
    'attention_norm': 'input_layernorm',
    'post_attention_norm': 'post_attention_layernorm',
    'mlp_norm': 'pre_feedforward_layernorm',
    'post_mlp_norm': 'post_feedforward_layernorm',
}
_QK_NORMS = {
    'attention/query_norm': 'self_attn.q_norm',
    'attention/key_norm': 'self_attn.k_norm',
}


class _Source:
  """Arrays in memory as a checkpoint."""

  where = 'memory'
  files = ()

  def __init__(self, arrays):
    self.arrays = arrays

  def tensors(self):
    return {k: TensorInfo(x.shape, 'F32') for k, x in self.arrays.items()}

  def read(self, name, index=None):
    return self.arrays[name] if index is None else self.arrays[name][index]


def _config(family, tied):
  return config_from_hf(tiny.hf_config(family, tied=tied))


def _norms(family):
  if family == 'llama':
    return _LLAMA_NORMS
  return _GEMMA_NORMS | (_QK_NORMS if family == 'gemma3' else {})


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
    for name, theirs in _norms(family).items():
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
  return (
      (_rules.huggingface_rules(config), weights, weights),
      (_rules.gguf_rules(config), tiny.gguf_tensors(family, weights), weights),
  )


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

  @parameterized.named_parameters(*_CASES)
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
      case=_CASES,
      which=(0, 1),
      dtype=(np.float32, np.float16, ml_dtypes.bfloat16),
  )
  def test_round_trip_is_bit_for_bit(self, case, which, dtype):
    _, family, tied = case
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


class CompleteTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.config = _config('gemma2', False)
    self.rules = _rules.huggingface_rules(self.config)
    self.weights = dict(tiny.tensors('gemma2', tied=False))

  def _convert(self, rules=None, parts=PARTS, **kwargs):
    return convert(
        self.config,
        self.rules if rules is None else rules,
        _Source(self.weights),
        parts=parts,
        **kwargs,
    )

  def _error(self, *args, **kwargs):
    with self.assertRaises(InputError) as caught:
      self._convert(*args, **kwargs)
    return str(caught.exception)

  def test_whole_checkpoint_has_no_problem(self):
    params = self._convert()
    self.assertEqual(params['layer_1']['attention']['query'].shape, (20, 6, 8))

  def test_all_problems_are_in_one_error(self):
    del self.weights['model.norm.weight']
    self.weights['model.layers.1.self_attn.q_proj.bias'] = np.ones(48)
    self.weights['model.layers.2.mlp.up_proj.weight'] = np.ones((28, 21))
    name = 'model.layers.0.self_attn.o_proj.weight'
    self.weights[name] = self.weights[name].T
    message = self._error()
    for part in (
        'memory',
        'model.norm.weight is missing',
        'no rule reads model.layers.1.self_attn.q_proj.bias',
        (
            'model.layers.2.mlp.up_proj.weight is [28, 21], which does not give'
            ' layer_2/mlp/up [20, 28]'
        ),
        'model.layers.0.self_attn.o_proj.weight is [48, 20]',
    ):
      self.assertIn(part, message)

  @parameterized.parameters(*PARTS)
  def test_a_tensor_that_is_not_read_is_accounted_for_too(self, part):
    del self.weights['model.layers.1.mlp.up_proj.weight']
    del self.weights['lm_head.weight']
    message = self._error(parts=(part,))
    self.assertIn('model.layers.1.mlp.up_proj.weight is missing', message)
    self.assertIn('lm_head.weight is missing', message)

  def test_two_names_of_one_tensor_are_both_named(self):
    self.weights['other.norm.weight'] = np.ones(20, np.float32)
    message = self._error(aliases={'other.norm.weight': 'model.norm.weight'})
    self.assertIn("'model.norm.weight' and 'other.norm.weight'", message)

  def test_two_rules_for_one_parameter_are_seen(self):
    self.assertIn(
        'two rules write final_norm/weight',
        self._error((*self.rules, self.rules[1])),
    )

  def test_a_parameter_without_rule_is_seen(self):
    self.assertIn('no rule writes embedding', self._error(self.rules[1:]))

  def test_a_rule_without_parameter_is_seen(self):
    rules = list(self.rules)
    rules[3] = dataclasses.replace(rules[3], ours='layer_0/attention/sink')
    message = self._error(rules)
    self.assertIn('the model has no layer_0/attention/sink', message)
    self.assertIn(f'no rule writes {self.rules[3].ours}', message)

  def test_many_problems_are_counted(self):
    for name in list(self.weights)[3:20]:
      del self.weights[name]
    message = self._error()
    self.assertIn('and 5 more', message)
    self.assertLess(len(message), 1200)

  def test_names_cannot_break_the_sentence(self):
    self.weights['evil\n\x1b[31m' + 'x' * 10_000] = np.ones(3)
    message = self._error()
    self.assertIn(r'evil\n\x1b[31mxxx', message)
    self.assertNotIn('\n', message)
    self.assertLess(len(message), 3000)

  def test_a_config_of_very_many_layers_is_refused_soon(self):
    self.config = dataclasses.replace(
        self.config, num_layers=10_000, windows=(None,) * 10_000
    )
    self.rules = _rules.huggingface_rules(self.config)
    started = time.process_time()
    self.assertIn('model.layers.3.self_attn.q_proj.weight', self._error())
    self.assertLess(time.process_time() - started, 5)

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_what_is_not_finite_is_refused_by_name(self, value):
    name = 'model.layers.1.mlp.down_proj.weight'
    self.weights[name] = self.weights[name].copy()
    self.weights[name][19, 27] = value
    message = self._error()
    self.assertIn(f'{name!r} holds NaN or infinity', message)
    self.assertIn('download', message)
    # Not in the part that is read.
    self._convert(parts=('attention',))

  def test_overflow_of_the_cast_says_so(self):
    name = 'model.layers.1.mlp.down_proj.weight'
    self.weights[name] = self.weights[name] + np.float32(1e5)
    self._convert(dtype=np.dtype(np.float32))
    message = self._error(dtype=np.dtype(np.float16))
    self.assertIn('infinity as float16; take a wider dtype', message)


if __name__ == '__main__':
  absltest.main()
