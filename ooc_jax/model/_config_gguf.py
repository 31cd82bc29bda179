"""Reads the hyperparameters in a GGUF file's metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config import Rope
from ooc_jax.model._config import shown
from ooc_jax.model.families import FAMILIES
from ooc_jax.model.families import Reader
from ooc_jax.model.families import linear_factor

# Of the keys under an architecture's name, those that change no number here.
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
# Of the multimodal files that Ollama writes: of the part that is not ours.
_NOT_TEXT = ('vision.', 'mm.', 'audio.')
_FAMILY_OF = {
    family.gguf.architecture: family
    for family in FAMILIES
    if family.gguf is not None
}


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
  name = metadata.get('general.architecture')
  family = _FAMILY_OF.get(name) if isinstance(name, str) else None
  if family is None or family.gguf is None:
    raise InputError(
        f'{where}: architecture {shown(name)} is not supported; supported'
        f' are {list(_FAMILY_OF)}, and more as safetensors.'
    )
  prefix = f'{name}.'
  ours = {
      k.removeprefix(prefix): v
      for k, v in metadata.items()
      if k.startswith(prefix)
  }
  layers = ours.get('block_count')
  ours = {
      k: _one_for_all(v, layers)
      for k, v in ours.items()
      if not k.startswith(_NOT_TEXT)
  }
  _rename_head_dim(ours, where)
  if unknown := sorted(set(ours) - _READ - family.gguf.keys - _IGNORED):
    raise InputError(
        f'{where}: unknown keys {[prefix + k for k in unknown]}; they may'
        ' change the numbers, so this model is refused.'
    )
  metadata = {prefix + k: v for k, v in ours.items()}
  header = Reader(metadata, where, prefix=prefix)
  per_layer = (*family.gguf.keys_per_layer,)
  if lists := sorted(
      k for k, v in ours.items() if isinstance(v, list) and k not in per_layer
  ):
    raise header.fail(
        f'{prefix}{lists[0]} has one value a layer; only models whose layers'
        ' are all alike are supported'
    )
  num_layers = header.layers('block_count')
  try:
    fields: dict[str, Any] = {
        'rope': Rope(
            base=header.number('rope.freq_base', 10_000.0),
            linear_factor=linear_factor(header),
            divisors=None
            if rope_divisors is None
            else tuple(float(x) for x in rope_divisors),
        ),
        **_heads(header, num_layers == family.gguf.layers_of_27b),
        **family.blocks,
        **family.gguf.read(header),
    }
    return ModelConfig(
        family=family.name,
        vocab_size=vocab_size,
        embed_dim=header.whole('embedding_length'),
        mlp_dim=header.whole('feed_forward_length'),
        num_layers=num_layers,
        norm_eps=header.number(family.gguf.norm_eps),
        tied=tied,
        **fields,
    )
  except InputError as error:
    message = str(error)
    if message.startswith(where):
      raise
    raise InputError(f'{where}: {message}') from None


def _one_for_all(value: Any, layers: Any) -> Any:
  """What an array says that has one number, as often as there are layers.

  Anything else is given back, also the flags that say which layers slide.
  """
  if not isinstance(value, list) or not value or len(value) != layers:
    return value
  if type(value[0]) not in (int, float):
    return value
  same = all(type(x) is type(value[0]) and x == value[0] for x in value)
  return value[0] if same else value


def _rename_head_dim(ours: dict[str, Any], where: str) -> None:
  """Reads Ollama's name of the width of a head."""
  if (width := ours.pop('attention.head_dim', None)) is None:
    return
  for key in ('attention.key_length', 'attention.value_length'):
    if ours.setdefault(key, width) != width:
      raise InputError(
          f'{where}: attention.head_dim is {shown(width)} and {key}'
          f' {shown(ours[key])}; take a file in which they are the same.'
      )


def _heads(header: Reader, is_27b: bool) -> dict[str, Any]:
  """Numbers of heads, their width, and the scale of attention logits."""
  embed_dim = header.whole('embedding_length')
  num_heads = header.whole('attention.head_count')
  if num_heads < 1:
    raise header.fail(
        f'{header.prefix}attention.head_count is {num_heads}, not above zero'
    )
  head_dim = header.whole('attention.key_length', embed_dim // num_heads)
  for key, what in (
      ('attention.value_length', 'values of another width than keys'),
      ('rope.dimension_count', 'partial rotary embedding'),
  ):
    width = header.whole(key, head_dim)
    if width != head_dim:
      raise header.fail(
          f'{header.prefix}{key} is {width}, not the head width {head_dim};'
          f' {what} is not supported'
      )
  scale_dim = embed_dim / num_heads if is_27b else float(head_dim)
  if scale_dim <= 0:
    raise header.fail(f'the head width is {scale_dim}, not above zero')
  return {
      'num_heads': num_heads,
      'num_kv_heads': header.whole('attention.head_count_kv', num_heads),
      'head_dim': head_dim,
      'attention_scale': scale_dim**-0.5,
  }
