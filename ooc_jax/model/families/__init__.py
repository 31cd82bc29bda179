"""Families of models: one file each, and nothing else knows their names.

A `Family` says which keys its config files have, which blocks its models are
made of (as fields of `ModelConfig`), where each tensor lies (a table of `Rule`
for safetensors and one for GGUF), and which models have short names. To add
one: a file with its record, its name in `FAMILIES`, and its test.
"""

import dataclasses
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import gemma2
from ooc_jax.model.families import gemma3
from ooc_jax.model.families import gpt2
from ooc_jax.model.families import gpt_neox
from ooc_jax.model.families import llama
from ooc_jax.model.families import mistral
from ooc_jax.model.families import qwen2
from ooc_jax.model.families import qwen3
from ooc_jax.model.families._family import GGUF
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._family import Rule
from ooc_jax.model.families._family import rules
from ooc_jax.model.families._gguf import linear_factor
from ooc_jax.model.families._reader import Reader

__all__ = (
    'FAMILIES',
    'Family',
    'GGUF',
    'HuggingFace',
    'ModelEntry',
    'Reader',
    'Rule',
    'family_blocks',
    'family_named',
    'gguf_rules',
    'hf_rules',
    'linear_factor',
)

FAMILIES = (
    llama.FAMILY,
    gemma2.FAMILY,
    gemma3.FAMILY,
    mistral.FAMILY,
    qwen2.FAMILY,
    qwen3.FAMILY,
    gpt2.FAMILY,
    gpt_neox.FAMILY,
)


def family_named(name: str) -> Family:
  """The family of `ModelConfig.family`.

  Raises:
    InputError: There is none.
  """
  for family in FAMILIES:
    if family.name == name:
      return family
  raise InputError(
      f'Family {name!r:.80} is none of'
      f' {", ".join(repr(family.name) for family in FAMILIES)}.'
  )


def family_blocks(name: str) -> dict[str, Any]:
  """The fields of `ModelConfig` that tell families apart, of one family."""
  own = family_named(name).blocks
  defaults = {x.name: x.default for x in dataclasses.fields(ModelConfig)}
  names = {name for family in FAMILIES for name in family.blocks}
  return {name: own.get(name, defaults[name]) for name in sorted(names)}


def hf_rules(config: ModelConfig) -> tuple[Rule, ...]:
  """Names and layouts of a model's Hugging Face safetensors."""
  return rules(family_named(config.family).hf.table, config)


def gguf_rules(config: ModelConfig) -> tuple[Rule, ...]:
  """Names and layouts of a model's GGUF file.

  Raises:
    InputError: There are no such files of this family.
  """
  family = family_named(config.family)
  if family.gguf is None:
    raise InputError(f'There are no GGUF files of the {family.name} family.')
  return rules(family.gguf.table, config)
