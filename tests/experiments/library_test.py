"""The experiments as a library: of another program, beside its own flags."""

import json
import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
import numpy as np
import pyarrow.parquet as pq
import pytest

import ooc_jax
from tests.experiments import scripts

_ROOT = pathlib.Path(__file__).parents[2]
_PROGRAM = pathlib.Path(__file__).with_name('own_program.py').read_text()
_SHARED = {'null_size': 200, 'k': 5}
_ATTENTION = {
    'layers': '3,4',
    'context': 9,
    'pairs': 4,
    'partners': 2,
    'write_tokens': 2,
    'nulls': 'random,permuted',
}
_SEMANTIC = {'least': 2}


def _same(found, expected, where):
  """Equal, but for the last digits of numbers that are not whole."""
  found, expected = list(found), list(expected)
  while expected and isinstance(expected[0], list):
    found = [x for row in found for x in row]
    expected = [x for row in expected for x in row]
  if expected and all(isinstance(x, float | None) for x in expected):
    one, other = (np.array(x, np.float64) for x in (found, expected))
    scale = np.nanmax(np.abs(other), initial=0.0)
    np.testing.assert_allclose(one, other, 1e-6, 1e-6 * scale, err_msg=where)
  else:
    assert found == expected, where


class LibraryTest(absltest.TestCase):

  @pytest.mark.slow
  def test_numbers_of_the_script_and_nothing_else(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    arrays = {}
    for layer in (2, 3):
      sae = ooc_jax.load_dictionary(f'tiny-gemma2-res/layer_{layer}')
      for name in ('decoder', 'encoder'):
        rows = np.asarray(getattr(sae, name), np.float32)[:48].copy()
        arrays[f'{name}_{layer}'] = rows
      own = ooc_jax.dictionaries.from_arrays(
          arrays[f'decoder_{layer}'], arrays[f'encoder_{layer}'], layer=layer
      )
      ooc_jax.dictionaries.save_dictionary(
          own, root / f'layer_{layer}', to='safetensors'
      )
    np.savez(root / 'arrays.npz', **arrays)

    settings = {**_SHARED, **_ATTENTION, **_SEMANTIC}
    done = scripts.run([
        sys.executable,
        str(_ROOT / 'experiments' / 'semantic_attention.py'),
        f'--dictionary={root}/layer_{{layer}}',
        f'--out={root}/out',
        '--nofigures',
        *(f'--{name}={value}' for name, value in settings.items()),
    ])
    self.assertEqual(done.returncode, 0, done.stderr)

    empty = root / 'empty'
    empty.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith('XDG_')}
    program = subprocess.run(
        [
            sys.executable,
            '-c',
            _PROGRAM,
            str(root / 'arrays.npz'),
            json.dumps({
                'output_prediction': _SHARED | {'layers': '2,3'},
                'attention_participation': _ATTENTION,
                'semantic_attention': _SEMANTIC,
            }),
            '--seed=8',
        ],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=empty,
        env=kept
        | {
            'HOME': str(empty),
            'TMPDIR': str(empty),
            'JAX_PLATFORMS': 'cpu',
            'HF_HUB_OFFLINE': '1',
            'MPLCONFIGDIR': str(root / 'matplotlib'),  # Its list of fonts.
        },
    )
    self.assertEqual(program.returncode, 0, program.stderr)
    self.assertEqual(list(empty.rglob('*')), [])
    found = json.loads(program.stdout)
    before, after = found['flags']
    mine = {'model': 'mine', 'seed': 8, 'out': None}
    self.assertIn(mine, before.values())
    self.assertEqual(after, before)
    self.assertEqual(found['strangers'], [])
    self.assertLen(found['tables'], 3 + 2 + 2 + 2)
    for name, columns in found['tables'].items():
      table = pq.read_table(root / 'out' / f'{name}.parquet')
      self.assertEqual(list(columns), table.column_names)
      for column, values in columns.items():
        _same(values, table[column].to_pylist(), f'{name}: {column}')


if __name__ == '__main__':
  absltest.main()
