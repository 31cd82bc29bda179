"""Llama Scope R1-Distill: `config.json` and `sae_weights.safetensors`.

Trained, as Llama Scope, on x̃ = s·x. Unlike there each feature has a threshold
of its own, learned in that space and stored as its logarithm, so that it is
compared with pre = s x·E + e as it stands. SAELens reads the same. The factor s
is not in every file: its list of releases has one for each id.
"""

import math
import re

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._hooks import site_of_hook
from ooc_jax.dictionaries.formats._llama_scope import DECODER_NORM
from ooc_jax.dictionaries.formats._llama_scope import in_raw_space
from ooc_jax.dictionaries.formats._source import NORM_SCALE
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_THRESHOLD = 'log_jumprelu_threshold'
_AXES = {
    'encoder.weight': 'FD',
    'encoder.bias': 'F',
    'decoder.weight': 'DF',
    'decoder.bias': 'D',
    _THRESHOLD: 'F',
}
_FACTOR, _EMBED_DIM = 8, 4096


def _recognise(shapes) -> bool:
  return _THRESHOLD in shapes


def _site(source: Source) -> tuple[int | None, str | None]:
  hook = source.config.get('hook_point_in', str)
  out = source.config.get('hook_point_out', str, hook)
  if out != hook:
    raise InputError(
        f'{source.where} reads one place and writes another; only SAEs are'
        ' read of this format.'
    )
  site = site_of_hook(hook, source.where)
  return site.layer, site.hook


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  config = source.config
  sizes = source.sizes(_AXES, config_sizes={'d_model': 'D'})
  factor = config.get('expansion_factor', int, sizes['F'] // sizes['D'] or 1)
  if factor * sizes['D'] != sizes['F'] and 'expansion_factor' in config:
    raise InputError(
        f'{source.where}: expansion_factor is {factor}, and the weights have'
        f' {sizes["F"]} features of width {sizes["D"]}; download both again.'
    )
  scale = _scale(source, sizes['D'])
  with np.errstate(over='ignore'):  # Refused on the device.
    threshold = np.exp(source.read(_THRESHOLD, wide=True))
  return in_raw_space(
      source,
      site,
      scales=(scale, scale),
      thresholds=(threshold, threshold),
      norm_by_default=False,
  )


def _scale(source: Source, width: int) -> float:
  """s, from the caller, the list of releases, or the file."""
  config, key = source.config, 'dataset_average_activation_norm'
  if config.get('norm_activation', str, 'dataset-wise') == 'inference':
    return 1.0
  found = source.scale()
  if found is None and isinstance(config.values.get(key), dict):
    norm = config.object(key).get('in', float)
    found = math.sqrt(width) / norm if norm > 1e-6 else None
  if found is None:
    raise InputError(
        f'{source.where} does not say what activations were multiplied by in'
        ' training; load it by its release'
        " ('llama_scope_r1_distill/l15r_800m_slimpajama'), or give norm_scale=."
    )
  return found


def _locate(release: str, name: str, path: str) -> Entry:
  match = re.search(r'/L(\d{1,2})R$', path)
  site = match and DictionarySite(int(match[1]), 'resid_post')
  return Entry(path, site, _FACTOR * _EMBED_DIM)


LLAMA_SCOPE_R1 = Format(
    name='Llama Scope R1-Distill',
    weights=('sae_weights.safetensors',),
    config='config.json',
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='llama_scope_r1_distill',
    locate=_locate,
    options=(DECODER_NORM, NORM_SCALE),
)
