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

_BATCH = 1024  # Features of a file, as Neuronpedia's own exports have them.
_COLUMNS = ('top_tokens', 'top_logits', 'bottom_tokens', 'bottom_logits')
_LISTS = (
    'topkCosSimIndices', 'topkCosSimValues',
    'neuron_alignment_indices', 'neuron_alignment_values',
    'neuron_alignment_l1', 'correlated_neurons_indices',
    'correlated_neurons_pearson', 'correlated_neurons_l1',
    'correlated_features_indices', 'correlated_features_pearson',
    'correlated_features_l1',
)  # fmt: skip
_HISTOGRAMS = (
    'freq_hist_data_bar_heights', 'freq_hist_data_bar_values',
    'logits_hist_data_bar_heights', 'logits_hist_data_bar_values',
    'decoder_weights_dist',
)  # fmt: skip


def write_neuronpedia(
    folder: pathlib.Path,
    study: explore.Study,
    keys: Keys | None,
    config: Export,
) -> list[str]:
  """Writes `MODEL/SOURCE/...` for every layer.

  Activations are not written: a validation keeps the token at each peak and no
  window. Histograms are empty: results keep the moments of logits.

  Args:
    folder: To write into.
    study: The runs.
    keys: The features, or None for all.
    config: Whose they are.

  Returns:
    The sources, 'MODEL/SOURCE'.

  Raises:
    InputError: There is no run of experiment 1, or a table is damaged.
  """
  run = output_run(study, '--to=neuronpedia')
  now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
  created = now.isoformat()
  if keys is None:
    keys = [(x, i) for x, size in sizes(study).items() for i in range(size)]
  sources = []
  for layer, own in itertools.groupby(sorted(keys), key=lambda key: key[0]):
    model, source_set = _names(study, layer, config)
    source = f'{layer}-{source_set}'
    sources.append(f'{model}/{source}')
    place = folder / model / source
    (place / 'features').mkdir(parents=True)
    shared = {'creatorId': config.creator_id, 'createdAt': created}
    about = _about(study, run, config, model, source, source_set, shared)
    for name, row in about.items():
      (place / f'{name}.jsonl').write_text(f'{_json(row)}\n', encoding='ascii')
    rows = _features(study, run, layer, [x for _, x in own])
    for i, batch in enumerate(_batches(rows)):
      text = ''.join(
          f'{_json(_feature(row, model, source, shared))}\n' for row in batch
      )
      data = gzip.compress(text.encode('ascii'), compresslevel=5, mtime=0)
      (place / 'features' / f'batch-{i}.jsonl.gz').write_bytes(data)
  return sources


def _batches(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
  for start in range(0, len(rows), _BATCH):
    yield rows[start : start + _BATCH]


def _json(value: Any) -> str:
  return json.dumps(results.plain(value), allow_nan=False)


def _names(
    study: explore.Study, layer: int, config: Export
) -> tuple[str, str]:
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


def _features(
    study: explore.Study, run: explore.Run, layer: int, features: Sequence[int]
) -> list[dict[str, Any]]:
  """What is known of some features of a layer."""
  rows = rows_of(run.layer_files()[layer], features, _COLUMNS)
  activity: Sequence[Mapping[str, Any]] = [{}] * len(rows)
  positions = 0
  own = study.validation
  if own is not None and layer in own.layer_files():
    path = own.layer_files()[layer]
    activity = rows_of(path, features, ('fires', 'max_activation'))
    layers = own.summary.get('layers') or ()
    positions = next(
        (
            (x.get('health') or {}).get('tokens') or 0
            for x in layers
            if x.get('layer') == layer
        ),
        0,
    )
  return [
      {
          **row,
          'index': i,
          'largest': more.get('max_activation') or 0,
          'density': (more.get('fires') or 0) / positions if positions else 0,
      }
      for i, row, more in zip(features, rows, activity, strict=True)
  ]


def _feature(
    row: Mapping[str, Any], model: str, source: str, shared: Mapping[str, Any]
) -> dict[str, Any]:
  """A line of `features/`, its fields as the `Feature` of the converter."""
  return {
      'modelId': model,
      'layer': source,
      'index': row['index'],
      **shared,
      'maxActApprox': row['largest'],
      'hasVector': False,
      'vector': [],
      'vectorLabel': None,
      'vectorDefaultSteerStrength': 10,
      'hookName': None,
      **{name: [] for name in _LISTS},
      'neg_str': row['bottom_tokens'],
      'neg_values': row['bottom_logits'],
      'pos_str': row['top_tokens'],
      'pos_values': row['top_logits'],
      'frac_nonzero': row['density'],
      **{name: [] for name in _HISTOGRAMS},
  }


def _about(
    study: explore.Study,
    run: explore.Run,
    config: Export,
    model: str,
    source: str,
    source_set: str,
    shared: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
  """The file of each kind of metadata, with its one line."""
  text = f'{study.dictionary} of {study.model}, read from weights alone'
  convention = run.settings.get('convention')
  notes = f'Logits by ooc_jax, out of context, convention {convention}.'
  release = {
      'name': config.release,
      'description': text,
      'creatorName': config.creator,
      'creatorId': config.creator_id,
      'visibility': 'PUBLIC',
      'isNewUi': False,
      'featured': False,
      'descriptionShort': text,
      'urls': [],
      'creatorEmail': None,
      'creatorNameShort': config.creator,
      'defaultSourceSetName': None,
      'defaultSourceId': None,
      'defaultUmapSourceIds': [],
      'createdAt': shared['createdAt'],
  }
  layers = run.summary.get('num_layers')
  of_model = {
      'id': model,
      'instruct': model.endswith('-it'),
      'creatorId': config.creator_id,
      'displayNameShort': model,
      'displayName': model,
      'tlensId': None,
      'dimension': None,
      'visibility': 'PUBLIC',
      'defaultSourceSetName': None,
      'defaultSourceId': None,
      # No server of theirs has these weights.
      'inferenceEnabled': False,
      'layers': layers if isinstance(layers, int) else 0,
      'neuronsPerLayer': 0,
      'createdAt': shared['createdAt'],
      'owner': '',
      'updatedAt': shared['createdAt'],
      'website': None,
  }
  of_set = {
      'modelId': model,
      'name': source_set,
      'creatorId': config.creator_id,
      'hasDashboards': True,
      'visibility': 'PUBLIC',
      'description': text,
      'type': '',
      'creatorName': config.creator,
      'urls': [],
      'creatorEmail': None,
      'releaseName': config.release,
      'defaultOfModelId': None,
      'defaultRange': 1,
      'defaultShowBreaks': True,
      'showDfa': False,
      'showCorrelated': False,
      'showHeadAttribution': False,
      'showUmap': False,
      'createdAt': shared['createdAt'],
  }
  of_source = {
      'id': source,
      'modelId': model,
      'setName': source_set,
      'creatorId': config.creator_id,
      'hasDashboards': True,
      'inferenceEnabled': False,
      'inferenceHosts': [],
      'saelensConfig': None,
      'saelensRelease': None,
      'saelensSaeId': None,
      'hfRepoId': None,
      'hfFolderId': None,
      'visibility': 'PUBLIC',
      'defaultOfModelId': None,
      'hasUmap': False,
      'hasUmapLogSparsity': False,
      'hasUmapClusters': False,
      'num_prompts': None,
      'num_tokens_in_prompt': None,
      'dataset': None,
      'notes': notes,
      'createdAt': shared['createdAt'],
  }
  return {
      'release': release,
      'model': of_model,
      'sourceset': of_set,
      'source': of_source,
  }
