"""dictionary_learning: `ae.pt` and `config.json`, one folder an SAE.

Its classes differ by the names of their tensors, and that decides here; the
config says layer and hook, and how many features a top-k keeps. All but the
JumpReLU and the April 2024 class subtract the decoder's bias from what they
read. A batch-wise top-k is used with the threshold that its training found.
"""

import re

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._reparametrise import gated_as_jump
from ooc_jax.dictionaries.formats._reparametrise import project
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_LINEAR = {'encoder.weight': 'FD', 'decoder.weight': 'DF'}
_ROWS = {'W_enc': 'DF', 'W_dec': 'FD', 'b_enc': 'F', 'b_dec': 'D'}
# Name of the decoder's bias -> all tensors of the class. `k` and
# `group_sizes` are settings of the training.
_STANDARD = _LINEAR | {'encoder.bias': 'F', 'bias': 'D'}
_APRIL = _LINEAR | {'encoder.bias': 'F', 'decoder.bias': 'D'}
_GATED = _LINEAR | {
    'decoder_bias': 'D',
    'r_mag': 'F',
    'gate_bias': 'F',
    'mag_bias': 'F',
}
_TOP_K = _LINEAR | {'encoder.bias': 'F', 'b_dec': 'D'}
_OF_TRAINING = {'k': '', 'group_sizes': 'G', 'active_groups': ''}
_SUBMODULE = re.compile(
    r'(resid_post|mlp_out|attention_out|attn_out|mlp|attn)_layer_(\d{1,4})'
)
_HOOKS = {
    'resid_post': 'resid_post',
    'mlp_out': 'mlp_out',
    'mlp': 'mlp_out',
    'attention_out': 'attn_out',
    'attn_out': 'attn_out',
    'attn': 'attn_out',
}
_BATCH = ('BatchTopKSAE', 'MatryoshkaBatchTopKSAE')


def _recognise(shapes) -> bool:
  names = set(shapes)
  if 'log_jumprelu_threshold' in names:  # Of Llama Scope R1-Distill.
    return False
  return _LINEAR.keys() <= names or _ROWS.keys() <= names


def _site(source: Source) -> tuple[int | None, str | None]:
  path = f'{source.hints.path}/{source.archive.where}'
  matches = _SUBMODULE.findall(path)
  layer, hook = None, None
  if 'trainer' in source.config:
    trainer = source.config.object('trainer')
    if 'layer' in trainer:
      layer = trainer.get('layer', int)
    matches += _SUBMODULE.findall(trainer.get('submodule_name', str, ''))
  if matches:
    hook = _HOOKS[matches[-1][0]]
    layer = int(matches[-1][1]) if layer is None else layer
  model = source.hints.model_config
  if hook in ('mlp_out', 'attn_out') and model is not None and model.post_norms:
    raise InputError(
        f'{source.where} is of the output of a module that this model norms'
        ' before it is added to the stream; take an SAE of resid_post.'
    )
  return layer, hook


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  names = set(source.archive.shapes)
  if 'W_enc' in names:
    return _of_rows(source, site)
  if 'gate_bias' in names:
    return _gated(source, site)
  bias = next((b for b in ('bias', 'decoder.bias', 'b_dec') if b in names), '')
  axes = {'bias': _STANDARD, 'decoder.bias': _APRIL}.get(bias, _TOP_K)
  optional = dict(_OF_TRAINING)
  if axes is _TOP_K:
    optional['threshold'] = ''
  sizes = source.sizes(axes, optional)
  encoder = source.read('encoder.weight')
  decoder_bias = source.read(bias, wide=True)
  encoder_bias = source.read('encoder.bias', wide=True)
  if axes is not _APRIL:
    encoder_bias = encoder_bias - project(encoder, decoder_bias)
  level, top_k = 0.0, None
  if axes is _TOP_K:
    if _is_batch_wise(source):
      level = _scalar(source, 'threshold')
    else:
      top_k = _top_k(source, sizes['F'])
  return RawDictionary(
      encoder=encoder,
      decoder=source.read('decoder.weight', transposed=True),
      encoder_bias=encoder_bias,
      decoder_bias=decoder_bias,
      # relu(pre) > θ; where training found none, θ is -1.
      threshold=np.full(sizes['F'], max(level, 0.0), np.float32),
      site=site,
      top_k=top_k,
  )


