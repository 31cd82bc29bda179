"""Figures in a results folder: the same bytes, whoever draws them and when."""

import io
import os
import pathlib
import textwrap
import time

from absl.testing import absltest
import matplotlib
from matplotlib import image
from matplotlib.figure import Figure
import numpy as np

from ooc_jax import results
from tests.results import light

_DRAW = textwrap.dedent("""
    from matplotlib.figure import Figure
    def draw():
      figure = Figure(figsize=(2.5, 1.5), dpi=80)
      axes = figure.add_subplot()
      axes.plot([0, 1, 3], [2, 5, 1], color='#0072B2', label='Abc xyz é')
      axes.fill_between([0, 1, 3], [1, 4, 0], [3, 6, 2], alpha=0.2)
      axes.legend()
      return figure
""")


def _draw():
  names = {}
  exec(_DRAW, names)  # The same text runs in the other process.
  return names['draw']()


def _written(folder):
  with results.ResultsFolder.open(folder, {}, provenance={}) as out:
    out.write_figure('depth', _draw())
  figures = pathlib.Path(folder) / 'figures'
  return {name: (figures / name).read_bytes() for name in os.listdir(figures)}


class FigureFileTest(absltest.TestCase):

  def test_the_same_bytes_in_another_second_and_another_process(self):
    folder = self.create_tempdir().full_path
    first = _written(f'{folder}/1')
    self.assertCountEqual(first, ['depth.png', 'depth.pdf'])
    time.sleep(1.1)  # Times in PDF and in fonts have seconds.
    self.assertEqual(_written(f'{folder}/2'), first)
    code = (
        'import sys\nfrom ooc_jax import results\n'
        + _DRAW
        + (
            'with results.ResultsFolder.open(sys.argv[1], {}, provenance={}) as'
            ' f:\n  f.write_figure("depth", draw())\n'
        )
    )
    # Sets of strings have another order there.
    done = light.run(code, f'{folder}/3', PYTHONHASHSEED='7', TZ='Asia/Tokyo')
    self.assertEqual(done.returncode, 0, done.stderr)
    for name, data in first.items():
      other = pathlib.Path(folder, '3', 'figures', name).read_bytes()
      self.assertEqual(other, data, name)

  def test_no_date_and_no_version_inside(self):
    files = _written(self.create_tempdir().full_path)
    for word in (b'CreationDate', b'ModDate', b'Producer', b'Creator'):
      self.assertNotIn(word, files['depth.pdf'])
    for name, data in files.items():
      self.assertNotIn(b'atplotlib', data, name)

  def test_settings_of_the_user_neither_count_nor_change(self):
    folder = self.create_tempdir().full_path
    figure = _draw()
    with results.ResultsFolder.open(folder, {}, provenance={}) as out:
      out.write_figure('plain', figure)
      theirs = {'savefig.facecolor': 'red', 'savefig.bbox': 'tight'}
      theirs |= {'pdf.fonttype': 3, 'pdf.compression': 0, 'savefig.dpi': 20}
      with matplotlib.rc_context(theirs):
        out.write_figure('theirs', figure)
        for name, value in theirs.items():
          self.assertEqual(matplotlib.rcParams[name], value)
    figures = pathlib.Path(folder) / 'figures'
    for suffix in ('png', 'pdf'):
      self.assertEqual(
          (figures / f'plain.{suffix}').read_bytes(),
          (figures / f'theirs.{suffix}').read_bytes(),
      )

  def test_the_picture_is_there(self):
    files = _written(self.create_tempdir().full_path)
    pixels = image.imread(io.BytesIO(files['depth.png']))
    self.assertEqual(pixels.shape, (120, 200, 4))
    blue = np.array([0x00, 0x72, 0xB2]) / 255
    self.assertGreater(
        (np.abs(pixels[..., :3] - blue).max(-1) < 0.02).sum(), 50
    )
    self.assertStartsWith(files['depth.pdf'].decode('latin-1'), '%PDF-')
    self.assertIn(b'/FontFile2', files['depth.pdf'])  # TrueType, as asked for.

  def test_a_figure_that_fails_leaves_nothing(self):
    folder = self.create_tempdir().full_path
    figure = Figure()
    figure.text(0, 0, '$\\nonsense$')
    with results.ResultsFolder.open(folder, {}, provenance={}) as out:
      with self.assertRaises(ValueError):
        out.write_figure('bad', figure)
    self.assertEqual(os.listdir(os.path.join(folder, 'figures')), [])


if __name__ == '__main__':
  absltest.main()
