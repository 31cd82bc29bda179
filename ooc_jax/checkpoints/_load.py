"""`load_model`: from a name, folder or file to a `Model`."""

from collections.abc import Collection
import importlib.util
import os
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._convert import convert
from ooc_jax.checkpoints._gguf import GGUFSource
from ooc_jax.checkpoints._gguf import is_gguf
from ooc_jax.checkpoints._hub import fetch_config
from ooc_jax.checkpoints._hub import fetch_weights
from ooc_jax.checkpoints._manifest import MANIFEST
from ooc_jax.checkpoints._orbax import restore_model
from ooc_jax.checkpoints._registry import model_entry
from ooc_jax.checkpoints._rules import gguf_rules
from ooc_jax.checkpoints._rules import huggingface_rules
from ooc_jax.checkpoints._safetensors import SafetensorsSource
from ooc_jax.checkpoints._source import read_json
from ooc_jax.model import PARTS
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Tokenizer
from ooc_jax.model import config_from_gguf
from ooc_jax.model import config_from_hf
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[\w.-]+')
_ROPE_FREQUENCIES = 'rope_freqs.weight'
# Multimodal Gemma-3 checkpoints nest the text model, in one of two ways, and
# carry a vision tower that is not ours.
_NESTED = (
    ('language_model.model.', 'model.'),
    ('model.language_model.', 'model.'),
    ('language_model.lm_head.', 'lm_head.'),
)
_NOT_TEXT = (
    'vision_tower.',
    'multi_modal_projector.',
    'model.vision_tower.',
    'model.multi_modal_projector.',
)
_PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle')


def load_model(
    source: str | os.PathLike[str],
    *,
    parts: Collection[str] | None = None,
    dtype: Any = None,
    mesh: Mesh | None = None,
    revision: str | None = None,
) -> Model:
  """Loads a Llama, Gemma-2 or Gemma-3 text model.

  Args:
    source: A name of the registry ('gemma2-2b', 'smollm2'), a hub repository
      ('owner/name'), a folder (Hugging Face safetensors, or what `save_model`
      wrote), a `.safetensors` file beside its `config.json`, or a `.gguf`
      file.
    parts: Which of 'embedding', 'unembedding', 'attention', 'mlp', 'norms' to
      read; None is all. Nothing else is read or downloaded.
    dtype: Of the parameters; None keeps what is stored (float32 where it was
      quantised).
    mesh: Spreads parameters over devices: rows of the embeddings over `vocab`,
      MLP neurons over `feature`.
    revision: Branch, tag or commit of a hub repository.

  Returns:
    `Model(config, params, tokenizer)`.

  Raises:
    InputError: The source is unknown, incomplete, damaged or of a kind that is
      not supported; the message says what, where and what to do.
  """
  parts = PARTS if parts is None else parts
  dtype = _checked_dtype(dtype)
  place = _locate(source, revision)
  if isinstance(place, str):
    folder = fetch_config(place, revision)
    config = config_from_hf(read_json(folder / 'config.json'), place)
    wanted = _tensors_of(config, parts)
    fetch_weights(place, folder, wanted, _canonical_name)
    place = folder
  if place.is_file() and place.suffix in _PICKLES:
    raise InputError(
        f'{place} is opened by a pickle reader only, which could run code;'
        ' convert it to safetensors.'
    )
  if is_gguf(place):
    return _from_gguf(place, parts, dtype, mesh)
  if (place / MANIFEST).is_file():
    return restore_model(place, parts=parts, dtype=dtype, mesh=mesh)
  return _from_safetensors(place, parts, dtype, mesh)


def _checked_dtype(dtype: Any) -> Any:
  known = ['float32', 'bfloat16', 'float16']
  if jax.config.jax_enable_x64:
    known.append('float64')
  try:
    if dtype is None or jnp.dtype(dtype).name in known:
      return None if dtype is None else jnp.dtype(dtype)
  except TypeError:
    pass  # No dtype at all.
  raise InputError(f'dtype={dtype!r} must be one of {", ".join(known)}.')


