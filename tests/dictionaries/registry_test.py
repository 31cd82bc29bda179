"""Names of releases, and what they lead to on the hub (a cache, not a net)."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from huggingface_hub import constants

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import _registry
from ooc_jax.dictionaries import list_dictionaries


def _folder(source, layer=None):
  named = _registry.find_entry(source, layer)
  return f'{named.release.repo}/{named.entry.folder}'


def offline(test, cache='/nowhere'):
  """No test may reach for the network, whatever it asks for."""
  for name, value in (('HF_HUB_CACHE', cache), ('HF_HUB_OFFLINE', True)):
    patch = mock.patch.object(constants, name, value)
    patch.start()
    test.addCleanup(patch.stop)


class NamesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    offline(self)

  @parameterized.parameters(
      # formats.md, and pretrained_saes.yaml of SAELens 6.54.12.
      ('2b-pt-res', 0, '16k', 105),
      ('2b-pt-res', 5, '16k', 68),
      ('2b-pt-res', 12, '16k', 82),
      ('2b-pt-res', 20, '16k', 71),
      ('2b-pt-res', 25, '16k', 116),
      ('2b-pt-res', 12, '65k', 72),
      ('2b-pt-res', 12, '262k', 121),
      ('2b-pt-res', 19, '1m', 88),
      ('2b-pt-mlp', 7, '16k', 60),
      ('2b-pt-att', 0, '16k', 104),
      ('9b-pt-res', 0, '16k', 129),
      ('9b-pt-res', 20, '16k', 68),
      ('9b-pt-res', 41, '16k', 113),
      ('9b-pt-mlp', 0, '16k', 50),
      ('9b-pt-att', 27, '16k', 136),  # 64 would be as near to 100.
      ('9b-it-res', 9, '16k', 88),
      ('27b-pt-res', 10, '131k', 106),
  )
  def test_canonical(self, release, layer, width, sparsity):
    place = f'layer_{layer}/width_{width}'
    self.assertEqual(
        _folder(f'gemma-scope-{release}-canonical/{place}/canonical'),
        f'google/gemma-scope-{release}/{place}/average_l0_{sparsity}',
    )

  def test_canonical_is_the_nearest_to_100(self):
    """But for the letter of the list, which this must not replace."""
    releases = {r.name: r for r in list_dictionaries()}
    checked = 0
    for name, release in releases.items():
      if not name.endswith('-canonical'):
        continue
      whole = releases[name.removesuffix('-canonical')]
      for short, entry in release.entries.items():
        start = short.removesuffix('canonical')
        near = lambda folder: abs(int(folder.rpartition('_')[2]) - 100)  # noqa: E731
        best = min(near(i) for i in whole.entries if i.startswith(start))
        self.assertEqual(near(entry.folder), best, f'{name}/{short}')
        checked += 1
    self.assertEqual(checked, 429)

  def test_every_layer_has_a_canonical_16k(self):
    for size, layers in (('2b', 26), ('9b', 42)):
      for kind in ('res', 'mlp', 'att'):
        name = f'gemma-scope-{size}-pt-{kind}-canonical'
        for layer in range(layers):
          self.assertEqual(
              _folder(f'{name}/layer_{layer}/width_16k/canonical'),
              _folder(name, layer),
          )

  def test_releases_are_as_many_as_listed(self):
    releases = {r.name: r for r in list_dictionaries()}
    for name, size in (
        ('gemma-scope-2b-pt-res', 316),
        ('gemma-scope-9b-pt-res', 536),
        ('gemma-scope-2b-pt-transcoders', 26),
        ('gemma-scope-27b-pt-res', 18),
        ('gemma-scope-2-1b-pt-res', 52),
        ('gemma-scope-2-1b-it-mlp', 48),
        ('gemma-scope-2-270m-pt-transcoders', 2),
        ('gemma-scope-2-27b-it-transcoders-all', 491),
        ('gemma-scope-2-12b-it-att-all', 192),
        ('llama_scope_lxr_8x', 32),
        ('llama_scope_lxa_32x', 32),
    ):
      self.assertLen(releases[name].entries, size, name)
    self.assertEqual(
        releases['gemma-scope-2-270m-pt-res'].model, 'google/gemma-3-270m'
    )
    self.assertEqual(
        releases['gemma-scope-9b-it-res'].model, 'google/gemma-2-9b-it'
    )
    self.assertIn(
        'layer_9_width_262k_l0_medium_seed_1',
        releases['gemma-scope-2-270m-pt-res'].entries,
    )

  @parameterized.parameters(
      (
          'gemma-scope-2b-pt-res/embedding/width_4k/average_l0_111',
          'google/gemma-scope-2b-pt-res/embedding/width_4k/average_l0_111',
      ),
      (
          'gemma-scope-2-4b-pt-res/layer_17_width_16k_l0_big',
          'google/gemma-scope-2-4b-pt/resid_post/layer_17_width_16k_l0_big',
      ),
      (
          'gemma-scope-2-12b-it-att-all/layer_40_width_262k_l0_small',
          (
              'google/gemma-scope-2-12b-it/attn_out_all/'
              'layer_40_width_262k_l0_small'
          ),
      ),
      (
          (
              'gemma-scope-2-4b-it-transcoders/'
              'transcoder/layer_9_width_16k_l0_small_affine'
          ),
          (
              'google/gemma-scope-2-4b-it/'
              'transcoder/layer_9_width_16k_l0_small_affine'
          ),
      ),
      (
          'llama_scope_lxr_8x/l12r_8x',
          'fnlp/Llama3_1-8B-Base-LXR-8x/Llama3_1-8B-Base-L12R-8x',
      ),
      (
          'llama_scope_lxm_32x/l0m_32x',
          'fnlp/Llama3_1-8B-Base-LXM-32x/Llama3_1-8B-Base-L0M-32x',
      ),
      (
          'qwen-scope-3-8b-base-w64k-l50/layer7',
          'Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50/',
      ),
      # Ids of Neuronpedia, the last with a feature.
      (
          'gemma-2-2b/12-gemmascope-res-16k/4211',
          'google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82',
      ),
      (
          'gemma-2-2b/12-gemmascope-res-16k',
          'google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82',
      ),
      (
          'gemma-2-9b-it/20-gemmascope-res-131k',
          'google/gemma-scope-9b-it-res/layer_20/width_131k/average_l0_81',
      ),
      (
          'gemma-2-2b/3-gemmascope-transcoder-16k',
          (
              'google/gemma-scope-2b-pt-transcoders/'
              'layer_3/width_16k/average_l0_54'
          ),
      ),
      (
          'gemma-2-2b/0-gemmascope-res-16k__l0-13',
          'google/gemma-scope-2b-pt-res/layer_0/width_16k/average_l0_13',
      ),
      (
          'gemma-3-4b/9-gemmascope-2-res-65k',
          'google/gemma-scope-2-4b-pt/resid_post/layer_9_width_65k_l0_medium',
      ),
      (
          'gemma-3-27b-it/61-gemmascope-2-transcoder-262k',
          (
              'google/gemma-scope-2-27b-it/transcoder_all/'
              'layer_61_width_262k_l0_small_affine'
          ),
      ),
      (
          'llama3.1-8b/31-llamascope-att-131k',
          'fnlp/Llama3_1-8B-Base-LXA-32x/Llama3_1-8B-Base-L31A-32x',
      ),
  )
  def test_other_names(self, source, folder):
    self.assertEqual(_folder(source), folder)

  @parameterized.parameters(
      (
          'gemma-scope-2b-pt-res-canonical',
          12,
          'layer_12/width_16k/average_l0_82',
      ),
      # The only width there is.
      ('gemma-scope-27b-pt-res-canonical', 10, 'width_131k/average_l0_106'),
      ('gemma-scope-2b-pt-transcoders', 2, 'layer_2/width_16k/average_l0_49'),
      ('llama_scope_lxa_8x', 9, 'Llama3_1-8B-Base-L9A-8x'),
  )
  def test_a_release_and_a_layer(self, release, layer, folder):
    self.assertEndsWith(_folder(release, layer), folder)

  @parameterized.parameters(
      ('foo', {}, 'neither built in nor'),
      (
          'gemma-scope-2b-pt-rse-canonical/layer_1/width_16k/canonical',
          {},
          "did you mean 'gemma-scope-2b-pt-res-canonical'",
      ),
      (
          'gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_83',
          {},
          "did you mean 'layer_12/width_16k/average_l0_82'",
      ),
      (
          'gemma-scope-2b-pt-res-canonical/layer_26/width_16k/canonical',
          {},
          r"did you mean 'layer_\d+/width_16k/canonical'",
      ),
      ('gemma-scope-2b-pt-res-canonical', {}, 'give layer='),
      ('gemma-scope-2b-pt-res-canonical', {'layer': 26}, 'nothing of layer 26'),
      (
          'gemma-scope-2b-pt-res',
          {'layer': 1},
          '5 dictionaries of layer 1; give',
      ),
      ('gemma-scope-2-1b-pt-res', {'layer': 8}, 'layers 7, 13, 17, 22'),
      ('llama_scope_lxr_8x/l32r_8x', {}, 'did you mean'),
      (
          'gemma-scope-2b-pt-res-canonical/layer_3/width_16k/canonical',
          {'layer': 4},
          'is of layer 3, and layer 4 was asked for',
      ),
      (
          'gemma-scope-2b-pt-mlp-canonical/layer_3/width_16k/canonical',
          {'hook': 'resid_post'},
          "hook 'mlp_out', and 'resid_post' was asked",
      ),
      (
          'gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_100',
          {},
          "did you mean 'layer_20/width_16k/average_l0_71'",
      ),
      (
          'https://www.neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k/4?x=1',
          {},
          "web address; give 'gemma-2-2b/12-gemmascope-res-16k'",
      ),
      (
          'huggingface.co/google/gemma-scope-2b-pt-res/tree/main/layer_0/x',
          {},
          "web address; give 'google/gemma-scope-2b-pt-res/layer_0/x'",
      ),
      ('https://example.com/x', {}, 'give the id, file or folder'),
      (
          'temporal-sae-gemma-2-2b/blocks.12.hook_resid_post',
          {},
          'does not load: a temporal SAE reads by attention',
      ),
      ('gemma-2-2b/26-gemmascope-res-16k', {}, 'did you mean'),
      ('gemma-2-2b/5-gemmascope-transcoder-65k', {}, 'did you mean'),
      ('llama3.1-8b/31-llamascope-att-64k', {}, 'did you mean'),
      ('owner/repo/../x', {}, 'no folder of the hub repository'),
      ('-/x', {}, 'neither built in nor'),
      ('params.npz', {}, 'does not exist'),
      ('./nowhere', {}, 'does not exist'),
      ('~nobody-of-that-name/x', {}, 'cannot be opened|does not exist'),
      ('a\0b', {}, 'cannot be opened|neither built'),
      ('', {}, 'neither built in nor'),
  )
  def test_refuses(self, source, asked, message):
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(source, **asked)


if __name__ == '__main__':
  absltest.main()
