"""Features worth looking at, with their tokens: a card for each, on a page."""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import functools
import math
import os
import unicodedata

from matplotlib.figure import Figure as MplFigure
import numpy as np

from ooc_jax import measures
from ooc_jax._text import figure_text
from ooc_jax._text import p_text
from ooc_jax.report import _style
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import Run
from ooc_jax.report._reading import reading
from ooc_jax.results import tables

# Points.
_WIDTH, _MARGIN = 504.0, 22.0
_HEAD, _CARD, _LINE = 50.0, 47.0, 10.2
_TAG = 34.0  # Room for 'bottom'.
_MEASURES = 112.0, 368.0  # Where their names stand, from the margin.
_SPACE = '   '  # Between tokens.
_PER_PAGE = 14
_LONGEST = 40  # Characters of a token.
_TITLES = {
    'coherent': 'the most coherent',
    'random': 'drawn at random',
    'incoherent': 'the least coherent',
}
_GREY = '#6A6A6A'
_TURNED = ('R', 'AL', 'AN')  # Of `unicodedata.bidirectional`.


@dataclasses.dataclass(frozen=True, kw_only=True)
class SheetFeature:
  """One feature.

  Attributes:
    layer: Where it is.
    feature: Its row in the dictionary.
    measures: Measure -> value.
    passes: The measures whose thresholds it is past.
    semantic: Its label.
    q_value: After Benjamini and Hochberg; NaN where the run had no null.
    q_is_bound: Whether it is only known to be at most so large, for no random
      direction is as coherent.
    top_tokens: Raw text, highest logit first.
    bottom_tokens: Raw text, lowest logit first.
  """

  layer: int
  feature: int
  measures: Mapping[str, float]
  passes: frozenset[str]
  semantic: bool
  q_value: float | int = math.nan
  q_is_bound: bool = False
  top_tokens: tuple[str, ...]
  bottom_tokens: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContactSheet:
  """Features of one run.

  Attributes:
    label: The name of the run.
    about: What was read and how it was decided.
    features: How many there are to choose from.
    sections: 'coherent', 'random' and 'incoherent' -> its features, in the
      order to show them.
  """

  label: str
  about: str = ''
  features: int
  sections: Mapping[str, tuple[SheetFeature, ...]]


def contact_sheet(
    folder: str | os.PathLike[str],
    label: str | None = None,
    *,
    readout: str = OUTPUT,
    each: int = 12,
    seed: int = 0,
    sections: Collection[str] = tuple(_TITLES),
) -> ContactSheet:
  """Chooses features of a finished run.

  Coherent are those of lowest mean rank in the measures over all layers, one
  for each top token, since many features predict the same word; incoherent
  those of highest; random ones are drawn evenly, without replacement.

  Args:
    folder: A results folder.
    label: See `depth_curve`.
    readout: See `depth_curve`.
    each: How many of each kind, at most.
    seed: Of the random ones.
    sections: Those to read.

  Returns:
    The features.

  Raises:
    InputError: Not a results folder, not finished, or a damaged file.
    ValueError: `each` is under 1.
  """
  if each < 1:
    raise ValueError(f'A contact sheet needs features, not {each}.')
  with reading(folder, readout, label) as run:
    layers = [int(row['layer']) for row in run.rows]
    # Only the numbers are read for all layers: the tokens of 26 layers of
    # 16,384 features are 17 million strings.
    values = [_lowered(run, layer) for layer in layers]
    starts = np.cumsum([0, *(x.shape[1] for x in values)])
    order = _coherent_first(np.concatenate(values, axis=1))

    def places(indices: np.ndarray) -> list[tuple[int, int]]:
      which = np.searchsorted(starts, indices, side='right') - 1
      features = (indices - starts[which]).tolist()
      return [(layers[w], i) for w, i in zip(which, features, strict=True)]

    rng = np.random.default_rng(seed)
    drawn = rng.choice(order.size, min(each, order.size), replace=False)
    chosen = {
        # More than needed, because a top token is shown once.
        'coherent': places(order[: 20 * each]),
        'random': places(drawn),
        'incoherent': places(order[::-1][:each]),
    }
    chosen = {name: own for name, own in chosen.items() if name in sections}
    cards = _cards(run, {place for own in chosen.values() for place in own})
    found = {
        name: tuple(cards[place] for place in own)
        for name, own in chosen.items()
    }
    if 'coherent' in found:
      found['coherent'] = _one_a_word(found['coherent'], each)
    return ContactSheet(
        label=run.label, about=run.about, features=order.size, sections=found
    )


