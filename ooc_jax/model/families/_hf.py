"""What the families' files of Hugging Face share: how a setting is said."""

from collections.abc import Mapping
from typing import Any

from ooc_jax.model._config import Llama3Scaling
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config import Rope
from ooc_jax.model._config import shown
from ooc_jax.model.families._reader import Reader

_SLIDING, _FULL = 'sliding_attention', 'full_attention'
_LLAMA3_KEYS = {
    'factor': 'factor',
    'low_freq_factor': 'low_frequency_factor',
    'high_freq_factor': 'high_frequency_factor',
    'original_max_position_embeddings': 'original_context',
}


def check_activation(hf: Reader, key: str, names: set[str]) -> None:
  """Refuses an activation that is none of `names`; left out is fine."""
  name = hf.get(key)
  if name is not None and (not isinstance(name, str) or name not in names):
    raise hf.fail(
        f'activation {shown(name)} is not supported for this model_type;'
        f' supported: {sorted(names)}'
    )


def even_head_dim(hf: Reader) -> int | None:
  """D / N, which is H where a file does not say it; None if no integer."""
  embed_dim = hf.whole('hidden_size')
  num_heads = hf.whole('num_attention_heads')
  if num_heads <= 0 or embed_dim % num_heads:
    return None
  return embed_dim // num_heads


def attention_scale(hf: Reader, scalar: int | float) -> float:
  """`scalar` to the power of -1/2."""
  if scalar <= 0:
    raise hf.fail(f'the query scale is {scalar}, not above zero')
  return float(scalar) ** -0.5


def softcap(hf: Reader, key: str, default: float | None) -> float | None:
  """A cap on logits: null is none, and left out is `default`."""
  if not hf.has(key):
    return default
  return None if hf.get(key) is None else hf.number(key)


def sliding_windows(hf: Reader, period: int) -> tuple[int | None, ...]:
  """Per layer its window.

  Args:
    hf: Has 'sliding_window', and 'layer_types' where transformers 5 wrote it.
    period: Without layer types the last of so many layers is global.
  """
  num_layers = hf.layers('num_hidden_layers')
  if hf.has('sliding_window') and hf.settings['sliding_window'] is None:
    raise hf.fail("'sliding_window' is null, but this model has sliding layers")
  window = hf.whole('sliding_window')
  # Gemma-2-9B's file has the same number under both names.
  if hf.whole('sliding_window_size', window) != window:
    raise hf.fail("'sliding_window' and 'sliding_window_size' differ")
  types = hf.get('layer_types')
  if types is None:
    types = [_SLIDING if (i + 1) % period else _FULL for i in range(num_layers)]
  names = {_SLIDING: window, _FULL: None}
  if not isinstance(types, list) or not all(
      isinstance(t, str) and t in names for t in types
  ):
    raise hf.fail(f"'layer_types' holds more than {sorted(names)}")
  if len(types) != num_layers:
    raise hf.fail(
        f"'layer_types' names {len(types)} layers, and 'num_hidden_layers' is"
        f' {num_layers}'
    )
  return tuple(names[t] for t in types)


def layer_types(windows: tuple[int | None, ...]) -> list[str]:
  """What transformers 5 calls the layers."""
  return [_FULL if window is None else _SLIDING for window in windows]


def write_sliding_windows(config: ModelConfig) -> dict[str, Any]:
  """The keys that `sliding_windows` reads."""
  sliding = [w for w in config.windows if w is not None]
  return {
      # A model without sliding layers needs the key and does not use it.
      'sliding_window': sliding[0] if sliding else 1,
      'layer_types': layer_types(config.windows),
  }


def read_rope(hf: Reader, base: float) -> Rope:
  """The rotary embedding of a model that has one; `base` if left out."""
  parameters = _rope_parameters(hf)
  if parameters is None:
    return _rope(hf, hf.number('rope_theta', base), hf.get('rope_scaling'))
  return _rope(hf, None, parameters)


