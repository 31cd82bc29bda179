"""What several runs of experiment 3 say, and what is not alike in them."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from ooc_jax.report._comparison import setting_cautions
from ooc_jax.report._participation import CONTEXT_NAMES
from ooc_jax.report._populations import STATEMENTS
from ooc_jax.report._reading import reading
from ooc_jax.report._style import number


def statement_rows(
    folders: Sequence[str | os.PathLike[str]],
    labels: Sequence[str],
    labelling: str,
) -> list[list[str]]:
  """What the tests say of each run, a row for each reading of the statement.

  Args:
    folders: Of finished runs of experiment 3.
    labels: Their names.
    labelling: 'output' for the first statement, 'input' for the second.

  Returns:
    Cells, the first row the names of the columns: the verdict, and for each
    context the direction that was found with its p-value.

  Raises:
    InputError: Not a results folder, not finished, or without that labelling.
  """
  head = ('run', 'model', 'dictionary', 'layers', 'reading', 'verdict')
  table = [[*head, *CONTEXT_NAMES]]
  for folder, label in zip(folders, labels, strict=True):
    with reading(folder) as results:
      summary = results.read_summary()
      statement = summary['statements'][STATEMENTS[labelling]]
      used = results.config['settings']
      read = str(used['model']), str(used['dictionary'])
      layers = f'{len(summary["layers"])} of {summary["num_layers"]}'
      for name, found in statement['readings'].items():
        tests = [found['tests'][context] for context in CONTEXT_NAMES]
        cells = [
            f'{"-0+"[int(test["sign"]) + 1]} {number(test["p_value"]):.2g}'
            for test in tests
        ]
        table.append([label, *read, layers, name, found['verdict'], *cells])
  return table


def statement_cautions(
    folders: Sequence[str | os.PathLike[str]], labels: Sequence[str]
) -> list[str]:
  """A sentence for each setting of experiments 1 to 3 that differs.

  Args:
    folders: Of finished runs of experiment 3.
    labels: Their names.

  Raises:
    InputError: Not a results folder, or not finished.
  """
  settings = []
  for folder in folders:
    with reading(folder) as results:
      settings.append(_flat(results.config['settings']))
  return setting_cautions(settings, labels)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Those of the two other experiments beside its own: 'labels.alpha'."""
  flat = {}
  for name, value in settings.items():
    if isinstance(value, Mapping):
      flat |= {f'{name}.{key}': x for key, x in value.items()}
    else:
      flat[name] = value
  return flat
