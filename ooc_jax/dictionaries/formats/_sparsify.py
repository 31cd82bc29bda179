"""EleutherAI's sparsify: `cfg.json` and `sae.safetensors`.

Top-k SAEs, and transcoders of MLPs, of modules of transformers; the folder is
called as the module: 'layers.10' is the output of the layer, 'layers.10.mlp'
that of its MLP, 'embed_tokens' the embedding. An SAE subtracts its decoder
bias from what it reads, in every version; a transcoder does not, and reads the
module's input, which is normed, gain included. SAELens's loader decides about
the bias by `normalize_decoder`, which is another setting.
"""

import re

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._reparametrise import project
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_AXES = {
    'encoder.weight': 'FD',
    'encoder.bias': 'F',
    'W_dec': 'FD',
    'b_dec': 'D',
}
_MODULE = re.compile(
    r'(?:.*\.)?(?:layers|h)[._](\d{1,4})(?:\.(mlp|self_attn|attention|attn))?'
)


def _recognise(names) -> bool:
  return {'encoder.weight', 'W_dec'} <= set(names)


def _site(source: Source) -> tuple[int | None, str | None]:
  folder = source.hints.path.rstrip('/').rpartition('/')[2]
  is_transcoder = _is_transcoder(source)
  model = source.hints.model_config
  if folder == 'embed_tokens' and not is_transcoder:
    if model is not None and model.embedding_scale != 1:
      raise InputError(
          f'{source.where} is of the rows of the embedding, and this model adds'
          f' them to its stream times {model.embedding_scale:.4g}; take an SAE'
          ' of a layer.'
      )
    return 0, 'embedding'
  match = _MODULE.fullmatch(folder)
  if match is None:
    return None, 'mlp_in' if is_transcoder else None
  layer, module = int(match[1]), match[2]
  if is_transcoder and module != 'mlp':
    raise InputError(
        f'{source.where} is a transcoder of {printable(folder, 200)!r}; only'
        ' those of one MLP are read.'
    )
  if module is not None and model is not None and model.post_norms:
    raise InputError(
        f'{source.where} is of {printable(folder, 200)!r}, whose output this'
        ' model norms before it is added to the stream; take an SAE of'
        f' layers.{layer}.'
    )
  if module is None:
    return layer, 'resid_post'
  if module == 'mlp':
    return layer, 'mlp_in' if is_transcoder else 'mlp_out'
  return layer, 'attn_out'


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  config, where = source.config, source.where
  sizes = source.sizes(_AXES, {'W_skip': 'DD'}, config_sizes={'d_in': 'D'})
  # 0, the default, stands for so many times the width.
  size = config.get('num_latents', int, 0)
  size = size or sizes['D'] * config.get('expansion_factor', int, 32)
  if size != sizes['F']:
    raise InputError(
        f'{where}: it has {size} latents, and the weights have {sizes["F"]};'
        ' download both again.'
    )
  activation = config.get('activation', str, 'topk')
  if activation != 'topk':
    raise InputError(
        f'{where}: activation {printable(activation, 200)!r} is not read; take'
        " an SAE of 'topk'."
    )
  if config.get('signed', bool, False):
    raise InputError(
        f'{where}: signed is set, so its features are also active below zero;'
        ' take an SAE without it.'
    )
  top_k = config.get('k', int)
  if not 1 <= top_k <= sizes['F']:
    raise InputError(
        f'{where}: k is {top_k}, and must be between 1 and the {sizes["F"]}'
        ' features; check the file.'
    )
  encoder = source.read('encoder.weight')
  bias = source.read('encoder.bias', wide=True)
  decoder_bias = source.read('b_dec', wide=True)
  is_transcoder = _is_transcoder(source)
  if not is_transcoder:
    bias = bias - project(encoder, decoder_bias)
  return RawDictionary(
      encoder=encoder,
      decoder=source.read('W_dec'),
      encoder_bias=bias,
      decoder_bias=decoder_bias,
      threshold=np.zeros(sizes['F'], np.float32),
      site=site,
      top_k=top_k,
      reads_gain=is_transcoder,
  )


def _is_transcoder(source: Source) -> bool:
  if 'W_skip' in source.archive.shapes and 'transcode' not in source.config:
    raise InputError(
        f'{source.where} does not say whether it is a transcoder (transcode),'
        ' and its skip connection may belong to either; add it to the file.'
    )
  return source.config.get('transcode', bool, False)


def _locate(release: str, name: str, path: str) -> Entry:
  return Entry(path, None, None)  # SAELens lists none.


SPARSIFY = Format(
    name='sparsify',
    weights=('sae.safetensors',),
    config='cfg.json',
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='sparsify',
    locate=_locate,
)
