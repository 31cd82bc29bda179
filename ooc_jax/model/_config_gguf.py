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
from ooc_jax.model._config_values import Reader
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

  reader = Reader(metadata, where)
  if lists := sorted(k for k, v in ours.items() if isinstance(v, list)):
    raise reader.fail(
        f'{prefix}{lists[0]} has one value a layer; only models whose layers'
        ' are all alike are supported'
    )
  num_layers = reader.whole(f'{prefix}block_count')
  if not 0 < num_layers <= MAX_LAYERS:
    raise reader.fail(
        f'{prefix}block_count is {num_layers}, not from 1 to {MAX_LAYERS}'
    )
  try:
    return ModelConfig(
        family=family,
        vocab_size=vocab_size,
        embed_dim=reader.whole(f'{prefix}embedding_length'),
        mlp_dim=reader.whole(f'{prefix}feed_forward_length'),
        num_layers=num_layers,
        norm_eps=reader.number(f'{prefix}attention.layer_norm_rms_epsilon'),
        tied=tied,
        rope=Rope(
            base=reader.number(f'{prefix}rope.freq_base', 10_000.0),
            linear_factor=_linear_factor(reader, prefix),
            divisors=None
            if rope_divisors is None
            else tuple(float(x) for x in rope_divisors),
        ),
        local_rope=_local_rope(reader, family),
        windows=_windows(reader, family, num_layers),
        **_heads(reader, family, num_layers),
        **_softcaps(reader, family),
    )
  except InputError as error:
    message = str(error)
    if message.startswith(where):
      raise
    raise InputError(f'{where}: {message}') from None


def _heads(reader: Reader, family: str, num_layers: int) -> dict[str, Any]:
  """Numbers of heads, their width, and the scale of attention logits."""
  embed_dim = reader.whole(f'{family}.embedding_length')
  num_heads = reader.whole(f'{family}.attention.head_count')
  if num_heads < 1:
    raise reader.fail(
        f'{family}.attention.head_count is {num_heads}, not above zero'
    )
  head_dim = reader.whole(
      f'{family}.attention.key_length', embed_dim // num_heads
  )
  for key, what in (
      ('attention.value_length', 'values of another width than keys'),
      ('rope.dimension_count', 'partial rotary embedding'),
  ):
    width = reader.whole(f'{family}.{key}', head_dim)
    if width != head_dim:
      raise reader.fail(
          f'{family}.{key} is {width}, not the head width {head_dim}; {what}'
          ' is not supported'
      )
  scale_dim = float(head_dim)
  if num_layers == _LAYERS_OF_27B.get(family):
    scale_dim = embed_dim / num_heads
  if scale_dim <= 0:
    raise reader.fail(f'the head width is {scale_dim}, not above zero')
  return {
      'num_heads': num_heads,
      'num_kv_heads': reader.whole(
          f'{family}.attention.head_count_kv', num_heads
      ),
      'head_dim': head_dim,
      'attention_scale': scale_dim**-0.5,
  }


def _softcaps(reader: Reader, family: str) -> dict[str, Any]:
  # Gemma 2 has both caps, also where an old file does not say so; of Gemma 3
  # only the final one is ever stored.
  attention = f'{family}.attn_logit_softcapping'
  final = f'{family}.final_logit_softcapping'
  gemma2 = family == 'gemma2'
  stored = gemma2 or reader.hf.get(final) is not None
  return {
      'attention_softcap': reader.number(attention, 50.0) if gemma2 else None,
      'final_softcap': reader.number(final, 30.0) if stored else None,
  }


def _local_rope(reader: Reader, family: str) -> Rope | None:
  if family != 'gemma3':
    return None
  # Not stored by older files; 10000 is a constant of the architecture.
  base = reader.number(
      'gemma3.rope.freq_base_swa',
      reader.number('gemma3.rope.local.freq_base', 10_000.0),
  )
  return Rope(base=base)


def _linear_factor(reader: Reader, prefix: str) -> float:
  # As llama.cpp has it: a factor without a type is linear, and 0 is no factor.
  factor = reader.number(f'{prefix}rope.scaling.factor', 0.0)
  kind = reader.hf.get(f'{prefix}rope.scaling.type', 'linear')
  if kind not in ('none', 'linear'):
    raise reader.fail(
        f'RoPE scaling of type {shown(kind)} is not supported; supported are'
        " 'linear' and the tensor 'rope_freqs.weight'"
    )
  return 1.0 if kind == 'none' or factor == 0.0 else factor


def _windows(
    reader: Reader, family: str, num_layers: int
) -> tuple[int | None, ...]:
  if family == 'llama':
    return (None,) * num_layers
  window = reader.whole(
      f'{family}.attention.sliding_window',
      4096 if family == 'gemma2' else None,
  )
  key = f'{family}.attention.sliding_window_pattern'
  period = reader.whole(key, _PERIOD[family])
  if period < 1:
    raise reader.fail(f'{key} is {period}, not above zero')
  return tuple(window if (i + 1) % period else None for i in range(num_layers))
