"""Every figure of a results folder, in one list, and its drawing."""

from collections.abc import Collection
import os
import pathlib

from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._text import nearest
from ooc_jax._text import printable
from ooc_jax.report._attention_by_head import ATTENTION_BY_HEAD
from ooc_jax.report._contact_sheet import FEATURES
from ooc_jax.report._depth import PARTICIPATION
from ooc_jax.report._depth import SEMANTIC
from ooc_jax.report._distributions import MEASURES
from ooc_jax.report._effects import EFFECTS
from ooc_jax.report._effects import EXAMPLES
from ooc_jax.report._heads import HEADS
from ooc_jax.report._populations import POPULATIONS
from ooc_jax.report._reading import reading
from ooc_jax.report._scores import SCORES
from ooc_jax.report._scores import WEIGHTS
from ooc_jax.report._sweep import ATTENTION_SWEEP
from ooc_jax.report._sweep import OUTPUT_SWEEP

FIGURES = (
    SEMANTIC,
    MEASURES,
    OUTPUT_SWEEP,
    FEATURES,
    HEADS,
    PARTICIPATION,
    ATTENTION_SWEEP,
    POPULATIONS,
    SCORES,
    EFFECTS,
    WEIGHTS,
    EXAMPLES,
    ATTENTION_BY_HEAD,
)
FORMATS = ('png', 'pdf')


def draw(
    folder: str | os.PathLike[str],
    *,
    formats: Collection[str] = FORMATS,
    names: Collection[str] | None = None,
) -> list[pathlib.Path]:
  """Draws the figures of a finished run, from its folder alone.

  Args:
    folder: A results folder of any experiment.
    formats: 'png', 'pdf', or both.
    names: Those to draw, as their files in `figures/` are called, without the
      suffix; by default all.

  Returns:
    The files, whole and the same bytes every time.

  Raises:
    InputError: Not a results folder, not finished, damaged, or without such a
      figure.
  """
  folder = pathlib.Path(folder)
  for suffix in formats:
    if suffix not in FORMATS:
      raise InputError(
          f"'{printable(suffix)}' is no format of a figure"
          f'{nearest(suffix, FORMATS)}'
      )
  with reading(folder) as run:
    found = {
        name: (figure, what)
        for figure in FIGURES
        if figure.experiment == run.summary['experiment']
        for name, what in figure.files(run.summary).items()
    }
  for name in names or ():
    if name not in found:
      raise InputError(
          f"{printable(str(folder))} has no figure '{printable(name)}'"
          f'{nearest(name, found)}'
      )
  paths = []
  for name in found if names is None else names:
    figure, what = found[name]
    drawn = figure.draw(figure.read(folder, what))
    paths += results.write_figure(folder / 'figures' / name, drawn, formats)
  return paths
