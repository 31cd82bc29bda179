"""SAELens's own files: `cfg.json` and `sae_weights.safetensors`.

Every architecture that has a form a = pre · 1[pre > θ], perhaps among the k
largest, is brought to it exactly; the others are refused.
"""

from collections.abc import Mapping
import pathlib
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.checkpoints import read_json
from ooc_jax.dictionaries._archive import SafetensorsArchive
from ooc_jax.dictionaries._archive import axis_sizes
from ooc_jax.dictionaries._archive import printable
from ooc_jax.dictionaries._archive import read_array
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._forms import gated_as_jump
from ooc_jax.dictionaries._forms import project
from ooc_jax.dictionaries._forms import unit_decoder
from ooc_jax.dictionaries._settings import setting
from ooc_jax.dictionaries._site_names import site_of_hook
from ooc_jax.dictionaries._stored import Asked
from ooc_jax.dictionaries._stored import Stored

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
_SKIP = {'W_skip': 'DD'}  # Past the features; not read.
_TENSORS = {
    'standard': (_RELU, {'scaling_factor': 'F'}),
    'topk': (_RELU, {'scaling_factor': 'F'}),
    'jumprelu': (_JUMP, {'scaling_factor': 'F'}),
    'gated': (
        _COMMON | {'b_gate': 'F', 'b_mag': 'F', 'r_mag': 'F'},
        {'scaling_factor': 'F'},
    ),
    'transcoder': (_RELU, {}),
    'jumprelu_transcoder': (_JUMP, {}),
    'skip_transcoder': (_RELU, _SKIP),
    'jumprelu_skip_transcoder': (_JUMP, _SKIP),
}


def load_sae_lens(
    config_file: pathlib.Path, weights: pathlib.Path, asked: Asked
) -> Stored:
  """An SAE or transcoder that SAELens saved, of any version.

  Keys of the config that only training used are ignored: there are hundreds
  over the versions. Those that change what an SAE computes are all read.

  Args:
    config_file: Its `cfg.json`.
    weights: Its `sae_weights.safetensors`.
    asked: What the caller knows of it.

  Raises:
    InputError: A file is damaged, or of an architecture or setting that has no
      form out of context.
  """
  where = str(config_file)
  config = _current(read_json(config_file), where)
  architecture = setting(config, 'architecture', str, where, 'standard')
  if architecture not in _TENSORS:
    raise InputError(
        f'{where}: architecture {printable(architecture)!r} has no features of'
        f' the kind explained here; {", ".join(_TENSORS)} have.'
    )
  _check_settings(config, where)
  archive = SafetensorsArchive(weights)
  sizes = axis_sizes(archive, *_TENSORS[architecture])
  for key, axis in (('d_in', 'D'), ('d_sae', 'F')):
    told = setting(config, key, int, where, sizes[axis])
    if told != sizes[axis]:
      raise InputError(
          f'{where}: {key} is {told}, and the weights have {sizes[axis]};'
          ' download both again.'
      )
  is_transcoder = architecture.endswith('transcoder')
  site = _site(config, is_transcoder, asked, where)
  if 'scaling_factor' in archive.shapes:
    if (read_array(archive, 'scaling_factor') != 1).any():
      raise InputError(
          f'{archive.where} has a scaling_factor that is not 1, left by a'
          ' fine-tuning whose meaning differs between versions; take an SAE'
          ' without one.'
      )
  encoder = read_array(archive, 'W_enc', transposed=True)
  decoder = read_array(archive, 'W_dec')
  decoder_bias = read_array(archive, 'b_dec', wide=True)
  # What subtracting b_dec from the input subtracts from the pre-activation.
  shift = np.zeros(sizes['F'], np.float32)
  default = not is_transcoder
  if setting(config, 'apply_b_dec_to_input', bool, where, default):
    if is_transcoder:
      raise InputError(
          f'{where}: apply_b_dec_to_input is set in a transcoder, whose b_dec'
          ' is not of the space that it reads; check the file.'
      )
    shift = project(encoder, decoder_bias)
  top_k = None
  if architecture == 'gated':
    names = ('b_gate', 'b_mag', 'r_mag')
    gate = [read_array(archive, name, wide=True) for name in names]
    encoder, bias, threshold = gated_as_jump(encoder, *gate, shift=shift)
  else:
    bias = read_array(archive, 'b_enc', wide=True) - shift
    threshold = np.zeros(sizes['F'], np.float32)
  if architecture.startswith('jumprelu'):
    threshold = read_array(archive, 'threshold', wide=True)
  if architecture == 'topk':
    top_k = _k(config, sizes['F'], where)
    if setting(config, 'rescale_acts_by_decoder_norm', bool, where, False):
      encoder, bias, decoder = unit_decoder(encoder, bias, decoder)
  return Stored(
      encoder=encoder,
      decoder=decoder,
      encoder_bias=bias,
      decoder_bias=decoder_bias,
      threshold=threshold,
      site=site,
      top_k=top_k,
      files=(where, archive.where),
  )


def _current(config: Mapping[str, Any], where: str) -> dict[str, Any]:
  """The config with today's key names, its metadata on the same level."""
  metadata = setting(config, 'metadata', dict, where, {})
  merged = {**metadata, **{k: v for k, v in config.items() if v is not None}}
  new = {k: v for k, v in merged.items() if k not in _RENAMED}
  for old, name in _RENAMED.items():
    if old in merged:
      new.setdefault(name, merged[old])
  if isinstance(new.get('normalize_activations'), bool):
    flag = new['normalize_activations']
    new['normalize_activations'] = (
        'expected_average_only_in' if flag else 'none'
    )
  # Before 6.0 top-k was an activation function of any architecture.
  if new.get('activation_fn') == 'topk':
    kwargs = setting(new, 'activation_fn_kwargs', dict, where, {})
    new |= {'architecture': 'topk', 'activation_fn': 'relu'}
    new.setdefault('k', kwargs.get('k'))
  return new


def _check_settings(config: Mapping[str, Any], where: str) -> None:
  """Refuses what would change activations and has no form out of context."""
  norm = setting(config, 'normalize_activations', str, where, 'none')
  if norm == 'expected_average_only_in':
    raise InputError(
        f'{where}: normalize_activations is {norm!r}, and the factor is not in'
        ' the file; save the SAE with it folded in'
        ' (fold_activation_norm_scaling_factor).'
    )
  if norm != 'none':
    raise InputError(
        f'{where}: normalize_activations is {printable(norm)!r}, which has no'
        ' form out of context unless it is folded in; take an SAE of raw'
        ' activations.'
    )
  act = setting(config, 'activation_fn', str, where, 'relu')
  if act != 'relu':
    raise InputError(
        f'{where}: activation_fn {printable(act)!r} is not read; take an SAE'
        " of 'relu' or 'topk'."
    )
  if config.get('hook_head_index') is not None:
    raise InputError(
        f'{where}: it is of one attention head (hook_head_index), and only all'
        ' heads together have a map to the residual stream here; take an SAE'
        ' of attn.hook_z.'
    )


def _site(
    config: Mapping[str, Any], is_transcoder: bool, asked: Asked, where: str
) -> DictionarySite:
  if 'hook_name' not in config:
    layer = None
    if 'hook_layer' in config:
      layer = setting(config, 'hook_layer', int, where)
    return asked.site(layer, None, where)
  hook = setting(config, 'hook_name', str, where)
  site = site_of_hook(hook, where)
  if (site.hook == 'mlp_in') != is_transcoder and not (
      site.hook == 'resid_mid' and is_transcoder
  ):
    raise InputError(
        f'{where}: an SAE of {printable(hook)!r} is not read: SAEs of the'
        ' stream or of what a block adds to it are, and transcoders of an MLP.'
    )
  out = setting(config, 'hook_name_out', str, where, hook)
  if is_transcoder and out != f'blocks.{site.layer}.hook_mlp_out':
    raise InputError(
        f'{where}: the transcoder writes {printable(out)!r}, and only what'
        ' writes hook_mlp_out of its own layer is read.'
    )
  return asked.site(site.layer, site.hook, where)


def _k(config: Mapping[str, Any], size: int, where: str) -> int:
  k = setting(config, 'k', int, where)
  if not 1 <= k <= size:
    raise InputError(
        f'{where}: k is {k}, and must be between 1 and the {size} features;'
        ' check the file.'
    )
  return k
