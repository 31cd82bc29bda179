"""What fixes the shape and the meaning of every array in a model."""

import dataclasses
import math

from ooc_jax._errors import InputError

FAMILIES = ('llama', 'gemma2', 'gemma3')


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

  def __post_init__(self):
    if not self.low_frequency_factor < self.high_frequency_factor:
      raise InputError(
          'rope_scaling of the config: low_freq_factor'
          f' {self.low_frequency_factor} must be below high_freq_factor'
          f' {self.high_frequency_factor}; check the file.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
  """Rotary position embedding of rotate-half pairs (i, i + H/2).

  Attributes:
    base: Frequencies are `base ** (-2i / H)`.
    linear_factor: All frequencies are divided by it (Gemma 3 from 4B up).
    llama3: The Llama 3.1 scaling, or None.
    divisors: One divisor per frequency [H/2], as GGUF files store the
      Llama 3.1 scaling, or None.
  """

  base: float
  linear_factor: float = 1.0
  llama3: Llama3Scaling | None = None
  divisors: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """Hyperparameters of a Llama, Gemma-2 or Gemma-3 text model.

  Frozen and hashable, so it is static under `jit`.

  Attributes:
    family: One of 'llama', 'gemma2', 'gemma3'.
    vocab_size: V, rows of the embedding (padding rows included).
    embed_dim: D, width of the residual stream.
    mlp_dim: M.
    num_layers: L.
    num_heads: N, query heads.
    num_kv_heads: K; query head n reads key-value head n // (N/K).
    head_dim: H.
    norm_eps: Added to the mean square in RMSNorm.
    tied: Whether the unembedding is the embedding.
    attention_scale: Multiplies q·k before softcap and softmax.
    attention_softcap: c of c·tanh(x/c) on attention logits, or None.
    final_softcap: The same on output logits, or None.
    rope: Rotary embedding of global layers.
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
  attention_scale: float
  attention_softcap: float | None = None
  final_softcap: float | None = None
  rope: Rope
  local_rope: Rope | None = None
  windows: tuple[int | None, ...]

  def __post_init__(self):
    problems = []
    if self.family not in FAMILIES:
      problems.append(f'family {self.family!r} is none of {FAMILIES}')
    for name in _POSITIVE:
      value = getattr(self, name)
      if type(value) is not int or value < 1:
        problems.append(f'{name} is {value!r}, not a positive integer')
    for name in ('norm_eps', 'attention_scale'):
      if not _positive(getattr(self, name)):
        problems.append(f'{name} is {getattr(self, name)!r}, not above zero')
    for name in ('attention_softcap', 'final_softcap'):
      value = getattr(self, name)
      if value is not None and not _positive(value):
        problems.append(f'{name} is {value!r}, neither null nor above zero')
    for name in ('rope', 'local_rope'):
      rope = getattr(self, name)
      if rope is not None and not (
          _positive(rope.base) and _positive(rope.linear_factor)
      ):
        problems.append(f'{name} has a base or factor not above zero')
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
    if self.head_dim % 2:
      problems.append(f'head_dim {self.head_dim} is odd, RoPE needs pairs')
    if len(self.windows) != self.num_layers:
      problems.append(
          f'{len(self.windows)} attention windows for {self.num_layers} layers'
      )
    if any(w is not None and w < 1 for w in self.windows):
      problems.append('a sliding window is below one token')
    divisors = self.rope.divisors
    if divisors is not None and len(divisors) != self.head_dim // 2:
      problems.append(
          f'{len(divisors)} RoPE divisors for head_dim {self.head_dim}'
      )
    return problems

  @property
  def group_size(self) -> int:
    """G, query heads that share one key-value head."""
    return self.num_heads // self.num_kv_heads

  @property
  def is_gemma(self) -> bool:
    return self.family != 'llama'

  @property
  def norm_offset(self) -> float:
    """Added to a norm's stored weight to get its gain: 1 in Gemma."""
    return 1.0 if self.is_gemma else 0.0

  @property
  def embedding_scale(self) -> float:
    """s: what the residual stream receives is s times the embedding row."""
    return math.sqrt(self.embed_dim) if self.is_gemma else 1.0

  @property
  def post_norms(self) -> bool:
    """Whether attention and MLP outputs are normed before they are added."""
    return self.is_gemma

  @property
  def qk_norm(self) -> bool:
    return self.family == 'gemma3'

  def rope_of(self, layer: int) -> Rope:
    """The rotary embedding that `layer` uses."""
    local = self.windows[layer] is not None and self.local_rope is not None
    return self.local_rope if local else self.rope


_POSITIVE = (
    'vocab_size',
    'embed_dim',
    'mlp_dim',
    'num_layers',
    'num_heads',
    'num_kv_heads',
    'head_dim',
)


def _positive(value: object) -> bool:
  return (
      isinstance(value, (int, float))
      and not isinstance(value, bool)
      and math.isfinite(value)
      and value > 0
  )
