"""Figures as files that repeat byte for byte."""

import typing
from typing import BinaryIO

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
