"""Figures as files that repeat byte for byte."""

from collections.abc import Collection, Generator
import contextlib
import gc
import pathlib
import typing
from typing import Any, BinaryIO

from ooc_jax._files import atomic_file
from ooc_jax._files import make_folder

if typing.TYPE_CHECKING:
  import matplotlib.figure

# Matplotlib would add its version and the time.
_NO_METADATA = {
    'png': {'Software': None},
    'pdf': {'CreationDate': None, 'Creator': None, 'Producer': None},
}
# Of ours, this level makes smaller files than the default, 6, and sooner.
_OPTIONS: dict[str, Any] = {'png': {'pil_kwargs': {'compress_level': 3}}}


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
  with matplotlib.rc_context(), _no_collection():
    matplotlib.rcdefaults()
    # Letters where the PDF has them, and a quarter of the time of a PNG less.
    matplotlib.rcParams['text.hinting'] = 'no_hinting'
    # Text that can be selected and edited, which journals ask for.
    matplotlib.rcParams['pdf.fonttype'] = 42
    if layout := figure.get_layout_engine():
      # Once, and not for each format: it asks for the size of every text.
      layout.execute(figure)
      figure.set_layout_engine('none')
    figure.savefig(
        file,
        format=suffix,
        dpi='figure',
        metadata=_NO_METADATA[suffix],
        **_OPTIONS.get(suffix, {}),
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
  make_folder(path.parent)
  paths = []
  for suffix in formats:
    paths.append(path.with_name(f'{path.name}.{suffix}'))
    with atomic_file(paths[-1]) as file:
      save_figure(figure, file, suffix)
  return paths


@contextlib.contextmanager
def _no_collection() -> Generator[None, None, None]:
  """No search for cycles: a tenth of the time, with JAX's objects around."""
  was_on = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if was_on:
      gc.enable()