def read_ropes(hf: Reader, base: float, local_base: float) -> tuple[Rope, Rope]:
  """The rotary embeddings of global and of sliding layers."""
  parameters = _rope_parameters(hf)
  if parameters is None:
    local = Rope(base=hf.number('rope_local_base_freq', local_base))
    scaling = hf.get('rope_scaling')
    return _rope(hf, hf.number('rope_theta', base), scaling), local
  if set(parameters) != {_FULL, _SLIDING}:
    raise hf.fail(
        f"'rope_parameters' has {sorted(map(str, parameters))}, not"
        f' {[_FULL, _SLIDING]}'
    )
  return (
      _rope(hf, None, parameters[_FULL]),
      _rope(hf, None, parameters[_SLIDING]),
  )


def _rope_parameters(hf: Reader) -> Mapping[str, Any] | None:
  parameters = hf.get('rope_parameters')
  if parameters is None:
    return None
  if not isinstance(parameters, Mapping):
    raise hf.fail("'rope_parameters' is not an object")
  # Both dialects at once: which one counts differs between readers. Only an
  # equal value, which some converters write, is harmless.
  for key in ('rope_theta', 'rope_scaling', 'rope_local_base_freq'):
    given, theirs = hf.get(key), parameters.get(key)
    same = key == 'rope_theta' and hf.number(key, 0) == theirs
    if given is not None and not same:
      raise hf.fail(f"both 'rope_parameters' and {key!r} are given")
  return parameters


def _rope(hf: Reader, base: float | None, scaling: Any) -> Rope:
  """One rotary embedding; `base` None means it is inside `scaling`."""
  if scaling is None:
    scaling = {}
  if not isinstance(scaling, Mapping):
    raise hf.fail(f'RoPE settings {shown(scaling)} are not an object')
  inner = Reader(scaling, f'{hf.where}: RoPE settings')
  if base is None:
    base = inner.number('rope_theta')
  elif inner.number('rope_theta', base) != base:
    raise inner.fail("'rope_theta' differs inside and outside")
  # Older files say 'type', and some say both.
  kinds = [scaling[k] for k in ('rope_type', 'type') if k in scaling]
  kind = kinds[0] if kinds else 'default'
  keys = {'default': (), 'linear': ('factor',), 'llama3': tuple(_LLAMA3_KEYS)}
  if not isinstance(kind, str) or kind not in keys:
    raise inner.fail(f'type {shown(kind)} is none of {sorted(keys)}')
  if kinds[1:] not in ([], [kind]):
    raise inner.fail("'rope_type' and 'type' differ")
  unknown = set(scaling) - {'rope_type', 'type', 'rope_theta', *keys[kind]}
  if unknown:
    raise inner.fail(f'unknown keys {sorted(map(str, unknown))}')
  values = {key: inner.number(key) for key in keys[kind]}
  if kind == 'linear':
    return Rope(base=base, linear_factor=values['factor'])
  if kind == 'default':
    return Rope(base=base)
  fields = {_LLAMA3_KEYS[key]: value for key, value in values.items()}
  context = int(fields.pop('original_context'))
  return Rope(
      base=base, llama3=Llama3Scaling(original_context=context, **fields)
  )


def write_rope(rope: Rope | None) -> dict[str, Any]:
  """The keys that `read_rope` reads, in the hub's dialect."""
  if rope is None:
    return {}  # A config without one is not read as the same again.
  keys: dict[str, Any] = {'rope_theta': rope.base}
  if rope.llama3 is not None:
    keys['rope_scaling'] = {'rope_type': 'llama3'} | {
        key: getattr(rope.llama3, field) for key, field in _LLAMA3_KEYS.items()
    }
  elif rope.linear_factor != 1:
    keys['rope_scaling'] = {
        'rope_type': 'linear',
        'factor': rope.linear_factor,
    }
  return keys


def query_scalar(config: ModelConfig) -> int | float:
  """The inverse square of the attention scale, whole where it nearly is."""
  scalar = config.attention_scale**-2
  return round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar
