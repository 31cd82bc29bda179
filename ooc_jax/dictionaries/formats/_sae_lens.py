"""SAELens's own files: `cfg.json` and `sae_weights.safetensors`.

Every architecture that has a form a = pre · 1[pre > θ], perhaps among the k
largest, is brought to it exactly; the others are refused. Keys of the config
that only training used are ignored: there are hundreds over the versions.
Those that change what an SAE computes are all read.
"""

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._format import Release
from ooc_jax.dictionaries.formats._hooks import site_of_hook
from ooc_jax.dictionaries.formats._reparametrise import gated_as_jump
from ooc_jax.dictionaries.formats._reparametrise import project
from ooc_jax.dictionaries.formats._reparametrise import unit_decoder
from ooc_jax.dictionaries.formats._settings import Settings
from ooc_jax.dictionaries.formats._source import NORM_SCALE
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

# Names before 6.0.
_RENAMED = {
    'hook_point': 'hook_name',
    'hook_point_layer': 'hook_layer',
    'hook_point_head_index': 'hook_head_index',
    'activation_fn_str': 'activation_fn',
}
_COMMON = {'W_enc': 'DF', 'W_dec': 'FD', 'b_dec': 'D'}
_RELU = _COMMON | {'b_enc': 'F'}
_JUMP = _RELU | {'threshold': 'F'}
_TRAINING = _RELU | {'topk_threshold': ''}
_SKIP = {'W_skip': 'DD'}  # Past the features; not read.
_TENSORS = {
    'standard': (_RELU, {'scaling_factor': 'F'}),
    'topk': (_RELU, {'scaling_factor': 'F'}),
    'jumprelu': (_JUMP, {'scaling_factor': 'F'}),
    # Checkpoints of a training, which are saved as jumprelu in the end.
    'batchtopk': (_TRAINING, {'scaling_factor': 'F'}),
    'matryoshka_batchtopk': (_TRAINING, {'scaling_factor': 'F'}),
    'gated': (
        _COMMON | {'b_gate': 'F', 'b_mag': 'F', 'r_mag': 'F'},
        {'scaling_factor': 'F'},
    ),
    'transcoder': (_RELU, {}),
    'jumprelu_transcoder': (_JUMP, {}),
    'skip_transcoder': (_RELU, _SKIP),
    'jumprelu_skip_transcoder': (_JUMP, _SKIP),
}
_AVERAGE = 'expected_average_only_in'
# Of the models that come with ooc_jax.
_TINY_LAYERS, _TINY_SIZE = 8, 1024


def _recognise(shapes) -> bool:
  if 'W_enc' not in shapes:
    return False
  # Others store the encoder as rows of features.
  F, D = shapes.get('b_enc', ()), shapes.get('b_dec', ())
  return F == D or shapes['W_enc'] != (*F, *D)


def _site(source: Source) -> tuple[int | None, str | None]:
  config, where = _current(source.config), source.where
  is_transcoder = _architecture(config).endswith('transcoder')
  if 'hook_name' not in config:
    layer = config.get('hook_layer', int) if 'hook_layer' in config else None
    return layer, None
  hook = config.get('hook_name', str)
  site = site_of_hook(hook, where)
  if (site.hook == 'mlp_in') != is_transcoder and not (
      site.hook == 'resid_mid' and is_transcoder
  ):
    raise InputError(
        f'{where}: an SAE of {printable(hook, 200)!r} is not read: SAEs of the'
        ' stream or of what a block adds to it are, and transcoders of an MLP.'
    )
  out = config.get('hook_name_out', str, hook)
  if is_transcoder and out != f'blocks.{site.layer}.hook_mlp_out':
    raise InputError(
        f'{where}: the transcoder writes {printable(out, 200)!r}, and only what'
        ' writes hook_mlp_out of its own layer is read.'
    )
  return site.layer, site.hook


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  config, where = _current(source.config), source.where
  architecture = _architecture(config)
  no_encoder = _check_settings(config, source)
  sizes = source.sizes(
      *_TENSORS[architecture], config_sizes={'d_in': 'D', 'd_sae': 'F'}
  )
  source.refuse_scaling_factor()
  is_transcoder = architecture.endswith('transcoder')
  encoder = source.read('W_enc', transposed=True)
  decoder = source.read('W_dec')
  decoder_bias = source.read('b_dec', wide=True)
  # What subtracting b_dec from the input subtracts from the pre-activation.
  shift = np.zeros(sizes['F'], np.float32)
  if config.get('apply_b_dec_to_input', bool, not is_transcoder):
    if is_transcoder:
      raise InputError(
          f'{where}: apply_b_dec_to_input is set in a transcoder, whose b_dec'
          ' is not of the space that it reads; check the file.'
      )
    shift = project(encoder, decoder_bias)
  top_k = None
  if architecture == 'gated':
    names = ('b_gate', 'b_mag', 'r_mag')
    gate = [source.read(name, wide=True) for name in names]
    encoder, bias, threshold = gated_as_jump(encoder, *gate, shift=shift)
  else:
    bias = source.read('b_enc', wide=True) - shift
    threshold = np.zeros(sizes['F'], np.float32)
  if architecture.startswith('jumprelu'):
    threshold = source.read('threshold', wide=True)
  if architecture.endswith('batchtopk'):
    threshold += source.read('topk_threshold', wide=True)
  if architecture == 'topk':
    top_k = config.get('k', int)
    if not 1 <= top_k <= sizes['F']:
      raise InputError(
          f'{where}: k is {top_k}, and must be between 1 and the'
          f' {sizes["F"]} features; check the file.'
      )
  if architecture.endswith('topk') and config.get(
      'rescale_acts_by_decoder_norm', bool, False
  ):
    encoder, bias, decoder = unit_decoder(encoder, bias, decoder)
  scale = source.scale()
  if _norm(config, source) == _AVERAGE and scale is not None:
    with np.errstate(over='ignore'):  # Refused on the device.
      encoder = encoder.astype(np.float32) * np.float32(scale)
      decoder = decoder.astype(np.float32) / np.float32(scale)
      decoder_bias = decoder_bias / np.float32(scale)
  if site.hook == 'resid_mid' and is_transcoder:
    site = dataclasses.replace(site, out_hook='mlp_out')
  return RawDictionary(
      encoder=None if no_encoder else encoder,
      decoder=decoder,
      encoder_bias=bias,
      decoder_bias=decoder_bias,
      threshold=threshold,
      site=site,
      top_k=top_k,
      no_encoder=no_encoder,
  )