def _of_rows(source: Source, site: DictionarySite) -> RawDictionary:
  """JumpReLU, whose threshold is of each feature, or Matryoshka BatchTopK."""
  shape = source.archive.shapes.get('threshold')
  is_jump = shape is not None and len(shape) == 1
  sizes = source.sizes(
      _ROWS | {'threshold': 'F' if is_jump else ''}, _OF_TRAINING
  )
  encoder = source.read('W_enc', transposed=True)
  encoder_bias = source.read('b_enc', wide=True)
  decoder_bias = source.read('b_dec', wide=True)
  if is_jump:
    threshold = np.maximum(source.read('threshold', wide=True), 0)
  else:
    encoder_bias = encoder_bias - project(encoder, decoder_bias)
    level = max(_scalar(source, 'threshold'), 0.0)
    threshold = np.full(sizes['F'], level, np.float32)
  return RawDictionary(
      encoder=encoder,
      decoder=source.read('W_dec'),
      encoder_bias=encoder_bias,
      decoder_bias=decoder_bias,
      threshold=threshold,
      site=site,
  )


def _gated(source: Source, site: DictionarySite) -> RawDictionary:
  source.sizes(_GATED)
  weights = source.read('encoder.weight')
  decoder_bias = source.read('decoder_bias', wide=True)
  gate = [source.read(n, wide=True) for n in ('gate_bias', 'mag_bias', 'r_mag')]
  encoder, bias, threshold = gated_as_jump(
      weights, *gate, shift=project(weights, decoder_bias)
  )
  return RawDictionary(
      encoder=encoder,
      decoder=source.read('decoder.weight', transposed=True),
      encoder_bias=bias,
      decoder_bias=decoder_bias,
      threshold=threshold,
      site=site,
  )


def _is_batch_wise(source: Source) -> bool:
  """Whether k was kept of a batch, and not of each input."""
  trainer = source.config.object('trainer')
  kind = trainer.get('dict_class', str, '')
  if kind in _BATCH:
    if 'threshold' not in source.archive.shapes:
      raise InputError(
          f'{source.archive.where} is a {kind} and has no threshold, without'
          ' which nobody knows what fires; take one that was saved with it.'
      )
    return True
  if kind != 'AutoEncoderTopK':
    raise InputError(
        f'{source.where}: dict_class {printable(repr(kind), 100)} does not say'
        ' whether k is of each input (AutoEncoderTopK) or of a batch'
        f' ({", ".join(_BATCH)}); give the config it was saved with.'
    )
  return False


def _top_k(source: Source, size: int) -> int:
  trainer = source.config.object('trainer')
  if trainer.values.get('k') is None and 'k' in source.archive.shapes:
    top_k = int(_scalar(source, 'k'))
  else:
    top_k = trainer.get('k', int)
  if not 1 <= top_k <= size:
    raise InputError(
        f'{source.where}: k is {top_k}, and must be between 1 and the'
        f' {size} features; check the file.'
    )
  return top_k


def _scalar(source: Source, name: str) -> float:
  x = source.read(name, wide=True)
  if x.size != 1:
    raise InputError(
        f'{source.archive.where}: {name} is {list(x.shape)}, not one number;'
        ' check that it is the right file.'
    )
  return float(x.reshape(-1)[0])


def _locate(release: str, name: str, path: str) -> Entry:
  match = re.search(r'width-2pow(\d\d?)', release)
  found = _SUBMODULE.search(path)
  site = found and DictionarySite(int(found[2]), _HOOKS[found[1]])
  return Entry(path, site, 2 ** int(match[1]) if match else None)


DICTIONARY_LEARNING = Format(
    name='dictionary_learning',
    weights=('ae.pt', 'ae.safetensors'),
    config='config.json',
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='dictionary_learning_1',
    locate=_locate,
)
