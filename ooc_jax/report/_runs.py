"""What a comparison reads of each run, and how it calls them."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

from ooc_jax.report import _style
from ooc_jax.report._curve import DepthShape
from ooc_jax.report._curve import depth_shape
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import reading
from ooc_jax.report._reading import share_of
from ooc_jax.report._reading import side_of
from ooc_jax.report._style import number


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
  """One run, all its layers together.

  Attributes:
    folder: Where it is, as given.
    settings: Of its `config.json`.
    weights: Weight file -> SHA-256.
    layers: Those of the run, rising.
    num_layers: Of the model.
    features: How many in each of `layers`.
    share: Fraction of semantic features with its interval: share, low, high.
    null: Fraction of random directions; NaN where there was no null.
    excess: Share over chance with its interval: excess, low, high.
    thresholds: Their kind.
    shape: What the tests say of the course over depth, if they were made.
  """

  folder: str
  settings: Mapping[str, Any]
  weights: Mapping[str, str]
  layers: tuple[int, ...]
  num_layers: int
  features: tuple[int, ...]
  share: tuple[float, float, float]
  null: float
  excess: tuple[float, float, float]
  thresholds: str
  shape: DepthShape | None

  @property
  def model(self) -> str:
    return str(self.settings.get('model', '-'))

  @property
  def dictionary(self) -> str:
    return str(self.settings.get('dictionary', '-'))


def experiment_of(folder: str | os.PathLike[str]) -> str:
  """Which experiment wrote a results folder.

  Args:
    folder: The folder of a finished run.

  Returns:
    Its name, as in its summary.

  Raises:
    InputError: Not a results folder, not finished, or a damaged summary.
  """
  with reading(folder) as results:
    return str(results.read_summary()['experiment'])


def run_summary(
    folder: str | os.PathLike[str], *, side: str = OUTPUT
) -> RunSummary:
  """Reads what the table of a comparison says of one run.

  Args:
    folder: A results folder of experiment 1 or 2.
    side: See `depth_curve`.

  Returns:
    The run.

  Raises:
    InputError: Not a results folder, not finished, or a damaged summary.
  """
  with reading(folder) as results:
    summary = side_of(results, side)
    total = summary['total']
    rows = sorted(summary['layers'], key=lambda row: row['layer'])
    share = share_of(total)
    return RunSummary(
        folder=str(folder),
        settings=dict(results.config['settings']),
        weights=dict(results.config['weights']),
        layers=tuple(int(row['layer']) for row in rows),
        num_layers=int(summary['num_layers']),
        features=tuple(int(row['features']) for row in rows),
        share=(
            number(share['share']),
            number(share['low']),
            number(share['high']),
        ),
        null=number(total.get('null_share')),
        excess=(
            number(total.get('excess')),
            number(total.get('excess_low')),
            number(total.get('excess_high')),
        ),
        thresholds=str(summary['thresholds'].get('kind', '-')),
        shape=depth_shape(summary),
    )


def distinct_labels(runs: Sequence[RunSummary]) -> list[str]:
  """The shortest names that tell the runs apart, also cut for a legend.

  Args:
    runs: Any number.

  Returns:
    Models; where they repeat, dictionaries too, then controls and names of the
    folders, but nothing that all runs share; at last numbered.
  """
  labels = [''] * len(runs)
  for words in (
      [run.model for run in runs],
      [run.dictionary for run in runs],
      [_weights(run) for run in runs],
      [pathlib.Path(run.folder).absolute().name for run in runs],
  ):
    if len(set(words)) > 1:
      labels = [
          f'{x} {word}'.strip() for x, word in zip(labels, words, strict=True)
      ]
    if len({_style.short(label, _style.LABEL) for label in labels}) == len(
        runs
    ):
      return labels
  return [f'{i} {label}'.strip() for i, label in enumerate(labels, 1)]


def _weights(run: RunSummary) -> str:
  control = str(run.settings.get('control', 'none'))
  return 'trained' if control == 'none' else control
