"""Every page, from whole folders and from damaged ones."""

import html
import html.parser
import json
import pathlib
import re
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from starlette import testclient

from ooc_jax import InputError
from ooc_jax import explore
from ooc_jax.explore import _words
from tests.explore import folders

_PAGES = (
    '/s/out/',
    '/s/out/features',
    '/s/out/features?sort=cosine&way=down',
    '/s/out/features?coherent=yes&sharp=no&q=0.5&participates=yes&sort=q',
    '/s/out/features?layer=1&side=input&score=0.1&fires=yes&sort=score',
    '/s/out/features?sort=heads&page=99999&layer=x&q=nan&side=<b>',
    '/s/out/features?layer=0&sort=score',
    '/s/out/search',
    '/s/out/search?q=the',
    '/s/out/search?q=wo&match=prefix&case=same',
    '/s/out/search?q=nothing+like+it',
    '/s/out/feature/1/7',
    '/s/out/feature/0/0',
    '/s/out/like/1/7',
    '/s/out/like/1/7?list=input_top',
    '/s/out/heads',
    '/s/out/heads?by=copy_score',
    '/s/out/head/1/0',
    '/compare',
    '/compare?a=out&b=other&layer=2&side=input',
)


class _Text(html.parser.HTMLParser):
  """Elements, what refers to elsewhere, and attributes that are code."""

  def __init__(self):
    super().__init__()
    self.tags, self.links, self.code, self.text = [], [], [], ''

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      if name in ('href', 'src', 'action'):
        self.links.append(value)
      if name.startswith('on') or name == 'style':
        self.code.append(name)

  def handle_data(self, data):
    self.text += data


def _client(*paths):
  app = explore.make_app(explore.Library(paths))
  return testclient.TestClient(
      app, base_url='http://127.0.0.1:8000', raise_server_exceptions=False
  )


def _parsed(response):
  page = _Text()
  page.feed(response.text)
  return page


class PagesTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    root = pathlib.Path(cls.enterClassContext(_Folder()))
    cls.paths = (
        folders.output(root / 'out'),
        folders.attention(root / 'attention'),
        folders.validation(root / 'validation'),
        folders.output(root / 'other', model='other', neighbours=False),
    )
    cls.client = _client(*cls.paths)
    cls.followed = set()

  @parameterized.parameters(*_PAGES)
  def test_a_page(self, address):
    response = self.client.get(address)
    self.assertEqual(response.status_code, 200)
    self.assertNotIn('This cannot be shown', response.text)
    page = _parsed(response)
    self.assertEqual(page.code, [])  # The policy would forbid it.
    self.assertEqual(page.tags.count('script'), 1)
    for link in page.links:
      self.assertRegex(link, r'^(/|\?|#)')
      if link.startswith('/s/') and link not in self.followed:
        self.followed.add(link)  # Pages have many links in common.
        found = self.client.get(link.split('#')[0])
        self.assertEqual(found.status_code, 200, link)

  def test_markup_in_a_token_is_text(self):
    for address in ('/s/out/', '/s/out/feature/0/7', '/s/out/head/1/0'):
      response = self.client.get(address)
      self.assertNotIn(folders.MARKUP, response.text)
      self.assertIn(folders.MARKUP, _parsed(response).text)
    query = self.client.get('/s/out/search', params={'q': folders.MARKUP})
    self.assertNotIn(folders.MARKUP, query.text)
    self.assertIn('Promote it', query.text)

  def test_headers_forbid_code_and_other_hosts(self):
    response = self.client.get('/s/out/')
    policy = response.headers['content-security-policy']
    self.assertIn("default-src 'none'", policy)
    self.assertIn("script-src 'self'", policy)
    self.assertNotIn('unsafe', policy)
    for host in ('evil.example', '127.0.0.1.evil.example', ''):
      response = self.client.get('/s/out/', headers={'host': host})
      self.assertEqual(response.status_code, 400, host)
    response = self.client.get('/s/out/', headers={'host': 'localhost:1'})
    self.assertEqual(response.status_code, 200)

  def test_the_table_is_sorted_and_filtered(self):
    address = '/s/out/features?sort=cosine&way=down&coherent=yes'
    shown = re.findall(r'/feature/(\d+)/(\d+)', self.client.get(address).text)
    cosines = np.concatenate([folders.cosines(x) for x in range(3)])
    keep = np.flatnonzero(folders.labels()['coherent'])
    order = keep[np.argsort(-cosines[keep], kind='stable')][:50]
    expected = [divmod(int(x), folders.FEATURES) for x in order]
    self.assertEqual([(int(a), int(b)) for a, b in shown], expected)

  def test_pages_of_the_table_hold_every_feature_once(self):
    found = []
    for page in range(1, 5):
      text = self.client.get(f'/s/out/features?page={page}').text
      found += re.findall(r'/feature/(\d+)/(\d+)', text)
    self.assertLen(set(found), folders.LAYERS * folders.FEATURES)
    self.assertLen(found, folders.LAYERS * folders.FEATURES)

  @parameterized.parameters(
      ('exact', 'any', [' the', 'The']),
      ('exact', 'same', [' the']),
      ('prefix', 'any', [' the', 'The']),
  )
  def test_search_finds_every_feature(self, match, case, tokens):
    response = self.client.get(
        '/s/out/search', params={'q': 'the', 'match': match, 'case': case}
    )
    wanted = [folders.WORDS.index(x) for x in tokens]
    for stem, title in (
        ('top', 'Promote it'),
        ('bottom', 'Suppress it'),
        ('input_top', 'Read it'),
    ):
      lists = np.concatenate([folders.ids(x, stem) for x in range(3)])
      count = int(np.isin(lists, wanted).any(axis=1).sum())
      self.assertIn(f'{title} <span class="count">{count}<', response.text)

  def test_search_reads_words_as_tokens_and_ids_as_features(self):
    text = self.client.get('/s/out/search', params={'q': 'cat dog'}).text
    self.assertIn('>cat<', text)
    self.assertIn('Heads that write it', text)
    for query in ('1/7', 'layer 1 7', 'neuronpedia.org/tiny/1-res-2k/7'):
      response = self.client.get('/s/out/search', params={'q': query})
      self.assertEqual(response.url.path, '/s/out/feature/1/7')

  def test_features_alike_share_tokens(self):
    text = self.client.get('/s/out/like/1/7').text
    lists = np.concatenate([folders.ids(x, 'top') for x in range(3)])
    at = folders.FEATURES + 7
    shared = np.isin(lists, lists[at]).sum(axis=1)
    shared[at] = 0
    below = text.partition('Shared tokens')[2]
    first = re.findall(r'/feature/(\d+)/(\d+)', below)[0]
    best = int(first[0]) * folders.FEATURES + int(first[1])
    self.assertEqual(shared[best], shared.max())
    self.assertIn(f'class="count">{(shared > 0).sum()}<', text)

  def test_a_feature_has_its_partners_and_validation(self):
    text = self.client.get('/s/out/feature/1/0').text
    self.assertIn('/s/out/head/2/0', text)
    self.assertIn('Once &lt;b&gt;upon&lt;/b&gt;', text)
    self.assertIn('its negative sign', text)
    other = self.client.get('/s/out/feature/1/1').text
    self.assertNotIn('its negative sign', other)
    self.assertIn(
        'There is no validation', self.client.get('/s/out/feature/0/0').text
    )

  def test_windows_of_text_have_their_peak_marked(self):
    text = self.client.get('/s/out/feature/1/7').text
    peak = '&lt;script&gt;alert(1)&lt;/script&gt;'
    self.assertIn(f'Once &lt;i&gt;<mark class="peak">{peak}</mark>', text)
    self.assertNotIn(folders.MARKUP, text)
    self.assertIn('>−2.50<', text)
    silent = self.client.get('/s/out/feature/1/3').text
    self.assertIn('It fires nowhere on the text', silent)
    other = self.client.get('/s/out/feature/0/0').text
    self.assertIn('largest, and lowest, on text', text)
    self.assertNotIn('Where it is largest', other)

  def test_nearest_decoders_with_their_cosines_and_tokens(self):
    text = self.client.get('/s/out/like/1/7').text
    above = text.partition('Shared tokens')[0]
    ids, cosines = (x[7] for x in folders.nearest(1))
    rows = re.findall(r'<tr data-row>(.*?)</tr>', above, re.S)
    self.assertLen(rows, len(ids))
    for row, own, cosine in zip(rows, ids, cosines, strict=True):
      self.assertIn(f'/feature/1/{own}"', row)
      self.assertIn(_words.number(float(cosine), 3), row)
      token = folders.WORDS[folders.ids(1, 'top')[own][-1]].strip()
      self.assertIn(html.escape(token), row)

  def test_without_cosines_of_decoders_it_says_so(self):
    text = self.client.get('/s/other/like/1/7').text
    self.assertIn('have no cosines of decoders', text)
    self.assertNotIn('>Cosine<', text)

  @parameterized.parameters(
      '/nope', '/s/none/', '/s/out/feature/1/60', '/s/out/feature/9/0',
      '/s/out/feature/1/99999999999999999999', '/s/out/head/9/9',
      '/static/../_server.py', '/s/out/feature/x/1',
  )  # fmt: skip
  def test_what_is_not_there(self, address):
    response = self.client.get(address)
    self.assertEqual(response.status_code, 404)
    self.assertNotIn('Traceback', response.text)

  def test_a_folder_that_is_none_is_refused(self):
    with self.assertRaisesRegex(InputError, 'not a folder'):
      explore.Library(['/nowhere'])
    with self.assertRaisesRegex(InputError, 'holds no results'):
      explore.Library([self.create_tempdir().full_path])
    with self.assertRaisesRegex(InputError, 'Say which results'):
      explore.Library([])

  def test_the_room_needs_no_jax(self):
    code = (
        'import sys; from ooc_jax import _cli, explore;'
        ' print([x for x in ("jax", "matplotlib") if x in sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    self.assertEqual(done.stdout.strip(), '[]')


class DamagedTest(parameterized.TestCase):

  def _damage(self, kind, folder):
    if kind == 'older schema':
      config = json.loads((folder / 'config.json').read_text())
      (folder / 'config.json').write_text(json.dumps(config | {'schema': 1}))
    elif kind == 'unfinished':
      (folder / 'summary.json').unlink()
      (folder / 'labels.parquet').unlink()
      (folder / 'features/layer=02.parquet').unlink()
    elif kind == 'not begun':
      for path in folder.rglob('*.parquet'):
        path.unlink()
      (folder / 'summary.json').unlink()
    elif kind.startswith('cut '):
      path = folder / kind[4:]
      path.write_bytes(path.read_bytes()[:-40])
    elif kind.startswith('scrambled '):
      path = folder / kind[10:]
      data = bytearray(path.read_bytes())
      data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
      path.write_bytes(bytes(data))
    elif kind.endswith(('.json', '.parquet')):
      (folder / kind).write_bytes(b'')
    elif kind == 'odd summary':
      (folder / 'summary.json').write_text(
          '{"layers": [], "total": {}, "sides": {}, "examples": null}'
      )

  @parameterized.parameters(
      'older schema', 'unfinished', 'not begun', 'odd summary', 'config.json',
      'summary.json', 'labels.parquet', 'null.parquet',
      'features/layer=01.parquet', 'cut features/layer=01.parquet',
      'cut labels.parquet', 'scrambled features/layer=01.parquet',
      'scrambled labels.parquet',
  )  # fmt: skip
  def test_a_page_says_so(self, kind):
    root = pathlib.Path(self.create_tempdir().full_path)
    folder = folders.output(root / 'out')
    folders.attention(root / 'attention')
    self._damage(kind, folder)
    client = _client(root)
    for address in ('/', *_PAGES):
      if kind == 'config.json':
        address = address.replace('/s/out/', '/s/attention/')
      response = client.get(address)
      self.assertIn(response.status_code, (200, 404), address)
      self.assertNotIn('Traceback', response.text)
      self.assertNotIn('could not be made', response.text, address)
    if kind not in ('null.parquet', 'odd summary', 'config.json'):
      pages = ('/s/out/', '/s/out/features', '/s/out/feature/1/7')
      texts = ''.join(client.get(x).text for x in pages)
      self.assertRegex(
          texts,
          'damaged|empty|has not finished|another version|cannot be read',
      )

  @parameterized.parameters(
      'output/labels', 'validation/features/layer=01',
      'validation/validation_windows_01',
  )  # fmt: skip
  def test_the_rest_of_a_feature_stands(self, name):
    root = pathlib.Path(self.create_tempdir().full_path)
    folders.output(root / 'output')
    folders.validation(root / 'validation')
    (root / f'{name}.parquet').write_bytes(b'')
    text = _client(root).get('/s/output/feature/1/7').text
    self.assertIn(f'Left out here: {pathlib.Path(name).name}.parquet', text)
    self.assertIn('Top tokens', text)

  @parameterized.parameters('heads', 'participation', 'features/layer=01')
  def test_attention_that_is_damaged(self, name):
    root = pathlib.Path(self.create_tempdir().full_path)
    folders.output(root / 'out')
    (folders.attention(root / 'attention') / f'{name}.parquet').write_bytes(b'')
    client = _client(root)
    for address in _PAGES:
      response = client.get(address)
      self.assertIn(response.status_code, (200, 404), address)
      self.assertNotIn('could not be made', response.text, address)


class _Folder:
  """A temporary folder of a class."""

  def __enter__(self):
    import tempfile

    self._folder = tempfile.TemporaryDirectory()
    return self._folder.name

  def __exit__(self, *error):
    self._folder.cleanup()


if __name__ == '__main__':
  absltest.main()
