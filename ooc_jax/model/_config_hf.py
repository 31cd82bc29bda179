"""Between a Hugging Face `config.json` and `ModelConfig`, both ways."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.model._config import Llama3Scaling
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config import Rope
from ooc_jax.model._config import shown
from ooc_jax.model._rope import rope_frequencies
from ooc_jax.model.families import FAMILIES
from ooc_jax.model.families import Family
from ooc_jax.model.families import Reader
from ooc_jax.model.families import family_named

# Bookkeeping, training and generation settings: none changes a logit.
_IGNORED = frozenset({
    '_attn_implementation', '_attn_implementation_autoset', '_commit_hash',
    'attn_implementation', 'begin_suppress_tokens', 'chat_template',
    'diversity_penalty', 'do_sample', 'early_stopping',
    'encoder_no_repeat_ngram_size', 'exponential_decay_length_penalty',
    'forced_bos_token_id', 'forced_eos_token_id', 'length_penalty',
    'max_length', 'max_new_tokens', 'max_sequence_length', 'min_length',
    'model_max_length', 'model_name', 'neftune_noise_alpha',
    'no_repeat_ngram_size', 'num_beam_groups', 'num_beams',
    'num_return_sequences', 'output_router_logits', 'output_scores',
    'remove_invalid_values', 'repetition_penalty', 'return_dict_in_generate',
    'suppress_tokens', 'temperature', 'tf_legacy_loss', 'tie_encoder_decoder',
    'tokenizer_name', 'top_k', 'top_p', 'torchscript', 'typical_p',
    'unk_token_id', 'unsloth_version', 'use_bfloat16', 'use_flash_attn',
    'use_return_dict',
    '_name_or_path', 'architectures', 'attention_dropout', 'auto_map',
    'bad_words_ids', 'boi_token_index', 'bos_token_id', 'cache_implementation',
    'chunk_size_feed_forward', 'decoder_start_token_id', 'dtype',
    'eoi_token_index', 'eos_token_id', 'finetuning_task', 'id2label',
    'image_token_index', 'initializer_range', 'is_decoder',
    'is_encoder_decoder', 'is_llama_config', 'label2id',
    'max_position_embeddings', 'mm_tokens_per_image', 'model_type',
    'output_attentions',
    'output_hidden_states', 'pad_token_id', 'prefix', 'pretraining_tp',
    'problem_type', 'return_dict', 'sep_token_id',
    'task_specific_params', 'tokenizer_class', 'torch_dtype',
    'transformers.js_config', 'transformers_version', 'unsloth_fixed',
    'use_cache', 'vision_config',
})  # fmt: skip
# Accepted with this value (or null) only; anything else is not implemented.
_REQUIRED = {
    'attention_bias': False,
    'mlp_bias': False,
    'use_bidirectional_attention': False,
    'quantization_config': None,
    'cross_attention_hidden_size': None,
    'rope_interleaved': False,
    'add_cross_attention': False,
    'pruned_heads': {},
}
_READ = frozenset({
    'hidden_act', 'hidden_activation', 'rope_parameters', 'rope_scaling',
    'rope_theta', 'tie_word_embeddings',
})  # fmt: skip
_FAMILY_OF = {
    kind: family for family in FAMILIES for kind in family.hf.model_types
}


def config_from_hf(
    hf: Mapping[str, Any], where: str = 'config.json'
) -> ModelConfig:
  """Reads a Hugging Face config, refusing any key it does not understand.

  Args:
    hf: The parsed `config.json`; the text model may be nested in
      `text_config`.
    where: Name of the file, for errors.

  Returns:
    The config.

  Raises:
    InputError: A key is unknown, missing or has a value not implemented.
  """
  hf = _text_part(Reader(hf, where))
  kind = hf.get('model_type')
  family = _FAMILY_OF.get(kind) if isinstance(kind, str) else None
  if family is None:
    raise InputError(
        f'{where}: model_type {shown(kind)} is not supported; supported are'
        f' {sorted(_FAMILY_OF)}.'
    )
  known = family.hf
  reader = Reader(hf, where, known.defaults)
  _refuse_unknown(
      reader,
      _READ | known.keys | known.ignored | set(known.sizes.values()),
      {**_REQUIRED, **known.required},
  )
  fields = known.read(reader)
  try:
    return ModelConfig(
        family=family.name,
        tied=reader.flag('tie_word_embeddings'),
        **{**_sizes(reader, known.sizes, fields), **family.blocks, **fields},
    )
  except InputError as error:
    if str(error).startswith(where):
      raise
    raise reader.fail(str(error).rstrip('.')) from None


def _sizes(
    reader: Reader, keys: Mapping[str, str], fields: Mapping[str, Any]
) -> dict[str, Any]:
  """The sizes that a family does not read in a way of its own."""
  num_heads = reader.whole(keys['num_heads'])
  sizes: dict[str, Any] = {'num_heads': num_heads, 'num_kv_heads': num_heads}
  for field, key in keys.items():
    if field == 'norm_eps':
      sizes[field] = reader.number(key)
    elif field == 'num_layers':
      sizes[field] = reader.layers(key)
    elif field not in fields:
      default = num_heads if field == 'num_kv_heads' else None
      sizes[field] = reader.whole(key, default)
  return sizes


def _text_part(outer: Reader) -> Mapping[str, Any]:
  """The settings of the text model, which multimodal files nest."""
  nested = outer.get('text_config')
  if nested is None:
    return outer.settings
  if not isinstance(nested, Mapping):
    raise outer.fail("'text_config' is not an object")
  _refuse_unknown(outer, {'text_config', 'tie_word_embeddings'}, _REQUIRED)
  family = _wrapped_family(outer.settings)
  if family is None:
    raise outer.fail(
        f'model_type {shown(outer.get("model_type"))} is not supported around a'
        f" 'text_config'; supported are {[x.hf.wrapper for x in _wrapped()]}"
    )
  # Files say inside, outside or nowhere whether the tables are tied.
  tied = [
      hf['tie_word_embeddings']
      for hf in (outer.settings, nested)
      if hf.get('tie_word_embeddings') is not None
  ]
  if len(tied) == 2 and (tied[0] is True) != (tied[1] is True):
    raise outer.fail(
        "'tie_word_embeddings' differs inside and outside of 'text_config'"
    )
  return {
      'model_type': family.hf.model_types[0],
      **nested,
      'tie_word_embeddings': tied[-1] if tied else None,
  }


def _wrapped() -> list[Family]:
  return [family for family in FAMILIES if family.hf.wrapper is not None]


def _wrapped_family(hf: Mapping[str, Any]) -> Family | None:
  """The family of the text model inside a multimodal one."""
  kind = hf.get('model_type')
  return next((x for x in _wrapped() if x.hf.wrapper == kind), None)


def _refuse_unknown(
    reader: Reader,
    known: set[str] | frozenset[str],
    required: Mapping[str, Any],
) -> None:
  hf = reader.settings
  problems = []
  known = known | _IGNORED | set(required)
  unknown = sorted(str(key) for key in hf if key not in known)
  if unknown:
    problems.append(f'unknown keys {[k[:60] for k in unknown[:10]]}')
  problems += [
      f'{k} = {shown(hf[k])}'
      for k, value in required.items()
      if k in hf and hf[k] is not None and hf[k] != value
  ]
  if problems:
    raise reader.fail(
        f'{", ".join(problems)} not understood; they may change the numbers, so'
        ' this model is refused'
    )


def text_config(hf: Mapping[str, Any]) -> dict[str, Any]:
  """`hf`, or where it is of a multimodal model, the text model inside it."""
  nested = hf.get('text_config')
  family = _wrapped_family(hf)
  if nested is None or family is None:
    return dict(hf)
  tied = hf.get('tie_word_embeddings', nested.get('tie_word_embeddings'))
  # The text model may be read without these, and not without the outer type.
  return {
      **nested,
      'architectures': [family.hf.architecture],
      'model_type': family.hf.model_types[0],
      'tie_word_embeddings': True if tied is None else tied,
  }


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
  """The config in the hub's dialect; `config_from_hf` reads the same again.

  Raises:
    InputError: Hugging Face's files cannot say it.
  """
  if config.rope is not None and config.rope.divisors is not None:
    rope = _known_llama3(config.rope, config.head_dim)
    config = dataclasses.replace(config, rope=rope)
  known = family_named(config.family).hf
  hf = {
      'architectures': [known.architecture],
      'model_type': known.model_types[0],
      **{key: getattr(config, field) for field, key in known.sizes.items()},
      'tie_word_embeddings': config.tied,
      **known.write(config),
  }
  if config_from_hf(hf) != config:
    raise InputError(
        'The config of this model has no form in a Hugging Face config.json;'
        ' keep it as Orbax (--to=orbax).'
    )
  return hf


def _known_llama3(rope: Rope, head_dim: int) -> Rope:
  """With the published scaling whose divisors a GGUF file holds."""
  for factor in (8.0, 32.0):  # Of Llama 3.1 and 3.2.
    scaling = Llama3Scaling(
        factor=factor,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context=8192,
    )
    same = Rope(base=rope.base, llama3=scaling)
    # The file has float32 divisors.
    if np.allclose(
        rope_frequencies(rope, head_dim),
        rope_frequencies(same, head_dim),
        rtol=1e-5,
        atol=0,
    ):
      return same
  raise InputError(
      'The RoPE divisors of this GGUF file are of no Llama that is known, and'
      ' a Hugging Face config.json cannot hold them; keep the model as Orbax'
      ' (--to=orbax).'
  )