def _architecture(config: Settings) -> str:
  architecture = config.get('architecture', str, 'standard')
  if architecture not in _TENSORS:
    raise InputError(
        f'{config.where}: architecture {printable(architecture, 200)!r} has no'
        f' features of the kind explained here; {", ".join(_TENSORS)} have.'
    )
  return architecture


def _current(config: Settings) -> Settings:
  """The config with today's key names, its metadata on the same level."""
  own = {k: v for k, v in config.values.items() if v is not None}
  merged: dict[str, Any] = {**config.get('metadata', dict, {}), **own}
  new = {k: v for k, v in merged.items() if k not in _RENAMED}
  for old, name in _RENAMED.items():
    if old in merged:
      new.setdefault(name, merged[old])
  flag = new.get('normalize_activations')
  if isinstance(flag, bool):
    new['normalize_activations'] = _AVERAGE if flag else 'none'
  settings = Settings(new, config.where)
  # Before 6.0 top-k was an activation function of any architecture.
  if new.get('activation_fn') == 'topk':
    new |= {'architecture': 'topk', 'activation_fn': 'relu'}
  if new.get('architecture') == 'topk':
    kwargs = settings.get('activation_fn_kwargs', dict, {})
    new.setdefault('k', kwargs.get('k'))
  return settings


def _norm(config: Settings, source: Source) -> str:
  own = config.get('normalize_activations', str, 'none')
  return source.hints.normalize or own


def _check_settings(config: Settings, source: Source) -> str | None:
  """Refuses what would change activations in a way that is not read.

  Returns:
    Why the encoder has no form out of context, where the decoder has; or None.
  """
  where, no_encoder = config.where, None
  norm = _norm(config, source)
  if norm == _AVERAGE and source.scale() is None:
    no_encoder = (
        f'normalize_activations is {norm!r}, and the factor is not in the file;'
        ' give norm_scale=, or save the SAE with it folded in'
        ' (fold_activation_norm_scaling_factor)'
    )
  elif norm in ('layer_norm', 'constant_norm_rescale'):
    no_encoder = (
        'what it reads was normed input by input (normalize_activations is'
        f' {norm!r}), which has no form out of context'
    )
  elif norm not in ('none', _AVERAGE):
    raise InputError(
        f'{where}: normalize_activations is {printable(norm, 200)!r}, which has'
        ' no form out of context unless it is folded in; take an SAE of raw'
        ' activations.'
    )
  act = config.get('activation_fn', str, 'relu')
  if act != 'relu':
    raise InputError(
        f'{where}: activation_fn {printable(act, 200)!r} is not read; take an'
        " SAE of 'relu' or 'topk'."
    )
  if config.values.get('hook_head_index') is not None:
    raise InputError(
        f'{where}: it is of one attention head (hook_head_index), and only all'
        ' heads together have a map to the residual stream here; take an SAE'
        ' of attn.hook_z.'
    )
  return no_encoder


def _releases() -> Iterator[Release]:
  for model in ('tiny-gemma2', 'tiny-llama3'):
    folder = f'bundled/{model.replace("-", "_")}/sae'
    sites = {'embedding': DictionarySite(0, 'embedding')} | {
        f'layer_{i}': DictionarySite(i, 'resid_post')
        for i in range(_TINY_LAYERS)
    }
    entries = {
        name: Entry(f'{folder}/{name}', site, _TINY_SIZE)
        for name, site in sites.items()
    }
    yield Release(f'{model}-res', None, model, entries)


def _locate(release: str, name: str, path: str) -> Entry:
  """Its files say everything; the id mostly says the site too."""
  match = re.match(r'blocks\.\d+\.(?:attn\.)?hook_[a-z_]+?(?=_\d|$)', name)
  site = match and site_of_hook(match[0], name)
  width = re.search(r'(?<![\d.])(\d{1,3})k(?![a-z\d])', f'{release} {path}')
  exact = re.search(r'hook_[a-z_]+_(\d{3,6})(?!\d)', f'{name} {path}')
  size = int(width[1]) * 1024 if width else None
  if exact:
    size = int(exact[1])
  return Entry(path, site, size)


SAE_LENS = Format(
    name='SAELens',
    weights=('sae_weights.safetensors',),
    config='cfg.json',
    recognise=_recognise,
    site=_site,
    read=_read,
    releases=_releases,
    loader='sae_lens',
    locate=_locate,
    options=(NORM_SCALE,),
)
