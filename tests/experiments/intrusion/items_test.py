"""Items of word intrusion, and a page that shows them and nothing else."""

import base64
import collections
import hashlib
import html.parser
import json
import re

from absl.testing import absltest

from ooc_jax.experiments import intrusion
from tests.report import written


def lists(layers=(0, 3), size=30, hostile=False):
  """Feature f of a layer has tokens of its own: 'w', layer, f, place."""
  found = {}
  for layer in layers:
    found[layer] = [
        intrusion.TokenList(
            f, f % 2 == 0, tuple(f' w{layer}.{f}.{i}' for i in range(6))
        )
        for f in range(size)
    ]
    if hostile:
      found[layer] += [
          intrusion.TokenList(size + i, True, (bad, *'abc'))
          for i, bad in enumerate(_HOSTILE)
      ]
  return found


_HOSTILE = (
    '</script><script>document.title="x"</script>',
    '<img src=x onerror=alert(1)>',
    '{{items}}',
    '&lt;b&gt;',
    '\u2028\u2029',
    *written.HOSTILE,
)


class _Parser(html.parser.HTMLParser):
  """Tags with their attributes, and the text of each script."""

  def __init__(self):
    super().__init__()
    self.tags, self.scripts = [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    if self.tags and self.tags[-1][0] == 'script' and data.strip():
      self.scripts.append(data)


class ItemsTest(absltest.TestCase):

  def test_four_are_of_the_feature_and_one_is_not(self):
    own = lists()
    items = intrusion.draw_items({'weights': own, 'random': {None: own[0]}}, 20)
    self.assertLen(items, 40)
    for item in items:
      layer = 0 if item.layer is None else item.layer
      mine = [f'w{layer}.{item.feature}.{i}' for i in range(4)]
      theirs = f'w{layer}.{item.other}.0'
      self.assertNotEqual(item.feature, item.other)
      self.assertEqual(item.tokens[item.intruder], theirs)
      self.assertCountEqual(item.tokens, [*mine, theirs])
    asked = [(x.kind, x.layer, x.feature) for x in items]
    self.assertLen(set(asked), 40)
    places = collections.Counter(x.intruder for x in items)
    self.assertLen(places, 5)
    weights = [x for x in items if x.kind == 'weights']
    self.assertEqual(sum(x.layer == 0 for x in weights), 10)
    self.assertEqual(sum(bool(x.semantic) for x in weights), 10)
    # In no order that tells the kind.
    self.assertNotEqual(items, sorted(items, key=lambda x: x.kind))

  def test_kinds_ask_for_the_same_features(self):
    own = lists()
    part = {layer: [x for x in y if x.feature != 3] for layer, y in own.items()}
    items = intrusion.draw_items({'weights': own, 'activations': part}, 40)
    asked = collections.defaultdict(set)
    for item in items:
      asked[item.kind].add((item.layer, item.feature))
    self.assertGreater(len(asked['weights'] & asked['activations']), 35)

  def test_the_same_seed_makes_the_same_page(self):
    own = {'weights': lists()}
    pages = [
        intrusion.page(intrusion.draw_items(own, 9, seed)) for seed in (1, 1, 2)
    ]
    self.assertEqual(pages[0], pages[1])
    self.assertNotEqual(pages[0], pages[2])

  def test_an_intruder_is_in_no_place_of_the_list(self):
    shared = [
        intrusion.TokenList(0, True, ('a', 'b', 'c', 'd', 'e')),
        # Its first is deep in the list of the other, and case does not count.
        intrusion.TokenList(1, True, (' E', 'f', 'g', 'h')),
        # Too few that differ.
        intrusion.TokenList(2, True, ('x', ' X', 'y', 'z')),
    ]
    item, other = sorted(
        intrusion.draw_items({'weights': {0: shared}}, 9),
        key=lambda x: x.feature,
    )
    self.assertIn(item.tokens[item.intruder], 'fxyz')
    self.assertEqual(other.feature, 1)

  def test_none_where_all_features_have_the_same_tokens(self):
    same = [intrusion.TokenList(i, True, tuple('abcd')) for i in range(5)]
    self.assertEqual(intrusion.draw_items({'weights': {0: same}}, 5), [])


class PageTest(absltest.TestCase):

  def test_tokens_are_data_and_answers_are_not_there(self):
    own = {'weights': lists(size=4, hostile=True)}
    items = intrusion.draw_items(own, 99)
    page = intrusion.page(items)
    parser = _Parser()
    parser.feed(page)
    data, script = parser.scripts
    found = json.loads(data)
    self.assertEqual(
        [tuple(x['tokens']) for x in found['items']], [x.tokens for x in items]
    )
    self.assertIn(
        '</script><script>document.title="x"</script>',
        [token for x in found['items'] for token in x['tokens']],
    )
    self.assertEqual(set(found['items'][0]), {'id', 'tokens'})
    self.assertNotIn('weights', page)
    tags = collections.Counter(tag for tag, _ in parser.tags)
    self.assertEqual(tags['script'], 2)
    self.assertEqual((tags['img'], tags['link'], tags['iframe']), (0, 0, 0))
    self.assertNotRegex(page, r'https?:|src=[^x]|url\(|import ')
    # What a terminal or a browser would obey is escaped by name.
    self.assertNotRegex(page, '[\x00-\x08\x0b-\x1f\u202a-\u202e\u2028]')

    policy = next(
        a['content']
        for tag, a in parser.tags
        if a.get('http-equiv') == 'Content-Security-Policy'
    )
    digest = hashlib.sha256(script.encode()).digest()
    self.assertIn(
        f"script-src 'sha256-{base64.b64encode(digest).decode()}'", policy
    )
    self.assertStartsWith(policy, "default-src 'none';")
    self.assertNotIn('unsafe', policy)
    self.assertNotRegex(page, re.compile(r'\son\w+="'))


if __name__ == '__main__':
  absltest.main()
