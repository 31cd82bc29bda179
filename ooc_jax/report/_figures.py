"""Every figure of a results folder, in one list.

A figure is a file of this room with what it reads of a folder and how it draws
that, and a `Figure` record in `FIGURES`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
import dataclasses
import os
import pathlib
from typing import Any

import matplotlib.figure

from ooc_jax import measures
from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._text import nearest
from ooc_jax._text import printable
from ooc_jax.report import _depth
from ooc_jax.report import _distributions
from ooc_jax.report import _head_map
from ooc_jax.report import _heat_map
from ooc_jax.report import _pages
from ooc_jax.report import _participation
from ooc_jax.report import _populations
from ooc_jax.report import _populations_figure
from ooc_jax.report import _ridges
from ooc_jax.report import _sheet
from ooc_jax.report import _sweep
from ooc_jax.report._curve import depth_curve
from ooc_jax.report._reading import reading
from ooc_jax.results import tables

FORMATS = ('png', 'pdf')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """A kind of figure.

  Attributes:
    experiment: Whose folder it is of.
    files: Summary -> name of each of its files, without a suffix, to what is
      read for it: a readout, a context, ...
    read: Folder and that -> what is drawn.
    draw: That -> the figure.
  """

  experiment: str
  files: Callable[[Mapping[str, Any]], Mapping[str, Any]]
  read: Callable[[pathlib.Path, Any], Any]
  draw: Callable[[Any], matplotlib.figure.Figure]


def _by_readout(stem: str) -> Callable[[Mapping[str, Any]], Mapping[str, str]]:
  def files(summary: Mapping[str, Any]) -> Mapping[str, str]:
    readouts = ('output', *summary.get('sides', ()))
    return {tables.name_of(stem, readout): readout for readout in readouts}

  return files


def _each(
    stem: str, names: Iterable[str]
) -> Callable[[Mapping[str, Any]], Mapping[str, str]]:
  return lambda summary: {f'{stem}_{name}': name for name in names}


def _read_role(folder: pathlib.Path, role: str) -> Any:
  contexts = [x for x in measures.CONTEXTS if x.startswith(role)]
  title = f'Participating features by relative depth: {_label(folder)}'
  curves = [_participation.participation_curve(folder, x) for x in contexts]
  return curves, title


def _label(folder: pathlib.Path) -> str:
  return _participation.head_map(folder).label


_OUTPUT, _ATTENTION, _SEMANTIC = (
    'output_prediction',
    'attention_participation',
    'semantic_attention',
)
_PARTICIPATING = 'Participating features'
FIGURES = (
    Figure(
        experiment=_OUTPUT,
        files=_by_readout('semantic_by_depth'),
        read=lambda folder, readout: depth_curve(folder, side=readout),
        draw=lambda curve: _depth.depth_figure([curve]),
    ),
    Figure(
        experiment=_OUTPUT,
        files=_by_readout('measures'),
        read=lambda folder, readout: _distributions.measure_distributions(
            folder, side=readout
        ),
        draw=_ridges.distribution_figure,
    ),
    Figure(
        experiment=_OUTPUT,
        files=_by_readout('sweep'),
        read=lambda folder, readout: _sweep.sweep(folder, side=readout),
        draw=_heat_map.sweep_figure,
    ),
    Figure(
        experiment=_OUTPUT,
        files=_each('features', ('coherent', 'random', 'incoherent')),
        read=lambda folder, section: (_sheet.contact_sheet(folder), section),
        draw=lambda read: _pages.contact_sheet_figures(read[0])[read[1]],
    ),
    Figure(
        experiment=_ATTENTION,
        files=lambda summary: {'heads': None},
        read=lambda folder, _: _participation.head_map(folder),
        draw=_head_map.heads_figure,
    ),
    Figure(
        experiment=_ATTENTION,
        files=_each('participation_by_depth', measures.ROLES),
        read=_read_role,
        draw=lambda read: _depth.depth_figure(
            read[0], subject=_PARTICIPATING, title=read[1]
        ),
    ),
    Figure(
        experiment=_ATTENTION,
        files=_each('sweep', measures.CONTEXTS),
        read=_participation.participation_sweep,
        draw=lambda read: _heat_map.sweep_figure(read, subject=_PARTICIPATING),
    ),
    Figure(
        experiment=_SEMANTIC,
        files=lambda summary: {
            f'populations_{name}': name for name in summary['contexts']
        },
        read=_populations.populations,
        draw=_populations_figure.populations_figure,
    ),
)


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
  if unknown := [x for x in formats if x not in FORMATS]:
    raise InputError(
        f'{printable(unknown[0])!r} is no format of a figure'
        f'{nearest(unknown[0], FORMATS)}'
    )
  with reading(folder) as view:
    summary = view.read_summary()
    own = [x for x in FIGURES if x.experiment == summary['experiment']]
    found = {
        name: (figure, of)
        for figure in own
        for name, of in figure.files(summary).items()
    }
  chosen = list(found) if names is None else list(names)
  for name in chosen:
    if name not in found:
      raise InputError(
          f'{printable(str(folder))} has no figure {printable(name)!r}'
          f'{nearest(name, found)}'
      )
  paths = []
  for name in chosen:  # One after another: each is some MB.
    figure, of = found[name]
    picture = figure.draw(figure.read(folder, of))
    paths += results.write_figure(
        folder / results.FIGURES / name, picture, formats
    )
  return paths
