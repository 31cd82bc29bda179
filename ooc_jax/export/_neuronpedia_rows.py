"""What a line of each of Neuronpedia's files says.

The fields are those of `db_models/{feature,activation,source_release,model,
source_set,source}.py` of its converter, in their order; see `_neuronpedia`.
"""

from collections.abc import Mapping
import hashlib
from typing import Any

from ooc_jax import explore
from ooc_jax.export._config import Export

_LISTS = (
    'topkCosSimIndices', 'topkCosSimValues',
    'neuron_alignment_indices', 'neuron_alignment_values',
    'neuron_alignment_l1', 'correlated_neurons_indices',
    'correlated_neurons_pearson', 'correlated_neurons_l1',
    'correlated_features_indices', 'correlated_features_pearson',
    'correlated_features_l1',
)  # fmt: skip
# Results keep the moments of logits and activations, and no histogram.
_HISTOGRAMS = (
    'freq_hist_data_bar_heights', 'freq_hist_data_bar_values',
    'logits_hist_data_bar_heights', 'logits_hist_data_bar_values',
    'decoder_weights_dist',
)  # fmt: skip
_TOP = -1  # In place of the bounds of a bin, for windows of the largest.


def activation_row(
    window: Mapping[str, Any],
    model: str,
    source: str,
    largest: float,
    shared: Mapping[str, Any],
) -> dict[str, Any]:
  """A line of `activations/`: a window, with its value at the peak alone."""
  peak, value = window['peak'], window['value']
  values = [0.0] * len(window['tokens'])
  values[peak] = value
  name = f'{model}/{source}/{window["feature"]}/{window["rank"]}'
  return {
      # The same window has the same id, so that it is imported once.
      'id': 'c' + hashlib.sha256(name.encode()).hexdigest()[:24],
      'tokens': window['tokens'],
      'index': window['feature'],
      'layer': source,
      'modelId': model,
      'maxValue': value,
      'maxValueTokenIndex': peak,
      'minValue': min(values),
      'values': values,
      'creatorId': shared['creatorId'],
      'dataSource': None,
      'dataIndex': None,
      'dfaValues': [],
      'dfaTargetIndex': None,
      'dfaMaxValue': None,
      'createdAt': shared['createdAt'],
      'lossValues': [],
      'logitContributions': None,
      'binMin': _TOP,
      'binMax': largest,
      'binContains': _TOP,
      'qualifyingTokenIndex': peak,
  }


def feature_row(
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


def about_rows(
    study: explore.Study,
    run: explore.Run,
    config: Export,
    model: str,
    source: str,
    source_set: str,
    positions: int,
    shared: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
  """The file of each kind of metadata, with its one line."""
  text = f'{study.dictionary} of {study.model}, read from weights alone'
  convention = run.settings.get('convention')
  notes = f'Logits by ooc_jax, out of context, convention {convention}.'
  own = study.validation
  length = None if own is None else own.settings.get('length')
  if own is not None:
    notes += ' Activations are known at the peak of a window alone.'
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
      'num_prompts': positions // (length - 1) if length else None,
      'num_tokens_in_prompt': length,
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
