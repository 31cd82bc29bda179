"""Reads a Hugging Face `config.json`, in both dialects in use.

The hub's dialect has `rope_theta` and `rope_scaling`; transformers 5 writes
`rope_parameters` and `layer_types`. Every key is renamed, checked, or known
not to change a number. Any other key is refused by name: an unread key
changes numbers without changing a shape.
"""

from collections.abc import Mapping
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.model import _config_hf_keys as keys
from ooc_jax.model._config import MAX_LAYERS
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config_hf_rope import read_ropes
from ooc_jax.model._config_values import Reader
from ooc_jax.model._config_values import shown

_SILU = {'silu', 'swish'}
# The hub's Gemma-1 and early Gemma-2 files say 'gelu' in `hidden_act` and mean
# the tanh form, which `hidden_activation` names; only the latter is trusted.
_GELU_TANH = {'gelu_pytorch_tanh'}


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
  hf = _text_config(Reader(hf, where))
  kind = hf.get('model_type')
  family = keys.FAMILY.get(kind) if isinstance(kind, str) else None
  if family is None:
    raise Reader(hf, where).fail(
        f'model_type {shown(kind)} is not supported; supported are'
        f' {sorted(keys.FAMILY)}'
    )
  reader = Reader(hf, where, keys.DEFAULTS[family])
  _refuse_unknown(
      reader, keys.IGNORED | set(keys.REQUIRED) | keys.READ_BY[family]
  )
  _check_activation(reader, family)
  num_heads = reader.whole('num_attention_heads')
  if family == 'llama':
    head_dim = reader.whole('head_dim', _default_head_dim(reader))
    scalar = head_dim
    windows = (None,) * _count_layers(reader)
  else:
    head_dim = reader.whole('head_dim')
    scalar = reader.number('query_pre_attn_scalar')
    windows = _windows(reader, family)
  if scalar <= 0:
    raise reader.fail(f'the query scale is {scalar}, not above zero')
  rope, local_rope = read_ropes(reader, family)
  try:
    return ModelConfig(
        family=family,
        vocab_size=reader.whole('vocab_size'),
        embed_dim=reader.whole('hidden_size'),
        mlp_dim=reader.whole('intermediate_size'),
        num_layers=len(windows),
        num_heads=num_heads,
        num_kv_heads=reader.whole('num_key_value_heads', num_heads),
        head_dim=head_dim,
        norm_eps=reader.number('rms_norm_eps'),
        tied=_tied(reader, family),
        attention_scale=float(scalar) ** -0.5,
        attention_softcap=_softcap(reader, family, 'attn_logit_softcapping'),
        final_softcap=_softcap(reader, family, 'final_logit_softcapping'),
        rope=rope,
        local_rope=local_rope,
        windows=windows,
    )
  except InputError as error:
    raise reader.fail(str(error).rstrip('.')) from None


def _text_config(outer: Reader) -> Mapping[str, Any]:
  """The settings of the text model, which multimodal files nest."""
  nested = outer.hf.get('text_config')
  if nested is None:
    return outer.hf
  if not isinstance(nested, Mapping):
    raise outer.fail("'text_config' is not an object")
  _refuse_unknown(outer, keys.IGNORED | {'text_config', 'tie_word_embeddings'})
  if outer.hf.get('model_type') != 'gemma3':
    raise outer.fail(
        f'model_type {shown(outer.hf.get("model_type"))} is not supported'
        " around a 'text_config'; supported is 'gemma3'"
    )
  # Files say inside, outside or nowhere whether the tables are tied.
  tied = [
      hf['tie_word_embeddings']
      for hf in (outer.hf, nested)
      if hf.get('tie_word_embeddings') is not None
  ]
  if len(tied) == 2 and (tied[0] is True) != (tied[1] is True):
    raise outer.fail(
        "'tie_word_embeddings' differs inside and outside of 'text_config'"
    )
  return {
      'model_type': 'gemma3',
      **nested,
      'tie_word_embeddings': tied[-1] if tied else None,
  }


