"""SAEs of a single `.pt` or `.pth` file with no settings beside it.

Goodfire's, and one by qresearch, are ReLU SAEs of the stream, whose decoder
bias is not subtracted from what they read. Only the end of the file's name
says the layer: '…-SAE-l19.pth'.
"""

import re

import numpy as np

from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._reparametrise import project
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_LAYER = re.compile(r'[-_]l(\d{1,4})\.\w+')


def _axes(encoder: str, decoder: str) -> dict[str, str]:
  return {
      f'{encoder}.weight': 'FD',
      f'{encoder}.bias': 'F',
      f'{decoder}.weight': 'DF',
      f'{decoder}.bias': 'D',
  }


def _recognise(shapes) -> bool:
  return _axes('encoder_linear', 'decoder_linear').keys() <= set(shapes)


def _site(source: Source) -> tuple[int | None, str]:
  found = _LAYER.findall(source.archive.where)
  return (int(found[-1]) if found else None), 'resid_post'


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  names = 'encoder_linear', 'decoder_linear'
  if 'encoder.weight' in source.archive.shapes:
    names = 'encoder', 'decoder'
  encoder, decoder = names
  size = source.sizes(_axes(*names))['F']
  return RawDictionary(
      encoder=source.read(f'{encoder}.weight'),
      decoder=source.read(f'{decoder}.weight', transposed=True),
      encoder_bias=source.read(f'{encoder}.bias', wide=True),
      decoder_bias=source.read(f'{decoder}.bias', wide=True),
      threshold=np.zeros(size, np.float32),
      site=site,
  )


def _locate(release: str, name: str, path: str) -> Entry:
  found = _LAYER.search(path)
  site = found and DictionarySite(int(found[1]), 'resid_post')
  return Entry('', site, 65536, file=path)


GOODFIRE = Format(
    name='Goodfire',
    weights=('sae.pt', 'sae.pth'),
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='goodfire',
    locate=_locate,
)
# Its tensors are called as those of Llama Scope and dictionary_learning, which
# mean something else: only the list says that a file is of this kind.
QRESEARCH = Format(
    name='qresearch',
    weights=(),
    recognise=lambda shapes: False,
    site=_site,
    read=_read,
    loader='deepseek_r1',
    locate=_locate,
)


def _read_hook_z(source: Source, site: DictionarySite) -> RawDictionary:
  axes = {'W_enc': 'DF', 'W_dec': 'FD', 'b_enc': 'F', 'b_dec': 'D'}
  size = source.sizes(axes)['F']
  encoder = source.read('W_enc', transposed=True)
  decoder_bias = source.read('b_dec', wide=True)
  bias = source.read('b_enc', wide=True) - project(encoder, decoder_bias)
  return RawDictionary(
      encoder=encoder,
      decoder=source.read('W_dec'),
      encoder_bias=bias,
      decoder_bias=decoder_bias,
      threshold=np.zeros(size, np.float32),
      site=site,
  )


def _locate_hook_z(release: str, name: str, path: str) -> Entry:
  match = re.search(r'_L(\d{1,2})_.*_ds(\d{1,7})_', path)
  assert match is not None  # The list has one release of the kind.
  return Entry(
      '', DictionarySite(int(match[1]), 'attn_z'), int(match[2]), file=path
  )


# SAEs of the heads' outputs of GPT-2 by C. Kissane, R. Krzyzanowski and others,
# the encoder [D, F]; they subtract the decoder's bias.
HOOK_Z = Format(
    name='attn-saes-gpt2-small',
    weights=(),
    recognise=lambda shapes: False,
    site=lambda source: (None, None),
    read=_read_hook_z,
    loader='connor_rob_hook_z',
    locate=_locate_hook_z,
)
