"""`load_model`: from a name, folder or file to a `Model`."""

from collections.abc import Collection
import importlib.util
import os
import pathlib
import re
from typing import Any

from jax.sharding import Mesh
import jax.numpy as jnp

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._convert import convert
from ooc_jax.checkpoints._gguf import GGUFSource
from ooc_jax.checkpoints._hub import fetch_config
from ooc_jax.checkpoints._hub import fetch_weights
from ooc_jax.checkpoints._orbax import MANIFEST
from ooc_jax.checkpoints._orbax import restore_model
from ooc_jax.checkpoints._registry import model_entry
from ooc_jax.checkpoints._rules import gguf_rules
from ooc_jax.checkpoints._rules import huggingface_rules
from ooc_jax.checkpoints._safetensors import SafetensorsSource
from ooc_jax.checkpoints._source import read_json
from ooc_jax.model import config_from_gguf
from ooc_jax.model import config_from_hf
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import part_of
from ooc_jax.model import PARTS
from ooc_jax.model import parts_needed
from ooc_jax.model import Tokenizer

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
  dtype = None if dtype is None else jnp.dtype(dtype)
  place = _locate(source)
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
  if place.suffix == '.gguf':
    return _from_gguf(place, parts, dtype, mesh)
  if (place / MANIFEST).is_file():
    return restore_model(place, parts=parts, dtype=dtype, mesh=mesh)
  return _from_safetensors(place, parts, dtype, mesh)


def _locate(source: str | os.PathLike[str]) -> pathlib.Path | str:
  """A path that exists, or a hub repository."""
  path = pathlib.Path(source).expanduser()
  if path.exists():
    return path
  name = os.fspath(source)
  suffix = path.suffix.lower()
  if suffix in ('.gguf', '.safetensors', *_PICKLES) or name.startswith(
      ('/', '.', '~')
  ):
    raise InputError(f'{name} does not exist; check the path.')
  if _HUB_ID.fullmatch(name):
    return name
  entry = model_entry(name)
  if entry.package is not None:
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
