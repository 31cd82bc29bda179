"""Small results folders as an experiment writes them, with known numbers."""

import functools
import json
import math
import pathlib
import shutil
import tempfile

import numpy as np
import pyarrow as pa

from ooc_jax import results

MEASURES = ('levenshtein', 'cosine', 'entropy')
LAYERS = (0, 2, 3)
NUM_LAYERS = 5
FEATURES = 11
DIRECTIONS = 64
THRESHOLDS = {'levenshtein': 0.4, 'cosine': 0.6, 'entropy': 0.8}
# Everything that a vocabulary may hold and a figure may choke on.
HOSTILE = (
    '$x^{',
    '\\$',
    '$',
    '$$\\frac{1}{0}$$',
    ' 漢字',
    '😀',
    'שלום',
    'عربي',
    '\u200b',
    '\u202eabc',
    '\x1b[31m',
    '',
    ' ',
    '\n\t',
    '"',
    '\\',
    'e' + '\u0301' * 9,
    '\u0301',
    'x' * 500,
    '_a',
    '%#&{}~^',
    '\ufffd',
)
_KEPT: list[tempfile.TemporaryDirectory] = []
SHAPE = {'name': 'inverted U', 'p_value': 0.0123, 'turning_point': 2.5}


def values(layer: int, size: int = FEATURES) -> dict[str, np.ndarray]:
  """Measures of a layer: other numbers in every layer and measure."""
  rng = np.random.default_rng(100 * layer + size)
  return {name: rng.random(size).astype(np.float32) for name in MEASURES}


def row(layer: int | None, share: float, *, null: bool) -> dict:
  """A `LayerSummary`."""
  out = {
      'features': FEATURES,
      'semantic': {'share': share, 'low': share - 0.03, 'high': share + 0.02},
      'measures': {
          'levenshtein': share / 2,
          'cosine': share / 3,
          'entropy': share / 5,
      },
      'median': {'levenshtein': 0.7, 'cosine': 0.1, 'entropy': 4.0},
      'undertrained': 0.01,
  }
  if layer is not None:
    out['layer'] = layer
  if null:
    out |= {
        'null_share': 0.22 if layer is None else 0.25 + layer / 100,
        'null_directions': DIRECTIONS,
        'excess': share - 0.25,
        'excess_low': share - 0.28,
        'excess_high': share - 0.23,
    }
  return out


def tokens(layer: int, feature: int, count: int = 6) -> list[str]:
  """Hostile ones, others in every feature."""
  first = (5 * feature + layer) % len(HOSTILE)
  return [HOSTILE[(first + i) % len(HOSTILE)] for i in range(count)]


def sweep_table() -> pa.Table:
  """Rows in no order; the share tells which row it is."""
  rows = []
  for i, (rule, kind, level, measure) in enumerate((
      ('', 'null', 0.01, 'cosine'),
      ('all', 'fixed', math.nan, ''),
      ('any', 'quantile', 0.9, ''),
      ('any', 'null', 0.05, ''),
      ('any', 'null', 0.01, ''),
  )):
    for layer in (3, -1, 0, 2):
      share = 0.1 * i + 0.01 * (layer + 1)
      rows.append((rule, kind, level, measure, layer, 6, share, share / 4))
  names = ('rule', 'kind', 'level', 'measure', 'layer', 'k')
  names += ('share', 'null_share')
  columns = map(list, zip(*rows, strict=True))
  return pa.table(dict(zip(names, columns, strict=True)))


def write_run(path, **kwargs) -> None:
  """Writes a finished run of experiment 1; `kwargs` as of `_write_run`."""
  shutil.copytree(_written(json.dumps(kwargs, sort_keys=True)), path)


@functools.cache
def _written(kwargs: str) -> pathlib.Path:
  """The same run, written once a session: each file is synced to the disk."""
  folder = tempfile.TemporaryDirectory()
  _KEPT.append(folder)  # Until the session ends.
  path = pathlib.Path(folder.name) / 'run'
  _write_run(path, **json.loads(kwargs))
  return path


