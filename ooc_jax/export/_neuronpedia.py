"""The files that Neuronpedia's importer reads.

The layout and the fields are those of its own converter, at commit 4d6d6c6 of
github.com/hijohnnylin/neuronpedia:
utils/neuronpedia-utils/neuronpedia_utils/convert-saedashboard-to-neuronpedia-
export.py, and `db_models/` beside it. The importer, apps/webapp/app/api/admin/
import/route.ts, reads MODEL/SOURCE/{release,model,sourceset,source}.jsonl and
every features/*.jsonl.gz, and takes of the fields those that its tables have;
an activations/ may be missing.
"""

from collections.abc import Iterator, Mapping, Sequence
import datetime
import gzip
import itertools
import json
import pathlib
import re
from typing import Any

from ooc_jax import explore
from ooc_jax import results
from ooc_jax.export._choice import Keys
from ooc_jax.export._choice import output_run
from ooc_jax.export._choice import rows_of
from ooc_jax.export._choice import sizes
from ooc_jax.export._config import Export
from ooc_jax.export._neuronpedia_rows import about_rows
from ooc_jax.export._neuronpedia_rows import activation_row
from ooc_jax.export._neuronpedia_rows import feature_row

_BATCH = 1024  # Features of a file, as Neuronpedia's own exports have them.
_COLUMNS = ('top_tokens', 'top_logits', 'bottom_tokens', 'bottom_logits')
_ACTIVITY = ('fires', 'max_activation')
_WINDOW = ('feature', 'rank', 'value', 'peak', 'tokens')


def write_neuronpedia(
    folder: pathlib.Path,
    study: explore.Study,
    keys: Keys | None,
    config: Export,
) -> None:
  """Writes `MODEL/SOURCE/...` for every layer.

  Activations are those of a validation, whose windows have their value at the
  peak alone.

  Args:
    folder: To write into.
    study: The runs.
    keys: The features, or None for all.
    config: Whose they are.

  Raises:
    InputError: There is no run of experiment 1, or a table is damaged.
  """
  run = output_run(study, '--to=neuronpedia')
  now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
  created = now.isoformat()
  if keys is None:
    keys = [(x, i) for x, size in sizes(study).items() for i in range(size)]
  for layer, own in itertools.groupby(sorted(keys), key=lambda key: key[0]):
    model, source_set = _names(study, layer, config)
    source = f'{layer}-{source_set}'
    place = folder / model / source
    (place / 'features').mkdir(parents=True)
    shared = {'creatorId': config.creator_id, 'createdAt': created}
    positions = _positions(study, layer)
    about = about_rows(
        study, run, config, model, source, source_set, positions, shared
    )
    for name, row in about.items():
      (place / f'{name}.jsonl').write_text(f'{_json(row)}\n', encoding='ascii')
    features = [x for _, x in own]
    rows = _features(study, run, layer, features, positions)
    windows = _windows(study, layer)
    for i, batch in enumerate(_batches(rows)):
      _write(
          place / 'features' / f'batch-{i}.jsonl.gz',
          [feature_row(row, model, source, shared) for row in batch],
      )
      _write(
          place / 'activations' / f'batch-{i}.jsonl.gz',
          [
              activation_row(window, model, source, row['largest'], shared)
              for row in batch
              for window in windows.get(row['index'], ())
          ],
      )


def _write(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  # The importer cannot read a file without lines.
  if rows:
    path.parent.mkdir(exist_ok=True)
    text = ''.join(f'{_json(row)}\n' for row in rows)
    data = gzip.compress(text.encode('ascii'), compresslevel=5, mtime=0)
    path.write_bytes(data)


def _batches(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
  for start in range(0, len(rows), _BATCH):
    yield rows[start : start + _BATCH]


def _json(value: Any) -> str:
  return json.dumps(results.plain(value), allow_nan=False)


def _names(study: explore.Study, layer: int, config: Export) -> tuple[str, str]:
  """Ids of model and source set: those that it has, or as they are here."""
  dictionary = str(study.first.settings.get('dictionary', ''))
  known = explore.neuronpedia(study.model, dictionary, layer)
  model, source_set = _slug(study.model), _slug(study.dictionary)
  if known is not None:
    model, source = known.split('/')
    source_set = source.partition('-')[2]
  return config.model_id or model, config.source_set or source_set


def _slug(name: str) -> str:
  """Letters, digits, '_', '.' and '-' alone, in lower case."""
  return re.sub(r'[^a-z0-9_.-]+', '-', name.lower()).strip('-.') or 'unnamed'


def _positions(study: explore.Study, layer: int) -> int:
  """Of the text of a validation; 0 where there is none of the layer."""
  own = study.validation
  for row in () if own is None else own.summary.get('layers') or ():
    if row.get('layer') == layer:
      return int((row.get('health') or {}).get('tokens') or 0)
  return 0


def _features(
    study: explore.Study,
    run: explore.Run,
    layer: int,
    features: Sequence[int],
    positions: int,
) -> list[dict[str, Any]]:
  """What is known of some features of a layer."""
  rows = rows_of(run.layer_files()[layer], features, _COLUMNS)
  activity: Sequence[Mapping[str, Any]] = [{}] * len(rows)
  own = study.validation
  if own is not None and layer in own.layer_files():
    activity = rows_of(own.layer_files()[layer], features, _ACTIVITY)
  return [
      {
          **row,
          'index': i,
          'largest': more.get('max_activation') or 0,
          'density': (more.get('fires') or 0) / positions if positions else 0,
      }
      for i, row, more in zip(features, rows, activity, strict=True)
  ]


def _windows(study: explore.Study, layer: int) -> dict[int, list[Any]]:
  """Feature -> the windows in which it is largest."""
  own = study.validation
  name = f'validation_windows_{layer:02d}'
  path = None if own is None else own.file(name)
  if path is None:
    return {}
  table = results.StoredTable(path)
  columns = [table[x].to_pylist() for x in _WINDOW]
  found: dict[int, list[Any]] = {}
  for row in zip(*columns, strict=True):
    window = dict(zip(_WINDOW, row, strict=True))
    if window['value'] > 0:  # Not where a neuron is lowest.
      found.setdefault(window['feature'], []).append(window)
  return found
