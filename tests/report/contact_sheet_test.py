"""The contact sheet: the right features, and tokens that do no harm."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import matplotlib
import numpy as np

from ooc_jax import report
from ooc_jax._errors import InputError
from ooc_jax._text import figure_text
from ooc_jax.report import _contact_sheet
from tests.report import written

_EVERY = [(x, i) for x in written.LAYERS for i in range(written.FEATURES)]


def _ranked(shift=0):
  """Places by mean rank, most coherent first, from the definition."""
  pooled = {
      name: np.concatenate(
          [written.values(x + shift)[name] for x in written.LAYERS]
      )
      for name in written.MEASURES
  }
  pooled['cosine'] = -pooled['cosine']
  ranks = [np.sum(x[:, None] > x[None, :], axis=1) for x in pooled.values()]
  return [_EVERY[i] for i in np.argsort(np.sum(ranks, axis=0), kind='stable')]


class ContactSheetTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'

  def test_chooses_by_mean_rank(self):
    written.write_run(self.path)
    sheet = report.contact_sheet(self.path, each=4)
    self.assertEqual(sheet.label, 'tiny')
    self.assertEqual(sheet.features, len(_EVERY))
    self.assertEqual(list(sheet.sections), ['coherent', 'random', 'incoherent'])
    ranked = _ranked()
    words, wanted = set(), []
    for place in ranked:
      word = written.tokens(*place)[0].strip().casefold()
      if word not in words:
        words.add(word)
        wanted.append(place)
    self.assertEqual(_places(sheet, 'coherent'), wanted[:4])
    self.assertEqual(_places(sheet, 'incoherent'), ranked[::-1][:4])
    self.assertNotEqual(wanted[:4], ranked[:4])  # A word came twice.

  def test_random_ones_are_drawn_evenly(self):
    written.write_run(self.path)
    first = _places(report.contact_sheet(self.path, each=7), 'random')
    self.assertLen(set(first), 7)
    again = _places(report.contact_sheet(self.path, each=7), 'random')
    other = _places(report.contact_sheet(self.path, each=7, seed=1), 'random')
    self.assertEqual(first, again)
    self.assertNotEqual(first, other)
    every = report.contact_sheet(self.path, each=10**6)
    self.assertCountEqual(_places(every, 'random'), _EVERY)

  @parameterized.parameters(True, False)
  def test_what_a_card_says(self, null):
    written.write_run(self.path, null=null)
    sheet = report.contact_sheet(self.path, each=10)
    for cards in sheet.sections.values():
      self.assertNotEmpty(cards)
      for card in cards:
        mine = written.values(card.layer)
        i = card.feature
        self.assertEqual(card.measures, {n: x[i] for n, x in mine.items()})
        passing = {n for n, x in written.passes(mine).items() if x[i]}
        self.assertEqual(card.passes, passing)
        self.assertEqual(card.semantic, bool(passing))
        tokens = written.tokens(card.layer, i)
        self.assertEqual(card.top_tokens, tuple(tokens))
        self.assertEqual(card.bottom_tokens, tuple(tokens[::-1]))
        q_value = np.linspace(0, 1, written.FEATURES)[i] if null else np.nan
        np.testing.assert_equal(card.q_value, q_value)

  def test_another_side(self):
    written.write_run(self.path, side='input')
    sheet = report.contact_sheet(self.path, readout='input', each=10)
    self.assertEqual(sheet.label, 'tiny, input readout')
    ranked = _ranked(1)
    self.assertEqual(_places(sheet, 'incoherent'), ranked[::-1][:10])
    for card in sheet.sections['random']:
      mine = written.values(card.layer + 1)
      i = card.feature
      self.assertEqual(card.measures, {n: x[i] for n, x in mine.items()})
      passing = {n for n, x in written.passes(mine).items() if x[i]}
      self.assertEqual(card.passes, passing)
      self.assertEqual(card.semantic, bool(passing))
      tokens = tuple(written.tokens(card.layer + 1, i))
      self.assertEqual(card.top_tokens, tokens)
      self.assertEqual(card.bottom_tokens, tokens[::-1])
      q_value = np.linspace(1, 0, written.FEATURES)[i]
      self.assertEqual(card.q_value, q_value)

  def test_what_is_missing_is_refused(self):
    written.write_run(self.path)
    labels = self.path / 'labels.parquet'
    labels.write_bytes(labels.read_bytes()[:-5])
    with self.assertRaisesRegex(InputError, 'labels.parquet is damaged'):
      report.contact_sheet(self.path)
    labels.unlink()
    with self.assertRaisesRegex(InputError, 'labels.parquet is not there'):
      report.contact_sheet(self.path)
    with self.assertRaisesRegex(ValueError, 'not 0'):
      report.contact_sheet(self.path, each=0)


class ContactSheetFiguresTest(parameterized.TestCase):

  def _sheet(self, **kwargs):
    path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written.write_run(path, **kwargs)
    return report.contact_sheet(path, '$x^{ 漢', each=8)

  def test_pages_say_what_the_sheet_says(self):
    sheet = self._sheet()
    pages = report.contact_sheet_figures(sheet)
    self.assertEqual(list(pages), ['coherent', 'random', 'incoherent'])
    for name, page in pages.items():
      texts = [text.get_text() for text in page.texts]
      self.assertIn(r'\$x^{ \u6f22', texts[0])
      self.assertIn('33 features', texts[0])
      for card in sheet.sections[name]:
        at = texts.index(f'layer {card.layer} · feature {card.feature}')
        shown = texts[at + 1 : at + 5]
        for text, measure in zip(shown, written.MEASURES, strict=False):
          mark = '●' if measure in card.passes else '○'
          self.assertStartsWith(text, mark)
          self.assertIn(f'{card.measures[measure]:.2f}', text)
        verdict = 'semantic' if card.semantic else 'not semantic'
        self.assertStartsWith(shown[3], f'{verdict}, q ')
        self.assertEqual(texts[at + 5], 'top')
        first = _contact_sheet.quoted_token(card.top_tokens[0])
        self.assertStartsWith(texts[at + 6], first)

  def test_without_a_null_there_is_no_q(self):
    for page in report.contact_sheet_figures(self._sheet(null=False)).values():
      for text in page.texts:
        self.assertNotIn(', q ', text.get_text())

  def test_hostile_tokens_are_drawn_as_they_are(self):
    sheet = self._sheet()
    for page in report.contact_sheet_figures(sheet).values():
      for suffix in ('png', 'pdf'):  # A glyph that is missing would warn.
        self.assertGreater(len(written.saved(page, suffix)), 9999)
      width = page.get_figwidth() * page.dpi
      height = page.get_figheight() * page.dpi
      for text in page.texts:
        self.assertTrue(text.get_text().isprintable())
        # None is mathematics: that would be another parser and font.
        self.assertFalse(text._preprocess_math(text.get_text())[1])
        box = text.get_window_extent()
        self.assertGreaterEqual(box.x0, 0)
        self.assertLessEqual(box.x1, width)
        self.assertGreaterEqual(box.y0, -1)
        self.assertLessEqual(box.y1, height)

  @parameterized.parameters(
      ('', '""'),
      (' a', '" a"'),
      ('"', r'"\""'),
      ('\\', r'"\\"'),
      ('$x$', r'"\$x\$"'),
      ('\\$', r'"\\\$"'),
      ('\n\u202e\u200b', r'"\n\u202e\u200b"'),
      ('漢', r'"\u6f22"'),
      ('x' * 41, '"' + 'x' * 40 + '…"'),
      ('x' * 40, '"' + 'x' * 40 + '"'),
      ('漢' * 9, '"' + r'\u6f22' * 6 + '…"'),
      ('$' * 40, '"' + r'\$' * 20 + '…"'),
  )
  def test_a_token(self, token, shown):
    self.assertEqual(_contact_sheet.quoted_token(token), shown)

  def test_no_two_hostile_tokens_look_alike(self):
    shown = {_contact_sheet.quoted_token(token) for token in written.HOSTILE}
    self.assertLen(shown, len(written.HOSTILE))

  def test_right_to_left_tokens_do_not_change_places(self):
    hebrew, arabic = '"שלום"', '"عربي"'
    self.assertEqual(
        _contact_sheet._runs(['"a"', '"b"', hebrew, arabic, '"c"', '…']),
        ['"a"   "b"', hebrew, arabic, '"c"   …'],
    )

  def test_lines_are_full_and_not_over(self):
    texts = [f'"{"w" * (i % 7 + 1)}"' for i in range(40)]
    room = 200.0
    for lines in (1, 2, 3):
      wrapped = _contact_sheet._wrapped(texts, room, lines)
      self.assertLen(wrapped, lines)
      flat = [text for line in wrapped for text in line]
      self.assertEqual(flat[-1], '…')
      self.assertEqual(flat[:-1], texts[: len(flat) - 1])
      for line in wrapped:
        self.assertLessEqual(_contact_sheet._width('   '.join(line)), room)
      for line, following in zip(wrapped, wrapped[1:], strict=False):
        more = '   '.join([*line, following[0]])
        self.assertGreater(_contact_sheet._width(more), room)
    self.assertEqual(_contact_sheet._wrapped(texts[:3], room, 2), [texts[:3]])
    self.assertEqual(_contact_sheet._wrapped([], room, 2), [[]])
    # One that is wider than the page stands alone and is not lost.
    wide = ['"' + 'W' * 40 + '"', '"a"']
    self.assertEqual(
        _contact_sheet._wrapped(wide, 30.0, 2), [[wide[0]], ['"a"']]
    )

  def test_the_measured_width_is_the_drawn_one(self):
    page = report.contact_sheet_figures(self._sheet())['coherent']
    written.saved(page, 'png')
    drawn = [x for x in page.texts if x.get_gid() == 'tokens']
    self.assertNotEmpty(drawn)
    for text in drawn:
      width = text.get_window_extent().width * 72 / page.dpi
      # Hinting moves each glyph by up to half a pixel.
      slack = 0.5 * len(text.get_text()) * 72 / page.dpi + 1
      self.assertAlmostEqual(
          width, _contact_sheet._width(text.get_text()), delta=slack
      )

  def test_the_title_ends_before_the_key(self):
    sheet = self._sheet()
    for label in ('m' * 99, '漢' * 99, ''):
      long = report.ContactSheet(
          label=label, features=10**7, sections=sheet.sections
      )
      for page in report.contact_sheet_figures(long).values():
        title, key = (text.get_window_extent() for text in page.texts[:2])
        self.assertLess(title.x1, key.x0)

  def test_more_features_than_a_page_holds(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written.write_run(path)
    sheet = report.contact_sheet(path, each=33)
    pages = report.contact_sheet_figures(sheet)
    self.assertContainsSubset(['random', 'random-2', 'random-3'], pages)
    shown = [
        text.get_text()
        for name in ('random', 'random-2', 'random-3')
        for text in pages[name].texts
        if text.get_text().startswith('layer ')
    ]
    self.assertEqual(
        shown,
        [f'layer {x} · feature {i}' for x, i in _places(sheet, 'random')],
    )
    for page in pages.values():
      self.assertLess(page.get_figheight(), 10)

  def test_the_same_bytes_again_whatever_the_user_has_set(self):
    sheet = self._sheet()
    for suffix in ('png', 'pdf'):
      first = written.saved(_random(sheet), suffix)
      with matplotlib.rc_context({'text.usetex': True, 'font.size': 30}):
        second = written.saved(_random(sheet), suffix)
      self.assertEqual(first, second, suffix)

  def test_text_goes_through_the_shared_escape(self):
    for token in written.HOSTILE:
      shown = _contact_sheet.quoted_token(token)
      if '…' not in shown:
        self.assertEqual(shown[1:-1].replace('\\"', '"'), figure_text(token))


def _places(sheet, section):
  return [(x.layer, x.feature) for x in sheet.sections[section]]


def _random(sheet):
  return report.contact_sheet_figures(sheet)['random']


if __name__ == '__main__':
  absltest.main()
