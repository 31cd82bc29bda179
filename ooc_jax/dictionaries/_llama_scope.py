"""Llama Scope: `hyperparams.json` and `checkpoints/final.safetensors`.

Trained on x̃ = s·x, s = √D / (average norm of x). With the stored weights
(E encoder, e its bias, W decoder, w its bias, θ the threshold), and in general
another scale t for what is written (a transcoder; s = t in an SAE):
  pre = s x·E + e,  a = pre where the feature fires,  t x̂ = a·W + w.
So in raw space the encoder is s·E, its bias e, the decoder W/t, its bias w/t,
and activations are those of x̃.

Which way the threshold goes: upstream (`lm_saes`, its Initializer in the state
"inference") first turns the SAE to raw space in a form of its own, e → e/s,
W → W·s/t, then to unit decoder rows, E and e → times ‖W·s/t‖, and compares θ
with *that* pre-activation:
  (x·E + e/s) ‖W‖ s/t > θ,  that is  pre > θ·t/‖W‖.
So θ is multiplied by the scale, as SAELens does too. The published numbers
agree: θ·t is about 2 in every layer (L8R 2.05, L19R 1.97, and 1.96 in the
transcoder L8TC, where s is 1), as a threshold on normed activations would be,
while θ itself runs from 0.1 to 0.75. SAELens leaves ‖W‖ out.
"""

from collections.abc import Mapping
import math
import pathlib
import re
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.checkpoints import read_json
from ooc_jax.dictionaries._archive import SafetensorsArchive
from ooc_jax.dictionaries._archive import axis_sizes
from ooc_jax.dictionaries._archive import printable
from ooc_jax.dictionaries._archive import read_array
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._forms import project
from ooc_jax.dictionaries._forms import row_norms
from ooc_jax.dictionaries._settings import setting
from ooc_jax.dictionaries._site_names import site_of_hook
from ooc_jax.dictionaries._stored import Asked
from ooc_jax.dictionaries._stored import Stored

_AXES = {'encoder.weight': 'FD', 'encoder.bias': 'F', 'decoder.weight': 'DF'}
_BIAS = {'decoder.bias': 'D'}
_FOLDER = re.compile(r'.*-L(\d{1,3})(R|A|M|TC)-\d+x')
_HOOKS = {'R': 'resid_post', 'A': 'attn_out', 'M': 'mlp_out', 'TC': 'mlp_in'}


def load_llama_scope(
    config_file: pathlib.Path,
    weights: pathlib.Path,
    asked: Asked,
    *,
    sparsity_include_decoder_norm: bool | None = None,
) -> Stored:
  """An SAE or transcoder of Llama Scope, in raw space, float32.

  Args:
    config_file: Its `hyperparams.json`.
    weights: Its `final.safetensors`.
    asked: What the caller knows of it.
    sparsity_include_decoder_norm: Whether the pre-activation is multiplied by
      the norm of the stored decoder row before it is compared with the
      threshold. None does what the file says (upstream's default is True);
      False is SAELens's reading.

  Raises:
    InputError: A file is damaged, of another kind, or of a setting that has no
      form out of context.
  """
  config, where = read_json(config_file), str(config_file)
  archive = SafetensorsArchive(weights)
  has_bias = setting(config, 'use_decoder_bias', bool, where, True)
  axes = _AXES | (_BIAS if has_bias else {})
  sizes = axis_sizes(archive, axes)
  _check_sizes(config, sizes, where)
  if setting(config, 'use_glu_encoder', bool, where, False):
    raise InputError(
        f'{where}: use_glu_encoder is set, and a gated encoder has no single'
        ' direction; take an SAE without it.'
    )
  site = _site(config, asked, where)
  scale_in, scale_out = _scales(config, sizes['D'], where)
  encoder = read_array(archive, 'encoder.weight', wide=True)
  decoder = read_array(archive, 'decoder.weight', transposed=True, wide=True)
  encoder_bias = read_array(archive, 'encoder.bias', wide=True)
  decoder_bias = np.zeros(sizes['D'], np.float32)
  if has_bias:
    decoder_bias = read_array(archive, 'decoder.bias', wide=True)
  if has_bias and setting(
      config, 'apply_decoder_bias_to_pre_encoder', bool, where, False
  ):
    if site.hook == 'mlp_in':
      raise InputError(
          f'{where}: apply_decoder_bias_to_pre_encoder is set in a transcoder,'
          ' whose bias is not of the space that it reads; check the file.'
      )
    encoder_bias -= project(encoder, decoder_bias)
  if sparsity_include_decoder_norm is None:
    sparsity_include_decoder_norm = setting(
        config, 'sparsity_include_decoder_norm', bool, where, True
    )
  level = _threshold(config, where)
  with np.errstate(over='ignore'):  # Told when it is placed.
    threshold = np.full(sizes['F'], level * scale_in, np.float32)
    if sparsity_include_decoder_norm:
      norms = row_norms(decoder)
      # A feature that writes nothing never passes.
      threshold = np.full(sizes['F'], np.inf, np.float32)
      np.divide(level * scale_out, norms, out=threshold, where=norms > 0)
    encoder *= np.float32(scale_in)
    decoder /= np.float32(scale_out)
    decoder_bias /= np.float32(scale_out)
  return Stored(
      encoder=encoder,
      decoder=decoder,
      encoder_bias=encoder_bias,
      decoder_bias=decoder_bias,
      threshold=threshold,
      site=site,
      files=(where, archive.where),
  )


