"""Reads the rotary settings of a Hugging Face config, in both dialects."""

from collections.abc import Mapping
from typing import Any

from ooc_jax.model._config import Llama3Scaling
from ooc_jax.model._config import Rope
from ooc_jax.model._config_values import Reader
from ooc_jax.model._config_values import shown


def read_ropes(reader: Reader, family: str) -> tuple[Rope, Rope | None]:
  """The global and, where it differs, the local rotary embedding."""
  parameters = reader.hf.get('rope_parameters')
  if parameters is not None and not isinstance(parameters, Mapping):
    raise reader.fail("'rope_parameters' is not an object")
  if parameters is not None:
    # Both dialects at once: which one counts differs between readers. Only an
    # equal value, which some converters write, is harmless.
    for key in ('rope_theta', 'rope_scaling', 'rope_local_base_freq'):
      given, theirs = reader.hf.get(key), parameters.get(key)
      same = key == 'rope_theta' and reader.number(key, 0) == theirs
      if given is not None and not same:
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
        Rope(base=local),
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


def _rope(reader: Reader, base: int | float | None, scaling: Any) -> Rope:
  """One rotary embedding; `base` None means it is inside `scaling`."""
  if scaling is None:
    scaling = {}
  if not isinstance(scaling, Mapping):
    raise reader.fail(f'RoPE settings {shown(scaling)} are not an object')
  inner = Reader(scaling, f'{reader.where}: RoPE settings')
  if base is None:
    base = inner.number('rope_theta')
  elif inner.number('rope_theta', base) != base:
    raise inner.fail("'rope_theta' differs inside and outside")
  # Older files say 'type', and some say both.
  kinds = [scaling[k] for k in ('rope_type', 'type') if k in scaling]
  kind = kinds[0] if kinds else 'default'
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
    raise inner.fail(f'type {shown(kind)} is none of {sorted(fields)}')
  if kinds[1:] not in ([], [kind]):
    raise inner.fail("'rope_type' and 'type' differ")
  unknown = set(scaling) - {'rope_type', 'type', 'rope_theta', *fields[kind]}
  if unknown:
    raise inner.fail(f'unknown keys {sorted(map(str, unknown))}')
  values = [inner.number(name) for name in fields[kind]]
  if kind == 'linear':
    return Rope(base=base, linear_factor=values[0])
  if kind == 'llama3':
    return Rope(
        base=base,
        llama3=Llama3Scaling(
            factor=values[0],
            low_frequency_factor=values[1],
            high_frequency_factor=values[2],
            original_context=int(values[3]),
        ),
    )
  return Rope(base=base)
