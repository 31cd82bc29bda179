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

import math
import re

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._hooks import site_of_hook
from ooc_jax.dictionaries.formats._reparametrise import project
from ooc_jax.dictionaries.formats._reparametrise import row_norms
from ooc_jax.dictionaries.formats._source import Option
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_AXES = {'encoder.weight': 'FD', 'encoder.bias': 'F', 'decoder.weight': 'DF'}
_BIAS = {'decoder.bias': 'D'}
_FOLDER = re.compile(r'.*-L(\d{1,3})(R|A|M|TC)-\d+x')
_HOOKS = {'R': 'resid_post', 'A': 'attn_out', 'M': 'mlp_out', 'TC': 'mlp_in'}
_EMBED_DIM = 4096  # Of Llama-3.1-8B.
DECODER_NORM = Option(
    'sparsity_include_decoder_norm',
    bool,
    'Whether a pre-activation is multiplied by the norm of its stored decoder'
    ' row before it is compared with the threshold. None does what the file'
    ' says, as upstream does (its default is True); SAELens reads False.',
)


def _recognise(names) -> bool:
  return _AXES.keys() <= set(names)


def _site(source: Source) -> tuple[int | None, str | None]:
  config = source.config
  if 'hook_point_in' not in config:
    folder = source.hints.path.rstrip('/').rpartition('/')[2]
    match = _FOLDER.fullmatch(folder)
    return (int(match[1]), _HOOKS[match[2]]) if match else (None, None)
  hook = config.get('hook_point_in', str)
  site = site_of_hook(hook, source.where)
  out = config.get('hook_point_out', str, hook)
  written = hook
  if site.hook == 'mlp_in':
    written = f'blocks.{site.layer}.hook_mlp_out'
  if out != written:
    raise InputError(
        f'{source.where} reads {printable(hook, 200)!r} and writes'
        f' {printable(out, 200)!r}; only SAEs, and transcoders of one MLP, are'
        ' read.'
    )
  return site.layer, site.hook


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  """In raw space, float32; see the module."""
  config, where = source.config, source.where
  has_bias = config.get('use_decoder_bias', bool, True)
  sizes = source.sizes(
      _AXES | (_BIAS if has_bias else {}),
      config_sizes={'d_model': 'D', 'd_sae': 'F'},
  )
  if config.get('use_glu_encoder', bool, False):
    raise InputError(
        f'{where}: use_glu_encoder is set, and a gated encoder has no single'
        ' direction; take an SAE without it.'
    )
  if (
      has_bias
      and site.hook == 'mlp_in'
      and config.get('apply_decoder_bias_to_pre_encoder', bool, False)
  ):
    raise InputError(
        f'{where}: apply_decoder_bias_to_pre_encoder is set in a transcoder,'
        ' whose bias is not of the space that it reads; check the file.'
    )
  scale_in, scale_out = _scales(source, sizes['D'])
  level = np.full(sizes['F'], _threshold(source))
  return in_raw_space(
      source,
      site,
      scales=(scale_in, scale_out),
      thresholds=(level * scale_in, level * scale_out),
      norm_by_default=True,
      has_bias=has_bias,
  )