def _check_sizes(
    config: Mapping[str, Any], sizes: Mapping[str, int], where: str
) -> None:
  for key, axis in (('d_model', 'D'), ('d_sae', 'F')):
    told = setting(config, key, int, where, sizes[axis])
    if told != sizes[axis]:
      raise InputError(
          f'{where}: {key} is {told}, and the weights have {sizes[axis]};'
          ' download both again.'
      )


def _site(
    config: Mapping[str, Any], asked: Asked, where: str
) -> DictionarySite:
  if 'hook_point_in' not in config:
    match = _FOLDER.fullmatch(asked.path.rstrip('/').rpartition('/')[2])
    if match is None:
      return asked.site(None, None, where)
    return asked.site(int(match[1]), _HOOKS[match[2]], where)
  hook = setting(config, 'hook_point_in', str, where)
  site = site_of_hook(hook, where)
  out = setting(config, 'hook_point_out', str, where, hook)
  written = hook
  if site.hook == 'mlp_in':
    written = f'blocks.{site.layer}.hook_mlp_out'
  if out != written:
    raise InputError(
        f'{where} reads {printable(hook)!r} and writes {printable(out)!r}; only'
        ' SAEs, and transcoders of one MLP, are read.'
    )
  return asked.site(site.layer, site.hook, where)


def _scales(
    config: Mapping[str, Any], D: int, where: str
) -> tuple[float, float]:
  """s and t: what the input and the output were multiplied by in training."""
  kind = setting(config, 'norm_activation', str, where, 'dataset-wise')
  if kind == 'inference':
    return 1.0, 1.0
  if kind != 'dataset-wise':
    raise InputError(
        f'{where}: norm_activation {printable(kind)!r} divides by a norm that'
        " depends on the input; only 'dataset-wise' and 'inference' are read."
    )
  key = 'dataset_average_activation_norm'
  norms = setting(config, key, dict, where)
  told = [setting(norms, side, float, f'{where}: {key}') for side in
          ('in', 'out')]  # fmt: skip
  if min(told) < 1e-6:
    raise InputError(f'{where}: {key} is {told}, not above zero; check it.')
  return math.sqrt(D) / told[0], math.sqrt(D) / told[1]


def _threshold(config: Mapping[str, Any], where: str) -> float:
  """θ as stored; 0 for a plain ReLU."""
  act = setting(config, 'act_fn', str, where, 'jumprelu').lower()
  if act == 'relu':
    return 0.0
  level = setting(config, 'jump_relu_threshold', float, where)
  # Upstream turns 'topk' into 'jumprelu' where there is a threshold.
  if act not in ('jumprelu', 'topk') or (act == 'topk' and level <= 0):
    raise InputError(
        f'{where}: act_fn {printable(act)!r} is not read; take an SAE of'
        " 'jumprelu' or 'relu'."
    )
  if not 0 <= level < 1e6:
    raise InputError(f'{where}: jump_relu_threshold is {level}; check it.')
  return level
