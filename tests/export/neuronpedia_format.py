"""A reader of Neuronpedia's export files, written from its own sources.

Tables and types are those of the database that files are imported into
(apps/webapp/prisma/schema.prisma of github.com/hijohnnylin/neuronpedia), the
fields of a line those of the converter (`db_models/`), and what is read how
is as in the importer (apps/webapp/app/api/admin/import/route.ts and
lib/db/import.ts). It knows nothing of `ooc_jax`.
"""

import dataclasses
import datetime
import gzip
import json
import pathlib
import re
from typing import Any

Text, Texts = str, list[str]
Maybe = str | None
Number, Numbers, Integers = float, list[float], list[int]
Time = datetime.datetime


@dataclasses.dataclass
class Feature:
  """Of table "Neuron"."""

  modelId: Text
  layer: Text
  index: int
  creatorId: Text
  createdAt: Time
  maxActApprox: Number
  hasVector: bool
  vector: Numbers
  vectorLabel: Maybe
  vectorDefaultSteerStrength: Number
  hookName: Maybe
  topkCosSimIndices: Integers
  topkCosSimValues: Numbers
  neuron_alignment_indices: Integers
  neuron_alignment_values: Numbers
  neuron_alignment_l1: Numbers
  correlated_neurons_indices: Integers
  correlated_neurons_pearson: Numbers
  correlated_neurons_l1: Numbers
  correlated_features_indices: Integers
  correlated_features_pearson: Numbers
  correlated_features_l1: Numbers
  neg_str: Texts
  neg_values: Numbers
  pos_str: Texts
  pos_values: Numbers
  frac_nonzero: Number
  freq_hist_data_bar_heights: Numbers
  freq_hist_data_bar_values: Numbers
  logits_hist_data_bar_heights: Numbers
  logits_hist_data_bar_values: Numbers
  decoder_weights_dist: Numbers


@dataclasses.dataclass
class Activation:
  """Of table "Activation"."""

  id: Text
  tokens: Texts
  index: int
  layer: Text
  modelId: Text
  maxValue: Number
  maxValueTokenIndex: int
  minValue: Number
  values: Numbers
  creatorId: Text
  dataSource: Maybe
  dataIndex: Maybe
  dfaValues: Numbers
  dfaTargetIndex: int | None
  dfaMaxValue: float | None
  createdAt: Time
  lossValues: Numbers
  logitContributions: Maybe
  binMin: Number
  binMax: Number
  binContains: Number
  qualifyingTokenIndex: int


@dataclasses.dataclass
class Model:
  """Of table "Model"."""

  id: Text
  instruct: bool
  creatorId: Text
  displayNameShort: Text
  displayName: Text
  tlensId: Maybe
  dimension: int | None
  visibility: Text
  defaultSourceSetName: Maybe
  defaultSourceId: Maybe
  inferenceEnabled: bool
  layers: int
  neuronsPerLayer: int
  createdAt: Time
  owner: Text
  updatedAt: Time
  website: Maybe


@dataclasses.dataclass
class SourceRelease:
  """Of table "SourceRelease"."""

  name: Text
  description: Text
  creatorName: Text
  creatorId: Text
  visibility: Text
  isNewUi: bool
  featured: bool
  descriptionShort: Maybe
  urls: Texts
  creatorEmail: Maybe
  creatorNameShort: Maybe
  defaultSourceSetName: Maybe
  defaultSourceId: Maybe
  defaultUmapSourceIds: Texts
  createdAt: Time


@dataclasses.dataclass
class SourceSet:
  """Of table "SourceSet"."""

  modelId: Text
  name: Text
  creatorId: Text
  hasDashboards: bool
  visibility: Text
  description: Text
  type: Text
  creatorName: Text
  urls: Texts
  creatorEmail: Maybe
  releaseName: Maybe
  defaultOfModelId: Maybe
  defaultRange: int
  defaultShowBreaks: bool
  showDfa: bool
  showCorrelated: bool
  showHeadAttribution: bool
  showUmap: bool
  createdAt: Time


@dataclasses.dataclass
class Source:
  """Of table "Source"."""

  id: Text
  modelId: Text
  setName: Text
  creatorId: Text
  hasDashboards: bool
  inferenceEnabled: bool
  inferenceHosts: Texts
  saelensConfig: Maybe
  saelensRelease: Maybe
  saelensSaeId: Maybe
  hfRepoId: Maybe
  hfFolderId: Maybe
  visibility: Text
  defaultOfModelId: Maybe
  hasUmap: bool
  hasUmapLogSparsity: bool
  hasUmapClusters: bool
  num_prompts: int | None
  num_tokens_in_prompt: int | None
  dataset: Maybe
  notes: Maybe
  createdAt: Time


