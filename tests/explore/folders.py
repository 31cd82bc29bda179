"""Results folders of random numbers, small enough for a test of a page."""

import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax import results

LAYERS, FEATURES, HEADS, K, PARTNERS = 3, 60, 2, 5, 2
MARKUP = '<script>alert(1)</script>'
WORDS = [
    MARKUP,
    ' the',
    'The',
    ' cat',
    ' dog',
    '\n',
    ' </td>',
    '&amp;',
    '         x',
    '  ',
] + [f' word{i}' for i in range(38)]


def _lists(array):
  flat = pa.array(array.reshape(-1))
  return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def _write(path, columns, metadata=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  table = pa.table(columns)
  pq.write_table(table.replace_schema_metadata(metadata), path)


def ids(layer, stem):
  """[F, k] ids of a list of a layer, as its file has them."""
  rng = np.random.default_rng([layer, len(stem)])
  return np.stack(
      [rng.permutation(len(WORDS))[:K] for _ in range(FEATURES)]
  ).astype(np.int32)


def cosines(layer):
  """[F] of the output side."""
  return np.random.default_rng([9, layer]).random(FEATURES).astype(np.float32)


def nearest(layer):
  """[F, 4] ids and cosines of the nearest decoders of a layer."""
  rng = np.random.default_rng([3, layer])
  ids = np.stack([rng.permutation(FEATURES - 1)[:4] for _ in range(FEATURES)])
  ids += ids >= np.arange(FEATURES)[:, None]
  cosines = -np.sort(-rng.uniform(-1, 1, (FEATURES, 4)), axis=1)
  return ids.astype(np.int32), cosines.astype(np.float32)


def labels():
  """The columns of `labels.parquet`."""
  rng = np.random.default_rng(5)
  rows = LAYERS * FEATURES
  return {
      'layer': np.repeat(np.arange(LAYERS, dtype=np.int32), FEATURES),
      'feature': np.tile(np.arange(FEATURES, dtype=np.int32), LAYERS),
      'coherent': rng.random(rows) < 0.3,
      'sharp': rng.random(rows) < 0.3,
      'cosine_passes': rng.random(rows) < 0.3,
      'q_value': rng.random(rows),
      'at_resolution': np.zeros(rows, bool),
  }


def _settings(experiment, model):
  return {
      'format': 'ooc_jax results',
      'schema': results.SCHEMA_VERSION,
      'settings': {
          'experiment': experiment,
          'model': model,
          'dictionary': 'tiny-res/layer_{layer}',
      },
      'weights': {},
      'provenance': {'jax': '0'},
  }


def output(
    folder: pathlib.Path, model: str = 'tiny', neighbours: bool = True
) -> pathlib.Path:
  """A finished run of experiment 1, with the nearest decoders or without."""
  for layer in range(LAYERS):
    columns = {'feature': np.arange(FEATURES, dtype=np.int32)}
    for prefix in ('', 'input_'):
      for end in ('top', 'bottom'):
        stem = prefix + end
        own = ids(layer, stem)
        columns[f'{stem}_ids'] = _lists(own)
        columns[f'{stem}_tokens'] = [[WORDS[x] for x in row] for row in own]
        sign = 1 if end == 'top' else -1
        logits = sign * np.linspace(9, 5, K) + np.zeros((FEATURES, 1))
        columns[f'{stem}_logits'] = _lists(np.float32(logits))
      columns[f'{prefix}cosine'] = cosines(layer)
      columns[f'{prefix}entropy'] = 7 - cosines(layer)
      columns[f'{prefix}mean'] = cosines(layer)
    if neighbours:
      near = map(_lists, nearest(layer))
      columns['nearest'], columns['nearest_cosines'] = near
    _write(folder / f'features/layer={layer:02d}.parquet', columns)
  _write(folder / 'labels.parquet', labels())
  _write(
      folder / 'null.parquet', {'cosine': np.random.default_rng(1).random(500)}
  )
  rows = [
      {
          'layer': x,
          'features': FEATURES,
          'semantic': {'share': 0.1 * x, 'low': 0.05, 'high': 0.3},
          'null_share': 0.01,
          'thresholds': {'cosine': 0.4},
          'median': {'cosine': 0.5},
      }
      for x in range(LAYERS)
  ]
  summary = {
      'schema': results.SCHEMA_VERSION,
      'num_layers': LAYERS,
      'layers': rows,
      'total': rows[0] | {'found': {}},
      'shape': {'name': 'rising', 'p_value': 0.004},
      'examples': [{
          'layer': 1,
          'feature': 7,
          'levenshtein': 0.5,
          'cosine': 0.2,
          'entropy': 3.0,
          'tokens': WORDS[:3],
      }],
  }
  _json(folder, 'config', _settings('output_prediction', model))
  _json(folder, 'summary', summary)
  return folder


def attention(folder: pathlib.Path, model: str = 'tiny') -> pathlib.Path:
  """A finished run of experiment 2; layer l reads the features of l - 1."""
  heads = []
  for layer in range(1, LAYERS):
    rng = np.random.default_rng(50 + layer)
    columns = {'feature': np.arange(FEATURES, dtype=np.int32)}
    for role in ('query', 'key'):
      scores = -np.sort(-rng.random((FEATURES, HEADS, PARTNERS)), axis=2)
      partners = rng.integers(0, FEATURES, (FEATURES, HEADS * PARTNERS))
      flat = scores.reshape(FEATURES, -1)
      columns[f'{role}_max'] = _lists(np.float32(scores[:, :, 0]))
      columns[f'{role}_partners'] = _lists(np.int32(partners))
      columns[f'{role}_scores'] = _lists(np.float32(flat))
    columns['largest_weight'] = columns['query_max']
    _write(
        folder / f'features/layer={layer:02d}.parquet',
        columns,
        {b'ooc_jax.dictionary_layer': str(layer - 1).encode()},
    )
    heads += [
        {
            'layer': layer,
            'head': head,
            'selectivity': 3.5 + head,
            'copy_score': None,
            'profile': [3.0, 2.0, 1.0],
            'write_features': [7],
            'write_tokens': [[MARKUP, ' cat']],
        }
        for head in range(HEADS)
    ]
  pq.write_table(pa.Table.from_pylist(heads), folder / 'heads.parquet')
  rows = (LAYERS - 1) * FEATURES
  _write(
      folder / 'participation.parquet',
      {
          'layer': np.repeat(np.arange(1, LAYERS, dtype=np.int32), FEATURES),
          'feature': np.tile(np.arange(FEATURES, dtype=np.int32), LAYERS - 1),
          'query_pre_heads': np.arange(rows, dtype=np.int32) % 3,
          'key_pre_heads': np.zeros(rows, np.int32),
      },
  )
  _json(folder, 'config', _settings('attention_participation', model))
  side = {
      'layers': [
          {'layer': x, 'participating': {'share': 0.2}}
          for x in range(1, LAYERS)
      ],
      'total': {'participating': {'share': 0.2}, 'nulls': {'random': 0.1}},
  }
  _json(folder, 'summary', {'num_layers': LAYERS, 'sides': {'query_pre': side}})
  return folder


def validation(folder: pathlib.Path, model: str = 'tiny') -> pathlib.Path:
  """A validation of layer 1."""
  n = FEATURES
  _write(
      folder / 'features/layer=01.parquet',
      {
          'feature': np.arange(n, dtype=np.int32),
          'fires': np.arange(n) % 4,
          'output_decoder': np.linspace(0, 1, n),
          'output_decoder_permuted': np.full(n, 0.05),
          'steering': np.full(n, np.nan),
          'sign': np.where(np.arange(n) == 0, -1, 1).astype(np.int32),
          'peak_tokens': [[MARKUP, ' cat']] * n,
          'prompt': ['Once <b>upon</b>'] + [''] * (n - 1),
          'plain': [' a time'] * n,
      },
  )
  # Feature 3 fires nowhere; the second window of the others is a lowest one.
  fires = np.repeat(np.delete(np.arange(n, dtype=np.int32), 3), 2)
  _write(
      folder / 'validation_windows_01.parquet',
      {
          'layer': np.ones(len(fires), np.int32),
          'feature': fires,
          'rank': np.tile(np.arange(2, dtype=np.int32), len(fires) // 2),
          'value': np.where(np.arange(len(fires)) % 2, -2.5, 3.25),
          'window': np.zeros(len(fires), np.int32),
          'position': np.full(len(fires), 9, np.int32),
          'peak': np.full(len(fires), 2, np.int32),
          'tokens': [['Once', ' <i>', MARKUP, '\n', ' on']] * len(fires),
      },
  )
  _json(folder, 'config', _settings('validation', model))
  score = {'mean': 0.5, 'low': 0.4, 'high': 0.6, 'permuted': {'mean': 0.05}}
  rows = [{'layer': 1, 'scores': {'output_decoder': score}}]
  _json(folder, 'summary', {'num_layers': LAYERS, 'layers': rows})
  return folder


def _json(folder, name, value):
  folder.mkdir(parents=True, exist_ok=True)
  (folder / f'{name}.json').write_text(json.dumps(value))
