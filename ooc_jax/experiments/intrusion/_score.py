"""How often raters found the intruder, and how much they agree."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
import pathlib
from typing import Any, NamedTuple

from jaxtyping import Bool, Int
import numpy as np

from ooc_jax import measures
from ooc_jax import report
from ooc_jax._errors import InputError
from ooc_jax._files import read_json
from ooc_jax._text import printable
from ooc_jax.experiments.intrusion._items import CHOICES

CHANCE = 1 / CHOICES


class ScoreRow(NamedTuple):
  """Answers of one group of items.

  Attributes:
    kind: Of their lists.
    group: 'all', 'layer 3', 'semantic' or 'other'.
    items: That were answered.
    answers: Of all raters.
    accuracy: Share that found the intruder, and its interval.
    alpha: Krippendorff's, nominal; None where no item has two answers.
  """

  kind: str
  group: str
  items: int
  answers: int
  accuracy: measures.ShareInterval
  alpha: float | None


@dataclasses.dataclass(frozen=True)
class Answers:
  """What raters chose.

  Attributes:
    raters: Their names.
    choices: A row a rater, a column an item; -1 where there is no answer.
  """

  raters: tuple[str, ...]
  choices: Int[np.ndarray, 'raters items']


def read_answers(
    files: Sequence[str | os.PathLike[str]], key: Mapping[str, Any]
) -> Answers:
  """Reads what the page saved.

  Args:
    files: One a rater.
    key: Of the page.

  Raises:
    InputError: A file is of another page, damaged, without an answer, or of a
      rater of whom there is one already.
  """
  count = len(key['items'])
  raters: list[str] = []
  rows = []
  for file in files:
    name = printable(str(file))
    saved = read_json(file, remedy='save it again')
    if not isinstance(saved, dict) or saved.get('page') != key['page']:
      raise InputError(
          f'{name} has no answers to this page; give files that were saved from'
          ' the page in --out.'
      )
    rater, answers = saved.get('rater'), saved.get('answers')
    if not isinstance(rater, str) or not isinstance(answers, dict):
      raise InputError(f'{name} lacks rater or answers; save it again.')
    if rater in raters:
      raise InputError(
          f'{name} is a second file of {printable(rater)}; give one of them.'
      )
    row = np.full(count, -1)
    for item, choice in answers.items():
      known = item.isdecimal() and int(item) < count
      if not known or type(choice) is not int or not 0 <= choice < CHOICES:
        raise InputError(
            f'{name} answers {printable(str(choice), 40)} to the item'
            f' {printable(item, 40)}, which cannot be; save it again.'
        )
      row[int(item)] = choice
    if not answers:
      raise InputError(f'{name} has no answer; leave it out.')
    raters.append(rater)
    rows.append(row)
  if not rows:
    raise InputError('There are no answers to score; give the saved files.')
  return Answers(tuple(raters), np.stack(rows))


def score(
    items: Sequence[Mapping[str, Any]], answers: Answers
) -> list[ScoreRow]:
  """Accuracy by kind, layer and label, for those that have answers."""
  intruder = np.array([item['intruder'] for item in items])
  kinds = [item['kind'] for item in items]
  layers = [item['layer'] for item in items]
  labels = [item['semantic'] for item in items]
  rows = []
  for kind in dict.fromkeys(('weights', 'activations', 'random', *kinds)):
    groups = [('all', lambda i: True)]
    groups += [
        (f'layer {layer}', lambda i, layer=layer: layers[i] == layer)
        for layer in sorted({x for x in layers if x is not None})
    ]
    groups += [
        (name, lambda i, label=label: labels[i] is label)
        for name, label in (('semantic', True), ('other', False))
    ]
    for name, belongs in groups:
      own = [i for i in range(len(items)) if kinds[i] == kind and belongs(i)]
      chosen = answers.choices[:, own]
      if not (chosen >= 0).any():
        continue
      rows.append(_row(kind, name, chosen, intruder[own]))
  return rows


def _row(
    kind: str,
    group: str,
    chosen: Int[np.ndarray, 'raters items'],
    intruder: Int[np.ndarray, 'items'],
) -> ScoreRow:
  given = chosen >= 0
  return ScoreRow(
      kind=kind,
      group=group,
      items=int(given.any(axis=0).sum()),
      answers=int(given.sum()),
      accuracy=accuracy(chosen == intruder[None], given),
      alpha=krippendorff_alpha(chosen),
  )


def accuracy(
    correct: Bool[np.ndarray, 'raters items'],
    given: Bool[np.ndarray, 'raters items'],
) -> measures.ShareInterval:
  """The share of answers that are right, items being the unit.

  Several answers to one item are alike, so the variance is that of a ratio of
  sums over items (Cochran 1977, Sampling Techniques, 6.19). The mid-P interval
  is as wide as that asks for, and at least as wide as of so many answers; where
  all answers or none are right, as of so many items.
  """
  answers = given.sum(axis=0)
  answered = answers > 0
  size, right = answers[answered], (correct & given).sum(axis=0)[answered]
  share = right.sum() / size.sum()
  I, n = len(size), size.sum()
  if share in (0, 1):
    return measures.share_interval(np.full(I, share == 1))
  error = 0.0
  if I > 1:
    residual = right - share * size
    # Over what it would be if answers were not alike.
    more = np.square(residual).sum() / n**2 - share * (1 - share) / n
    error = math.sqrt(max(I / (I - 1) * more, 0.0))
  return measures.share_interval(correct[given], error=error)


def krippendorff_alpha(
    chosen: Int[np.ndarray, 'raters items'],
) -> float | None:
  """Krippendorff's alpha of nominal values: 1 is agreement, 0 is chance.

  Of coincidences o[c, k], each pair of answers to an item counting 1 / (its
  answers - 1): 1 - (n - 1) Σ_{c≠k} o[c, k] / Σ_{c≠k} n_c n_k, n = Σ o
  (Krippendorff 2011, Computing Krippendorff's alpha-reliability).

  Args:
    chosen: -1 where there is no answer.

  Returns:
    None where no item has two answers, or all answers are the same.
  """
  values = np.arange(chosen.max(initial=0) + 1)
  counts = (chosen[:, :, None] == values[None, None]).sum(axis=0)
  counts = counts[counts.sum(axis=1) > 1].astype(np.float64)
  pairs = 1 / (counts.sum(axis=1) - 1)
  together = np.einsum('ic,ik,i->ck', counts, counts, pairs)
  together -= np.diag(np.einsum('ic,i->c', counts, pairs))
  of_value = together.sum(axis=1)
  n = of_value.sum()
  expected = n**2 - np.square(of_value).sum()
  if not expected > 0:
    return None
  return float(1 - (n - 1) * (n - np.trace(together)) / expected)


def score_rows(rows: Sequence[ScoreRow]) -> list[list[str]]:
  """The table, its first row the names of the columns."""
  table = [['list', 'group', 'items', 'answers', 'right %', '95%', 'alpha']]
  for row in rows:
    share, low, high = (f'{100 * x:.0f}' for x in row.accuracy)
    over = '*' if row.accuracy.low > CHANCE else ''
    alpha = '-' if row.alpha is None else f'{row.alpha:.2f}'
    table.append([
        row.kind,
        row.group,
        str(row.items),
        str(row.answers),
        share + over,
        f'{low}-{high}',
        alpha,
    ])
  return table


def score_text(rows: Sequence[ScoreRow], answers: Answers) -> list[str]:
  """What is printed of the scores."""
  raters = len(answers.raters)
  return [
      (
          f'{raters} rater{"s" * (raters > 1)}; chance is {100 * CHANCE:.0f}%,'
          ' * is over it; alpha (Krippendorff) is 0 by chance.'
      ),
      '',
      *report.aligned_table(score_rows(rows)),
  ]


def read_key(folder: str | os.PathLike[str]) -> Mapping[str, Any]:
  """The key beside a page.

  Raises:
    InputError: There is none, or it is damaged.
  """
  path = pathlib.Path(folder) / 'key.json'
  if not path.is_file():
    raise InputError(
        f'{printable(str(folder))} has no key.json; give --out=FOLDER of the'
        ' page that was answered.'
    )
  key = read_json(path, remedy='make the page again')
  fields = {'kind', 'layer', 'semantic', 'intruder'}
  try:
    whole = all(fields <= set(item) for item in key['items']) and key['page']
  except (KeyError, TypeError):
    whole = False
  if not whole:
    raise InputError(f'{printable(str(path))} is damaged; make the page again.')
  return key
