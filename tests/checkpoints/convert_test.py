"""Conversion of a whole checkpoint: complete, or one error that says it all."""

import dataclasses
import time

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import InputError
from ooc_jax.checkpoints._convert import convert
from ooc_jax.checkpoints._source import TensorInfo
from ooc_jax.model import PARTS
from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from tests.checkpoints import tiny


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


class CompleteTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.config = config_from_hf(tiny.hf_config('gemma2', tied=False))
    self.rules = families.hf_rules(self.config)
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
    self.rules = families.hf_rules(self.config)
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