@dataclasses.dataclass
class Imported:
  """What an import of one source adds."""

  release: SourceRelease
  model: Model
  source_set: SourceSet
  source: Source
  features: list[Feature]
  activations: list[Activation]


def read(root: pathlib.Path, model: str, source: str) -> Imported:
  """Imports a source; `ValueError` where a line is not of the format."""
  place = root / model / source
  (release,) = _lines(place / 'release.jsonl', SourceRelease)
  (of_model,) = _lines(place / 'model.jsonl', Model)
  (source_set,) = _lines(place / 'sourceset.jsonl', SourceSet)
  (of_source,) = _lines(place / 'source.jsonl', Source)
  found = Imported(
      release,
      of_model,
      source_set,
      of_source,
      _batches(place / 'features', Feature),
      _batches(place / 'activations', Activation),
  )
  # Foreign keys of the database.
  keys = {(x.modelId, x.layer, x.index) for x in found.features}
  _must(len(keys) == len(found.features), 'a feature is there twice')
  _must(of_model.id == model and of_source.id == source, 'other ids')
  _must(of_source.setName == source_set.name, 'the set of the source')
  _must(source_set.releaseName == release.name, 'the release of the set')
  _must({x[:2] for x in keys} == {(model, source)}, 'features of others')
  for x in found.activations:
    _must((x.modelId, x.layer, x.index) in keys, 'activation of no feature')
    _must(len(x.tokens) == len(x.values), 'tokens and values')
    _must(x.values[x.maxValueTokenIndex] == x.maxValue, 'the largest')
  ids = {x.id for x in found.activations}
  _must(len(ids) == len(found.activations), 'an id is there twice')
  return found


def _batches(folder: pathlib.Path, kind: type) -> list[Any]:
  """The lines of batch-0.jsonl.gz, batch-1.jsonl.gz, ..."""
  paths = list(folder.glob('*')) if folder.exists() else []
  names = {f'batch-{i}.jsonl.gz' for i in range(len(paths))}
  _must({x.name for x in paths} == names, 'names of batches')
  found = []
  for i in range(len(paths)):
    text = gzip.decompress((folder / f'batch-{i}.jsonl.gz').read_bytes())
    found += _parse(text.decode(), kind)
  return found


def _lines(path: pathlib.Path, kind: type) -> list[Any]:
  return _parse(path.read_text(), kind)


def _parse(text: str, kind: type) -> list[Any]:
  # The importer takes the columns of a file from its first line, which it
  # cannot do without one.
  lines = text.strip().split('\n')
  _must(lines != [''], 'an empty file')
  names = [field.name for field in dataclasses.fields(kind)]
  rows = []
  for line in lines:
    value = json.loads(line, parse_constant=_refuse)
    _must(list(value) == names, f'fields of {kind.__name__}')
    for field in dataclasses.fields(kind):
      value[field.name] = _typed(value[field.name], field.type, field.name)
    rows.append(kind(**value))
  return rows


def _typed(value: Any, kind: Any, name: str) -> Any:
  """As a column of its type takes it."""
  if kind in (Maybe, int | None, float | None) and value is None:
    return None
  if kind == Time:
    _must(re.match(r'\d{4}-\d\d-\d\dT\d\d:', value) is not None, name)
    return datetime.datetime.fromisoformat(value)
  right = {
      Text: lambda x: isinstance(x, str),
      Maybe: lambda x: isinstance(x, str),
      bool: lambda x: isinstance(x, bool),
      int: lambda x: type(x) is int,
      int | None: lambda x: type(x) is int,
      Number: lambda x: type(x) in (int, float),
      float | None: lambda x: type(x) in (int, float),
      Texts: lambda x: all(isinstance(y, str) for y in x),
      Numbers: lambda x: all(type(y) in (int, float) for y in x),
      Integers: lambda x: all(type(y) is int for y in x),
  }[kind]
  _must(right(value), f'{name}={value!r}')
  return value


def _refuse(name: str) -> None:
  raise ValueError(f'{name} is no JSON')


def _must(condition: bool, what: str) -> None:
  if not condition:
    raise ValueError(f'Not as Neuronpedia has it: {what}')
