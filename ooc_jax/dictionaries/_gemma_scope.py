"""Gemma Scope, its transcoders, and Gemma Scope 2.

Both store JumpReLU SAEs that read x as it is: nothing is transposed beyond
the layout of the encoder, normalised, or subtracted.
"""

from collections.abc import Mapping
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.checkpoints import read_json
from ooc_jax.dictionaries._archive import Archive
from ooc_jax.dictionaries._archive import SafetensorsArchive
from ooc_jax.dictionaries._archive import axis_sizes
from ooc_jax.dictionaries._archive import printable
from ooc_jax.dictionaries._archive import read_array
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._npz import NpzArchive
from ooc_jax.dictionaries._settings import setting
from ooc_jax.dictionaries._site_names import place_in_path
from ooc_jax.dictionaries._site_names import site_of_gemma_module
from ooc_jax.dictionaries._stored import Asked
from ooc_jax.dictionaries._stored import Stored
from ooc_jax.model import ModelConfig


def load_gemma_scope(path: pathlib.Path, asked: Asked) -> Stored:
  """A `params.npz` of Gemma Scope: W_enc [D, F], W_dec [F, D], float32.

  The file names no site. The path does, in the layout of the releases;
  otherwise the caller does, or the hook is the residual stream after the
  layer (for an SAE as wide as the heads of the model: their outputs).

  Args:
    path: The file.
    asked: What the caller knows of it.

  Raises:
    InputError: The file is damaged, of another kind, or of an unknown layer.
  """
  archive = NpzArchive(path)
  upper = 'W_enc' in archive.shapes
  encoder, decoder = ('W_enc', 'W_dec') if upper else ('w_enc', 'w_dec')
  sizes = _sizes(archive, encoder, decoder, {'scaling_factor': 'F'})
  layer, hook = place_in_path(asked.path)
  if (
      hook is None
      and asked.hook is None
      and _is_heads(sizes['D'], asked.config)
  ):
    hook = 'attn_z'
  site = asked.site(layer, hook, archive.where)
  if 'scaling_factor' in archive.shapes:
    if (read_array(archive, 'scaling_factor') != 1).any():
      raise InputError(
          f'{archive.where} has a scaling_factor that is not 1, left by a'
          ' fine-tuning whose meaning differs between programs; take an SAE'
          ' without one.'
      )
  stored = _read(archive, encoder, decoder, site)
  if site.hook != 'embedding':
    return stored
  # Trained on rows of W_E; the residual stream holds √D times these. So says
  # SAELens, which leaves the biases.
  scale = np.float32(math.sqrt(sizes['D']))
  return dataclasses.replace(
      stored,
      encoder=stored.encoder.astype(np.float32) / scale,
      decoder=stored.decoder.astype(np.float32) * scale,
  )


def load_gemma_scope_2(
    path: pathlib.Path, config_file: pathlib.Path | None, asked: Asked
) -> Stored:
  """A `params.safetensors` of Gemma Scope 2, with or without `config.json`.

  Its transcoders read the stream after the norm before the MLP, gain included,
  unlike those of Gemma Scope. Their skip connection, where they have one, is
  no feature and is not read.

  Args:
    path: The file.
    config_file: Its `config.json`, or None.
    asked: What the caller knows of it.

  Raises:
    InputError: The file is damaged, of another kind, or of an unknown layer.
  """
  archive = SafetensorsArchive(path)
  skip = {'affine_skip_connection': 'DD'}
  if len(archive.shapes.get('w_dec', ())) == 3:
    raise InputError(
        f'{archive.where} is a cross-layer transcoder, whose features write to'
        ' many layers; take a transcoder or an SAE of one layer.'
    )
  sizes = _sizes(archive, 'w_enc', 'w_dec', skip)
  layer, hook = place_in_path(asked.path)
  files = (archive.where,)
  if config_file is not None:
    files = (str(config_file), *files)
    config, where = read_json(config_file), str(config_file)
    _check_config(config, sizes['F'], where)
    if 'hf_hook_point_in' in config:
      told = site_of_gemma_module(
          setting(config, 'hf_hook_point_in', str, where), where
      )
      layer, hook = told.layer, told.hook
  site = asked.site(layer, hook, archive.where)
  stored = _read(archive, 'w_enc', 'w_dec', site)
  return dataclasses.replace(
      stored, reads_gain=site.hook == 'mlp_in', files=files
  )


def _check_config(config: Mapping[str, Any], size: int, where: str) -> None:
  architecture = setting(config, 'architecture', str, where, 'jump_relu')
  if architecture != 'jump_relu':
    raise InputError(
        f'{where}: architecture {printable(repr(architecture))} is not'
        " 'jump_relu', the one that Gemma Scope 2 has; check that it is the"
        ' right file.'
    )
  width = setting(config, 'width', int, where, size)
  if width != size:
    raise InputError(
        f'{where}: width {width} is not the {size} features of the weights'
        ' beside it; download both again.'
    )


def _sizes(
    archive: Archive, encoder: str, decoder: str, optional: dict[str, str]
) -> dict[str, int]:
  axes = {'b_enc': 'F', 'b_dec': 'D', 'threshold': 'F'}
  return axis_sizes(archive, {encoder: 'DF', decoder: 'FD', **axes}, optional)


def _read(
    archive: Archive, encoder: str, decoder: str, site: DictionarySite
) -> Stored:
  return Stored(
      encoder=read_array(archive, encoder, transposed=True),
      decoder=read_array(archive, decoder),
      encoder_bias=read_array(archive, 'b_enc', wide=True),
      decoder_bias=read_array(archive, 'b_dec', wide=True),
      threshold=read_array(archive, 'threshold', wide=True),
      site=site,
      files=(archive.where,),
  )


def _is_heads(width: int, config: ModelConfig | None) -> bool:
  """Whether only the outputs of the model's heads are that wide."""
  if config is None or width == config.embed_dim:
    return False
  return width == config.num_heads * config.head_dim