def _lowered(run: Run, layer: int) -> np.ndarray:
  """[measures, F], low is coherent in each."""
  table = run.folder.stored_layer(layer)
  return np.stack([
      measure.lowered(table[run.column(measure.name)].to_numpy())
      for measure in _first_end(run)
  ])


def _first_end(run: Run) -> list[measures.Measure]:
  """The measures of the end of the vocabulary that the run reads first."""
  return [x for x in run.measures if x.end == run.measures[0].end]


def _coherent_first(values: np.ndarray) -> np.ndarray:
  """Indices by mean rank; ties by position, so the same in every run."""
  ranks = np.zeros(values.shape[1])
  for row in values:
    ranks[np.argsort(row, kind='stable')] += np.arange(row.size)
  return np.argsort(ranks, kind='stable')


def _cards(
    run: Run, places: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], SheetFeature]:
  """Reads each layer once more, for the tokens of its features."""
  labels = run.folder.read_table(tables.LABELS_NAME)
  layer_of = labels['layer'].to_numpy()
  by_layer: dict[int, list[int]] = {}
  for layer, feature in places:
    by_layer.setdefault(layer, []).append(feature)
  # Named as those of the top, of whatever end they are.
  names = {
      top.name: own.name
      for top, own in zip(measures.MEASURES, _first_end(run), strict=True)
  }
  cards = {}
  for layer, features in by_layer.items():
    table = run.folder.stored_layer(layer)
    columns = {
        name: table[run.column(name)].take(features).to_pylist()
        for name in (*names.values(), 'top_tokens', 'bottom_tokens')
    }
    marks = labels.filter(layer_of == layer).take(features).to_pylist()
    for i, (feature, mark) in enumerate(zip(features, marks, strict=True)):
      if mark['feature'] != feature:
        raise ValueError(f'labels of layer {layer} are not in order')
      q_value = mark.get(run.column('q_value'))
      cards[layer, feature] = SheetFeature(
          layer=layer,
          feature=feature,
          measures={top: columns[own][i] for top, own in names.items()},
          passes=frozenset(
              top
              for top, own in names.items()
              if mark[run.column(f'{own}_passes')]
          ),
          semantic=mark[run.column('semantic')],
          q_value=math.nan if q_value is None else q_value,
          q_is_bound=bool(mark.get(run.column('at_resolution'))),
          top_tokens=tuple(columns['top_tokens'][i]),
          bottom_tokens=tuple(columns['bottom_tokens'][i]),
      )
  return cards


def _one_a_word(
    cards: Iterable[SheetFeature], count: int
) -> tuple[SheetFeature, ...]:
  kept: dict[str, SheetFeature] = {}
  for card in cards:
    kept.setdefault(card.top_tokens[0].strip().casefold(), card)
  return tuple(kept.values())[:count]


def contact_sheet_figures(sheet: ContactSheet) -> dict[str, MplFigure]:
  """Draws a card for each feature: where, how coherent, and its tokens.

  A filled circle stands before each measure that the feature passes;
  'q ≤' is where no random direction is as coherent as the feature. Tokens are
  in quotes, highest logit (lowest, for the bottom) first; what no longer fits
  becomes an ellipsis.

  Args:
    sheet: Of one run.

  Returns:
    Name -> page: 'coherent', 'random', 'incoherent', with '-2' and so on where
    a section needs more pages. Each is 7 inches wide.
  """
  pages = {}
  for section, features in sheet.sections.items():
    for i in range(0, len(features), _PER_PAGE):
      name = section if i == 0 else f'{section}-{i // _PER_PAGE + 1}'
      pages[name] = _page(sheet, section, features[i : i + _PER_PAGE])
  return pages


def quoted_token(token: str) -> str:
  """A token in double quotes, safe for a figure, cut where it is long."""
  shown, cut = token[: _LONGEST + 1], ''
  while len(figure_text(shown)) > _LONGEST:
    shown, cut = shown[:-1], '…'  # Never inside an escape.
  if len(shown) < len(token):
    cut = '…'
  return '"' + figure_text(shown).replace('"', '\\"') + cut + '"'


