"""What fixes the shape and the meaning of every array in a model."""

import dataclasses
import math
from typing import TypeGuard

from ooc_jax._errors import InputError

# Far above any real model. A size that comes from a hostile file must not
# fill the memory, or keep the tracer busy, before its weights are looked at.
MAX_LAYERS = 10_000
_MAX_SIZE = 2**24
_MAX_HEAD_DIM = 2**16
_MOST = {'num_layers': MAX_LAYERS, 'head_dim': _MAX_HEAD_DIM}
_SIZES = (
    'vocab_size',
    'embed_dim',
    'mlp_dim',
    'num_layers',
    'num_heads',
    'num_kv_heads',
    'head_dim',
)
ACTIVATIONS = ('silu', 'gelu_tanh', 'gelu')
# All numbers become float32, with room for a square or a product.
_HUGE, _TINY = 1e30, 1e-30


def is_number(value: object) -> TypeGuard[float]:
  """Whether `value` is a number that float32 can hold, and no bool."""
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return False
  # Compared, as `math.isfinite` overflows for an int of 400 digits.
  return -_HUGE < value < _HUGE


def is_positive(value: object) -> bool:
  """Whether `value` is such a number, above zero."""
  return is_number(value) and value > _TINY


def shown(value: object) -> str:
  """`value` for an error message, short whatever the file holds."""
  try:
    text = repr(value)
  except (RecursionError, ValueError):  # Too deep, or too long an integer.
    text = f'a {type(value).__name__} that cannot be printed'
  return text if len(text) <= 80 else f'{text[:77]}...'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
  """Llama 3.1's stretch of the slow rotary frequencies.

  Wavelengths over `original_context / low_frequency_factor` are divided by
  `factor`, those under `original_context / high_frequency_factor` are kept,
  and those between are interpolated.
  """

  factor: float
  low_frequency_factor: float
  high_frequency_factor: float
  original_context: int

  def problems(self) -> list[str]:
    """What is wrong with the values, as phrases."""
    values = dataclasses.asdict(self)
    problems = [
        f'{name} of the RoPE scaling is {shown(value)}, not above zero'
        for name, value in values.items()
        if not is_positive(value)
    ]
    if not problems and self.low_frequency_factor >= self.high_frequency_factor:
      problems.append(
          f'low_frequency_factor {self.low_frequency_factor} of the RoPE'
          ' scaling is not below high_frequency_factor'
          f' {self.high_frequency_factor}'
      )
    return problems


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
  """Rotary position embedding of rotate-half pairs (i, i + R/2).

  R is `rotary_dim`, or H where that is None.

  Attributes:
    base: Frequencies are `base ** (-2i / R)`.
    linear_factor: All frequencies are divided by it (Gemma 3 from 4B up).
    llama3: The Llama 3.1 scaling, or None.
    rotary_dim: Only so many entries of a head turn, the first; None is all.
    divisors: One divisor per frequency [R/2], as GGUF files store the
      Llama 3.1 scaling, or None.
  """

  base: float
  linear_factor: float = 1.0
  llama3: Llama3Scaling | None = None
  divisors: tuple[float, ...] | None = None
  rotary_dim: int | None = None

  def problems(self, head_dim: int) -> list[str]:
    """What is wrong with the values, as phrases."""
    problems = []
    # Under 1, frequencies would grow along the head, and overflow.
    if not is_positive(self.base) or self.base < 1:
      problems.append(f'base {shown(self.base)} of RoPE is not 1 or more')
    if not is_positive(self.linear_factor):
      problems.append(
          f'linear factor {shown(self.linear_factor)} of RoPE is not above zero'
      )
    if self.llama3 is not None:
      problems += self.llama3.problems()
    width = head_dim if self.rotary_dim is None else self.rotary_dim
    if type(width) is not int or not 0 < width <= head_dim or width % 2:
      problems.append(
          f'{shown(width)} entries of a head turn, not an even number up to its'
          f' width {head_dim}'
      )
    elif self.divisors is not None:
      if len(self.divisors) != width // 2:
        problems.append(
            f'{len(self.divisors)} RoPE divisors for head_dim {width}'
        )
      if not all(is_positive(x) for x in self.divisors):
        problems.append('a RoPE divisor is not above zero')
    return problems


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """Hyperparameters of a text model.

  Frozen and hashable, so it is static under `jit`. The forward pass reads these
  fields and no family's name: a family (`families.FAMILIES`) says what they are
  for its models. Where a wrong value would change no shape, and so go unseen,
  there is no default.

  Attributes:
    family: Names the family, whose files a checkpoint is written as.
    vocab_size: V, rows of the embedding (padding rows included).
    embed_dim: D, width of the residual stream.
    mlp_dim: M.
    num_layers: L.
    num_heads: N, query heads.
    num_kv_heads: K; query head n reads key-value head n // (N/K).
    head_dim: H.
    norm_eps: Added to the mean square in RMSNorm, to the variance in LayerNorm.
    tied: Whether the unembedding is the embedding.
    activation: Of the MLP, one of `ACTIVATIONS`.
    norm_offset: Added to a norm's stored weight to get its gain: 1 in Gemma.
    scale_embedding: Whether the residual stream receives √D times the row of
      the embedding.
    post_norms: Whether what attention and MLP write is normed before it is
      added to the stream.
    qk_norm: Whether queries and keys are normed, head by head, before they
      are rotated.
    layer_norm: Whether norms are LayerNorms, which subtract the mean first and
      add a bias last.
    qkv_bias: Whether queries, keys and values have biases.
    output_bias: Whether what attention and MLP write has biases, and the
      neurons of the MLP.
    gated: Whether the MLP is down(act(gate(x)) · up(x)), or down(act(up(x))).
    parallel: Whether attention and MLP read the same stream.
    positions: Rows of the learned position embedding, or None without one.
    attention_scale: Multiplies q·k before softcap and softmax.
    attention_softcap: c of c·tanh(x/c) on attention logits, or None.
    final_softcap: The same on output logits, or None.
    rope: Rotary embedding of global layers, or None without one.
    local_rope: Rotary embedding of sliding layers; None means `rope`.
    windows: Per layer the sliding window in tokens, or None for global.
  """

  family: str
  vocab_size: int
  embed_dim: int
  mlp_dim: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  norm_eps: float
  tied: bool
  activation: str
  norm_offset: float
  scale_embedding: bool
  post_norms: bool = False
  qk_norm: bool = False
  layer_norm: bool = False
  qkv_bias: bool = False
  output_bias: bool = False
  gated: bool = True
  parallel: bool = False
  positions: int | None = None
  attention_scale: float
  attention_softcap: float | None = None
  final_softcap: float | None = None
  rope: Rope | None
  local_rope: Rope | None = None
  windows: tuple[int | None, ...]

  def __post_init__(self):
    problems = []
    for name in _SIZES:
      value = getattr(self, name)
      if type(value) is not int or value < 1:
        problems.append(f'{name} is {shown(value)}, not a positive integer')
      elif value > _MOST.get(name, _MAX_SIZE):
        problems.append(
            f'{name} is {shown(value)}, over the limit of'
            f' {_MOST.get(name, _MAX_SIZE)}'
        )
    if self.activation not in ACTIVATIONS:
      problems.append(
          f'activation {shown(self.activation)} is none of {ACTIVATIONS}'
      )
    for name in ('norm_eps', 'attention_scale'):
      if not is_positive(getattr(self, name)):
        problems.append(
            f'{name} is {shown(getattr(self, name))}, not above zero'
        )
    for name in ('attention_softcap', 'final_softcap'):
      value = getattr(self, name)
      if value is not None and not is_positive(value):
        problems.append(
            f'{name} is {shown(value)}, neither null nor above zero'
        )
    if not problems:
      problems += self._mismatches()
    if problems:
      raise InputError(f'Model config refused: {"; ".join(problems)}.')

  def _mismatches(self) -> list[str]:
    problems = []
    if self.num_heads % self.num_kv_heads:
      problems.append(
          f'num_heads {self.num_heads} is not a multiple of num_kv_heads'
          f' {self.num_kv_heads}'
      )
    if self.rope is not None and self.head_dim % 2:
      problems.append(f'head_dim {self.head_dim} is odd, RoPE needs pairs')
    if self.rope is None and self.positions is None:
      problems.append('there is neither a rotary nor a learned position')
    if self.positions is not None and not (
        type(self.positions) is int and 1 <= self.positions <= _MAX_SIZE
    ):
      problems.append(f'positions is {shown(self.positions)}, not a count')
    if len(self.windows) != self.num_layers:
      problems.append(
          f'{len(self.windows)} attention windows for {self.num_layers} layers'
      )
    for window in sorted(set(self.windows) - {None}, key=str):
      if type(window) is not int or not 1 <= window < 2**31:
        problems.append(
            f'a sliding window is {shown(window)}, not a token count'
        )
    for rope in (self.rope, self.local_rope):
      if rope is not None and not self.head_dim % 2:
        problems += rope.problems(self.head_dim)
    return problems

  @property
  def group_size(self) -> int:
    """G, query heads that share one key-value head."""
    return self.num_heads // self.num_kv_heads

  @property
  def embedding_scale(self) -> float:
    """s: what the residual stream receives is s times the embedding row."""
    return math.sqrt(self.embed_dim) if self.scale_embedding else 1.0

  def rope_of(self, layer: int) -> Rope | None:
    """The rotary embedding that `layer` uses, if any."""
    if self.windows[layer] is None or self.local_rope is None:
      return self.rope
    return self.local_rope
