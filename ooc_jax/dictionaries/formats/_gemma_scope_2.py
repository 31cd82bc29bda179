"""Gemma Scope 2, of Gemma 3: `params.safetensors`, perhaps `config.json`.

JumpReLU SAEs of x as it is, as in Gemma Scope. The transcoders, unlike those
of Gemma Scope, read the stream after the norm before the MLP with its gain.
Their skip connection, where they have one, is no feature and is not read.
"""

from collections.abc import Iterator
import dataclasses
import itertools
import re

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._format import RawDictionary
from ooc_jax.dictionaries.formats._format import Release
from ooc_jax.dictionaries.formats._format import Source
from ooc_jax.dictionaries.formats._gemma_scope import read_jump_relu
from ooc_jax.dictionaries.formats._gemma_scope import width_of
from ooc_jax.dictionaries.formats._hooks import site_in_path

# Modules of transformers, as the config names them.
_MODULES = {
    'output': 'resid_post',
    'self_attn.o_proj.input': 'attn_z',
    'post_feedforward_layernorm.output': 'mlp_out',
    'pre_feedforward_layernorm.output': 'mlp_in',
}
_HOOKS = {
    'res': 'resid_post',
    'mlp': 'mlp_out',
    'att': 'attn_z',
    'transcoders': 'mlp_in',
}
_FOLDERS = {
    'res': 'resid_post',
    'mlp': 'mlp_out',
    'att': 'attn_out',
    'transcoders': 'transcoder',
}
# Size of Gemma 3 -> how many layers, and the four that are studied most.
_LAYERS = {
    '270m': (18, (5, 9, 12, 15)),
    '1b': (26, (7, 13, 17, 22)),
    '4b': (34, (9, 17, 22, 29)),
    '12b': (48, (12, 24, 31, 41)),
    '27b': (62, (16, 31, 40, 53)),
}
# What the grid of releases would have, and the list has not.
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


def _recognise(names) -> bool:
  return 'w_enc' in names


def _site(source: Source) -> tuple[int | None, str | None]:
  if 'hf_hook_point_in' not in source.config:
    return site_in_path(source.hints.path)
  name = source.config.get('hf_hook_point_in', str)
  match = re.fullmatch(r'model\.layers\.(\d{1,4})\.([\w.]{1,60})', name)
  if match is None or match[2] not in _MODULES:
    raise InputError(
        f'{source.where} is of the module {printable(name, 200)!r}, which has'
        ' no known map to the residual stream; model.layers.LAYER. and one of'
        f' {", ".join(_MODULES)} have one.'
    )
  return int(match[1]), _MODULES[match[2]]


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  if len(source.archive.shapes.get('w_dec', ())) == 3:
    raise InputError(
        f'{source.archive.where} is a cross-layer transcoder, whose features'
        ' write to many layers; take a transcoder or an SAE of one layer.'
    )
  architecture = source.config.get('architecture', str, 'jump_relu')
  if architecture != 'jump_relu':
    raise InputError(
        f'{source.where}: architecture {printable(repr(architecture), 200)} is'
        " not 'jump_relu', the one that Gemma Scope 2 has; check that it is the"
        ' right file.'
    )
  raw = read_jump_relu(
      source, site, 'w', {'affine_skip_connection': 'DD'}, {'width': 'F'}
  )
  return dataclasses.replace(raw, reads_gain=site.hook == 'mlp_in')


def _releases() -> Iterator[Release]:
  for size, tuned, kind, every in itertools.product(
      _LAYERS, ('pt', 'it'), _FOLDERS, (False, True)
  ):
    repo = f'gemma-scope-2-{size}-{tuned}'
    name = f'{repo}-{kind}{"-all" if every else ""}'
    suffix = '' if (size, tuned) == ('270m', 'pt') else f'-{tuned}'
    if name not in _NO_RELEASES:
      yield Release(
          name,
          f'google/{repo}',
          f'google/gemma-3-{size}{suffix}',
          dict(_entries(name, size, kind, every)),
      )


def _entries(
    release: str, size: str, kind: str, every: bool
) -> Iterator[tuple[str, Entry]]:
  num_layers, few = _LAYERS[size]
  folder = f'{_FOLDERS[kind]}{"_all" if every else ""}'
  only = _ONLY_IDS.get(release)
  for layer in range(num_layers) if every else few:
    for variant in _variants(size, kind, every):
      name = f'layer_{layer}_width_{variant}'
      where = f'{folder}/{name}'
      if kind == 'transcoders' and not every:
        name = where  # So are SAELens's ids, here alone.
      if f'{release}/{name}' not in _NO_IDS and (only is None or name in only):
        site = DictionarySite(layer, _HOOKS[kind])
        yield name, Entry(where, site, width_of(variant.partition('_')[0]))


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


def _alias(name: str) -> str | None:
  """'gemma-3-4b/9-gemmascope-2-res-65k', as Neuronpedia has it."""
  match = re.fullmatch(
      r'([\w.-]+)/(\d{1,3})-gemmascope-2-(res|mlp|att|transcoder)'
      r'-(\d{1,3}[km])(?:__l0-\d{1,4})?',
      name,
  )
  if match is None:
    return None
  model, layer, kind, width = match.groups()
  size, _, tuned = model.removeprefix('gemma-3-').partition('-')
  inner = f'layer_{layer}_width_{width}'
  if kind == 'transcoder':  # Neuronpedia shows these of the many.
    kind, inner = 'transcoders-all', f'{inner}_l0_small_affine'
  else:
    inner = f'{inner}_l0_medium'
  return f'gemma-scope-2-{size}-{tuned or "pt"}-{kind}/{inner}'


GEMMA_SCOPE_2 = Format(
    name='Gemma Scope 2',
    weights='params.safetensors',
    config='config.json',
    optional_config=True,
    recognise=_recognise,
    site=_site,
    read=_read,
    releases=_releases,
    alias=_alias,
)
