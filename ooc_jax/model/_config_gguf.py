"""Reads the hyperparameters in a GGUF file's metadata.

Facts about keys and defaults: the GGUF specification and llama.cpp's
conversion scripts. As with `config.json`, an unknown key is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.model._config import MAX_LAYERS
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config import Rope
from ooc_jax.model._config_values import is_number
from ooc_jax.model._config_values import shown

# Of the keys under `{arch}.`, those that change no number here.
_IGNORED = frozenset({
    'context_length', 'vocab_size', 'rope.dimension_count',
    'rope.scaling.finetuned', 'rope.scaling.original_context_length',
})  # fmt: skip
_READ = frozenset({
    'block_count', 'embedding_length', 'feed_forward_length',
    'attention.head_count', 'attention.head_count_kv', 'attention.key_length',
    'attention.value_length', 'attention.layer_norm_rms_epsilon',
    'rope.freq_base', 'rope.scaling.type', 'rope.scaling.factor',
})  # fmt: skip
_READ_GEMMA = {
    'attention.sliding_window', 'attention.sliding_window_pattern',
    'final_logit_softcapping',
}  # fmt: skip
_READ_BY = {
    'llama': _READ,
    'gemma2': _READ | _READ_GEMMA | {'attn_logit_softcapping'},
    'gemma3': (
        _READ | _READ_GEMMA | {'rope.freq_base_swa', 'rope.local.freq_base'}
    ),
}
_ARCHITECTURES = ('llama', 'gemma2', 'gemma3')
# llama.cpp does not store the query scale; it knows the 27B models by depth
# and uses (D / N)^-1/2 there, H^-1/2 elsewhere.
_LAYERS_OF_27B = {'gemma2': 46, 'gemma3': 62}
_PERIOD = {'gemma2': 2, 'gemma3': 6}


def config_from_gguf(
    metadata: Mapping[str, Any],
    *,
    vocab_size: int,
    tied: bool,
    rope_divisors: Sequence[float] | None = None,
    where: str = 'GGUF file',
) -> ModelConfig:
  """Reads GGUF metadata, refusing any architecture key it does not know.

  Args:
    metadata: Keys and plain Python values.
    vocab_size: Rows of `token_embd.weight`; the metadata may lack it.
    tied: Whether the file has no `output.weight`.
    rope_divisors: Values of `rope_freqs.weight` [H/2], which is how Llama 3.1
      files carry their RoPE scaling.
    where: Name of the file, for errors.

  Returns:
    The config.

  Raises:
    InputError: A key is unknown, missing or has a value not implemented.
  """
  family = metadata.get('general.architecture')
  if family not in _ARCHITECTURES:
    raise InputError(
        f'{where}: architecture {shown(family)} is not supported; supported'
        f' are {list(_ARCHITECTURES)}.'
    )
  prefix = f'{family}.'
  ours = {
      k.removeprefix(prefix): v
      for k, v in metadata.items()
      if k.startswith(prefix)
  }
  if unknown := sorted(set(ours) - _READ_BY[family] - _IGNORED):
    raise InputError(
        f'{where}: unknown keys {[prefix + k for k in unknown]}; they may'
        ' change the numbers, so this model is refused.'
    )

  def get(key: str, default: Any = None) -> Any:
    value = ours.get(key, default)
    if not is_number(value):
      raise InputError(
          f'{where}: {prefix + key} is {shown(value)}, not one number; only'
          ' models whose layers are all alike are supported.'
      )
    return value

  embed_dim, num_heads = get('embedding_length'), get('attention.head_count')
  num_layers = get('block_count')
  if not (type(num_heads) is int and num_heads > 0):
    raise InputError(
        f'{where}: {prefix}attention.head_count is {shown(num_heads)}, not a'
        ' positive integer.'
    )
  if not (type(num_layers) is int and 0 < num_layers <= MAX_LAYERS):
    raise InputError(
        f'{where}: {prefix}block_count is {shown(num_layers)}, not from 1 to'
        f' {MAX_LAYERS}.'
    )
  head_dim = get('attention.key_length', embed_dim // num_heads)
  if get('attention.value_length', head_dim) != head_dim:
    raise InputError(
        f'{where}: key_length {head_dim} and value_length'
        f' {ours["attention.value_length"]} differ, which is not supported.'
    )
  if get('rope.dimension_count', head_dim) != head_dim:
    raise InputError(
        f'{where}: {prefix}rope.dimension_count is'
        f' {ours["rope.dimension_count"]}, not the head width {head_dim};'
        ' partial rotary embedding is not supported.'
    )
  scale_dim = head_dim
  if num_layers == _LAYERS_OF_27B.get(family):
    scale_dim = embed_dim / num_heads
  if scale_dim <= 0:
    raise InputError(f'{where}: head width {scale_dim} is not above zero.')
  rope = Rope(
      base=float(get('rope.freq_base', 10_000.0)),
      linear_factor=_linear_factor(ours, get, where),
      divisors=None
      if rope_divisors is None
      else tuple(float(x) for x in rope_divisors),
  )
  local_rope = None
  if family == 'gemma3':
    # Not stored by older files; 10000 is a constant of the architecture.
    base = get('rope.freq_base_swa', get('rope.local.freq_base', 10_000.0))
    local_rope = Rope(base=float(base))
  # Gemma 2 has both caps, also where an old file does not say so; of Gemma 3
  # only the final one is ever stored.
  attention_softcap = final_softcap = None
  if family == 'gemma2':
    attention_softcap = float(get('attn_logit_softcapping', 50.0))
  if family == 'gemma2' or 'final_logit_softcapping' in ours:
    final_softcap = float(get('final_logit_softcapping', 30.0))
  try:
    return ModelConfig(
        family=family,
        vocab_size=vocab_size,
        embed_dim=embed_dim,
        mlp_dim=get('feed_forward_length'),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=get('attention.head_count_kv', num_heads),
        head_dim=head_dim,
        norm_eps=float(get('attention.layer_norm_rms_epsilon')),
        tied=tied,
        attention_scale=float(scale_dim) ** -0.5,
        attention_softcap=attention_softcap,
        final_softcap=final_softcap,
        rope=rope,
        local_rope=local_rope,
        windows=_windows(family, num_layers, get, where),
    )
  except InputError as error:
    raise InputError(f'{where}: {error}') from None


def _linear_factor(ours: Mapping[str, Any], get: Any, where: str) -> float:
  # As llama.cpp has it: a factor without a type is linear, and 0 is no factor.
  factor = float(get('rope.scaling.factor', 0.0))
  kind = ours.get('rope.scaling.type', 'linear')
  if kind not in ('none', 'linear'):
    raise InputError(
        f'{where}: RoPE scaling of type {shown(kind)} is not supported;'
        " supported are 'linear' and the tensor 'rope_freqs.weight'."
    )
  return 1.0 if kind == 'none' or factor == 0.0 else factor


def _windows(
    family: str, num_layers: int, get: Any, where: str
) -> tuple[int | None, ...]:
  if family == 'llama':
    return (None,) * num_layers
  window = get('attention.sliding_window', 4096 if family == 'gemma2' else None)
  period = get('attention.sliding_window_pattern', _PERIOD[family])
  if type(period) is not int or period < 1:
    raise InputError(
        f'{where}: {family}.attention.sliding_window_pattern is {period!r}, not'
        ' a positive integer.'
    )
  return tuple(window if (i + 1) % period else None for i in range(num_layers))