def _count_layers(reader: Reader) -> int:
  num_layers = reader.whole('num_hidden_layers')
  if not 0 < num_layers <= MAX_LAYERS:
    raise reader.fail(
        f"'num_hidden_layers' is {num_layers}, not from 1 to {MAX_LAYERS}"
    )
  return num_layers


def _default_head_dim(reader: Reader) -> int | None:
  embed_dim = reader.whole('hidden_size')
  num_heads = reader.whole('num_attention_heads')
  if num_heads <= 0 or embed_dim % num_heads:
    return None
  return embed_dim // num_heads


def _refuse_unknown(reader: Reader, known: set[str] | frozenset[str]) -> None:
  hf = reader.hf
  problems = []
  unknown = sorted(str(key) for key in hf if key not in known)
  if unknown:
    problems.append(f'unknown keys {[k[:60] for k in unknown[:10]]}')
  problems += [
      f'{k} = {shown(hf[k])}'
      for k, required in keys.REQUIRED.items()
      if k in hf and hf[k] is not None and hf[k] != required
  ]
  if problems:
    raise reader.fail(
        f'{", ".join(problems)} not understood; they may change the numbers, so'
        ' this model is refused'
    )


def _check_activation(reader: Reader, family: str) -> None:
  hf = reader.hf
  if family == 'llama':
    name, known = hf.get('hidden_act'), _SILU
  else:
    # `hidden_activation` wins; with neither, Gemma's default is the tanh form.
    name, known = hf.get('hidden_activation'), _GELU_TANH
  if name is not None and (not isinstance(name, str) or name not in known):
    raise reader.fail(
        f'activation {shown(name)} is not supported for {family}; supported:'
        f' {sorted(known)}'
    )


def _tied(reader: Reader, family: str) -> bool:
  tied = reader.hf.get('tie_word_embeddings')
  tied = family != 'llama' if tied is None else tied
  if not isinstance(tied, bool):
    raise reader.fail(
        f"'tie_word_embeddings' is {shown(tied)}, not true or false"
    )
  return tied


def _softcap(reader: Reader, family: str, key: str) -> float | None:
  if family == 'gemma2' and key not in reader.hf:
    return keys.GEMMA2_SOFTCAPS[key]
  if reader.hf.get(key) is None:
    return None
  if family == 'gemma3' and key == 'attn_logit_softcapping':
    raise reader.fail(
        f'{key!r} is {shown(reader.hf[key])}; Gemma 3 has no cap on attention'
        ' logits, and transformers ignores one, so this model is refused'
    )
  return reader.number(key)


def _windows(reader: Reader, family: str) -> tuple[int | None, ...]:
  """Per layer its window; sliding layers come first in each period."""
  num_layers = _count_layers(reader)
  if 'sliding_window' in reader.hf and reader.hf['sliding_window'] is None:
    raise reader.fail("'sliding_window' is null, but Gemma has sliding layers")
  window = reader.whole('sliding_window')
  # Gemma-2-9B's file has the same number under both names.
  if reader.whole('sliding_window_size', window) != window:
    raise reader.fail("'sliding_window' and 'sliding_window_size' differ")
  types = reader.hf.get('layer_types')
  if types is None:
    period = 2
    if family == 'gemma3':
      period = reader.whole(
          'sliding_window_pattern', reader.whole('_sliding_window_pattern', 6)
      )
    if period < 1:
      raise reader.fail(f"'sliding_window_pattern' is {period}, not above zero")
    types = [
        'sliding_attention' if (i + 1) % period else 'full_attention'
        for i in range(num_layers)
    ]
  names = {'sliding_attention': window, 'full_attention': None}
  if not isinstance(types, list) or not all(
      isinstance(t, str) and t in names for t in types
  ):
    raise reader.fail(f"'layer_types' holds more than {sorted(names)}")
  if len(types) != num_layers:
    raise reader.fail(
        f"'layer_types' names {len(types)} layers, and 'num_hidden_layers' is"
        f' {num_layers}'
    )
  return tuple(names[t] for t in types)
