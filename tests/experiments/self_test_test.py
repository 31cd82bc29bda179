"""A device that computes wrong is found, and one that does not only once."""

import os
import pathlib
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import _cache
from ooc_jax import circuits
from ooc_jax import experiments
from ooc_jax._cli import _experiments
from ooc_jax._cli import _explain
from ooc_jax._cli import _flags
from ooc_jax.circuits.lens import _lens
from ooc_jax.experiments import _self_test

_CPU = jax.devices()[0]


def _rounded(x, bits):
  """As products read it on a device that keeps so many bits of a factor."""
  return jax.lax.reduce_precision(jnp.asarray(x), 8, bits)


def _lens_that_rounds(precision, bits):
  right = circuits.unembedding_lens

  def wrong(rows, *args, **kwargs):
    if kwargs['precision'] == precision:
      rows = _rounded(rows, bits)
    return right(rows, *args, **kwargs)

  return mock.patch.object(circuits, 'unembedding_lens', wrong)


class SelfTestTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.enter_context(mock.patch.object(_lens, '_UNSCREENED', set()))
    self._cache(self.root)

  def _cache(self, path):
    self.enter_context(mock.patch.dict(os.environ, OOC_JAX_CACHE=str(path)))

  def _tests(self, **found):
    """Stands for the test, and finds this."""
    return self.enter_context(
        mock.patch.object(_self_test, 'self_test', return_value=found)
    )

  def test_this_machine_is_right(self):
    self.assertEqual(experiments.self_test(_CPU), {})

  def test_a_cpu_is_taken_for_tested(self):
    test = self._tests()
    self.assertEqual(experiments.check_arithmetic(), {})
    test.assert_not_called()
    self.assertEmpty(list(self.root.iterdir()))

  @parameterized.parameters((7,), (10,))  # bfloat16, TF32.
  def test_wrong_products_of_the_lens(self, bits):
    with (
        _lens_that_rounds('screened', bits),
        self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs,
    ):
      failed = experiments.check_arithmetic(device=_CPU)
    self.assertEqual(list(failed), ['screened'])
    self.assertRegex(failed['screened'], 'table bfloat16: .*entropy off by')
    self.assertLen(logs.output, 1)
    self.assertIn('precision=auto is exact here', logs.output[0])
    self.assertIn('entropy off by', logs.output[0])
    # A device that would be screened, of this kind and of another one.
    for kind, screened in ((_CPU.device_kind, False), ('other', True)):
      device = mock.Mock(
          platform='gpu', compute_capability='9.0', device_kind=kind
      )
      for dtype in (jnp.float32, jnp.bfloat16):
        self.assertIs(_lens.use_screen('auto', device, dtype, 2304), screened)
      self.assertTrue(_lens.use_screen('screened', device, jnp.float32, 2304))
    self.assertEmpty(list(self.root.glob('devices/*')))

  def test_wrong_products_without_a_remedy(self):
    right = circuits.qk_statistics
    with (
        _lens_that_rounds('exact', 10),
        mock.patch.object(
            circuits,
            'qk_statistics',
            lambda q, keys, **kwargs: right(_rounded(q, 10), keys, **kwargs),
        ),
        self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs,
    ):
      failed = experiments.check_arithmetic(device=_CPU)
    self.assertEqual(list(failed), ['exact', 'attention'])
    self.assertLen(logs.output, 2)
    for line in logs.output:
      self.assertIn('JAX_PLATFORMS=cpu', line)
    self.assertEmpty(_lens._UNSCREENED)

  @pytest.mark.slow  # The kernel is interpreted.
  def test_a_kernel_is_tested_where_it_is_asked_for(self):
    right = circuits.unembedding_lens

    def wrong(rows, *args, **kwargs):
      # Here the kernel would be interpreted, which is slow.
      if kwargs['kernel'] == 'pallas':
        rows = _rounded(rows, 10)
      return right(rows, *args, **kwargs | {'kernel': 'xla'})

    fused, plain = (
        experiments.OutputPrediction(kernel=x) for x in ('pallas', 'xla')
    )
    options = {'config': experiments.SemanticAttention(), 'labels': fused}
    with (
        mock.patch.object(circuits, 'unembedding_lens', wrong),
        self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs,
        mock.patch.object(
            _experiments.experiments, 'check_arithmetic'
        ) as check,
    ):
      check.side_effect = lambda kernel: _self_test.check_arithmetic(
          kernel, _CPU
      )
      found = _experiments.trusted(options)
      self.assertEqual(found, options | {'labels': plain})
      self.assertLen(logs.output, 1)
      self.assertIn('use kernel=xla', logs.output[0])
      # Others are right, and are not mistaken for it.
      same = options | {'labels': plain}
      self.assertEqual(_experiments.trusted(same), same)
      check.assert_called_with('xla')
    self.assertLen(logs.output, 1)

  def test_explaining_a_feature_leaves_a_kernel_that_is_wrong(self):
    given = {'feature': '0/1', 'model': None, 'weights': None}
    fused = experiments.OutputPrediction(kernel='pallas')
    for failed, kernel in (({'pallas': 'x'}, 'xla'), ({}, 'pallas')):
      with (
          mock.patch.object(_explain, '_config', return_value=fused),
          mock.patch.object(_explain.explain, 'run') as run,
          mock.patch.object(_explain.explain, 'text', return_value=[]),
          mock.patch.object(
              experiments, 'check_arithmetic', return_value=failed
          ),
      ):
        _explain.COMMANDS['explain'].main(_flags.Given({}, given, ()))
      self.assertEqual(run.call_args.args[1].kernel, kernel)

  @parameterized.parameters(jax.errors.JaxRuntimeError, NotImplementedError)
  def test_a_path_that_does_not_compile_or_gives_no_number(self, kind):
    def broken(*args, **kwargs):
      raise kind('UNIMPLEMENTED: no such\nproduct')

    right = circuits.qk_statistics

    def nan(*args, **kwargs):
      found = right(*args, **kwargs)
      return found.replace(entropy=found.entropy.at[3].set(np.nan))

    with (
        mock.patch.object(circuits, 'unembedding_lens', broken),
        mock.patch.object(circuits, 'qk_statistics', nan),
    ):
      failed = experiments.self_test(_CPU)
    self.assertEqual(
        failed['exact'], f'{kind.__name__}: UNIMPLEMENTED: no such product'
    )
    self.assertIn('entropy off by nan', failed['attention'])

  def test_a_pass_is_remembered(self):
    test = self._tests()
    for _ in range(3):
      self.assertEqual(experiments.check_arithmetic(device=_CPU), {})
    test.assert_called_once()
    (record,) = self.root.glob('devices/*.json')
    # Not for another version, another kind, or a record that is damaged.
    with mock.patch.object(
        _cache.importlib.metadata, 'version', lambda name: '99'
    ):
      experiments.check_arithmetic(device=_CPU)
    self.assertEqual(test.call_count, 2)
    other = mock.Mock(
        spec=_CPU, device_kind='other', platform='gpu', client=_CPU.client
    )
    with mock.patch.object(jax, 'local_devices', lambda: [other]):
      experiments.check_arithmetic()
    self.assertEqual(test.call_count, 3)
    test.assert_called_with(other, 'xla')
    record.write_text('{}')
    experiments.check_arithmetic(device=_CPU)
    experiments.check_arithmetic(device=_CPU)
    self.assertEqual(test.call_count, 4)

  def test_a_failure_is_tested_again(self):
    test = self._tests(screened='entropy off by 1.0e-02')
    for _ in range(2):
      with self.assertLogs(logging.get_absl_logger(), 'WARNING'):
        self.assertLen(experiments.check_arithmetic(device=_CPU), 1)
    self.assertEqual(test.call_count, 2)

  @parameterized.parameters(('file/in/it',), ('',))
  def test_where_nothing_can_be_kept(self, place):
    (self.root / 'file').touch()
    self._cache(self.root / place if place else '')
    test = self._tests()
    for _ in range(2):
      self.assertEqual(experiments.check_arithmetic(device=_CPU), {})
    self.assertEqual(test.call_count, 2)


if __name__ == '__main__':
  absltest.main()
