"""The quickstart: as it stands, and executed from top to bottom."""

import importlib.util
import json
import pathlib
import re
import time
import unittest

from absl.testing import absltest
import pytest

_PATH = pathlib.Path(__file__).parents[2] / 'docs' / 'quickstart.ipynb'
_MOST_SECONDS = 180
_MOST_BYTES = 400_000


def _code(notebook):
  return [x for x in notebook['cells'] if x['cell_type'] == 'code']


def _printed(cell):
  return ''.join(
      ''.join(x['text'])
      for x in cell['outputs']
      if x['output_type'] == 'stream' and x['name'] == 'stdout'
  )


def _numbers(text):
  return [float(x) for x in re.findall(r'-?\d+(?:\.\d+)?', text)]


class NotebookTest(absltest.TestCase):

  def test_outputs_are_there_and_name_no_machine(self):
    text = _PATH.read_text()
    self.assertLess(len(text), _MOST_BYTES)
    self.assertNotRegex(text, r'(?<![\w.:/])/(tmp|home|root|work|usr|opt)/')
    for cell in _code(json.loads(text)):
      if not ''.join(cell['source']).startswith('import'):
        self.assertNotEmpty(cell['outputs'])
      for output in cell['outputs']:
        self.assertNotEqual(output['output_type'], 'error')
        self.assertNotEqual(output.get('name'), 'stderr')

  def test_cells_are_short(self):
    for cell in json.loads(_PATH.read_text())['cells']:
      self.assertLess(''.join(cell['source']).count('\n'), 30)

  @pytest.mark.slow
  @unittest.skipUnless(
      importlib.util.find_spec('nbclient')
      and importlib.util.find_spec('ipykernel'),
      'Needs nbclient and ipykernel (the extra docs).',
  )
  @pytest.mark.filterwarnings('ignore')  # Of the kernel's own packages.
  def test_it_runs_and_prints_what_it_shows(self):
    import nbclient
    import nbformat

    shown = nbformat.read(_PATH, as_version=4)
    notebook = nbformat.read(_PATH, as_version=4)
    for cell in _code(notebook):
      cell['outputs'] = []
    start = time.monotonic()
    folder = self.create_tempdir().full_path  # As a user's, not the clone's.
    nbclient.NotebookClient(
        notebook,
        timeout=2 * _MOST_SECONDS,
        kernel_name='python3',
        resources={'metadata': {'path': folder}},
    ).execute()  # Raises where a cell does.
    self.assertLess(time.monotonic() - start, _MOST_SECONDS)

    for before, after in zip(_code(shown), _code(notebook), strict=True):
      text, expected = _printed(after), _printed(before)
      self.assertEqual(
          re.findall(r"[a-z' ]+", text), re.findall(r"[a-z' ]+", expected)
      )
      for value, other in zip(_numbers(text), _numbers(expected), strict=True):
        # Two thousand random directions, eight steered features: a tie that
        # falls otherwise on another processor moves the last digit.
        self.assertAlmostEqual(value, other, delta=max(0.02, 0.02 * other))
    images = [
        output['data']['image/png']
        for cell in _code(notebook)
        for output in cell['outputs']
        if 'image/png' in output.get('data', {})
    ]
    self.assertLen(images, 2)
    self.assertGreater(min(map(len, images)), 10_000)


if __name__ == '__main__':
  absltest.main()
