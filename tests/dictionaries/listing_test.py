"""The list of releases: as many as SAELens has, and how it is shown."""

import collections

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import _releases
from ooc_jax.dictionaries import list_dictionaries
from ooc_jax.dictionaries import listing
from ooc_jax.dictionaries.formats import LISTED_FORMATS

# formats.md: releases and ids of SAELens 6.54.12, by its loader.
_COUNTS = {
    'gemma_3': (75, 8784),
    'gemma_2': (16, 2833),
    None: (28, 292),
    'connor_rob_hook_z': (1, 12),
    'llama_scope': (6, 192),
    'llama_scope_r1_distill': (1, 96),
    'dictionary_learning_1': (16, 838),
    'gemma_2_transcoder': (1, 26),
    'mwhanna_transcoder': (6, 208),
    'mntss_clt_layer_transcoder': (1, 26),
    'goodfire': (2, 2),
    'temporal': (2, 3),
    'deepseek_r1': (1, 1),
    'qwen_scope': (14, 544),
}


class ReleasesTest(parameterized.TestCase):

  def test_every_release_and_id_is_there(self):
    found = collections.Counter()
    ids = collections.Counter()
    for release in _releases.read_list().values():
      found[release['conversion_func']] += 1
      ids[release['conversion_func']] += len(release['saes'])
    self.assertEqual({k: (found[k], ids[k]) for k in found}, _COUNTS)
    self.assertEqual(sum(ids.values()), 13857)
    self.assertLess(_releases._LIST.stat().st_size, 200_000)

  def test_every_id_loads_by_a_format_or_says_why_not(self):
    loaders = {f.loader for f in LISTED_FORMATS}
    loads = 0
    for name, (f, release) in _releases.releases().items():
      for short, entry in release.entries.items():
        where = f'{name}/{short}'
        if entry.refusal is not None:
          self.assertIsNone(f, where)
          self.assertRegex(entry.refusal, r'\w+ \w+ \w+', where)
          continue
        self.assertIn(f.loader, loaders, where)
        self.assertIsNotNone(entry.site, where)
        loads += 1
    self.assertEqual(loads - 2 * 9, 13857 - 3)  # Ours are 9 of two models.

  def test_places_of_some(self):
    known = {r.name: r.entries for r in list_dictionaries()}
    for release, name, layer, hook, size in (
        ('gpt2-small-res-jb', 'blocks.11.hook_resid_post', 11, 'resid_post',
         None),
        ('gpt2-small-res-jb-feature-splitting',
         'blocks.8.hook_resid_pre_98304', 8, 'resid_pre', 98304),
        ('gpt2-small-mlp-out-v5-32k', 'blocks.3.hook_mlp_out', 3, 'mlp_out',
         32768),
        ('gemma-2b-res-jb', 'blocks.6.hook_resid_post', 6, 'resid_post',
         16384),
        ('sae_bench_gemma-2-2b_topk_width-2pow12_date-1109',
         'blocks.5.hook_resid_post__trainer_5_step_9765', 5, 'resid_post',
         4096),
        ('gemma-2-2b-res-matryoshka-dc', 'blocks.24.hook_resid_post', 24,
         'resid_post', 32768),
        ('sae_bench_pythia70m_sweep_gated_ctx128_0730',
         'blocks.3.hook_resid_post__trainer_0', 3, 'resid_post', 4096),
        ('mwhanna-qwen3-4b-transcoders', 'layer_35', 35, 'mlp_in', None),
        ('mntss-gemma-2-2b-2.5m-clt-as-per-layer', 'layer_25', 25,
         'resid_mid', None),
        ('qwen-scope-3.5-27b-w80k-l50', 'layer63', 63, 'resid_post', 81920),
        ('llama_scope_r1_distill', 'l31r_800m_openr1_math', 31, 'resid_post',
         32768),
        ('gemma-scope-2-4b-pt-att-all', 'layer_9_width_262k_l0_small', 9,
         'attn_z', 262144),
    ):  # fmt: skip
      entry = known[release][name]
      self.assertEqual((entry.site.layer, entry.site.hook), (layer, hook))
      self.assertEqual(entry.size, size, release)
    clt = known['mntss-gemma-2-2b-2.5m-clt-as-per-layer']['layer_3']
    self.assertEqual(clt.site.writes, ('mlp_out', 3))

  def test_what_the_list_alone_says(self):
    known = {r.name: r.entries for r in list_dictionaries()}
    r1 = known['llama_scope_r1_distill']['l0r_800m_slimpajama']
    self.assertAlmostEqual(r1.scale, 53.52995401997436)
    mistral = known['mistral-7b-res-wg']['blocks.8.hook_resid_pre']
    self.assertEqual(mistral.normalize, 'constant_norm_rescale')

  def test_what_does_not_load(self):
    with self.assertRaisesRegex(InputError, 'no feature has one direction'):
      load_dictionary('temporal-sae-llama-3.1-8b/blocks.15.hook_resid_post')


class ListingTest(parameterized.TestCase):

  def test_by_model(self):
    lines = listing()
    heads = [line for line in lines if line and not line.startswith(' ')]
    self.assertIn('google/gemma-2-2b', heads)
    self.assertLen(set(heads), len(heads))
    self.assertGreater(len(heads), 30)
    some = next(x for x in lines if x.startswith('  gemma-scope-2b-pt-res '))
    self.assertEqual(
        some.split(),
        ['gemma-scope-2b-pt-res', 'embedding,resid_post', '0-25', '4k-1m',
         '6-457', '316', 'yes', '(Gemma', 'Scope)'],
    )  # fmt: skip

  @parameterized.parameters('google/gemma-2-2b', 'gemma-2-2b', 'GEMMA-2-2B')
  def test_of_a_model(self, model):
    lines = listing(model=model)
    self.assertEqual(lines[0], 'google/gemma-2-2b')
    self.assertNotIn('google/gemma-2-9b', lines)
    self.assertGreater(len(lines), 15)

  def test_words(self):
    text = '\n'.join(listing('qwen3 transcoders lowl0 14b'))
    self.assertIn('mwhanna-qwen3-14b-transcoders-lowl0/layer_39', text)
    self.assertNotIn('qwen3-4b', text)
    self.assertEmpty(listing('nothing of the kind'))
    text = '\n'.join(listing('temporal gemma'))
    self.assertIn('no: a temporal SAE reads by attention', text)

  @parameterized.parameters(
      'gemma-2-2b/12-gemmascope-res-16k',
      'https://www.neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k',
      'neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k/1234?embed=true',
      'gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical',
  )
  def test_what_was_pasted(self, words):
    lines = listing(words)
    self.assertLen(lines, 3)
    self.assertEqual(lines[0], 'google/gemma-2-2b')
    self.assertEqual(
        lines[2].split(),
        ['gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical',
         'resid_post', '12', '16k', '82', 'gemma-2-2b/12-gemmascope-res-16k',
         'yes'],
    )  # fmt: skip


if __name__ == '__main__':
  absltest.main()