def _locate(
    source: str | os.PathLike[str], revision: str | None
) -> pathlib.Path | str:
  """A path that exists, or a hub repository."""
  name = os.fspath(source)
  try:
    path = pathlib.Path(name).expanduser()
    found = bool(name) and path.exists()
  except (OSError, RuntimeError, ValueError) as error:  # '~nobody' and such.
    raise InputError(
        f'{name!r:.200} cannot be opened ({error!s:.200}); check the path.'
    ) from None
  if found:
    if revision is not None:
      raise InputError(
          f'{name} is on this machine and has no revision {revision!r}; leave'
          ' the revision out, or rename the file or folder to read the hub.'
      )
    return path
  suffix = path.suffix.lower()
  if suffix in ('.gguf', '.safetensors', *_PICKLES) or name.startswith(
      ('/', '.', '~')
  ):
    raise InputError(f'{name} does not exist; check the path.')
  if _HUB_ID.fullmatch(name):
    return name
  entry = model_entry(name)
  if entry.package is not None and revision is None:
    module, file = entry.package
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
      packaged = pathlib.Path(folder) / file
      if packaged.is_file():
        return packaged
  return entry.repo


def _from_gguf(
    path: pathlib.Path, parts: Collection[str], dtype: Any, mesh: Mesh | None
) -> Model:
  source = GGUFSource(path)
  stored = source.tensors()
  embedding = stored.get('token_embd.weight')
  if embedding is None or len(embedding.shape) != 2:
    raise InputError(
        f'{path} has no matrix token_embd.weight; this is no whole model.'
    )
  divisors = None
  if _ROPE_FREQUENCIES in stored:
    divisors = source.read(_ROPE_FREQUENCIES).ravel().tolist()
  config = config_from_gguf(
      source.metadata,
      vocab_size=embedding.shape[0],
      tied='output.weight' not in stored,
      rope_divisors=divisors,
      where=str(path),
  )
  params = convert(
      config,
      gguf_rules(config),
      source,
      parts=parts,
      dtype=dtype,
      mesh=mesh,
      ignored=(_ROPE_FREQUENCIES,),
  )
  tokenizer = None
  if 'tokenizer.ggml.model' in source.metadata:
    tokenizer = Tokenizer.from_gguf(
        source.metadata, vocab_size=config.vocab_size
    )
  return Model(config, params, tokenizer, files=_names(source.files))


def _from_safetensors(
    path: pathlib.Path, parts: Collection[str], dtype: Any, mesh: Mesh | None
) -> Model:
  folder = path if path.is_dir() else path.parent
  config_file = folder / 'config.json'
  if not config_file.is_file():
    raise InputError(_no_config(folder))
  config = config_from_hf(read_json(config_file), str(config_file))
  wanted = _tensors_of(config, parts)
  source = SafetensorsSource(path, lambda n: _canonical_name(n) in wanted)
  names = list(source.tensors())
  ignored = {n for n in names if n.startswith(_NOT_TEXT)}
  # Frequencies that old converters stored; they are computed here.
  ignored |= {n for n in names if n.endswith('.rotary_emb.inv_freq')}
  aliases = {n: _canonical_name(n) for n in names if _canonical_name(n) != n}
  if config.tied:
    # Some writers store the tied table twice.
    ignored |= {n for n in names if _canonical_name(n) == 'lm_head.weight'}
  params = convert(
      config,
      huggingface_rules(config),
      source,
      parts=parts,
      dtype=dtype,
      mesh=mesh,
      ignored=ignored,
      aliases=aliases,
  )
  tokenizer, files = None, [config_file, *source.files]
  tokenizer_file = folder / 'tokenizer.json'
  if tokenizer_file.is_file():
    files.append(tokenizer_file)
    tokenizer = Tokenizer.from_file(
        tokenizer_file, vocab_size=config.vocab_size
    )
  return Model(config, params, tokenizer, files=_names(files))


def _no_config(folder: pathlib.Path) -> str:
  """Why a folder is none of ours, and what to give instead."""
  if inside := sorted(f.name for f in folder.glob('*.gguf')):
    return f'{folder} is a folder; give the file in it: {folder / inside[0]}.'
  return (
      f'{folder} has no config.json; give a folder with a Hugging Face'
      ' checkpoint or one that save_model wrote, or a .gguf file.'
  )


def _canonical_name(name: str) -> str:
  for nested, plain in _NESTED:
    if name.startswith(nested):
      return plain + name.removeprefix(nested)
  return name


def _tensors_of(config: ModelConfig, parts: Collection[str]) -> set[str]:
  needed = parts_needed(config, parts)
  return {
      rule.theirs
      for rule in huggingface_rules(config)
      if part_of(rule.ours.split('/')) in needed
  }


def _names(files: Collection[pathlib.Path]) -> tuple[str, ...]:
  return tuple(str(f) for f in files)