def _write_run(
    path: pathlib.Path,
    *,
    null: bool = True,
    settings: dict | None = None,
    weights: dict | None = None,
    summary: dict | None = None,
    side: str | None = None,
) -> None:
  """Writes it.

  Args:
    path: The folder.
    null: Whether the run had one; without, also no sweep and no shape.
    settings: Replace those of the run.
    weights: Of its config.
    summary: Replaces parts of the summary.
    side: Written beside the output side: its features are those of the next
      layer, its shares higher by 0.2, its sweep has the row of one decision.
  """
  base = {'experiment': 'output_prediction', 'model': 'tiny', 'k': 6}
  base |= {'dictionary': 'mlp', 'rule': 'any', 'layers': 'all'}
  base |= {'thresholds': 'null' if null else 'quantile'}
  if null:
    base['alpha'] = 0.01
  with results.ResultsFolder.open(
      path, base | (settings or {}), provenance={}, weights=weights
  ) as out:
    labels = []
    for layer in LAYERS:
      mine = values(layer)
      named = [tokens(layer, i) for i in range(FEATURES)]
      columns = {
          'feature': np.arange(FEATURES, dtype=np.int32),
          **mine,
          'top_tokens': named,
          'bottom_tokens': [x[::-1] for x in named],
      }
      if side:
        other = [tokens(layer + 1, i) for i in range(FEATURES)]
        columns |= {f'{side}_{n}': x for n, x in values(layer + 1).items()}
        columns[f'{side}_top_tokens'] = other
        columns[f'{side}_bottom_tokens'] = [x[::-1] for x in other]
      out.write_layer(layer, pa.table(columns))
      label = {
          'layer': np.full(FEATURES, layer, np.int32),
          'feature': np.arange(FEATURES, dtype=np.int32),
          **_labels(mine),
      }
      if null:
        label['q_value'] = np.linspace(0, 1, FEATURES)
      if side:
        label |= {
            f'{side}_{name}': x
            for name, x in _labels(values(layer + 1)).items()
        }
        label[f'{side}_q_value'] = np.linspace(1, 0, FEATURES)
      labels.append(pa.table(label))
    out.write_table('labels', pa.concat_tables(labels))
    if null:
      drawn = [
          pa.table({
              'layer': np.full(DIRECTIONS, layer, np.int32),
              **values(layer, DIRECTIONS),
          })
          for layer in LAYERS
      ]
      out.write_table('null', pa.concat_tables(drawn))
      out.write_table('sweep', sweep_table())
    if side:
      everywhere = np.full(7, -1, np.int32)
      null_of_side = pa.table({'layer': everywhere, **values(99, 7)})
      out.write_table(f'null_{side}', null_of_side)
      out.write_table(f'sweep_{side}', sweep_table().slice(0, 4))
    base_summary = {
        'experiment': 'output_prediction',
        'num_layers': NUM_LAYERS,
        'layers': [
            row(layer, 0.3 + layer / 10, null=null) for layer in LAYERS[::-1]
        ],
        'total': row(None, 0.45, null=null),
        'thresholds': THRESHOLDS | {'kind': 'null' if null else 'quantile'},
    }
    if null:
      base_summary['shape'] = SHAPE
    if side:
      base_summary['sides'] = {
          side: {
              'layers': [row(x, 0.5 + x / 10, null=null) for x in LAYERS],
              'total': row(None, 0.65, null=null),
              'thresholds': THRESHOLDS | {'cosine': 0.5},
              'shape': {'name': 'flat'},
          }
      }
    out.write_summary(base_summary | (summary or {}))


def _labels(mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  passing = passes(mine)
  return {
      'semantic': np.any(list(passing.values()), axis=0),
      **{f'{name}_passes': x for name, x in passing.items()},
  }


def passes(mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Which features each measure calls coherent."""
  return {
      'levenshtein': mine['levenshtein'] < THRESHOLDS['levenshtein'],
      'cosine': mine['cosine'] > THRESHOLDS['cosine'],
      'entropy': mine['entropy'] < THRESHOLDS['entropy'],
  }


def saved(figure, suffix: str) -> bytes:
  """What `save_figure` writes; a glyph that is missing would warn."""
  with tempfile.TemporaryFile() as file:
    results.save_figure(figure, file, suffix)
    file.seek(0)
    return file.read()
