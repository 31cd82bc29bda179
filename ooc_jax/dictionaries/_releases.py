"""The releases that have a name: those that come with ooc_jax, and SAELens's.

`releases.json.xz` holds the list of SAELens 6.54.12 (`pretrained_saes.yaml`,
MIT), whole; `tools/releases.py` makes it. Which format an id is of, and what
its name says of it, is found by the `Format` that has the list's loader.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import json
import lzma
import pathlib
import re
from typing import Any

from ooc_jax.dictionaries.formats import LISTED_FORMATS
from ooc_jax.dictionaries.formats import Entry
from ooc_jax.dictionaries.formats import Format
from ooc_jax.dictionaries.formats import Release
from ooc_jax.dictionaries.formats import width_of

_Describe = Callable[[dict[str, Any]], Entry]
_LIST = pathlib.Path(__file__).with_name('releases.json.xz')
# Loaders of the list that are no format here, and why.
_REFUSALS = {
    'temporal': (
        'a temporal SAE reads by attention over earlier tokens, so that no'
        ' feature has one direction that it reads'
    ),
}
# TransformerLens's names of models -> their hub repositories.
_REPOS = {
    'gemma-2b': 'google/gemma-2b',
    'gemma-2b-it': 'google/gemma-2b-it',
    'gemma-2-2b': 'google/gemma-2-2b',
    'gemma-2-9b': 'google/gemma-2-9b',
    'gemma-2-27b': 'google/gemma-2-27b',
    'gpt2-small': 'openai-community/gpt2',
    'mistral-7b': 'mistralai/Mistral-7B-v0.1',
    'pythia-70m-deduped': 'EleutherAI/pythia-70m-deduped',
    'qwen3-0.6b': 'Qwen/Qwen3-0.6B',
    'qwen3-1.7b': 'Qwen/Qwen3-1.7B',
    'qwen3-4b': 'Qwen/Qwen3-4B',
    'qwen3-8b': 'Qwen/Qwen3-8B',
    'qwen3-14b': 'Qwen/Qwen3-14B',
}


def read_list() -> dict[str, Any]:
  """SAELens's list, as its YAML has it."""
  packed = json.loads(lzma.decompress(_LIST.read_bytes()))
  for release in packed.values():
    columns = release['saes']
    rows = zip(*columns.values(), strict=True)
    release['saes'] = [
        {k: x for k, x in zip(columns, row, strict=True) if x != ''}
        for row in rows
    ]
  return packed


@functools.cache
def _listed() -> dict[str, Any]:
  return read_list()


class _Entries(Mapping[str, Entry]):
  """The ids of a release, each described when one is first asked for."""

  def __init__(self, rows: Sequence[dict[str, Any]], describe: _Describe):
    self._rows = {row['id']: row for row in rows}
    self._describe = describe

  @functools.cached_property
  def _found(self) -> dict[str, Entry]:
    return {name: self._describe(row) for name, row in self._rows.items()}

  def __getitem__(self, name: str) -> Entry:
    return self._found[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._rows)

  def __len__(self) -> int:
    return len(self._rows)


@functools.cache
def releases() -> dict[str, tuple[Format | None, Release]]:
  """Every release by name, and its format; None where there is none here."""
  found: dict[str, tuple[Format | None, Release]] = {
      release.name: (f, release)
      for f in LISTED_FORMATS
      for release in f.releases()
  }
  formats = {f.loader: f for f in LISTED_FORMATS if f.loader is not None}
  for name, listed in _listed().items():
    loader = listed['conversion_func'] or 'sae_lens'
    f = formats.get(loader)
    describe = functools.partial(_entry, name, listed, f, loader)
    model = _REPOS.get(listed['model'], listed['model'])
    # The list has the base model of the two releases of the tuned one.
    if '-it-' in name and model == 'google/gemma-2-9b':
      model = f'{model}-it'
    entries = _Entries(listed['saes'], describe)
    found[name] = f, Release(name, listed['repo_id'], model, entries)
  return found


@functools.cache
def neuronpedia_ids() -> dict[str, str]:
  """Id of Neuronpedia -> 'release/id'."""
  return {
      row['neuronpedia']: f'{name}/{row["id"]}'
      for name, listed in _listed().items()
      for row in listed['saes']
      if row.get('neuronpedia')
  }


def _entry(
    release: str,
    listed: dict[str, Any],
    f: Format | None,
    loader: str,
    row: dict[str, Any],
) -> Entry:
  overrides = listed.get('config_overrides') or {}
  path = str(row['path'])
  if f is None:
    entry = Entry(path, None, None, refusal=_REFUSALS[loader])
  else:
    entry = f.locate(release, row['id'], path)
  return Entry(
      entry.folder,
      entry.site,
      entry.size or _size_of(listed['repo_id'], row.get('neuronpedia')),
      file=entry.file,
      l0=row['l0'] if 'l0' in row else _l0_of(path),
      scale=row.get('norm_scaling_factor'),
      normalize=overrides.get('normalize_activations'),
      neuronpedia=row.get('neuronpedia'),
      refusal=entry.refusal,
  )


def _l0_of(path: str) -> int | None:
  """82, of '.../average_l0_82': the list gives none for canonical ids."""
  match = re.search(r'/average_l0_(\d{1,4})$', path)
  return int(match[1]) if match else None


def _size_of(repo: str, neuronpedia: str | None) -> int | None:
  """F, of '...-saes-w-32k-l0-40' or '...-res-4k__trainer_0_step_final'."""
  match = re.search(r'-w-(\d{1,3}[km])-', repo) or re.search(
      r'-res-(\d{1,3}[km])__', neuronpedia or ''
  )
  return width_of(match[1]) if match else None
