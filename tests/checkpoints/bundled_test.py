"""The models and SAEs that come with the package, as they are shipped."""

import pathlib
import re

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import dictionaries
from ooc_jax.dictionaries.training import make_activations
from ooc_jax.dictionaries.training import stream_sites

_BUNDLED = pathlib.Path(ooc_jax.__file__).parent / 'bundled'
_MODELS = ('tiny-gemma2', 'tiny-llama3')
_SITES = ('embedding', *(f'layer_{i}' for i in range(8)))
# Written for this test, so that no model has seen it.
_PASSAGE = (
    'The old house stood at the end of the road, where the river turned to the'
    ' north and the trees came down to the water. No one had lived there for'
    ' many years; but on the evening of the third day a man came up the hill'
    ' with a lantern in his hand, and knocked upon the door. "Who is there?"'
    ' said a voice from within. He made no answer, for he knew that the people'
    ' of the village would not believe what he had seen.'
)


def _folder(name):
  return _BUNDLED / name.replace('-', '_')


def _ids(model):
  return jnp.asarray([model.tokenizer.encode(_PASSAGE)])


class BundledTest(parameterized.TestCase):

  def test_both_are_at_most_24_mb(self):
    sizes = [p.stat().st_size for p in _BUNDLED.rglob('*') if p.is_file()]
    self.assertBetween(sum(sizes), 1e6, 24e6)

  @parameterized.parameters(*_MODELS)
  def test_it_predicts_english(self, name):
    model = ooc_jax.load_model(name)
    ids = _ids(model)
    logits = ooc_jax.forward(model, ids[:, :-1])
    logps = jax.nn.log_softmax(logits[0])
    loss = -np.asarray(logps)[np.arange(ids.size - 1), ids[0, 1:]].mean()
    # Uniform is ln 4096 = 8.3; a model that reads no context has about 6.
    self.assertLess(loss, 4.3)

  def test_one_is_tied_and_the_other_not(self):
    gemma, llama = (ooc_jax.load_model(name, parts=()) for name in _MODELS)
    self.assertTrue(gemma.config.tied)
    self.assertEqual(gemma.config.final_softcap, 30.0)
    self.assertFalse(llama.config.tied)
    self.assertIsNone(llama.config.final_softcap)

  @parameterized.parameters(('tiny-gemma2', '▁the'), ('tiny-llama3', 'Ġthe'))
  def test_strings_are_of_either_kind(self, name, piece):
    text = (_folder(name) / 'tokenizer.json').read_text(encoding='utf-8')
    self.assertIn(f'"{piece}"', text)
    tokenizer = ooc_jax.load_model(name, parts=()).tokenizer
    ids = tokenizer.encode(_PASSAGE)
    self.assertIn(' the', [tokenizer.token_strings()[i] for i in ids])

  @parameterized.parameters(*_MODELS)
  def test_every_sae_of_the_release_explains_its_site(self, name):
    model = ooc_jax.load_model(name)
    release = {r.name: r for r in dictionaries.list_dictionaries()}[
        f'{name}-res'
    ]
    self.assertEqual(tuple(release.entries), _SITES)
    activations = make_activations(model.config, stream_sites(8))
    found = activations(model.params, _ids(model))
    for site, x in zip(_SITES, found, strict=True):
      sae = ooc_jax.load_dictionary(f'{name}-res/{site}', model=model)
      self.assertEqual(sae.decoder.shape, (1024, 128))
      self.assertEqual(
          sae.site,
          dictionaries.DictionarySite(0, 'embedding')
          if site == 'embedding'
          else dictionaries.DictionarySite(int(site[-1]), 'resid_post'),
      )
      codes = sae.encode(x)
      missed = jnp.square(sae.decode(codes) - x).sum()
      total = jnp.square(x - x.mean(axis=0, keepdims=True)).sum()
      # On 100 tokens of one text; the model card has held-out text.
      self.assertLess(float(missed / total), 0.4, site)
      self.assertBetween(float((codes != 0).sum(axis=1).mean()), 2, 64, site)

  @parameterized.parameters(*_MODELS)
  def test_the_card_holds_what_was_measured(self, name):
    card = (_folder(name) / 'README.md').read_text(encoding='utf-8')
    losses = re.findall(r'\| (?:this|interpolated).*\| (\d\.\d{3}) \|', card)
    model, trigram = map(float, losses)
    self.assertLess(model, trigram)
    for site in _SITES:
      self.assertRegex(card, rf'\| {site} \| 0\.\d{{3}} \| \d')

  def test_a_revision_is_refused(self):
    with self.assertRaisesRegex(ooc_jax.InputError, 'no revision'):
      ooc_jax.load_model('tiny-gemma2', revision='main')
    model = ooc_jax.load_model('tiny-gemma2', parts=())
    with self.assertRaisesRegex(ooc_jax.InputError, 'no revision'):
      ooc_jax.load_dictionary(
          'tiny-gemma2-res/layer_3', model=model, revision='main'
      )


if __name__ == '__main__':
  absltest.main()
