"""What a family of models is, and what one row of its tables does."""

from collections.abc import Callable, Mapping
import dataclasses
import re
from typing import Any

import einops
import numpy as np

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families._reader import Reader

# Axis letters of a layout whose sizes the model fixes; p is the 2 halves of a
# rotary pair, c are query, key and value.
_SIZES: Mapping[str, Callable[[ModelConfig], int]] = {
    'n': lambda config: config.num_heads,
    'k': lambda config: config.num_kv_heads,
    'p': lambda config: 2,
    'c': lambda config: 3,
}


@dataclasses.dataclass(frozen=True)
class Rule:
  """One tensor: its name here, its name there, and the layout between.

  In a family's table '{i}' stands for the number of a layer; `rules` writes
  the row out for every layer and adds the sizes.

  Attributes:
    ours: Path of the parameter, joined with '/'.
    theirs: Name of the tensor in the checkpoint.
    layout: An einops pattern, theirs -> ours.
    sizes: Axis sizes that the pattern cannot infer.
    offset: Added to theirs to get ours.
    part: Which entry of the leading axis of the layout is ours, of a tensor
      that holds several parameters; None is all of it.
  """

  ours: str
  theirs: str
  layout: str
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  offset: float = 0.0
  part: int | None = None

  def convert(self, x: np.ndarray) -> np.ndarray:
    """The tensor `theirs` as the parameter `ours`."""
    y = einops.rearrange(x, self.layout, **self.sizes)
    y = y if self.part is None else y[self.part]
    return y if self.offset == 0 else y + np.asarray(self.offset, y.dtype)

  def converted_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shape of `ours` for a tensor of `shape`, or None if it does not fit."""
    # One zero seen as a whole tensor: no embedding is copied to learn a shape.
    try:
      zeros = np.broadcast_to(np.int8(0), shape)
      ours = einops.rearrange(zeros, self.layout, **self.sizes).shape
      return ours if self.part is None else ours[1:]
    except (einops.EinopsError, ValueError):
      return None

  def stored_part(self, index: tuple[slice, ...]) -> tuple[slice, ...] | None:
    """Where a part of `ours` lies in `theirs`.

    None where the layout does more than to exchange axes, so that there is no
    such part.
    """
    theirs, ours = (side.split() for side in self.layout.split('->'))
    if sorted(theirs) != sorted(ours) or self.part is not None:
      return None
    place = dict(zip(ours, index, strict=True))
    return tuple(place[axis] for axis in theirs)

  def inverse(self) -> 'Rule':
    """The same row read the other way; of a part, that of all parts."""
    source, target = self.layout.split('->')
    return Rule(
        ours=self.theirs,
        theirs=self.ours,
        layout=f'{target.strip()} -> {source.strip()}',
        sizes=self.sizes,
        offset=-self.offset,
    )


def rules(table: tuple[Rule, ...], config: ModelConfig) -> tuple[Rule, ...]:
  """The rows of a family's table for one model, a row for every tensor."""
  sizes = {letter: size(config) for letter, size in _SIZES.items()}
  single, per_layer = [], []
  for row in table:
    if row.ours == 'unembedding' and config.tied:
      continue
    letters = re.findall(r'\w+', row.layout)
    row = dataclasses.replace(
        row, sizes={x: n for x, n in sizes.items() if x in letters}
    )
    (per_layer if '{i}' in row.ours else single).append(row)
  return (
      *single,
      *(
          dataclasses.replace(
              row,
              ours=row.ours.replace('{i}', str(i)),
              theirs=row.theirs.replace('{i}', str(i)),
          )
          for i in range(config.num_layers)
          for row in per_layer
      ),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFace:
  """A family in Hugging Face's files, in both dialects in use.

  The hub's dialect has `rope_theta` and `rope_scaling`; transformers 5 writes
  `rope_parameters` and `layer_types`. Every key is read, required to have one
  value, or ignored because it changes no logit; any other is refused by name,
  for an unread key changes numbers without changing a shape.

  Attributes:
    model_types: What `model_type` may say; the first one is written.
    architecture: The class of transformers that is written.
    table: Of the safetensors.
    read: Gives the fields of `ModelConfig` that are neither sizes nor blocks.
    write: Gives the keys that `read` reads, of a config.
    keys: Names of those keys, beside the rotary ones.
    sizes: Field of `ModelConfig` -> key.
    defaults: What transformers takes for a key that is left out.
    required: Accepted with this value (or null) only, beside what is required
      of every family.
    ignored: Keys that change no logit, beside those of every family.
    prefix: Of the tensors' names in the table, which checkpoints of a base
      class lack.
    buffers: Ends of the names of tensors that are no parameters.
    wrapper: `model_type` of the multimodal files that hold such a model in
      their `text_config`, or None.
  """

  model_types: tuple[str, ...]
  architecture: str
  table: tuple[Rule, ...]
  read: Callable[[Reader], dict[str, Any]]
  write: Callable[[ModelConfig], dict[str, Any]]
  keys: frozenset[str] = frozenset()
  sizes: Mapping[str, str] = dataclasses.field(
      default_factory=lambda: {
          'vocab_size': 'vocab_size',
          'embed_dim': 'hidden_size',
          'mlp_dim': 'intermediate_size',
          'num_layers': 'num_hidden_layers',
          'num_heads': 'num_attention_heads',
          'num_kv_heads': 'num_key_value_heads',
          'head_dim': 'head_dim',
          'norm_eps': 'rms_norm_eps',
      }
  )
  defaults: Mapping[str, Any]
  required: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  ignored: frozenset[str] = frozenset()
  prefix: str = 'model.'
  buffers: tuple[str, ...] = ('.rotary_emb.inv_freq',)
  wrapper: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GGUF:
  """A family in llama.cpp's files. An unknown key is refused here too.

  Attributes:
    architecture: What `general.architecture` says; also the prefix of its keys.
    table: Of the tensors.
    read: Gives the fields of `ModelConfig` that are no blocks and not the same
      keys in all files.
    keys: Names of the keys that it reads, beside those of every family.
    keys_per_layer: Those of `keys` that may have a value for each layer.
    norm_eps: The key of it.
    layers_of_27b: llama.cpp does not store the query scale: it knows the 27B
      models by their depth, and takes (D / N)^-1/2 there, H^-1/2 elsewhere.
  """

  architecture: str
  table: tuple[Rule, ...]
  read: Callable[[Reader], dict[str, Any]]
  keys: frozenset[str] = frozenset()
  keys_per_layer: frozenset[str] = frozenset()
  norm_eps: str = 'attention.layer_norm_rms_epsilon'
  layers_of_27b: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelEntry:
  """Where a model with a short name comes from.

  Attributes:
    repo: Hub repository, or None if it is on no hub.
    package: An installed Python package that carries the weights, tried
      before the hub: (module, file or folder inside it).
  """

  repo: str | None
  package: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
  """Models that differ in sizes only.

  Attributes:
    name: Of the family, in `ModelConfig.family`.
    blocks: The fields of `ModelConfig` that are the same for all its models.
    hf: Its Hugging Face files.
    gguf: Its GGUF files; None where llama.cpp has none, or stores them as
      another family's.
    models: Short names of the models that are studied most.
  """

  name: str
  blocks: Mapping[str, Any]
  hf: HuggingFace
  gguf: GGUF | None
  models: Mapping[str, ModelEntry] = dataclasses.field(default_factory=dict)
