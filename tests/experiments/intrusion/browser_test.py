"""The page in a real browser: opened as a file, filled in, saved, scored."""

import json
import pathlib
import time

from absl.testing import absltest
import pytest

from ooc_jax.experiments import intrusion
from tests import browser
from tests.experiments.intrusion import items_test


@pytest.mark.browser
@pytest.mark.slow
@browser.needed
class BrowserTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.driver = browser.start(
        self.folder, width=900, height=800, downloads=self.folder / 'saved'
    )
    self.addCleanup(self.driver.quit)

  def _one(self, css):
    return self.driver.find_element('css selector', css)

  def _saved(self):
    for _ in range(100):
      if files := list((self.folder / 'saved').glob('*.json')):
        return files[0]
      time.sleep(0.1)
    return self.fail('Nothing was saved.')

  def test_a_rater_fills_the_page_in(self):
    own = {'weights': items_test.lists(size=4, hostile=True)}
    items = intrusion.draw_items(own, 40)
    (self.folder / 'intrusion.html').write_text(intrusion.page(items))
    browser.visit(self.driver, (self.folder / 'intrusion.html').as_uri())
    title = self.driver.title
    self._one('#save').click()
    self.assertIn('name or a code', self._one('#said').text)
    self._one('#rater').send_keys('A 1')
    body = self._one('body')
    wrong = 0
    for i, item in enumerate(items):
      shown = self.driver.find_elements('css selector', '#tokens .token')
      texts = [x.get_property('textContent') for x in shown]
      self.assertEqual(texts, list(item.tokens))
      choice = item.intruder if i % 4 else (item.intruder + 1) % 5
      wrong += i % 4 == 0
      if i % 2:
        shown[choice].click()
      else:
        self._one('h1').click()  # Out of the name.
        body.send_keys(str(choice + 1))
    self.assertIn('All are answered', self._one('#said').text)
    # An answer can be changed.
    self._one('#back').click()
    pressed = self._one('#tokens [aria-pressed=true] .token')
    item = items[-2]
    last = len(items) - 2
    expected = item.intruder if last % 4 else (item.intruder + 1) % 5
    self.assertEqual(pressed.get_property('textContent'), item.tokens[expected])
    self._one('#save').click()
    path = self._saved()
    self.assertEqual(path.name, 'answers-A_1.json')

    # No token ran, and the policy had nothing to stop.
    self.assertEqual(self.driver.title, title)
    self.assertEqual(self.driver.get_log('browser'), [])
    # Kept until the file is sent. Chromium keeps it by another process: a page
    # that is loaded at once may find nothing yet, and finds it a moment later.
    for _ in range(20):
      self.driver.refresh()
      if self._one('#rater').get_property('value'):
        break
      time.sleep(0.5)
    self.assertEqual(self._one('#rater').get_property('value'), 'A 1')
    self.assertEqual(self._one('#bar').get_property('value'), len(items))

    key = {
        'page': json.loads(path.read_text())['page'],
        'items': [vars(item) for item in items],
    }
    (self.folder / 'key.json').write_text(json.dumps(key))
    rows, _ = intrusion.score_files([path], self.folder)
    self.assertEqual(rows[0].answers, len(items))
    self.assertAlmostEqual(rows[0].accuracy.share, 1 - wrong / len(items))

  def test_the_policy_stops_what_is_put_in(self):
    page = intrusion.page(
        intrusion.draw_items({'weights': items_test.lists()}, 3)
    )
    changed = page.replace(
        '</main>',
        '</main><script>document.title="ran"</script>'
        '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
    )
    path = self.folder / 'changed.html'
    path.write_text(changed)
    browser.visit(self.driver, path.as_uri())
    self.assertNotEqual(self.driver.title, 'ran')
    stopped = [x['message'] for x in self.driver.get_log('browser')]
    self.assertTrue(any('script' in x and 'Content Sec' in x for x in stopped))
    self.assertTrue(any('image' in x and 'Content Sec' in x for x in stopped))


if __name__ == '__main__':
  absltest.main()
