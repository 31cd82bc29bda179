"""Opens a checkpoint that is not ours: headers, and what they mean."""

from collections.abc import Callable, Collection, Mapping
import dataclasses
import pathlib
from typing import Any

from absl import logging
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.checkpoints._safetensors import SafetensorsSource
from ooc_jax.checkpoints._source import TensorSource
from ooc_jax.checkpoints._source import read_json
from ooc_jax.checkpoints.gguf import GGUFSource
from ooc_jax.checkpoints.gguf import is_gguf
from ooc_jax.model import ModelConfig
from ooc_jax.model import Tokenizer
from ooc_jax.model import config_from_gguf
from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

ADAPTER_CONFIG = 'adapter_config.json'
TOKENIZER = 'tokenizer.json'
_ROPE_FREQUENCIES = 'rope_freqs.weight'
# Frequencies, and the vision tower of the files that Ollama writes.
_NOT_TEXT_GGUF = (_ROPE_FREQUENCIES, 'v.', 'mm.', 'a.')
# Rows of a stored head compared with the embedding at a time.
_ROWS = 2048
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedModel:
  """A checkpoint whose weights can be read, one tensor at a time.

  Attributes:
    config: Of the model.
    rules: One per tensor.
    source: The tensors.
    ignored: Tensors that are no parameters.
    aliases: Name in the checkpoint -> name that the rules use for it.
    tokenizer: Reads it; gives None where there is none.
    files: Every file that is read.
    config_file: Of Hugging Face, or None.
    notes: What a user should know of how it was read; logged already.
  """

  config: ModelConfig
  rules: tuple[families.Rule, ...]
  source: TensorSource
  ignored: Collection[str]
  aliases: Mapping[str, str]
  tokenizer: Callable[[], Tokenizer | None]
  files: tuple[pathlib.Path, ...]
  config_file: pathlib.Path | None
  notes: tuple[str, ...] = ()


def open_model(path: pathlib.Path, parts: Collection[str]) -> OpenedModel:
  """Reads the headers of a checkpoint that is not ours.

  Args:
    path: A file or folder, of `find_model`.
    parts: What will be read.

  Raises:
    InputError: It is incomplete, damaged or not supported.
  """
  if is_gguf(path):
    return _open_gguf(path)
  return _open_safetensors(path, parts)


def _open_gguf(path: pathlib.Path) -> OpenedModel:
  source = GGUFSource(path)
  stored = source.tensors()
  embedding = stored.get('token_embd.weight')
  shape = None if embedding is None else embedding.shape
  if shape is None or len(shape) != 2:
    raise InputError(
        f'{path} has no matrix token_embd.weight; this is no whole model.'
    )
  divisors = None
  if _ROPE_FREQUENCIES in stored:
    divisors = source.read(_ROPE_FREQUENCIES).ravel().tolist()
  config = config_from_gguf(
      source.metadata,
      vocab_size=shape[0],
      tied='output.weight' not in stored,
      rope_divisors=divisors,
      where=str(path),
  )
  notes = _about_gguf(path, source.metadata)
  beside = path.parent / TOKENIZER
  files = [*source.files, *([beside] if beside.is_file() else [])]

  def tokenizer() -> Tokenizer | None:
    if beside in files:  # Hugging Face's own: exact for every text.
      return Tokenizer.from_file(beside, vocab_size=config.vocab_size)
    if 'tokenizer.ggml.model' not in source.metadata:
      return None
    try:
      return Tokenizer.from_gguf(source.metadata, vocab_size=config.vocab_size)
    except InputError as error:
      raise InputError(f'{path}: {error}') from None

  return OpenedModel(
      config=config,
      rules=families.gguf_rules(config),
      source=source,
      ignored={n for n in stored if n.startswith(_NOT_TEXT_GGUF)},
      aliases={},
      tokenizer=tokenizer,
      files=tuple(files),
      config_file=None,
      notes=notes,
  )


def _about_gguf(
    path: pathlib.Path, metadata: Mapping[str, Any]
) -> tuple[str, ...]:
  """What a file leaves out: llama.cpp writes a Mistral as a Llama."""
  keys = ('general.name', 'general.basename')
  names = ' '.join(str(metadata.get(key, '')) for key in keys).lower()
  if metadata['general.architecture'] != 'llama' or 'mistral' not in names:
    return ()
  note = (
      f'{path} is of a Mistral, and such files do not say whether its attention'
      ' slides (over 4096 tokens in 7B v0.1): it is read as if it did not. The'
      ' safetensors of the model say it.'
  )
  logging.warning('%s', note)
  return (note,)


