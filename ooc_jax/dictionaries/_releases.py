"""The suites of dictionaries that are published, as data.

Names of releases and ids are those of SAELens (6.54.12, `pretrained_saes.yaml`,
MIT), so that they can be pasted.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import itertools

from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._gemma_scope_table import TABLE

_HOOKS = {
    'res': 'resid_post',
    'mlp': 'mlp_out',
    'att': 'attn_z',
    'transcoders': 'mlp_in',
}
# Gemma Scope 2: model -> how many layers, and the four that are studied most.
# 270m, 1b, 4b, 12b, 27b of Gemma 3.
_GEMMA_3 = {
    '270m': (18, (5, 9, 12, 15)),
    '1b': (26, (7, 13, 17, 22)),
    '4b': (34, (9, 17, 22, 29)),
    '12b': (48, (12, 24, 31, 41)),
    '27b': (62, (16, 31, 40, 53)),
}
_GEMMA_SCOPE_2_FOLDERS = {
    'res': 'resid_post',
    'mlp': 'mlp_out',
    'att': 'attn_out',
    'transcoders': 'transcoder',
}
# What the grid of Gemma Scope 2 would have, and the list has not.
_NO_RELEASES = {
    f'gemma-scope-2-27b-pt-{kind}'
    for kind in ('mlp', 'mlp-all', 'att', 'att-all', 'transcoders')
}
_NO_IDS = {
    f'gemma-scope-2-27b-{tuned}-transcoders-all/layer_{rest}'
    for tuned in ('pt', 'it')
    for rest in (
        '4_width_16k_l0_small',
        '4_width_16k_l0_big',
        '5_width_16k_l0_small',
        '43_width_16k_l0_small',
        '43_width_16k_l0_big',
    )
}
_ONLY_IDS = {
    'gemma-scope-2-270m-pt-transcoders': {
        'transcoder/layer_9_width_16k_l0_small_affine',
        'transcoder/layer_15_width_262k_l0_big_affine',
    }
}
_LLAMA_LAYERS = 32
_TINY_LAYERS = 8


@dataclasses.dataclass(frozen=True)
class Entry:
  """Where one dictionary is.

  Attributes:
    folder: In the repository.
    site: What it is of; a layer of None is told by its files.
  """

  folder: str
  site: DictionarySite


@dataclasses.dataclass(frozen=True)
class Release:
  """A suite of dictionaries of one model.

  Attributes:
    name: 'gemma-scope-2b-pt-res-canonical'.
    repo: Hub repository of the dictionaries; None if they come with ooc_jax,
      in folders of the package.
    model: Hub repository of the model, or its name here.
    entries: Id in the release -> where it is.
  """

  name: str
  repo: str | None
  model: str
  entries: Mapping[str, Entry]

  def at_layer(self, layer: int) -> list[str]:
    """The ids that are of that layer (the embedding is none)."""
    return [
        name
        for name, entry in self.entries.items()
        if entry.site.layer == layer and entry.site.hook != 'embedding'
    ]


@functools.cache
def releases() -> dict[str, Release]:
  """Every release, by its name."""
  found = (*_tiny(), *_gemma_scope(), *_gemma_scope_2(), *_llama_scope())
  return {release.name: release for release in found}


def _tiny() -> Iterator[Release]:
  for model in ('tiny-gemma2', 'tiny-llama3'):
    folder = f'bundled/{model.replace("-", "_")}/sae'
    sites = {'embedding': DictionarySite(0, 'embedding')} | {
        f'layer_{i}': DictionarySite(i, 'resid_post')
        for i in range(_TINY_LAYERS)
    }
    entries = {i: Entry(f'{folder}/{i}', site) for i, site in sites.items()}
    yield Release(f'{model}-res', None, model, entries)


def _gemma_scope() -> Iterator[Release]:
  entries: dict[str, dict[str, Entry]] = {}
  kind = width = ''
  for line in TABLE.strip().splitlines():
    words = line.split()
    if not line.startswith(' '):
      kind, width = words
      entries.setdefault(kind, {})
      entries.setdefault(f'{kind}-canonical', {})
      continue
    for word in words:
      layer, _, sparsities = word.partition(':')
      place, site = f'layer_{layer}', None
      if layer == 'e':
        place, site = 'embedding', DictionarySite(0, 'embedding')
      else:
        site = DictionarySite(int(layer), _HOOKS[kind.rpartition('-')[2]])
      for number in sparsities.split(','):
        folder = f'{place}/width_{width}/average_l0_{number.lstrip("*")}'
        entries[kind][folder] = Entry(folder, site)
        if number.startswith('*'):
          short = f'{place}/width_{width}/canonical'
          entries[f'{kind}-canonical'][short] = Entry(folder, site)
  for kind, found in entries.items():
    if found:
      repo = kind.removesuffix('-canonical')
      size, tuned, _ = repo.split('-')
      model = f'google/gemma-2-{size}{"-it" if tuned == "it" else ""}'
      name = f'gemma-scope-{kind}'
      yield Release(name, f'google/gemma-scope-{repo}', model, found)


def _gemma_scope_2() -> Iterator[Release]:
  for size, tuned, kind, every in itertools.product(
      _GEMMA_3, ('pt', 'it'), _GEMMA_SCOPE_2_FOLDERS, (False, True)
  ):
    repo = f'gemma-scope-2-{size}-{tuned}'
    name = f'{repo}-{kind}{"-all" if every else ""}'
    suffix = '' if (size, tuned) == ('270m', 'pt') else f'-{tuned}'
    if name not in _NO_RELEASES:
      yield Release(
          name,
          f'google/{repo}',
          f'google/gemma-3-{size}{suffix}',
          dict(_gemma_scope_2_entries(name, size, kind, every)),
      )


def _gemma_scope_2_entries(
    release: str, size: str, kind: str, every: bool
) -> Iterator[tuple[str, Entry]]:
  num_layers, few = _GEMMA_3[size]
  folder = f'{_GEMMA_SCOPE_2_FOLDERS[kind]}{"_all" if every else ""}'
  only = _ONLY_IDS.get(release)
  for layer in range(num_layers) if every else few:
    for variant in _variants(size, kind, every):
      name = f'layer_{layer}_width_{variant}'
      where = f'{folder}/{name}'
      if kind == 'transcoders' and not every:
        name = where  # So are SAELens's ids, here alone.
      if f'{release}/{name}' not in _NO_IDS and (only is None or name in only):
        yield name, Entry(where, DictionarySite(layer, _HOOKS[kind]))


def _variants(size: str, kind: str, every: bool) -> list[str]:
  """'16k_l0_big' and the other widths and sparsities of a layer."""
  if every:
    widths, sparsities = ('16k', '262k'), ('small', 'big')
  else:
    widths, sparsities = ('16k', '65k', '262k'), ('small', 'medium', 'big')
    if kind == 'res' or (kind, size) == ('mlp', '1b'):
      widths = (*widths, '1m')
  found = [f'{w}_l0_{s}' for w in widths for s in sparsities]
  if kind == 'transcoders':
    found += [f'{variant}_affine' for variant in found]
  if kind == 'res' and not every:
    found.append('262k_l0_medium_seed_1')
  return found


def _llama_scope() -> Iterator[Release]:
  hooks = {'r': 'resid_post', 'a': 'attn_out', 'm': 'mlp_out'}
  for kind, hook in hooks.items():
    for times in (8, 32):
      base, end = 'Llama3_1-8B-Base-L', f'{kind.upper()}-{times}x'
      sites = [DictionarySite(i, hook) for i in range(_LLAMA_LAYERS)]
      entries = {
          f'l{i}{kind}_{times}x': Entry(f'{base}{i}{end}', site)
          for i, site in enumerate(sites)
      }
      name = f'llama_scope_lx{kind}_{times}x'
      yield Release(
          name, f'fnlp/{base}X{end}', 'meta-llama/Llama-3.1-8B', entries
      )
