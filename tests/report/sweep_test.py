"""The sweep: the cells of picture and table are the rows of the file."""

import math
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax import report
from ooc_jax._errors import InputError
from tests.report import written

# The order of the rows, and the number of each among those of `sweep_table`.
_ORDER = (
    (report.Decision(rule='any', measure='', kind='null', level=0.01), 4),
    (report.Decision(rule='any', measure='', kind='null', level=0.05), 3),
    (report.Decision(rule='any', measure='', kind='quantile', level=0.9), 2),
    (report.Decision(rule='all', measure='', kind='fixed', level=None), 1),
    (report.Decision(rule='', measure='cosine', kind='null', level=0.01), 0),
)


class SweepTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'

  def test_reads_the_table(self):
    written.write_run(self.path)
    read = report.sweep(self.path)
    self.assertEqual(read.label, 'tiny')
    self.assertEqual(read.layers, written.LAYERS)
    self.assertEqual(read.decisions, tuple(d for d, _ in _ORDER))
    for i, (_, j) in enumerate(_ORDER):
      share = [0.1 * j + 0.01 * (layer + 1) for layer in written.LAYERS]
      np.testing.assert_array_equal(read.share[i], share)
      self.assertEqual(read.whole[i], 0.1 * j)
      self.assertEqual(read.null[i], 0.1 * j / 4)

  @parameterized.parameters(
      ({}, 0),
      ({'alpha': 0.05}, 1),
      ({'alpha': 0.02}, None),
      ({'alpha': None}, None),
      ({'thresholds': 'quantile:0.9'}, 2),
      ({'thresholds': 'quantile'}, None),
      ({'thresholds': 'quantile:x'}, None),
      ({'thresholds': 'fixed:cosine=0.1', 'rule': 'all'}, 3),
      ({'rule': 'majority'}, None),
      ({'thresholds': None}, None),
  )
  def test_knows_what_the_run_did(self, settings, used):
    written.write_run(self.path, settings=settings)
    self.assertEqual(report.sweep(self.path).used, used)

  def test_another_side(self):
    written.write_run(self.path, side='input')
    read = report.sweep(self.path, readout='input')
    self.assertEqual(read.label, 'tiny, input readout')
    self.assertEqual(read.decisions, (_ORDER[-1][0],))

  def test_what_is_missing_is_a_gap(self):
    written.write_run(self.path, null=False)
    table = written.sweep_table().slice(0, 3).drop_columns('null_share')
    nulls = pa.nulls(3, pa.float64())
    self._write(table.append_column('null_share', nulls))
    read = report.sweep(self.path)
    np.testing.assert_array_equal(read.share, [[0.01, 0.04]])
    np.testing.assert_array_equal(read.null, [np.nan])
    written.saved(report.sweep_figure(read), 'png')

  def test_a_run_without_a_sweep_is_refused(self):
    written.write_run(self.path, null=False)
    with self.assertRaisesRegex(InputError, 'sweep.parquet is not there'):
      report.sweep(self.path)

  def test_a_strange_table_is_refused(self):
    written.write_run(self.path)
    table = written.sweep_table()
    for strange in (
        table.drop_columns('rule'),
        pa.concat_tables([table, table.slice(0, 1)]),  # A row twice.
        table.slice(0, 0),
    ):
      self._write(strange)
      with self.assertRaisesRegex(InputError, 'lack what the figure needs'):
        report.sweep(self.path)

  def _write(self, table):
    pq.write_table(table, self.path / 'sweep.parquet')

  def test_shapes_that_do_not_fit_are_an_error(self):
    with self.assertRaisesRegex(ValueError, r'whole is \(3,\).*\(1,\)'):
      report.Sweep(
          label='',
          layers=(0, 1),
          decisions=(_ORDER[0][0],),
          share=np.zeros((1, 2)),
          whole=np.zeros(3),
          null=np.zeros(1),
      )


class SweepFigureTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written.write_run(path)
    self.sweep = report.sweep(path, '$x^{ 漢')

  def test_cells_are_the_numbers(self):
    figure = report.sweep_figure(self.sweep)
    axes, bar = figure.axes
    cells, totals = [], []
    for mesh in _meshes(axes):
      target = cells if mesh.get_gid() == 'layers' else totals
      target.append(np.asarray(mesh.get_array()))
      self.assertEqual(mesh.norm(0.0), 0)
      self.assertEqual(mesh.norm(1.0), 1)
    np.testing.assert_array_equal(np.concatenate(cells), self.sweep.share)
    np.testing.assert_array_equal(
        np.concatenate(totals),
        np.stack([self.sweep.whole, self.sweep.null], axis=1),
    )
    texts = [text.get_text() for text in axes.texts]
    for group in ('Any of the three measures', 'Cosine alone'):
      self.assertEqual(texts.count(group), 1)
    self.assertIn('41.0', _numbers(axes).values())  # Any, null 0.01, layer 0.
    self.assertEqual(
        [text.get_text() for text in axes.get_yticklabels()],
        ['▸ null 0.01', 'null 0.05', 'quantile 0.9', 'fixed', 'null 0.01'],
    )
    self.assertEqual(
        [text.get_text() for text in axes.get_xticklabels()],
        ['0', '2', '3', 'all', 'null'],
    )
    self.assertEqual(bar.get_xlabel(), 'Semantic features (%)')

  def test_numbers_stand_in_their_cells(self):
    figure = report.sweep_figure(self.sweep)
    axes = figure.axes[0]
    written.saved(figure, 'png')
    grid = {}
    for mesh in _meshes(axes):
      corners = mesh.get_coordinates()
      for (i, j), value in np.ndenumerate(mesh.get_array()):
        (x0, y0), (x1, y1) = corners[i, j], corners[i + 1, j + 1]
        grid[(x0 + x1) / 2, (y0 + y1) / 2] = value
    numbers = _numbers(axes)
    self.assertLen(numbers, 25)
    cell_width, _ = np.ptp(axes.transData.transform([(0, 0), (1, 1)]), axis=0)
    for (x, y), text in numbers.items():
      cell = min(grid, key=lambda c: math.dist(c, (x, y)))  # noqa: B023
      self.assertLess(math.dist(cell, (x, y)), 0.05)
      self.assertEqual(text, f'{100 * grid[cell]:.1f}')
    for left, right in _extents(axes):
      self.assertLess((right - left) * figure.dpi, cell_width)
      self.assertAlmostEqual(left, -right, delta=0.01)  # In the middle.

  @parameterized.parameters((26, True), (80, False))
  def test_many_layers(self, layers, annotated):
    sweep = report.Sweep(
        label='m' * 90,
        layers=tuple(range(layers)),
        decisions=self.sweep.decisions,
        share=np.ones((5, layers)),
        whole=np.ones(5),
        null=np.zeros(5),
    )
    figure = report.sweep_figure(sweep)
    written.saved(figure, 'png')
    axes = figure.axes[0]
    self.assertEqual('100' in _numbers(axes).values(), annotated)
    names = [x for x in axes.get_xticklabels() if x.get_text()]
    for left, right in zip(names, names[1:], strict=False):
      self.assertGreater(
          right.get_window_extent().x0, left.get_window_extent().x1
      )
    self.assertLess(figure.get_figwidth(), 7.2001)
    (title,) = figure.texts
    self.assertLess(title.get_window_extent().x1, 1440)
    self.assertGreater(
        title.get_window_extent().y0,
        axes.xaxis.label.get_window_extent().y1,
    )

  def test_readable_in_grey(self):
    mesh, *_ = report.sweep_figure(self.sweep).axes[0].collections
    shades = mesh.cmap(np.linspace(0, 1, 64))[:, :3] @ [0.2126, 0.7152, 0.0722]
    self.assertTrue(np.all(np.diff(shades) < 0))
    self.assertGreater(shades[0] - shades[-1], 0.7)

  def test_hostile_names(self):
    names = (*written.HOSTILE, '漢' * 60)
    sweep = report.Sweep(
        label=names[-1],
        layers=(0,),
        decisions=tuple(
            report.Decision(rule=x, measure=y, kind=x, level=None)
            for x, y in zip(names, names[1:] + ('',), strict=True)
        ),
        share=np.zeros((len(names), 1)),
        whole=np.zeros(len(names)),
        null=np.full(len(names), np.nan),
    )
    for suffix in ('png', 'pdf'):
      self.assertGreater(
          len(written.saved(report.sweep_figure(sweep), suffix)), 999
      )

  def test_the_same_bytes_again_whatever_the_user_has_set(self):
    for suffix in ('png', 'pdf'):
      first = written.saved(report.sweep_figure(self.sweep), suffix)
      theirs = {'text.usetex': True, 'image.cmap': 'hot', 'font.size': 30}
      with matplotlib.rc_context(theirs):
        second = written.saved(report.sweep_figure(self.sweep), suffix)
      self.assertEqual(first, second, suffix)


def _meshes(axes):
  return [x for x in axes.collections if x.get_gid() in ('layers', 'totals')]


def _characters(axes):
  """Place of a number -> its characters: left end, right end, character."""
  found = {}
  for one in axes.collections:
    kind, _, character = (one.get_gid() or '').partition(' ')
    if kind == 'character':
      x = one.get_paths()[0].vertices[:, 0]
      for x_of_cell, y_of_cell in one.get_offsets():
        place = float(x_of_cell), float(y_of_cell)
        found.setdefault(place, []).append((x.min(), x.max(), character))
  return {place: sorted(own) for place, own in found.items()}


def _numbers(axes):
  return {
      place: ''.join(character for _, _, character in own)
      for place, own in _characters(axes).items()
  }


def _extents(axes):
  """Left and right end of each number, in inches from its middle."""
  return [(own[0][0], own[-1][1]) for own in _characters(axes).values()]


if __name__ == '__main__':
  absltest.main()
