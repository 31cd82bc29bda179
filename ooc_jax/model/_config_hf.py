"""Reads a Hugging Face `config.json`, in both dialects in use.

The hub's dialect has `rope_theta` and `rope_scaling`; transformers 5 writes
`rope_parameters` and `layer_types`. Every key is renamed, checked, or known
not to change a number. Any other key is refused by name: an unread key
changes numbers without changing a shape.
"""

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.model._config import Llama3Scaling
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config import Rope

_FAMILY = {
    'llama': 'llama',
    'gemma2': 'gemma2',
    'gemma3_text': 'gemma3',
    'gemma3': 'gemma3',
}

# Bookkeeping, training and generation settings: none changes a logit.
_IGNORED = frozenset({
    '_name_or_path', 'architectures', 'attention_dropout', 'auto_map',
    'bad_words_ids', 'boi_token_index', 'bos_token_id', 'cache_implementation',
    'chunk_size_feed_forward', 'decoder_start_token_id', 'dtype',
    'eoi_token_index', 'eos_token_id', 'finetuning_task', 'id2label',
    'image_token_index', 'initializer_range', 'is_decoder', 'is_encoder_decoder',
    'is_llama_config', 'label2id', 'max_position_embeddings',
    'mm_tokens_per_image', 'model_type', 'output_attentions',
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
}
_READ = frozenset({
    'vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
    'num_attention_heads', 'num_key_value_heads', 'head_dim', 'rms_norm_eps',
    'hidden_act', 'hidden_activation', 'tie_word_embeddings', 'rope_theta',
    'rope_scaling', 'rope_parameters',
})  # fmt: skip
_READ_GEMMA = _READ | {
    'query_pre_attn_scalar', 'sliding_window', 'sliding_window_size',
    'layer_types',
    'attn_logit_softcapping', 'final_logit_softcapping',
}  # fmt: skip
_READ_BY = {
    'llama': _READ,
    'gemma2': _READ_GEMMA,
    'gemma3': _READ_GEMMA
    | {
        'rope_local_base_freq',
        'sliding_window_pattern',
        '_sliding_window_pattern',
    },
}
_SILU = {'silu', 'swish'}
# The hub's Gemma-1 and early Gemma-2 files say 'gelu' in `hidden_act` and mean
# the tanh form, which `hidden_activation` names; only the latter is trusted.
_GELU_TANH = {'gelu_pytorch_tanh'}


@dataclasses.dataclass(frozen=True)
class _Reader:
  """A config with the name of its file, for errors."""

  hf: Mapping[str, Any]
  where: str

  def fail(self, what: str) -> InputError:
    return InputError(f'{self.where}: {what}.')

  def number(self, key: str, default: Any = None) -> Any:
    value = self.hf.get(key)
    value = default if value is None else value
    if value is None:
      raise self.fail(f'{key!r} is missing; this is no complete model config')
    if isinstance(value, bool) or not isinstance(value, (int, float)):
      raise self.fail(f'{key!r} is {value!r}, not a number')
    return value


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
  outer = _Reader(hf, where)
  nested = hf.get('text_config')
  if nested is not None:
    if not isinstance(nested, Mapping):
      raise outer.fail("'text_config' is not an object")
    _refuse_unknown(outer, _IGNORED | {'text_config', 'tie_word_embeddings'})
    # Only what the hub's nested files leave out is taken from outside.
    inherited = {
        k: hf[k] for k in ('model_type', 'tie_word_embeddings') if k in hf
    }
    hf = {**inherited, **nested}
  reader = _Reader(hf, where)
  family = _FAMILY.get(hf.get('model_type'))
  if family is None:
    raise reader.fail(
        f'model_type {hf.get("model_type")!r} is not supported; supported are'
        f' {sorted(_FAMILY)}'
    )
  _refuse_unknown(reader, _IGNORED | set(_REQUIRED) | _READ_BY[family])
  _check_activation(reader, family)
  embed_dim = reader.number('hidden_size')
  num_heads = reader.number('num_attention_heads')
  num_layers = reader.number('num_hidden_layers')
  if family == 'llama':
    if not num_heads:
      raise reader.fail("'num_attention_heads' is zero")
    head_dim = reader.number('head_dim', embed_dim // num_heads)
    scalar = head_dim
    windows = (None,) * num_layers if _is_count(num_layers) else ()
  else:
    head_dim = reader.number('head_dim', 256)
    scalar = reader.number('query_pre_attn_scalar', 256)
    windows = _windows(reader, family, num_layers)
  if scalar <= 0:
    raise reader.fail(f'the query scale {scalar} is not above zero')
  rope, local_rope = _ropes(reader, family)
  try:
    return ModelConfig(
        family=family,
        vocab_size=reader.number('vocab_size'),
        embed_dim=embed_dim,
        mlp_dim=reader.number('intermediate_size'),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=reader.number('num_key_value_heads', num_heads),
        head_dim=head_dim,
        norm_eps=reader.number('rms_norm_eps', 1e-6),
        tied=_tied(reader, family),
        attention_scale=float(scalar) ** -0.5,
        attention_softcap=_softcap(reader, family, 'attn', 50.0),
        final_softcap=_softcap(reader, family, 'final', 30.0),
        rope=rope,
        local_rope=local_rope,
        windows=windows,
    )
  except InputError as error:
    raise reader.fail(str(error).rstrip('.')) from None


def _is_count(value: Any) -> bool:
  # A cap, so that a hostile config cannot make a tuple of 1e12 windows.
  return type(value) is int and 0 < value <= 100_000


def _refuse_unknown(reader: _Reader, known: set[str] | frozenset[str]) -> None:
  hf = reader.hf
  problems = []
  unknown = sorted(str(key) for key in hf if key not in known)
  if unknown:
    problems.append(f'unknown keys {unknown}')
  problems += [
      f'{k} = {json.dumps(hf[k], default=str)[:80]}'
      for k, required in _REQUIRED.items()
      if k in hf and hf[k] is not None and hf[k] != required
  ]
  if problems:
    raise reader.fail(
        f'{", ".join(problems)} not understood; they may change the numbers, so'
        ' this model is refused'
    )


def _check_activation(reader: _Reader, family: str) -> None:
  hf = reader.hf
  if family == 'llama':
    name, known = hf.get('hidden_act') or 'silu', _SILU
  else:
    # `hidden_activation` wins; with neither, Gemma's default is the tanh form.
    name = hf.get('hidden_activation') or 'gelu_pytorch_tanh'
    known = _GELU_TANH
  if name not in known:
    raise reader.fail(
        f'activation {name!r} is not supported for {family}; supported:'
        f' {sorted(known)}'
    )


def _tied(reader: _Reader, family: str) -> bool:
  tied = reader.hf.get('tie_word_embeddings')
  tied = family != 'llama' if tied is None else tied
  if not isinstance(tied, bool):
    raise reader.fail(f"'tie_word_embeddings' is {tied!r}, not true or false")
  return tied


def _softcap(
    reader: _Reader, family: str, which: str, gemma2_default: float
) -> float | None:
  key = f'{which}_logit_softcapping'
  if family == 'gemma2' and key not in reader.hf:
    return gemma2_default
  return None if reader.hf.get(key) is None else float(reader.number(key))


def _windows(
    reader: _Reader, family: str, num_layers: int
) -> tuple[int | None, ...]:
  """Per layer its window; sliding layers come first in each period."""
  if not _is_count(num_layers):
    raise reader.fail(f"'num_hidden_layers' is {num_layers!r}, not a count")
  window = reader.number('sliding_window', 4096)
  # Gemma-2-9B's file has the same number under both names.
  if reader.number('sliding_window_size', window) != window:
    raise reader.fail("'sliding_window' and 'sliding_window_size' differ")
  types = reader.hf.get('layer_types')
  if types is None:
    period = 2
    if family == 'gemma3':
      period = reader.number(
          'sliding_window_pattern', reader.number('_sliding_window_pattern', 6)
      )
    if type(period) is not int or period < 1:
      raise reader.fail(f'the sliding window pattern is {period!r}')
    types = [
        'sliding_attention' if (i + 1) % period else 'full_attention'
        for i in range(num_layers)
    ]
  names = {'sliding_attention': window, 'full_attention': None}
  if not isinstance(types, list) or not all(
      isinstance(t, str) and t in names for t in types
  ):
    raise reader.fail(f"'layer_types' holds more than {sorted(names)}")
  return tuple(names[t] for t in types)


def _ropes(reader: _Reader, family: str) -> tuple[Rope, Rope | None]:
  """The global and, where it differs, the local rotary embedding."""
  parameters = reader.hf.get('rope_parameters')
  if parameters is not None and not isinstance(parameters, Mapping):
    raise reader.fail("'rope_parameters' is not an object")
  if parameters is not None:
    clash = [
        k for k in ('rope_theta', 'rope_local_base_freq') if k in reader.hf
    ]
    # Written together by some converters; equal values are harmless.
    for key in clash:
      if key == 'rope_theta' and reader.hf[key] == parameters.get(key):
        continue
      raise reader.fail(f"both 'rope_parameters' and {key!r} are given")
  if family != 'gemma3':
    if parameters is None:
      base = reader.number('rope_theta', 10_000.0)
      return _rope(reader, base, reader.hf.get('rope_scaling')), None
    return _rope(reader, None, parameters), None
  if parameters is None:
    scaling = reader.hf.get('rope_scaling')
    local = reader.number('rope_local_base_freq', 10_000.0)
    return (
        _rope(reader, reader.number('rope_theta', 1_000_000.0), scaling),
        Rope(base=float(local)),
    )
  kinds = {'full_attention', 'sliding_attention'}
  if set(parameters) != kinds:
    raise reader.fail(
        f"'rope_parameters' has {sorted(map(str, parameters))}, not"
        f' {sorted(kinds)}'
    )
  return (
      _rope(reader, None, parameters['full_attention']),
      _rope(reader, None, parameters['sliding_attention']),
  )


def _rope(reader: _Reader, base: float | None, scaling: Any) -> Rope:
  """One rotary embedding; `base` None means it is inside `scaling`."""
  if scaling is None:
    scaling = {}
  if not isinstance(scaling, Mapping):
    raise reader.fail(f'RoPE settings {scaling!r} are not an object')
  inner = _Reader(scaling, f'{reader.where}: RoPE settings')
  if base is None:
    base = inner.number('rope_theta')
  kind = scaling.get('rope_type', scaling.get('type', 'default'))
  fields = {
      'default': (),
      'linear': ('factor',),
      'llama3': (
          'factor',
          'low_freq_factor',
          'high_freq_factor',
          'original_max_position_embeddings',
      ),
  }
  if not isinstance(kind, str) or kind not in fields:
    raise inner.fail(f'type {kind!r} is none of {sorted(fields)}')
  unknown = set(scaling) - {'rope_type', 'type', 'rope_theta', *fields[kind]}
  if unknown:
    raise inner.fail(f'unknown keys {sorted(map(str, unknown))}')
  values = [inner.number(name) for name in fields[kind]]
  if any(value <= 0 for value in values):
    raise inner.fail(f'{dict(zip(fields[kind], values))} must be above zero')
  if kind == 'linear':
    return Rope(base=float(base), linear_factor=float(values[0]))
  if kind == 'llama3':
    return Rope(
        base=float(base),
        llama3=Llama3Scaling(
            factor=float(values[0]),
            low_frequency_factor=float(values[1]),
            high_frequency_factor=float(values[2]),
            original_context=int(values[3]),
        ),
    )
  return Rope(base=float(base))