def _open_safetensors(
    path: pathlib.Path, parts: Collection[str]
) -> OpenedModel:
  folder = path if path.is_dir() else path.parent
  config_file = folder / 'config.json'
  if not config_file.is_file():
    raise InputError(_no_config(folder))
  config = config_from_hf(read_json(config_file), str(config_file))
  canonical = canonical_names(config)
  needed = tensors_of(config, parts)
  source = SafetensorsSource(path, lambda n: canonical(n) in needed)
  names = list(source.tensors())
  ignored = {n for n in names if n.startswith(_NOT_TEXT)}
  # Frequencies and masks that old converters stored; they are computed here.
  buffers = families.family_named(config.family).hf.buffers
  ignored |= {n for n in names if n.endswith(buffers)}
  aliases = {n: canonical(n) for n in names if canonical(n) != n}
  head = _table_name(config, 'unembedding')
  heads = {n for n in names if canonical(n) == head} if config.tied else set()
  embedding = _table_name(config, 'embedding')
  tables = [n for n in names if canonical(n) == embedding]
  notes = ()
  if head in needed and not _all_equal(source, heads, tables):
    notes = (
        (
            f'{path}: {config_file.name} says that the unembedding is the'
            f' embedding, and the {head} stored beside it is another table'
            ' (adapters were merged, perhaps); the stored one is used.'
        ),
    )
    logging.warning('%s', notes[0])
    config = dataclasses.replace(config, tied=False)
  else:
    ignored |= heads  # Some writers store the tied table twice.
  files = [config_file, *source.files]
  tokenizer_file = folder / TOKENIZER
  if tokenizer_file.is_file():
    files.append(tokenizer_file)

  def tokenizer() -> Tokenizer | None:
    if tokenizer_file not in files:
      return None
    return Tokenizer.from_file(tokenizer_file, vocab_size=config.vocab_size)

  return OpenedModel(
      config=config,
      rules=families.hf_rules(config),
      source=source,
      ignored=ignored,
      aliases=aliases,
      tokenizer=tokenizer,
      files=tuple(files),
      config_file=config_file,
      notes=notes,
  )


def _no_config(folder: pathlib.Path) -> str:
  """Why a folder is none of ours, and what to give instead."""
  if inside := sorted(f.name for f in folder.glob('*.gguf')):
    return f'{folder} is a folder; give the file in it: {folder / inside[0]}.'
  if (folder / ADAPTER_CONFIG).is_file():
    return adapter_sentence(str(folder), folder / ADAPTER_CONFIG)
  return (
      f'{folder} has no config.json; give a folder with a Hugging Face'
      ' checkpoint or one that save_model wrote, or a .gguf file.'
  )


def adapter_sentence(where: str, path: pathlib.Path) -> str:
  """What to do with an adapter, which is a change of another model."""
  base = read_json(path).get('base_model_name_or_path')
  of = f' of {printable(base, 100)}' if isinstance(base, str) and base else ''
  return (
      f'{where} holds an adapter{of} (adapter_config.json) and no whole model;'
      ' merge it into that model (merge_and_unload of peft), save the result'
      ' and give its folder.'
  )


def canonical_names(config: ModelConfig) -> Callable[[str], str]:
  """Gives a tensor's name as the tables have it.

  Without the nesting of multimodal checkpoints, and with the prefix that
  checkpoints of a base class (no head) lack.
  """
  prefix = families.family_named(config.family).hf.prefix
  known = {rule.theirs for rule in families.hf_rules(config)}

  def canonical(name: str) -> str:
    for nested, plain in _NESTED:
      if name.startswith(nested):
        return plain + name.removeprefix(nested)
    return prefix + name if prefix + name in known else name

  return canonical


def tensors_of(config: ModelConfig, parts: Collection[str]) -> set[str]:
  """Canonical names of the Hugging Face tensors that hold `parts`.

  Of a tied model that is to have a table also the head that it should not
  have: some checkpoints store one that is no copy.
  """
  needed = parts_needed(config, parts)
  names = {
      rule.theirs
      for rule in families.hf_rules(config)
      if part_of(rule.ours.split('/')) in needed
  }
  if config.tied and 'embedding' in needed:
    names.add(_table_name(config, 'unembedding'))
  return names


def _table_name(config: ModelConfig, ours: str) -> str:
  """The name of 'embedding' or 'unembedding', also where it is tied."""
  table = families.family_named(config.family).hf.table
  return next(rule.theirs for rule in table if rule.ours == ours)


def _all_equal(
    source: TensorSource, heads: Collection[str], tables: Collection[str]
) -> bool:
  """Whether every one of the stored `heads` is a copy of the embedding."""
  infos = source.tensors()
  for head in heads:
    for table in tables:
      shape = infos[head].shape
      if shape is None or shape != infos[table].shape:
        return False
      for start in range(0, shape[0], _ROWS):
        rows = (slice(start, min(start + _ROWS, shape[0])), slice(None))
        if not np.array_equal(
            source.read(head, rows), source.read(table, rows)
        ):
          return False
  return True
