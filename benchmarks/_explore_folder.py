"""Results folders as large as those of a real model, of random numbers."""

import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax.results import SCHEMA_VERSION
from ooc_jax.results import tables

K, HEADS, PARTNERS, NEIGHBOURS = 20, 8, 5, 10
_MODEL = 'synthetic'
_MARKUP = '<script>alert(1)</script>'


def vocabulary(size: int) -> np.ndarray:
  """Words of letters, the first of them markup."""
  rng = np.random.default_rng(0)
  letters = np.array(list('etaoinshrdlucmfwypvbgk'))
  words = [
      ' ' * int(space) + ''.join(letters[rng.integers(0, 22, n)])
      for n, space in zip(
          rng.integers(2, 9, size), rng.random(size) < 0.6, strict=True
      )
  ]
  words[0] = _MARKUP
  return np.array(words, object)


def _features(layer: int, features: int, words: np.ndarray) -> pa.Table:
  rng = np.random.default_rng(layer)
  columns = {}
  readouts = ('output', 'input')
  for column in tables.output_features(readouts).columns:
    name = column.name
    if name == 'feature' or '_k' in name and name[-1].isdigit():
      continue
    if column.shape == 'F k':
      if name.endswith('_ids'):
        # As in real models, some tokens are on top of many features.
        ids = rng.zipf(1.2, (features, K)) % len(words)
        columns[name] = ids.astype(np.int32)
        tokens = words[columns[name]].tolist()
        columns[name.replace('_ids', '_tokens')] = tokens
      elif name.endswith('_logits'):
        logits = np.sort(rng.gumbel(8, 2, (features, K)))[:, ::-1]
        sign = -1 if 'bottom' in name else 1
        columns[name] = np.float32(logits * sign)
      elif name == 'nearest':
        shape = (features, NEIGHBOURS)
        columns[name] = rng.integers(0, features, shape, np.int32)
      elif name == 'nearest_cosines':
        cosines = np.sort(rng.beta(5, 9, (features, NEIGHBOURS)))[:, ::-1]
        columns[name] = np.float32(cosines)
    elif pa.types.is_integer(column.kind):
      columns[name] = rng.integers(0, 3, features, np.int32)
    else:
      columns[name] = np.float32(rng.beta(5, 2, features))
  return tables.output_features(readouts).build(columns)


def _attention(layer: int, features: int) -> pa.Table:
  rng = np.random.default_rng(1000 + layer)
  columns = {}
  for column in tables.ATTENTION_FEATURES.columns:
    if column.name in ('feature', 'sink'):
      continue
    if column.name.endswith('_partners'):
      shape = (HEADS, features, PARTNERS)
      values = rng.integers(0, features, shape, np.int32)
    elif column.name.endswith('_scores'):
      shape = (HEADS, features, PARTNERS)
      values = np.float32(np.sort(rng.gumbel(4, 1, shape))[..., ::-1])
    else:
      values = np.float32(rng.gamma(2.0, 1.0, (HEADS, features)))
    columns[column.name] = values
  table = tables.ATTENTION_FEATURES.build(columns)
  return tables.with_dictionary_layer(table, layer)


def _labels(layers: int, features: int) -> pa.Table:
  rng = np.random.default_rng(7)
  rows = layers * features
  columns = {
      'layer': np.repeat(np.arange(layers, dtype=np.int32), features),
      'feature': np.tile(np.arange(features, dtype=np.int32), layers),
  }
  for column in tables.labels(('output', 'input')).columns[2:]:
    if pa.types.is_boolean(column.kind):
      columns[column.name] = rng.random(rows) < 0.2
    else:
      columns[column.name] = rng.random(rows)
  return tables.labels(('output', 'input')).build(columns)


def _heads(layer: int, features: int) -> pa.Table:
  rng = np.random.default_rng(2000 + layer)
  rows = []
  for head in range(HEADS):
    row = {}
    for column in tables.HEADS.columns:
      if pa.types.is_integer(column.kind):
        row[column.name] = int(rng.integers(0, features))
      elif pa.types.is_floating(column.kind):
        row[column.name] = float(rng.random())
    row |= {
        'layer': layer,
        'head': head,
        'kv_head': head // 2,
        'features': features,
        'preferred_offset': int(rng.integers(0, 8)),
        'profile': rng.random(512).tolist(),
        'write_features': rng.integers(0, features, 3).tolist(),
        'write_tokens': [['a', ' b'], ['c'], [_MARKUP]],
    }
    rows.append(row)
  return tables.HEADS.build_rows(rows)


def _write(folder: pathlib.Path, name: str, table: pa.Table) -> None:
  path = folder / f'{name}.parquet'
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(table, path, compression='zstd', write_page_checksum=True)


def _layer_row(layer: int | None, features: int) -> dict[str, object]:
  share = 0.2 + 0.01 * (layer or 0)
  return {
      **({} if layer is None else {'layer': layer}),
      'features': features,
      'semantic': {'share': share, 'low': share - 0.02, 'high': share + 0.02},
      'measures': {'levenshtein': 0.1, 'cosine': 0.1, 'entropy': 0.1},
      'found': {'coherent': 0.15, 'sharp': 0.1, 'sharp only': 0.05},
      'median': {'levenshtein': 0.8, 'cosine': 0.1, 'entropy': 6.0},
      'null_share': 0.01,
      'excess': share - 0.01,
      'excess_low': share - 0.03,
      'excess_high': share + 0.01,
  }


def make_folders(
    root: pathlib.Path, *, layers: int, features: int, tokens: int
) -> list[pathlib.Path]:
  """Folders of experiments 1 and 2 of one dictionary, under `root`."""
  words = vocabulary(tokens)
  folders = {name: root / name for name in ('output_prediction', 'attention')}
  for layer in range(layers):
    stem = f'features/layer={layer:02d}'
    output, attention = folders.values()
    _write(output, stem, _features(layer, features, words))
    _write(attention, stem, _attention(layer, features))
  heads = pa.concat_tables(_heads(x, features) for x in range(layers))
  _write(folders['attention'], 'heads', heads)
  _write(folders['output_prediction'], 'labels', _labels(layers, features))
  rows = [_layer_row(x, features) for x in range(layers)]
  for experiment, folder in zip(
      ('output_prediction', 'attention_participation'),
      folders.values(),
      strict=True,
  ):
    config = {
        'format': 'ooc_jax results',
        'schema': SCHEMA_VERSION,
        'settings': {
            'experiment': experiment,
            'model': _MODEL,
            'dictionary': 'synthetic-res/layer_{layer}',
            'k': K,
            'partners': PARTNERS,
        },
        'weights': {},
        'provenance': {},
    }
    summary = {
        'schema': SCHEMA_VERSION,
        'experiment': experiment,
        'num_layers': layers,
        'num_heads': HEADS,
        'layers': rows,
        'total': _layer_row(None, layers * features),
        'thresholds': {'levenshtein': 0.7, 'cosine': 0.1, 'entropy': 6.0},
        'examples': [],
    }
    if experiment == 'attention_participation':
      del summary['layers'], summary['total']
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'summary.json').write_text(json.dumps(summary))
  return list(folders.values())
