"""Opens a checkpoint that is not ours: headers, and what they mean."""

from collections.abc import Callable, Collection, Mapping
import dataclasses
import pathlib

from ooc_jax._errors import InputError
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
  """

  config: ModelConfig
  rules: tuple[families.Rule, ...]
  source: TensorSource
  ignored: Collection[str]
  aliases: Mapping[str, str]
  tokenizer: Callable[[], Tokenizer | None]
  files: tuple[pathlib.Path, ...]
  config_file: pathlib.Path | None


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

  def tokenizer() -> Tokenizer | None:
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
      ignored=(_ROPE_FREQUENCIES,),
      aliases={},
      tokenizer=tokenizer,
      files=source.files,
      config_file=None,
  )


def _open_safetensors(
    path: pathlib.Path, parts: Collection[str]
) -> OpenedModel:
  folder = path if path.is_dir() else path.parent
  config_file = folder / 'config.json'
  if not config_file.is_file():
    raise InputError(_no_config(folder))
  config = config_from_hf(read_json(config_file), str(config_file))
  needed = tensors_of(config, parts)
  source = SafetensorsSource(path, lambda n: canonical_name(n) in needed)
  names = list(source.tensors())
  ignored = {n for n in names if n.startswith(_NOT_TEXT)}
  # Frequencies that old converters stored; they are computed here.
  ignored |= {n for n in names if n.endswith('.rotary_emb.inv_freq')}
  aliases = {n: canonical_name(n) for n in names if canonical_name(n) != n}
  if config.tied:
    # Some writers store the tied table twice.
    ignored |= {n for n in names if canonical_name(n) == 'lm_head.weight'}
  files = [config_file, *source.files]
  tokenizer_file = folder / 'tokenizer.json'
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
  )


def _no_config(folder: pathlib.Path) -> str:
  """Why a folder is none of ours, and what to give instead."""
  if inside := sorted(f.name for f in folder.glob('*.gguf')):
    return f'{folder} is a folder; give the file in it: {folder / inside[0]}.'
  return (
      f'{folder} has no config.json; give a folder with a Hugging Face'
      ' checkpoint or one that save_model wrote, or a .gguf file.'
  )


def canonical_name(name: str) -> str:
  """A tensor's name without the nesting of multimodal checkpoints."""
  for nested, plain in _NESTED:
    if name.startswith(nested):
      return plain + name.removeprefix(nested)
  return name


def tensors_of(config: ModelConfig, parts: Collection[str]) -> set[str]:
  """Canonical names of the Hugging Face tensors that hold `parts`."""
  needed = parts_needed(config, parts)
  return {
      rule.theirs
      for rule in families.hf_rules(config)
      if part_of(rule.ours.split('/')) in needed
  }
