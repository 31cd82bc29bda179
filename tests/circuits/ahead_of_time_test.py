"""Programs of the lens and of a QK head, as compilers make them for others.

Compiled ahead of time at the shapes of Gemma-2-2B with 16,384 features, over
eight TPUs and for one H200, none of which is here, and their text is read: what
is sorted, what is held in float32, how products are made, and what chips send
to each other.
"""

import collections
import dataclasses
import functools
import importlib.util
import math
import os
import pathlib
import re
from typing import NamedTuple
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax._src import xla_bridge
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import circuits
from ooc_jax.circuits.lens import _gpu_walk
from ooc_jax.circuits.lens import _tpu_walk
from ooc_jax.experiments.output_prediction._plan import collectives
from ooc_jax.model import config_from_hf
from tests.model import real_configs

_F = 16_384
# Extra, and what it brings.
_COMPILERS = {
    'v5e': ('tpu', 'libtpu'),
    'v6e': ('tpu', 'libtpu'),
    'h200': ('cuda', 'jax_cuda13_plugin'),
}
# A compiler of TPUs that tries less takes half as long. Temporaries of a head
# are then 0.13 GB, where a bound is 0.3, and of the largest dictionary 0.78,
# where it is 1. What is sorted and sent and how products are
# made is ours, so all programs are made so but the plain lens for v5e: a
# compiler may find it quicker to hold a table in float32.
QUICKLY = {
    'exec_time_optimization_effort': -1.0,
    'memory_fitting_effort': -1.0,
}
# What the compiler asks of an H200, as openxla/xla has it in xla/backends/gpu/
# target_config/specs/h200.txtpb (4336d12).
_H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 151397597184
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "H200"
"""
_CONFIG = config_from_hf(real_configs.GEMMA2_2B)
_V, _D = _CONFIG.vocab_size, _CONFIG.embed_dim
_CHIP = 16e9  # Bytes of a TPU v5e, the smallest of them.
_SHAPE = r'(\w+)\[([\d,]*)\]'
_SORT = re.compile(rf'= \(?{_SHAPE}[^=]*? sort\(')
_PRODUCT = re.compile(rf'= {_SHAPE}\S* (?:convolution|dot)\((.*)')
_NAME = re.compile(r'%[\w.-]+')
_DEFINED = re.compile(rf'(%[\w.-]+) = {_SHAPE}')
# Of 2,048 features, as the plain walk holds them in the device's memory.
_LOGITS = re.compile(r'f32\[2048,(?:\d+,)?(?:8192|64,128)\]')
_KERNEL = re.compile(
    r'custom_call_target="(?:tpu_custom_call|__gpu\$xla\.gpu\.triton)"'
)
_PRECISION = re.compile(r'operand_precision=\{(\w+),(\w+)\}')


class Product(NamedTuple):
  """A product of matrices: its size, and how its factors are taken."""

  size: int
  factors: tuple[str, ...]
  precision: str


def _size(dims):
  return math.prod(int(n) for n in dims.split(',') if n)


def _sorts(text):
  """Numbers that each sort of a program sorts."""
  return [_size(dims) for _, dims in _SORT.findall(text)]


def _single(text):
  """Numbers of each float32 array of a program."""
  return [
      _size(dims) for kind, dims in re.findall(_SHAPE, text) if kind == 'f32'
  ]


def _products(text):
  """Every product of floating-point matrices."""
  kinds = {name: kind for name, kind, _ in _DEFINED.findall(text)}
  found = []
  for kind, dims, rest in _PRODUCT.findall(text):
    if kind[0] in 'fb':
      factors = tuple(kinds[x] for x in _NAME.findall(rest.split(')')[0]))
      said = _PRECISION.search(rest)
      found.append(
          Product(_size(dims), factors, said[1] if said else 'default')
      )
  return found


@functools.cache
def _devices(target):
  if target == 'h200':
    return topologies.get_topology_desc(
        'x', 'cuda', topology='1x1x1', target_config=_H200
    ).devices
  # Without this the library asks a metadata server that is not there.
  with mock.patch.dict(os.environ, {'TPU_SKIP_MDS_QUERY': '1'}):
    return topologies.get_topology_desc(target, 'tpu').devices


def keep_no_program(test):
  """Of a test, as a program for what is not here is not read back."""

  def use_cache(enabled):
    jax.config.update('jax_enable_compilation_cache', enabled)
    compilation_cache.reset_cache()

  use_cache(False)
  test.addCleanup(use_cache, True)


def _mesh(target):
  return jax.sharding.Mesh(
      np.asarray(_devices(target)),
      ('feature',),
      axis_types=(jax.sharding.AxisType.Auto,),
  )


def _compiled(lowered, target, **options):
  if target.startswith('v6e'):
    options |= QUICKLY
  if target == 'h200':
    # Autotuning would run candidates on a GPU.
    options['xla_gpu_autotune_level'] = 0
  return lowered.compile(compiler_options=options or None)


def _check(text, sorted_most, single_most):
  """What holds of every program; an AssertionError says what does not."""
  sizes = _sorts(text)
  assert max(sizes, default=0) <= sorted_most, f'sorts {max(sizes)} numbers'
  held = max(_single(text), default=0)
  assert held <= single_most, f'holds {held} float32 numbers'


@pytest.mark.slow
class AheadOfTimeTest(parameterized.TestCase):

  def _use(self, target):
    """Skips without the compiler for a target."""
    extra, module = _COMPILERS[target.partition(':')[0]]
    if importlib.util.find_spec(module) is None:
      self.skipTest(f'{module}, the compiler, is in the extra {extra!r}')
    keep_no_program(self)
    if extra == 'cuda':
      # JAX looks for a GPU that is here when it is asked for 'gpu'.
      known = xla_bridge.canonicalize_platform
      self.enter_context(
          mock.patch.object(
              xla_bridge,
              'canonicalize_platform',
              lambda name: 'cuda' if name in ('gpu', 'cuda') else known(name),
          )
      )
    return _mesh(target)

  # A minute each; the other two of TPUs are no different in what is checked.
  @parameterized.parameters(
      ('v5e:2x4', 'exact'),
      ('v6e:2x4', 'screened'),
      ('h200', 'exact'),
      ('h200', 'screened'),
  )
  def test_lens(self, target, precision):
    mesh = self._use(target)
    lowered = circuits.lower_lens(
        _CONFIG, _F, mesh, precision=precision, dtype=jnp.bfloat16
    )
    compiled = _compiled(lowered, target)
    text = compiled.as_text()
    # Nothing like [F, V] of 2,048 features, which are looked at together, and
    # no copy of the table in float32.
    _check(text, 2_048 * _V // 32, _V * _D // 4)
    self.assertRegex(text, _LOGITS)
    self.assertNotRegex(text, _KERNEL)
    products = _products(text)
    fast = [x for x in products if x.factors == ('bf16', 'bf16')]
    fast = [x for x in fast if x.precision == 'default']
    if precision == 'exact':
      self.assertEqual({x.precision for x in products}, {'highest'})
    else:
      self.assertGreaterEqual(sum(x.size for x in fast), 2**24)
    # What is left in float32 is highest: a look at rows without a certificate.
    others = {x.precision for x in products if x not in fast}
    self.assertEqual(others, {'highest'})
    # Chips agree on whether there are such rows, and send nothing else.
    sent = sum(size for _, size in collectives(text).values())
    self.assertLess(sent, 1e3)
    memory = compiled.memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, 2.5e9)
    self._say(target, precision, memory, sent, products)

  @parameterized.parameters(
      ('v5e:2x4', 'screened'),
      ('v6e:2x4', 'exact'),
      ('h200', 'exact'),
      ('h200', 'screened'),
  )
  def test_lens_in_one_kernel(self, target, precision):
    mesh = self._use(target)
    lowered = circuits.lower_lens(
        _CONFIG,
        _F,
        mesh,
        precision=precision,
        kernel='pallas',
        dtype=jnp.bfloat16,
    )
    written = self.create_tempdir().full_path
    quickly = {} if target == 'h200' else QUICKLY
    # What does not fit the chip's memory is refused here.
    compiled = _compiled(lowered, target, xla_dump_to=written, **quickly)
    text = compiled.as_text()
    self.assertRegex(text, _KERNEL)
    # The test of the plain walk finds them.
    self.assertNotRegex(text, _LOGITS)
    _check(text, 2_048 * _V // 32, _V * _D // 4)
    # Only a look at rows without a certificate is outside of the kernel.
    products = _products(text)
    self.assertEqual({x.precision for x in products}, {'highest'})
    if target == 'h200':
      walks = [
          code
          for path in pathlib.Path(written).glob('*.ptx')
          if '.entry lens_walk' in (code := path.read_text())
      ]
      self.assertLen(walks, 1)
      # Three products of four times 16 columns with two tiles of rows, on the
      # tensor units; those of float32 on none.
      units = re.findall(r'wgmma\.mma_async\S*\.f32\.bf16\.bf16', walks[0])
      self.assertLen(units, 24 if precision == 'screened' else 0)
    sent = sum(size for _, size in collectives(text).values())
    self.assertLess(sent, 1e3)
    memory = compiled.memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, 2.5e9)
    self._say(target, f'{precision} pallas', memory, sent, products)

  @parameterized.parameters('v5e:2x4', 'h200')
  def test_a_tile_too_large_is_refused(self, target):
    mesh = self._use(target)
    too_large = (
        mock.patch.object(_gpu_walk, '_COLUMNS', 512)
        if target == 'h200'
        else mock.patch.object(_tpu_walk, '_VMEM', 2**22)
    )
    # A tile is as large for any vocabulary, and this one is soon compiled.
    config = dataclasses.replace(_CONFIG, vocab_size=8_192)
    with too_large:
      lowered = circuits.lower_lens(
          config, 2_048, mesh, k=3, precision='screened', kernel='pallas',
          dtype=jnp.bfloat16,
      )  # fmt: skip
    with self.assertRaisesRegex(jax.errors.JaxRuntimeError, 'EXHAUSTED'):
      _compiled(lowered, target)

  @parameterized.parameters(
      # The largest dictionary there is: all [F, F] would be 64 GiB.
      ('v5e:2x4', real_configs.LLAMA31_8B, 131_072, jnp.float32, 1e9),
      ('v6e:2x4', real_configs.GEMMA2_2B, _F, jnp.bfloat16, 0.3e9),
      ('h200', real_configs.GEMMA2_2B, _F, jnp.bfloat16, 0.3e9),
  )
  def test_a_head(self, target, hf, features, dtype, temporaries):
    mesh = self._use(target)
    config = config_from_hf(hf)
    lowered = circuits.lower_attention(
        config, features, mesh, offset=1, dtype=dtype
    )
    # It has no table that a compiler could hold in float32.
    quickly = {} if target == 'h200' else QUICKLY
    compiled = _compiled(lowered, target, **quickly)
    text = compiled.as_text()
    # Scores are one tile at a time: nothing like [F, F], which is several times
    # the dictionary.
    _check(text, features * features // 32, features * config.embed_dim)
    products = _products(text)
    self.assertEqual({x.precision for x in products}, {'highest'})
    sent = sum(size for _, size in collectives(text).values())
    if mesh.size == 1:
      self.assertEqual(sent, 0)
    else:
      # Keys and queries of the other chips, a head's numbers of each feature,
      # each once; beside them the best partners, 51 numbers a feature at most.
      keys = features * config.head_dim * 4
      self.assertBetween(sent, 2 * keys, 2 * keys + features * 51 * 4)
    memory = compiled.memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, temporaries)
    held = sum(
        getattr(memory, f'{name}_size_in_bytes')
        for name in ('argument', 'temp', 'output', 'generated_code')
    )
    share = features * config.embed_dim * dtype.dtype.itemsize / mesh.size
    self.assertBetween(held, share, _CHIP)
    self._say(target, f'a head of {features}', memory, sent, products)

  @parameterized.parameters('v5e:2x4', 'h200')
  def test_the_plain_way_fails_each_check(self, target):
    """The checks can fail: a table in float32, and all logits sorted."""
    mesh = self._use(target)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    V, D, F = 32_768, 256, 512

    @jax.jit
    def plain(directions, table):
      single = table.astype(jnp.float32)
      logits = directions @ single.T
      return jnp.sort(logits, axis=1), single

    lowered = plain.lower(
        jax.ShapeDtypeStruct((F, D), jnp.float32, sharding=whole),
        jax.ShapeDtypeStruct((V, D), jnp.bfloat16, sharding=whole),
    )
    text = _compiled(lowered, target).as_text()
    with self.assertRaisesRegex(AssertionError, 'sorts'):
      _check(text, F * V - 1, F * V * 2)
    with self.assertRaisesRegex(AssertionError, 'float32'):
      _check(text, F * V, V * D // 4)
    self.assertNotIn('highest', {x.precision for x in _products(text)})

  def _say(self, target, what, memory, sent, products):
    counts = collections.Counter((*x.factors, x.precision) for x in products)
    print(
        f'{target} {what}: arguments'
        f' {memory.argument_size_in_bytes / 1e9:.2f} GB, temporaries'
        f' {memory.temp_size_in_bytes / 1e9:.2f} GB, sent {sent / 1e6:.2f} MB,'
        f' products {dict(counts)}'
    )


if __name__ == '__main__':
  absltest.main()
