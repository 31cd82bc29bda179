"""Gemma Scope 2, of Gemma 3: `params.safetensors`, perhaps `config.json`.

JumpReLU SAEs of x as it is, as in Gemma Scope. The transcoders, unlike those
of Gemma Scope, read the stream after the norm before the MLP with its gain.
Their skip connection, where they have one, is no feature and is not read.
"""

import dataclasses
import re

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._gemma_scope import read_jump_relu
from ooc_jax.dictionaries.formats._gemma_scope import width_of
from ooc_jax.dictionaries.formats._hooks import site_in_path
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

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


def _locate(release: str, name: str, path: str) -> Entry:
  kind = release.removesuffix('-all').rpartition('-')[2]
  match = re.search(r'/layer_(\d{1,3})_width_(\d{1,3}[km])_', path)
  if match is None:
    return Entry(path, None, None)
  site = DictionarySite(int(match[1]), _HOOKS[kind])
  return Entry(path, site, width_of(match[2]))


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
    weights=('params.safetensors',),
    config='config.json',
    optional_config=True,
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='gemma_3',
    locate=_locate,
    alias=_alias,
)
