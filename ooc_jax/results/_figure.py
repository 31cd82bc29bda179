"""Figures as files that repeat byte for byte."""

from collections.abc import Collection
import pathlib
import typing
from typing import BinaryIO

from ooc_jax._errors import InputError
from ooc_jax._files import atomic_file
from ooc_jax._files import refusal
from ooc_jax._files import sync_folder

if typing.TYPE_CHECKING:
  import matplotlib.figure

# Matplotlib would add its version and the time.
_NO_METADATA = {
    'png': {'Software': None},
    'pdf': {'CreationDate': None, 'Creator': None, 'Producer': None},
}


def save_figure(
    figure: 'matplotlib.figure.Figure', file: BinaryIO, suffix: str
) -> None:
  """Writes a figure without anything that depends on the run.

  Args:
    figure: The figure.
    file: Where to write, open for writing.
    suffix: 'png' or 'pdf'.
  """
  # Here, because reading results should not cost the import of Matplotlib.
  import matplotlib

  # A user's matplotlibrc must not change the bytes; the context restores it.
  with matplotlib.rc_context():
    matplotlib.rcdefaults()
    # Text that can be selected and edited, which journals ask for.
    matplotlib.rcParams['pdf.fonttype'] = 42
    figure.savefig(
        file, format=suffix, dpi='figure', metadata=_NO_METADATA[suffix]
    )


def write_figure(
    path: pathlib.Path,
    figure: 'matplotlib.figure.Figure',
    formats: Collection[str] = ('png', 'pdf'),
) -> list[pathlib.Path]:
  """Writes a figure, each file whole or not at all.

  Args:
    path: Where, without a suffix. The folder it is in is created.
    figure: The figure.
    formats: 'png', 'pdf', or both.

  Returns:
    The files.

  Raises:
    InputError: One cannot be written.
  """
  try:
    if not path.parent.is_dir():
      path.parent.mkdir()
      sync_folder(path.parent.parent)
  except OSError as error:
    raise InputError(refusal('create', path.parent, error)) from error
  paths = [path.with_name(f'{path.name}.{suffix}') for suffix in formats]
  for suffix, file_path in zip(formats, paths, strict=True):
    with atomic_file(file_path) as file:
      save_figure(figure, file, suffix)
  return paths
