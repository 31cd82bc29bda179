"""A validation of the same model and dictionary beside a run of 1 or 2."""

from collections.abc import Callable, Mapping
import os
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax._settings import settings_of
from ooc_jax._text import printable
from ooc_jax.experiments._settings import DictionarySettings
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments.validation import beats_text
from ooc_jax.results import ResultsFolder

EXPERIMENT = 'validation'
# What makes two runs ones of the same features.
_SAME = ('model', 'dictionary', 'control', *settings_of(DictionarySettings))
# Of a model without files, whose hash counts what parts of it were given.
_ARRAYS = 'arrays'
# Of the readouts of experiment 1, which of its predictions was checked how.
_SCORES = {
    'output': ('output_decoder', 'Output score'),
    'input': ('input_encoder', 'Input score'),
}
_CHANCES = {'random': 'random directions', 'permuted': 'lists of others'}
ATTENTION = 'attention'  # The check of experiment 2.
UNCHECKED = (
    'These predictions were not checked against a forward pass; `python'
    ' experiments/validate.py` with the same --model and --dictionary does so.'
)


def with_validation(
    summary: Summary,
    folder: ResultsFolder,
    given: str | os.PathLike[str] | None,
    checks: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Summary:
  """The summary with what a validation says, if there is one.

  Args:
    summary: Of a run.
    folder: Of it.
    given: Folder of the validation; None looks beside the folder of the run.
    checks: One of `output_checks` and `attention_checks`.

  Raises:
    InputError: The folder given is of something else.
  """
  found = _beside(folder) if given is None else given_validation(folder, given)
  if found is None:
    return summary
  own = checks(found.read_summary())
  if not own and given is not None:
    raise InputError(
        f'{printable(str(given))} says nothing of these predictions; give'
        ' another validation, or none.'
    )
  if not own:
    return summary
  about = {'folder': found.path.absolute().name, 'checks': own}
  return Summary(summary.tables, {**summary.summary, 'validation': about})


def given_validation(
    folder: ResultsFolder, given: str | os.PathLike[str]
) -> ResultsFolder:
  """A finished validation of the features of a run.

  Raises:
    InputError: It is none.
  """
  found = ResultsFolder.view(given)
  if problem := _problem(found.config, folder.config):
    raise InputError(
        f'{printable(str(given))} {problem}; give a validation of the same'
        ' model and dictionary, or none.'
    )
  found.read_summary()
  return found


def check_validation(
    given: str | os.PathLike[str] | None,
) -> Callable[[ResultsFolder], None]:
  """Of a run's folder: refuses a wrong validation before there is work."""

  def check(folder: ResultsFolder) -> None:
    if given is not None:
      given_validation(folder, given)

  return check


def _beside(folder: ResultsFolder) -> ResultsFolder | None:
  """A finished validation in the folder that a run's folder is in."""
  own = folder.path.absolute()
  try:
    names = sorted(os.listdir(own.parent))
  except OSError:  # Nobody asked to read it.
    return None
  for path in (own.parent / name for name in names):
    if path == own or not os.path.isfile(path / 'summary.json'):
      continue
    try:
      found = ResultsFolder.view(path)
      if not _problem(found.config, folder.config):
        found.read_summary()
        return found
    except InputError:
      continue  # It is none of ours, or damaged: nobody asked for it.
  return None


def _problem(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
  """Why a folder is no validation of the features of another, or ''."""
  settings, own = theirs['settings'], ours['settings']
  if settings.get('experiment') != EXPERIMENT:
    return f'is of experiment {printable(str(settings.get("experiment")))}'
  for name in _SAME:
    if settings.get(name) != own.get(name):
      return (
          f'is a validation of {name}={printable(str(settings.get(name)), 80)},'
          f' not {printable(str(own.get(name)), 80)}'
      )
  hashes, known = theirs['weights'], ours['weights']
  # Not every experiment reads all files of a model.
  common = (hashes.keys() & known.keys()) - {_ARRAYS}
  if any(hashes[name] != known[name] for name in common) or (
      not common and _ARRAYS not in hashes
  ):
    return 'is a validation of other weights'
  return ''


def output_checks(summary: Mapping[str, Any]) -> dict[str, Any]:
  """Of experiment 1: a score of each readout, beside both chances."""
  found = {}
  for readout, (score, subject) in _SCORES.items():
    rows = [
        (row['layer'], row['scores'][score])
        for row in summary['layers']
        if row['scores'][score] is not None
    ]
    if rows:
      found[readout] = {
          'subject': subject,
          'layers': [layer for layer, _ in rows],
          **{x: [own[x] for _, own in rows] for x in ('mean', 'low', 'high')},
          'chances': {
              words: [(own[null] or {}).get('mean') for _, own in rows]
              for null, words in _CHANCES.items()
          },
          'beats': summary['beats'][score],
      }
  return found


def attention_checks(summary: Mapping[str, Any]) -> dict[str, Any]:
  """Of experiment 2: scores of the sum of the features, and true ones."""
  rows = sorted(summary['attention'], key=lambda row: row['layer'])
  if not rows:
    return {}
  own = [row['predictors']['sum_turned'] for row in rows]
  return {
      ATTENTION: {
          'subject': 'Score correlation',
          'layers': [row['layer'] for row in rows],
          'mean': [x['spearman'] for x in own],
          'low': [x['low'] for x in own],
          'high': [x['high'] for x in own],
          'chances': {
              'features permuted': [x['null'] for x in own],
              'distance alone': [
                  row['predictors']['distance']['spearman'] for row in rows
              ],
          },
          'heads': sum(row['heads'] for row in rows),
          'heads_over_null': sum(x['heads_over_null'] for x in own),
      }
  }


def output_lines(summary: Mapping[str, Any]) -> list[str]:
  """What is said of it under the findings of experiment 1."""
  about = summary.get('validation')
  if about is None:
    return [UNCHECKED]
  words = {
      'output': 'the lens of the decoder names the tokens that rise',
      'input': 'the lens of the encoder names the tokens of its peaks',
  }
  return [
      f'Checked by {printable(about["folder"])}: {words[name]}'
      f' {beats_text(about["checks"][name]["beats"])}.'
      for name in ('output', *summary['sides'])
      if name in about['checks']
  ]


def attention_lines(summary: Mapping[str, Any]) -> list[str]:
  """What is said of it under the findings of experiment 2."""
  about = summary.get('validation')
  if about is None:
    return [UNCHECKED]
  own = about['checks'][ATTENTION]
  chance = own['chances']
  return [
      f'Checked by {printable(about["folder"])}: over layers'
      f' {own["layers"][0]} to {own["layers"][-1]} the scores of the sum of the'
      ' active features, at their true distance, have a correlation'
      f' (Spearman) of {_range(own["mean"])} with the true ones (features'
      f' permuted {_range(chance["features permuted"])}, distance alone'
      f' {_range(chance["distance alone"])}), over chance in'
      f' {own["heads_over_null"]} of {own["heads"]} heads.'
  ]


def _range(values: list[float | None]) -> str:
  known = [x for x in values if x is not None]
  return f'{min(known):.2f} to {max(known):.2f}' if known else '-'