def _page(
    sheet: ContactSheet, section: str, features: Sequence[SheetFeature]
) -> MplFigure:
  height = _HEAD + _CARD * len(features) + 4
  with _style.new_figure(_WIDTH / 72, height / 72, free=True) as figure:
    put = functools.partial(_style.put, figure)
    title = _TITLES.get(section) or _style.short(section, 24)
    title = f': {title} of {sheet.features:,} features'
    room = 315 - _style.text_width(title, _style.TITLE)  # The rest is the key.
    title = _style.fitted(sheet.label, room, _style.TITLE) + title
    put(_MARGIN, 20, title, fontsize=_style.TITLE)
    key = '● past the threshold   ○ not'
    put(_WIDTH - _MARGIN, 20, key, ha='right', color=_GREY)
    about = _style.fitted(sheet.about, _WIDTH - 2 * _MARGIN, _style.SMALL)
    put(_MARGIN, 31, about, color=_GREY)
    for i, feature in enumerate(features):
      _card(figure, _HEAD + i * _CARD, feature)
  return figure


def _card(figure: MplFigure, y: float | int, feature: SheetFeature) -> None:
  """One feature; `y` is the base line of its first line, from the top."""
  put = functools.partial(_style.put, figure)
  _style.rule(figure, y - 11, _MARGIN)
  put(_MARGIN, y, f'layer {feature.layer} · feature {feature.feature}')
  texts = [
      f'{"●" if measure.name in feature.passes else "○"} {measure.label}'
      f' {measure.shown(feature.measures[measure.name], 2)}'
      for measure in measures.MEASURES
  ]
  for x, text in zip(_columns(), texts, strict=True):
    put(_MARGIN + x, y, text, color=_GREY)
  verdict = 'semantic' if feature.semantic else 'not semantic'
  if math.isfinite(feature.q_value):
    q = p_text(feature.q_value, 'q')
    verdict += f', {q.replace("=", "≤") if feature.q_is_bound else q}'
  put(_WIDTH - _MARGIN, y, verdict, ha='right')
  y += _LINE
  put(_MARGIN, y, 'top', color=_GREY)
  _tokens(figure, y, feature.top_tokens, lines=2)
  y += 2 * _LINE
  put(_MARGIN, y, 'bottom', color=_GREY)
  _tokens(figure, y, feature.bottom_tokens, lines=1)


@functools.cache
def _columns() -> tuple[float, ...]:
  """Where each measure stands, the room between them shared evenly."""
  widths = [
      _width(f'● {measure.label} {measure.shown(-10.0, 2)}')
      for measure in measures.MEASURES
  ]
  first, last = _MEASURES
  gap = (last - first - sum(widths)) / len(widths)
  starts = np.cumsum([0.0, *(width + gap for width in widths[:-1])])
  return tuple((first + starts).tolist())


def _tokens(
    figure: MplFigure, y: float | int, tokens: Sequence[str], *, lines: int
) -> None:
  """As many as fit in `lines`, the last of them an ellipsis if some do not."""
  room = _WIDTH - 2 * _MARGIN - _TAG
  texts = [quoted_token(token) for token in tokens]
  for i, line in enumerate(_wrapped(texts, room, lines)):
    x = _MARGIN + _TAG
    for text in _runs(line):
      _style.put(figure, x, y + i * _LINE, text, gid='tokens')
      x += _width(text) + _width(_SPACE)


def _wrapped(texts: Sequence[str], room: float, lines: int) -> list[list[str]]:
  """Texts by line; where some do not fit, the last is an ellipsis."""
  gap = _width(_SPACE)
  more = gap + _width('…')
  wrapped: list[list[str]] = [[]]
  x = 0.0
  for i, text in enumerate(texts):
    width = _width(text)
    last = len(wrapped) == lines
    # The last line keeps room to say that there are more.
    if x and x + width + more * (last and i + 1 < len(texts)) > room:
      if last:
        wrapped[-1].append('…')
        break
      wrapped.append([])
      x = 0.0
    wrapped[-1].append(text)
    x += width + gap
  return wrapped


def _runs(line: Sequence[str]) -> list[str]:
  """A line in pieces to draw one by one.

  Next to each other in one text, two tokens that are written from right to left
  would change places.
  """
  runs: list[str] = []
  joins = False
  for text in line:
    turned = any(unicodedata.bidirectional(c) in _TURNED for c in text)
    if joins and not turned:
      runs[-1] += _SPACE + text
    else:
      runs.append(text)
    joins = not turned
  return runs


def _width(text: str) -> float:
  return _style.text_width(text, _style.SMALL)


FEATURES = Figure(
    experiment='output_prediction',
    files=lambda summary: {f'features_{name}': name for name in _TITLES},
    read=lambda folder, section: contact_sheet(folder, sections=(section,)),
    draw=lambda sheet: next(iter(contact_sheet_figures(sheet).values())),
)
