"""Qwen Scope: `layer{n}.sae.pt`, one file a layer in one folder.

Top-k SAEs of the stream after a layer. The bias of the decoder is not
subtracted from what they read. How many features are kept stands in the name
of the repository alone: '…-W32K-L0_50'.
"""

import re

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._source import Option
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_AXES = {'W_enc': 'FD', 'W_dec': 'DF', 'b_enc': 'F', 'b_dec': 'D'}
_NAMES = ('layer{layer}.sae.pt', 'layer{layer}.sae.safetensors')
_TOP_K = Option(
    'top_k',
    int,
    'How many features are active at once, where neither the file nor its'
    " path says it ('...-L0_50' does).",
)


def _recognise(shapes) -> bool:
  if not _AXES.keys() <= set(shapes) or 'threshold' in shapes:
    return False
  enc, dec = shapes['W_enc'], shapes['W_dec']
  return enc == (*shapes['b_enc'], *shapes['b_dec']) and dec == enc[::-1]


def _site(source: Source) -> tuple[int | None, str]:
  name = source.archive.where.replace('\\', '/').rpartition('/')[2]
  return QWEN_SCOPE.layer_of(name), 'resid_post'


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  size = source.sizes(_AXES)['F']
  top_k = source.options.get(_TOP_K.name)
  if top_k is None:
    path = f'{source.hints.path}/{source.archive.where}'
    named = re.findall(r'-L0_(\d{1,6})', path)
    top_k = int(named[-1]) if named else None
  if top_k is None or not 1 <= top_k <= size:
    raise InputError(
        f'{source.archive.where} keeps the k largest features, and its path'
        f' names no k between 1 and {size}; give top_k= (50 where the'
        " repository's name ends with L0_50)."
    )
  return RawDictionary(
      encoder=source.read('W_enc'),
      decoder=source.read('W_dec', transposed=True),
      encoder_bias=source.read('b_enc', wide=True),
      decoder_bias=source.read('b_dec', wide=True),
      threshold=np.zeros(size, np.float32),
      site=site,
      top_k=top_k,
  )


def _locate(release: str, name: str, path: str) -> Entry:
  layer = QWEN_SCOPE.layer_of(path)
  width = re.search(r'-w(\d+)k-', release)
  return Entry(
      '',
      None if layer is None else DictionarySite(layer, 'resid_post'),
      int(width[1]) * 1024 if width else None,
      file=path,
  )


QWEN_SCOPE = Format(
    name='Qwen Scope',
    weights=_NAMES,
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='qwen_scope',
    locate=_locate,
    options=(_TOP_K,),
)
