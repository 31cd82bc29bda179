"""The pages of real runs in a real browser: the models that come along.

And of the folder that OOC_JAX_RESULTS names, which `.ci/run` fills with
SmolLM2's neurons.
"""

import collections
import os
import pathlib
import re
import tempfile
import unittest

from absl.testing import absltest
import pyarrow.parquet as pq
import pytest

from ooc_jax import experiments
from ooc_jax import explore
from tests import browser

_REAL = os.environ.get('OOC_JAX_RESULTS')
_NULL = {'null_size': 1000, 'layer_null_size': 200}


def _runs(model, folder, validated):
  """Small runs, each with what the next one reads."""
  shared = {'model': model, 'dictionary': f'{model}-res/layer_{{layer}}'}
  experiments.output_prediction.run(
      experiments.OutputPrediction(**shared, **_NULL, layers='2,5'),
      out=folder / 'output',
      figures=False,
  )
  experiments.attention_participation.run(
      experiments.AttentionParticipation(**shared, layers='3,6'),
      out=folder / 'attention',
      figures=False,
  )
  if not validated:
    return
  experiments.validation.run(
      experiments.Validation(
          **shared,
          layers='5',
          windows=16,
          features=4,
          null_features=4,
          attention_windows=2,
          null_size=200,
          continued=4,
      ),
      out=folder / 'validation',
      figures=False,
  )


class _Pages:
  """What is true of the pages of any folder."""

  @classmethod
  def _serve(cls, folder, profile):
    cls.library = explore.Library([folder])
    slug, cls.study = next(iter(cls.library.studies().items()))
    cls.home = browser.serve(cls.library)
    cls.base = f'{cls.home}s/{slug}/'
    cls.driver = browser.start(profile)
    cls.addClassCleanup(cls.driver.quit)
    cls.layers = list(cls.study.output.layer_files())

  def _open(self, page):
    browser.visit(self.driver, self.base + page)

  def _all(self, css):
    return self.driver.find_elements('css selector', css)

  def _features(self):
    return [x.text for x in self._all('tbody .id')]

  def _press(self, *keys):
    browser.press(self.driver, *keys)

  def _follow(self, key):
    with browser.another_page(self.driver):
      self._press(key)

  def test_every_page(self):
    layer = self.layers[-1]
    pages = ['', 'features', f'feature/{layer}/1', f'like/{layer}/1', 'heads']
    pages += ['search', 'search?q=the&match=prefix']
    if self.study.attention is not None:
      attention = max(self.study.attention.layer_files())
      pages.append(f'head/{attention}/1')
    self._open('')
    self.driver.get_log('browser'), self.driver.get_log('performance')
    for page in pages:
      for width in (400, 1280, 2560):
        self.driver.set_window_size(width, 900)
        self._open(page)
        wide = self.driver.execute_script(
            'return document.documentElement.scrollWidth - innerWidth'
        )
        self.assertLessEqual(wide, 0, f'{page} at {width}')
        self.assertNotIn('cannot be shown', self._all('main')[0].text)
    self.assertEqual(self.driver.get_log('browser'), [])
    for address in browser.requests(self.driver):
      self.assertStartsWith(address, self.home)

  @browser.axe_needed
  def test_no_grave_violation_of_accessibility(self):
    self.driver.set_window_size(1280, 900)
    layer = self.layers[-1]
    for page in ('', 'features', f'feature/{layer}/1', 'search?q=the', 'heads'):
      for theme in ('light', 'dark'):
        self._open(page)
        script = 'document.documentElement.dataset.theme = arguments[0]'
        self.driver.execute_script(script, theme)
        self.assertEqual(browser.violations(self.driver), [], f'{page} {theme}')

  def test_search_finds_the_features_of_a_token(self):
    having = collections.defaultdict(set)
    for layer, path in self.study.output.layer_files().items():
      rows = pq.read_table(path, columns=['top_tokens'])['top_tokens']
      for feature, tokens in enumerate(rows.to_pylist()):
        for token in tokens:
          text = token.lstrip(' ').casefold()
          if re.fullmatch('[a-z]{4,}', text):
            having[text].add(f'{layer}/{feature}')
    few = {x: own for x, own in having.items() if 2 <= len(own) <= 10}
    self.assertNotEmpty(few)
    for text in sorted(few)[:: max(len(few) // 3, 1)]:
      self._open(f'search?q={text}')
      section = self._all('main section')[0]
      self.assertIn('Promote it', section.text)
      shown = section.find_elements('css selector', 'tbody .id')
      self.assertEqual({x.text for x in shown}, few[text])

  def test_sort_filter_and_keys(self):
    self.driver.set_window_size(1280, 900)
    self._open('features')
    with browser.another_page(self.driver):
      self._all('th a[href*="sort=cosine"]')[0].click()
    values = [float(x.text) for x in self._all('tbody td:nth-child(4)')]
    self.assertEqual(values, sorted(values, reverse=True))
    layer = self.layers[-1]
    self._open(f'features?layer={layer}&coherent=yes')
    found = self._features()
    labels = pq.read_table(self.study.output.file('labels')).to_pylist()
    expected = [
        f'{layer}/{x["feature"]}'
        for x in labels
        if x['layer'] == layer and x['coherent']
    ]
    self.assertEqual(found, expected[:50])
    self._press('j', 'j')
    self._follow('\ue007')  # Enter.
    self.assertEndsWith(self.driver.current_url, f'/feature/{expected[1]}')
    number = int(expected[1].split('/')[1])
    self._follow('\ue014')  # Right.
    self.assertEndsWith(self.driver.current_url, f'/{layer}/{number + 1}')


class _TinyPages(_Pages):
  """Those of a model that comes along."""

  MODEL = ''
  VALIDATED = False

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    _runs(cls.MODEL, root / 'runs', cls.VALIDATED)
    cls._serve(root / 'runs', root)


@pytest.mark.browser
@pytest.mark.slow
@browser.needed
class TinyGemma2Test(_TinyPages, absltest.TestCase):
  MODEL = 'tiny-gemma2'
  VALIDATED = True

  def test_a_feature_shows_where_it_is_largest(self):
    self._open('features?fires=yes&sort=fires&way=down')
    self._press('j')
    self._follow('\ue007')
    windows = self._all('.windows li')
    self.assertNotEmpty(windows)
    for window in windows:
      self.assertLen(window.find_elements('css selector', 'mark'), 1)


@pytest.mark.browser
@pytest.mark.slow
@browser.needed
class TinyLlama3Test(_TinyPages, absltest.TestCase):
  MODEL = 'tiny-llama3'


@pytest.mark.browser
@browser.needed
@unittest.skipUnless(_REAL, 'OOC_JAX_RESULTS names no folder.')
class GivenFolderTest(_Pages, absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls._serve(_REAL, root)


if __name__ == '__main__':
  absltest.main()