def in_raw_space(
    source: Source,
    site: DictionarySite,
    *,
    scales: tuple[float, float],
    thresholds: tuple[np.ndarray, np.ndarray],
    norm_by_default: bool,
    has_bias: bool = True,
) -> RawDictionary:
  """The weights of Llama Scope and its kin, of which `sizes` was asked.

  Args:
    source: The files.
    site: Of the dictionary.
    scales: s and t of the module.
    thresholds: [F] of pre, and [F] of pre · ‖W‖; which one counts, option or
      file say.
    norm_by_default: Where neither does, whether it is the second.
    has_bias: Whether there is a w.
  """
  config, (scale_in, scale_out) = source.config, scales
  encoder = source.read('encoder.weight', wide=True)
  decoder = source.read('decoder.weight', transposed=True, wide=True)
  encoder_bias = source.read('encoder.bias', wide=True)
  decoder_bias = np.zeros(decoder.shape[1], np.float32)
  if has_bias:
    decoder_bias = source.read('decoder.bias', wide=True)
    if config.get('apply_decoder_bias_to_pre_encoder', bool, False):
      encoder_bias -= project(encoder, decoder_bias)
  include_norm = source.options.get(DECODER_NORM.name)
  if include_norm is None:
    include_norm = config.get(DECODER_NORM.name, bool, norm_by_default)
  with np.errstate(over='ignore'):  # Refused on the device.
    threshold = thresholds[0].astype(np.float32)
    if include_norm:
      norms = row_norms(decoder)
      # A feature that writes nothing never passes.
      threshold = np.full_like(threshold, np.inf)
      np.divide(thresholds[1], norms, out=threshold, where=norms > 0)
    encoder *= np.float32(scale_in)
    decoder /= np.float32(scale_out)
    decoder_bias /= np.float32(scale_out)
  return RawDictionary(
      encoder=encoder,
      decoder=decoder,
      encoder_bias=encoder_bias,
      decoder_bias=decoder_bias,
      threshold=threshold,
      site=site,
  )


def _scales(source: Source, width: int) -> tuple[float, float]:
  """s and t: what the input and the output were multiplied by in training."""
  kind = source.config.get('norm_activation', str, 'dataset-wise')
  if kind == 'inference':
    return 1.0, 1.0
  if kind != 'dataset-wise':
    raise InputError(
        f'{source.where}: norm_activation {printable(kind, 200)!r} divides by a'
        " norm that depends on the input; only 'dataset-wise' and 'inference'"
        ' are read.'
    )
  key = 'dataset_average_activation_norm'
  norms = source.config.object(key)
  of_input, of_output = norms.get('in', float), norms.get('out', float)
  if min(of_input, of_output) < 1e-6:
    raise InputError(
        f'{source.where}: {key} is {[of_input, of_output]}, not above zero;'
        ' check it.'
    )
  return math.sqrt(width) / of_input, math.sqrt(width) / of_output


def _threshold(source: Source) -> float:
  """θ as stored; 0 for a plain ReLU."""
  config, where = source.config, source.where
  act = config.get('act_fn', str, 'jumprelu').lower()
  if act == 'relu':
    return 0.0
  level = config.get('jump_relu_threshold', float)
  # Upstream turns 'topk' into 'jumprelu' where there is a threshold.
  if act not in ('jumprelu', 'topk') or (act == 'topk' and level <= 0):
    raise InputError(
        f'{where}: act_fn {printable(act, 200)!r} is not read; take an SAE of'
        " 'jumprelu' or 'relu'."
    )
  if not 0 <= level < 1e6:
    raise InputError(f'{where}: jump_relu_threshold is {level}; check it.')
  return level


def _locate(release: str, name: str, path: str) -> Entry:
  match = _FOLDER.fullmatch(path)
  times = re.search(r'-(\d{1,3})x$', path)
  return Entry(
      path,
      match and DictionarySite(int(match[1]), _HOOKS[match[2]]),
      int(times[1]) * _EMBED_DIM if times else None,
  )


def _alias(name: str) -> str | None:
  """'llama3.1-8b/31-llamascope-att-131k', as Neuronpedia has it."""
  match = re.fullmatch(
      r'[\w.-]+/(\d{1,3})-llamascope-(res|mlp|att)-(\d{1,3}[km])', name
  )
  if match is None:
    return None
  layer, kind, width = match.groups()
  times = {'32k': 8, '131k': 32}.get(width, width)
  return f'llama_scope_lx{kind[0]}_{times}x/l{layer}{kind[0]}_{times}x'


LLAMA_SCOPE = Format(
    name='Llama Scope',
    weights=('checkpoints/final.safetensors',),
    config='hyperparams.json',
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='llama_scope',
    locate=_locate,
    alias=_alias,
    options=(DECODER_NORM,),
)
