"""Gemma Scope, its transcoders included: one `params.npz` a dictionary.

JumpReLU SAEs that read x as it is: nothing is transposed beyond the layout of
the encoder, normalised, or subtracted. The file names no site; the path does,
in the layout of the releases.
"""

import dataclasses
import math
import re

import numpy as np

from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._hooks import site_in_path
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_HOOKS = {
    'res': 'resid_post',
    'mlp': 'mlp_out',
    'att': 'attn_z',
    'transcoders': 'mlp_in',
}


def _recognise(names) -> bool:
  return {'W_enc', 'w_enc'} & set(names) != set()


def _site(source: Source) -> tuple[int | None, str | None]:
  layer, hook = site_in_path(source.hints.path)
  model, shape = source.hints.model_config, source.archive.shapes.get('b_dec')
  if hook is None and source.hints.hook is None and model is not None:
    # As wide as the heads of the model, and not as its stream: their outputs.
    heads = model.num_heads * model.head_dim
    if shape == (heads,) and heads != model.embed_dim:
      hook = 'attn_z'
  return layer, hook


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  w = 'W' if 'W_enc' in source.archive.shapes else 'w'
  raw = read_jump_relu(source, site, w, {'scaling_factor': 'F'})
  source.refuse_scaling_factor()
  if site.hook != 'embedding':
    return raw
  # Trained on rows of W_E; the residual stream holds √D times these. So says
  # SAELens, which leaves the biases.
  scale = np.float32(math.sqrt(raw.decoder.shape[1]))
  return dataclasses.replace(
      raw,
      encoder=raw.encoder.astype(np.float32) / scale,
      decoder=raw.decoder.astype(np.float32) * scale,
  )


def read_jump_relu(
    source: Source,
    site: DictionarySite,
    w: str,
    optional: dict[str, str],
    config_sizes: dict[str, str] | None = None,
) -> RawDictionary:
  """A JumpReLU SAE as Gemma Scope stores it, and Gemma Scope 2.

  Args:
    source: Its files.
    site: Of the dictionary.
    w: 'W' or 'w', with which the names of the matrices begin.
    optional: Axes of arrays that may stand beside them.
    config_sizes: See `Source.sizes`.
  """
  matrices = {f'{w}_enc': 'DF', f'{w}_dec': 'FD'}
  vectors = {'b_enc': 'F', 'b_dec': 'D', 'threshold': 'F'}
  source.sizes(matrices | vectors, optional, config_sizes=config_sizes)
  return RawDictionary(
      encoder=source.read(f'{w}_enc', transposed=True),
      decoder=source.read(f'{w}_dec'),
      encoder_bias=source.read('b_enc', wide=True),
      decoder_bias=source.read('b_dec', wide=True),
      threshold=source.read('threshold', wide=True),
      site=site,
  )


def width_of(label: str) -> int:
  """F of a width as Gemma Scope writes it: '16k' is 16,384, '1m' 1,048,576."""
  about = int(label[:-1]) * (1_000 if label.endswith('k') else 1_000_000)
  return 2 ** round(math.log2(about))


def _locate(release: str, name: str, path: str) -> Entry:
  layer, hook = site_in_path(path)
  kind = release.removesuffix('-canonical').rpartition('-')[2]
  width = re.search(r'/width_(\d{1,3}[km])/', path)
  return Entry(
      path,
      None if layer is None else DictionarySite(layer, hook or _HOOKS[kind]),
      width_of(width[1]) if width else None,
  )


def _alias(name: str) -> str | None:
  """'gemma-2-2b/12-gemmascope-res-16k', as Neuronpedia has it."""
  match = re.fullmatch(
      r'([\w.-]+)/(\d{1,3})-gemmascope-(res|mlp|att|transcoder)'
      r'-(\d{1,3}[km])(?:__l0-(\d{1,4}))?',
      name,
  )
  if match is None:
    return None
  model, layer, kind, width, sparsity = match.groups()
  size, _, tuned = model.removeprefix('gemma-2-').partition('-')
  release = f'gemma-scope-{size}-{tuned or "pt"}'
  place = f'layer_{layer}/width_{width}'
  if kind == 'transcoder':  # There is one of a layer, which the list knows.
    return f'{release}-transcoders/{place}'
  if sparsity is not None:
    return f'{release}-{kind}/{place}/average_l0_{sparsity}'
  return f'{release}-{kind}-canonical/{place}/canonical'


GEMMA_SCOPE = Format(
    name='Gemma Scope',
    weights=('params.npz',),
    recognise=_recognise,
    site=_site,
    read=_read,
    loader='gemma_2',
    locate=_locate,
    alias=_alias,
)
# One way to be stored, and two names of it in the list.
GEMMA_SCOPE_TRANSCODERS = dataclasses.replace(
    GEMMA_SCOPE, loader='gemma_2_transcoder', alias=lambda name: None
)
