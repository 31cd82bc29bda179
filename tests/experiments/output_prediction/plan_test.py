"""`--plan`: a topology's memory and traffic, with libtpu where it is there."""

import importlib.util
import unittest

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.experiments import make_mesh
from ooc_jax.experiments.output_prediction import _plan
from ooc_jax.model import config_from_hf
from tests.circuits import ahead_of_time_test
from tests.tiny import CONFIGS

_HLO = """
HloModule jit_lens

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(f32[] %a, f32[] %b)
}

%body (p: (s32[], f32[16,4])) -> (s32[], f32[16,4]) {
  %all-reduce.1 = (f32[16]{0}, f32[16,4]{1,0}) all-reduce(%x, %y), to_apply=%add
  %all-gather-start.2 = (bf16[8,2]{1,0}, bf16[8,8]{1,0}) all-gather-start(%z)
  %all-gather-done.2 = bf16[8,8]{1,0} all-gather-done(%all-gather-start.2)
}

%other (p: s32[]) -> s32[] {
  %all-gather.9 = s32[6]{0} all-gather(%p), dimensions={0}
}

ENTRY %main (x: f32[16,4]) -> f32[16,4] {
  %w = s32[] while(%t), body=%body, config={"known_trip_count":{"n":"5"}}
  %v = s32[] while(%u), body=%other
}
"""


class CollectivesTest(absltest.TestCase):

  def test_loops_of_known_length_count_their_turns(self):
    self.assertEqual(
        _plan.collectives(_HLO),
        {
            'all-reduce': (5, 5 * 4 * (16 + 64)),
            'all-gather': (5 + 1, 5 * 2 * 64 + 4 * 6),
        },
    )

  def test_what_is_spread_over_fusions_counts_once(self):
    sends = 'f32[8,4]{1,0} all-gather(%q), frontend_attributes={chain_id="1"}'
    text = f"""
%start (q: f32[4,4]) -> f32[8,4] {{
  %a = {sends}
}}

%end (q: f32[4,4]) -> f32[8,4] {{
  %b = {sends}
}}

ENTRY %main (x: f32[4,4]) -> f32[8,4] {{
  %c = f32[8,4] fusion(%x), kind=kCustom, calls=%start
  %d = f32[8,4] fusion(%c), kind=kCustom, calls=%end
}}
"""
    self.assertEqual(_plan.collectives(text), {'all-gather': (1, 128)})
    apart = text.replace('chain_id="1"', 'chain_id="2"', 1)
    self.assertEqual(_plan.collectives(apart), {'all-gather': (2, 256)})

  def test_nothing_is_sent_by_one_device(self):
    self.assertEqual(
        _plan.collectives('ENTRY %main (x: f32[]) -> f32[] {\n}'), {}
    )


class TopologyTest(parameterized.TestCase):

  @parameterized.parameters('v5e', '2x4', 'v5e:2,4', 'v5e:2x4;x', 'gpu:2x4')
  def test_names_that_are_none(self, name):
    with self.assertRaisesRegex(InputError, "write 'v5e:2x4'"):
      _plan.tpu_devices(name)

  @unittest.skipIf(importlib.util.find_spec('libtpu'), 'libtpu is installed.')
  def test_without_the_compiler(self):
    with self.assertRaisesRegex(InputError, r'ooc_jax\[tpu\]'):
      _plan.tpu_devices('v5e:2x4')

  @unittest.skipUnless(
      importlib.util.find_spec('libtpu'),
      "Needs libtpu: pip install 'ooc_jax[tpu]'.",
  )
  def test_the_lens_compiles_for_chips_that_are_not_here(self):
    ahead_of_time_test.keep_no_program(self)
    devices = _plan.tpu_devices('v5e:2x4')
    self.assertLen(devices, 8)
    mesh = make_mesh('feature:4,vocab:2', devices)
    config = config_from_hf(CONFIGS['gemma2'] | {'vocab_size': 4_096})
    lowered = circuits.lower_lens(config, 64, mesh, k=5, precision='screened')
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    # A part of directions and table; the rest is small.
    least = 4 * config.embed_dim * (64 / 4 + 4_096 / 2)
    self.assertBetween(memory.argument_size_in_bytes, least, 10 * least)
    sent = _plan.collectives(compiled.as_text())
    self.assertTrue(sent)
    # Never logits, of which a chip has 64 / 4 x 4,096 / 2.
    self.assertLess(sum(size for _, size in sent.values()), 4 * 16 * 2_048)


if __name__ == '__main__':
  absltest.main()
