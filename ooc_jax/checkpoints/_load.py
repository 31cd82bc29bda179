"""`load_model`: from a name, folder or file to a `Model`."""

from collections.abc import Collection
import os
from typing import Any

from jax.sharding import Mesh

from ooc_jax.checkpoints._convert import checked_dtype
from ooc_jax.checkpoints._convert import convert
from ooc_jax.checkpoints._folder import restore_model
from ooc_jax.checkpoints._open import find_model
from ooc_jax.checkpoints._open import open_model
from ooc_jax.model import PARTS
from ooc_jax.model import Model


def load_model(
    source: str | os.PathLike[str],
    *,
    parts: Collection[str] | None = None,
    dtype: Any = None,
    mesh: Mesh | None = None,
    revision: str | None = None,
) -> Model:
  """Loads a text model of one of the families in `ooc_jax.model.families`.

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
  dtype = checked_dtype(dtype)
  place = find_model(source, parts, revision)
  if place.is_ours:
    return restore_model(place.path, parts=parts, dtype=dtype, mesh=mesh)
  opened = open_model(place, parts)
  params = convert(
      opened.config,
      opened.rules,
      opened.source,
      parts=parts,
      dtype=dtype,
      mesh=mesh,
      ignored=opened.ignored,
      aliases=opened.aliases,
  )
  files = tuple(str(f) for f in opened.files)
  return Model(opened.config, params, opened.tokenizer(), files=files)
