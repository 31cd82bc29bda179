"""The exported site in a real browser, opened from files."""

import pathlib
import shutil
import tempfile

from absl.testing import absltest
import pytest

from ooc_jax import export
from tests import browser
from tests.explore import folders


@pytest.mark.browser
@pytest.mark.slow
@browser.needed
class BrowserTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    folders.output(root / 'in/out')
    folders.attention(root / 'in/attention')
    folders.validation(root / 'in/validation')
    config = export.Export(
        features=('1/0', '1/7', '2/3'), out=str(root / 'a site')
    )
    export.run([root / 'in'], config)
    shutil.rmtree(root / 'in')
    cls.site = root / 'a site'
    cls.driver = browser.start(root)
    cls.addClassCleanup(cls.driver.quit)

  def _open(self, name):
    browser.visit(self.driver, (self.site / name).as_uri())

  def _all(self, css):
    return self.driver.find_elements('css selector', css)

  def test_no_error_and_no_request_but_for_files(self):
    self.driver.get_log('browser'), self.driver.get_log('performance')
    pages = sorted(self.site.rglob('*.html'))
    self.assertLen(pages, 5)
    for page in pages:
      for width in (400, 1200, 2560):
        self.driver.set_window_size(width, 900)
        self._open(page.relative_to(self.site))
        wide = self.driver.execute_script(
            'return document.documentElement.scrollWidth - innerWidth'
        )
        self.assertLessEqual(wide, 0, f'{page.name} at {width}')
      # The style sheet was taken, and the script ran.
      bar = self._all('.bar')[0].value_of_css_property('position')
      self.assertEqual(bar, 'sticky')
      self._all('#keys')[0].click()
      self.assertTrue(self._all('#help')[0].is_displayed())
    self.driver.set_window_size(1200, 900)
    self.assertEqual(self.driver.get_log('browser'), [])
    requests = browser.requests(self.driver)
    self.assertNotEmpty(requests)
    for url in requests:
      self.assertStartsWith(url, self.site.as_uri())

  @browser.axe_needed
  def test_no_grave_violation_of_accessibility(self):
    for page in sorted(self.site.rglob('*.html'))[:4]:
      self._open(page.relative_to(self.site))
      self.assertEqual(browser.violations(self.driver), [], page.name)

  def test_markup_shows_as_text(self):
    found = []
    for page in ('features.html', 'index.html', 'feature/1/0.html'):
      self._open(page)
      found += [x.text for x in self._all('.token')]
      count = self.driver.execute_script('return document.scripts.length')
      self.assertEqual(count, 1)
    self.assertIn(folders.MARKUP, found)

  def test_inline_script_is_forbidden(self):
    self._open('index.html')
    self.driver.execute_script(
        "const x = document.createElement('script');"
        "x.textContent = 'window.ran = true'; document.body.append(x);"
    )
    self.assertIsNone(self.driver.execute_script('return window.ran ?? null'))
    self.driver.get_log('browser')

  def test_from_page_to_page(self):
    self._open('index.html')
    with browser.another_page(self.driver):
      self._all('.places a')[1].click()
    self.assertEndsWith(self.driver.current_url, '/features.html')
    self.assertEqual([x.text for x in self._all('.places a')], [
        'Overview', 'Features',
    ])  # fmt: skip
    browser.press(self.driver, 'j', 'j')
    with browser.another_page(self.driver):
      browser.press(self.driver, '\ue007')  # Enter opens the second.
    self.assertEndsWith(self.driver.current_url, '/feature/1/7.html')
    for key, name in (('\ue014', '2/3'), ('\ue012', '1/7'), ('\ue012', '1/0')):
      with browser.another_page(self.driver):
        browser.press(self.driver, key)
      self.assertEndsWith(self.driver.current_url, f'/feature/{name}.html')
    with browser.another_page(self.driver):
      self._all('.brand')[0].click()
    self.assertEndsWith(self.driver.current_url, '/index.html')


if __name__ == '__main__':
  absltest.main()
