"""Transcoders as circuit-tracer has them: one file a layer, or two.

`layer_{l}.safetensors` holds a transcoder of one MLP, with both matrices as
rows of features. `W_enc_{l}.safetensors` and `W_dec_{l}.safetensors` hold one
layer of a cross-layer transcoder, whose features write to every layer from
their own on: W_dec is [F, layers, D], and `to_layer` chooses among them. The
bias of what is written at a layer is that of the same number, so that it is 0
for a later one. `config.yaml` names the hooks.
"""

import dataclasses
import re

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._arrays import SafetensorsArchive
from ooc_jax.dictionaries.formats._arrays import axis_sizes
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._source import Option
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_AXES = {'W_enc': 'FD', 'W_dec': 'FD', 'b_enc': 'F', 'b_dec': 'D'}
# What the config calls a place -> hook, and whether the gain of the norm
# before the MLP is in it: 'mlp.hook_in' is what the module receives.
_INPUTS = {
    'mlp.hook_in': ('mlp_in', True),
    'ln2.hook_normalized': ('mlp_in', False),
    'hook_resid_mid': ('resid_mid', False),
}
_TO_LAYER = Option(
    'to_layer',
    int,
    'Layer that a cross-layer transcoder writes to, from its own on; None is'
    ' its own.',
)


def _recognise_one(shapes) -> bool:
  if not _AXES.keys() <= set(shapes):
    return False
  rows = (*shapes['b_enc'], *shapes['b_dec'])
  return shapes['W_enc'] == rows and shapes['W_dec'] == rows


def _recognise_cross(shapes) -> bool:
  return any(re.fullmatch(r'W_enc_\d{1,4}', name) for name in shapes)


def _layer(source: Source, f: Format) -> int | None:
  return f.layer_of(source.archive.where.replace('\\', '/').rpartition('/')[2])


def _input(source: Source, default: str | None) -> tuple[str, bool]:
  """The hook that is read, and whether with the norm's gain."""
  name = source.config.get('feature_input_hook', str, default)
  if name not in _INPUTS:
    raise InputError(
        f'{source.where}: feature_input_hook is {printable(repr(name), 100)},'
        f' and must be one of {", ".join(_INPUTS)}; check the file.'
    )
  out = source.config.get('feature_output_hook', str, 'hook_mlp_out')
  if out not in ('hook_mlp_out', 'mlp.hook_out'):
    raise InputError(
        f'{source.where}: feature_output_hook is {printable(repr(out), 100)},'
        ' and only what writes hook_mlp_out is read; check the file.'
    )
  model = source.hints.model_config
  if out == 'mlp.hook_out' and model is not None and model.post_norms:
    raise InputError(
        f'{source.where} writes what this model norms before it is added to'
        ' the stream (mlp.hook_out); take a transcoder to hook_mlp_out.'
    )
  return _INPUTS[name]


def _written(site: DictionarySite, layer: int | None = None) -> DictionarySite:
  return dataclasses.replace(site, out_hook='mlp_out', out_layer=layer)


def _site_of_one(source: Source) -> tuple[int | None, str]:
  return _layer(source, TRANSCODER_FILES), _input(source, 'mlp.hook_in')[0]


def _read_one(source: Source, site: DictionarySite) -> RawDictionary:
  size = source.sizes(
      _AXES, {'W_skip': 'DD', 'threshold': 'F', 'activation_function.threshold':
              'F'}
  )['F']  # fmt: skip
  names = ('threshold', 'activation_function.threshold')
  level = next((n for n in names if n in source.archive.shapes), None)
  return RawDictionary(
      encoder=source.read('W_enc'),
      decoder=source.read('W_dec'),
      encoder_bias=source.read('b_enc', wide=True),
      decoder_bias=source.read('b_dec', wide=True),
      threshold=(
          np.zeros(size, np.float32)
          if level is None
          else source.read(level, wide=True)
      ),
      site=_written(site),
      reads_gain=_input(source, 'mlp.hook_in')[1],
  )


def _site_of_cross(source: Source) -> tuple[int | None, str]:
  return _layer(source, CROSS_LAYER_TRANSCODER), _input(source, None)[0]


def _read_cross(source: Source, site: DictionarySite) -> RawDictionary:
  l, archive, beside = site.layer, source.archive, source.beside
  assert isinstance(beside, SafetensorsArchive)  # `beside` of the format.
  sizes = source.sizes(
      {f'W_enc_{l}': 'FD', f'b_enc_{l}': 'F', f'b_dec_{l}': 'D'},
      {f'threshold_{l}': 'F'},
  )
  name = f'W_dec_{l}'
  written = axis_sizes(beside, {name: 'FLD'})
  if (written['F'], written['D']) != (sizes['F'], sizes['D']):
    raise InputError(
        f'{beside.where}: {name} is {list(beside.shapes[name])}, and the'
        f' encoder beside it has {sizes["F"]} features of width {sizes["D"]};'
        ' download both again.'
    )
  to_layer = source.options.get(_TO_LAYER.name)
  to_layer = l if to_layer is None else to_layer
  if not l <= to_layer < l + written['L']:
    raise InputError(
        f'{beside.where} writes to the layers {l} to'
        f' {l + written["L"] - 1}, and to_layer is {to_layer}; give one of'
        ' these.'
    )
  decoder_bias = source.read(f'b_dec_{l}', wide=True)
  decoder = np.array(beside.read_plane(name, to_layer - l))
  if not np.isfinite(decoder).all():
    raise InputError(
        f'{beside.where}: {name} holds NaN or infinity; download it again.'
    )
  threshold = np.zeros(sizes['F'], np.float32)
  if f'threshold_{l}' in archive.shapes:
    threshold = source.read(f'threshold_{l}', wide=True)
  return RawDictionary(
      encoder=source.read(f'W_enc_{l}'),
      decoder=decoder,
      encoder_bias=source.read(f'b_enc_{l}', wide=True),
      decoder_bias=decoder_bias if to_layer == l else 0 * decoder_bias,
      threshold=threshold,
      site=_written(site, to_layer),
      reads_gain=_input(source, None)[1],
  )


def _locate_one(release: str, name: str, path: str) -> Entry:
  layer = TRANSCODER_FILES.layer_of(path)
  site = None if layer is None else _written(DictionarySite(layer, 'mlp_in'))
  return Entry('', site, None, file=path)


def _locate_cross(release: str, name: str, path: str) -> Entry:
  # The one release there is, of Gemma 2, reads the stream itself.
  site = _written(DictionarySite(int(path), 'resid_mid'))
  return Entry('', site, None, file=f'W_enc_{path}.safetensors')


TRANSCODER_FILES = Format(
    name='circuit-tracer transcoders',
    weights=('layer_{layer}.safetensors',),
    config='config.yaml',
    optional_config=True,
    recognise=_recognise_one,
    site=_site_of_one,
    read=_read_one,
    loader='mwhanna_transcoder',
    locate=_locate_one,
)
CROSS_LAYER_TRANSCODER = Format(
    name='cross-layer transcoders',
    weights=('W_enc_{layer}.safetensors',),
    beside='W_dec_{layer}.safetensors',
    config='config.yaml',
    recognise=_recognise_cross,
    site=_site_of_cross,
    read=_read_cross,
    loader='mntss_clt_layer_transcoder',
    locate=_locate_cross,
    options=(_TO_LAYER,),
)
