"""The pages in a real browser: no error, no other host, keys and forms work."""

import pathlib
import tempfile

from absl.testing import absltest
import pytest

from ooc_jax import explore
from tests import browser
from tests.explore import folders

_PAGES = (
    '', 'features', 'feature/1/0', 'search?q=the', 'like/1/7',
    '../other/like/1/7', 'heads', 'head/1/0', '../../compare', 'feature/99/0',
)  # fmt: skip


@pytest.mark.browser
@pytest.mark.slow
@browser.needed
class BrowserTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    library = explore.Library([
        folders.output(root / 'out'),
        folders.attention(root / 'attention'),
        folders.validation(root / 'validation'),
        folders.output(root / 'other', model='other', neighbours=False),
    ])
    cls.home = browser.serve(library)
    cls.base = f'{cls.home}s/out/'
    cls.driver = browser.start(root)
    cls.addClassCleanup(cls.driver.quit)

  def _open(self, page):
    browser.visit(self.driver, self.base + page)

  def _one(self, css):
    return self.driver.find_element('css selector', css)

  def _all(self, css):
    return self.driver.find_elements('css selector', css)

  def _press(self, *keys):
    browser.press(self.driver, *keys)

  def _follow(self, key):
    with browser.another_page(self.driver):
      self._press(key)

  def test_no_errors_and_no_other_host(self):
    self.driver.get_log('browser'), self.driver.get_log('performance')
    for page in _PAGES:
      for width in (400, 1200, 2560):
        self.driver.set_window_size(width, 900)
        self._open(page)
        wide = self.driver.execute_script(
            'return document.documentElement.scrollWidth - innerWidth'
        )
        self.assertLessEqual(wide, 0, f'{page} at {width}')
    self.driver.set_window_size(1200, 900)
    errors = [
        x['message']
        for x in self.driver.get_log('browser')
        if 'feature/99/0' not in x['message']  # Is to be a 404.
    ]
    self.assertEqual(errors, [])
    requests = browser.requests(self.driver)
    self.assertNotEmpty(requests)
    for url in requests:
      self.assertStartsWith(url, self.home)

  @browser.axe_needed
  def test_no_grave_violation_of_accessibility(self):
    # A theme is colours and a width is places: each page in each of both.
    for theme, width in (('light', 400), ('dark', 1200)):
      self.driver.set_window_size(width, 900)
      for page in (*_PAGES, 'like/1/7?list=input_top', 'features?sort=cosine'):
        self._open(page)
        script = 'document.documentElement.dataset.theme = arguments[0]'
        self.driver.execute_script(script, theme)
        found = browser.violations(self.driver)
        self.assertEqual(found, [], f'{page}, {theme}, {width}')
    self.driver.set_window_size(1200, 900)
    # What a planted fault looks like.
    self.driver.execute_script(
        'document.querySelector("main").append(document.createElement("img"))'
    )
    self.assertIn('image-alt', browser.violations(self.driver)[0])

  def test_markup_shows_as_text(self):
    found = []
    for page in ('features', 'search?q=%3Cscript', 'head/1/0', ''):
      self._open(page)
      found += [x.text for x in self._all('.token')]
      alerts = self.driver.execute_script('return document.scripts.length')
      self.assertEqual(alerts, 1)
    self.assertIn(folders.MARKUP, found)

  def test_keys_move_and_open(self):
    self._open('features')
    self._press('j', 'j', 'j', 'k')
    rows = self._all('[data-row]')
    selected = [x.get_attribute('aria-selected') for x in rows]
    self.assertEqual(selected.index('true'), 1)
    self._follow('\ue007')  # Enter.
    self.assertEndsWith(self.driver.current_url, '/feature/0/1')
    self._follow('\ue014')  # Right.
    self.assertEndsWith(self.driver.current_url, '/feature/0/2')
    self._follow('\ue012')  # Left.
    self._follow('\ue012')
    self.assertEndsWith(self.driver.current_url, '/feature/0/0')
    self._press('?')
    self.assertTrue(self._one('#help').is_displayed())

  def test_search_from_anywhere(self):
    self._open('heads')
    self._press('/')
    self._press(*'the')
    self._follow('\ue007')
    self.assertIn('/search?q=the', self.driver.current_url)
    self.assertIn('Promote it', self._one('main').text)

  def test_sort_filter_and_link(self):
    self._open('features')
    with browser.another_page(self.driver):
      self._one('th a[href*="sort=cosine"]').click()
    values = [float(x.text) for x in self._all('tbody td:nth-child(3)')]
    self.assertEqual(values, sorted(values, reverse=True))
    from selenium.webdriver.support.ui import Select

    with browser.another_page(self.driver):
      Select(self._one('select[name=layer]')).select_by_visible_text('1')
    self.assertIn('layer=1', self.driver.current_url)
    ids = [x.text for x in self._all('tbody .id')]
    self.assertLen(ids, 50)
    self.assertTrue(all(x.startswith('1/') for x in ids))
    browser.visit(self.driver, self.driver.current_url)  # As a link.
    self.assertEqual([x.text for x in self._all('tbody .id')], ids)

  def test_the_mouse_and_the_theme(self):
    from selenium.webdriver import ActionChains

    self._open('')
    point = self._all('.touch')[1]
    ActionChains(self.driver).move_to_element(point).perform()
    self.assertIn('layer 1: 10.0%', self._one('#tip').text)
    before = self._one('body').value_of_css_property('background-color')
    self._one('#theme').click()
    self._open('features')
    after = self._one('body').value_of_css_property('background-color')
    self.assertNotEqual(before, after)
    self._one('#theme').click()


if __name__ == '__main__':
  absltest.main()
