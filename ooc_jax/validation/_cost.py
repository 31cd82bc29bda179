"""What either way of reading features costs, by formula.

Activations: a forward pass over N tokens and the encoder of every layer.
Weights: every feature with the table of all tokens, once by its decoder and
once by its encoder, and all features of a layer with each other in every head.
FLOPs are those of the matrix products, two a multiplication with its addition.
"""

from collections.abc import Sequence
import dataclasses

from ooc_jax.model import ModelConfig

# A text of SAEDashboard's size: its `NeuronpediaRunnerConfig` has
# n_prompts_total=24576 and n_tokens_in_prompt=128.
COST_WINDOW = 128
COST_TOKENS = 24576 * COST_WINDOW
# An H100 as Llama 3 used it: 400 of its 989 TFLOP/s in bfloat16 (arXiv
# 2407.21783, table 4: 16,384 GPUs, sequences of 8,192 tokens).
FLOPS_PER_SECOND = 400e12


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostCase:
  """A model and a dictionary at each of its layers.

  Attributes:
    name: Of the model.
    features: F, of each dictionary.
    vocab_size: V, and so on as in `ModelConfig`.
  """

  name: str
  features: int
  vocab_size: int
  embed_dim: int
  mlp_dim: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  gated: bool = True


# Sizes are those of config.json in the repository of the hub that is named.
# Features: of the public SAEs of the residual stream, or eight times its width,
# which is the smaller size of Llama Scope (arXiv 2410.20526), where there are
# none.
COST_CASES = (
    CostCase(  # HuggingFaceTB/SmolLM2-135M; 8 D.
        name='SmolLM2-135M',
        features=4608,
        vocab_size=49152,
        embed_dim=576,
        mlp_dim=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
    ),
    CostCase(  # google/gemma-3-270m; gemma-scope-2-270m-pt-res-all, 16k.
        name='Gemma-3-270M',
        features=16384,
        vocab_size=262144,
        embed_dim=640,
        mlp_dim=2048,
        num_layers=18,
        num_heads=4,
        num_kv_heads=1,
        head_dim=256,
    ),
    CostCase(  # meta-llama/Llama-3.2-1B; 8 D.
        name='Llama-3.2-1B',
        features=16384,
        vocab_size=128256,
        embed_dim=2048,
        mlp_dim=8192,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        head_dim=64,
    ),
    CostCase(  # google/gemma-2-2b; gemma-scope-2b-pt-res-canonical, 16k.
        name='Gemma-2-2B',
        features=16384,
        vocab_size=256000,
        embed_dim=2304,
        mlp_dim=9216,
        num_layers=26,
        num_heads=8,
        num_kv_heads=4,
        head_dim=256,
    ),
    CostCase(  # google/gemma-2-9b; gemma-scope-9b-pt-res-canonical, 16k.
        name='Gemma-2-9B',
        features=16384,
        vocab_size=256000,
        embed_dim=3584,
        mlp_dim=14336,
        num_layers=42,
        num_heads=16,
        num_kv_heads=8,
        head_dim=256,
    ),
    CostCase(  # google/gemma-2-27b; gemma-scope-27b-pt-res-canonical, 131k.
        name='Gemma-2-27B',
        features=131072,
        vocab_size=256000,
        embed_dim=4608,
        mlp_dim=36864,
        num_layers=46,
        num_heads=32,
        num_kv_heads=16,
        head_dim=128,
    ),
    CostCase(  # meta-llama/Llama-3.1-8B; llama_scope_lxr_8x.
        name='Llama-3.1-8B',
        features=32768,
        vocab_size=128256,
        embed_dim=4096,
        mlp_dim=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
    ),
    CostCase(  # meta-llama/Llama-3.1-70B; 8 D.
        name='Llama-3.1-70B',
        features=65536,
        vocab_size=128256,
        embed_dim=8192,
        mlp_dim=28672,
        num_layers=80,
        num_heads=64,
        num_kv_heads=8,
        head_dim=128,
    ),
)


def layer_parameters(sizes: CostCase | ModelConfig) -> int:
  """P: entries of all matrices that a token is multiplied with.

  Embedding and unembedding are not among them: no logits are needed.
  """
  attention = 2 * sizes.head_dim * (sizes.num_heads + sizes.num_kv_heads)
  mlp = (3 if sizes.gated else 2) * sizes.mlp_dim
  return sizes.num_layers * sizes.embed_dim * (attention + mlp)


@dataclasses.dataclass(frozen=True)
class Cost:
  """FLOPs of reading the dictionaries of a model.

  Attributes:
    name: Of the model.
    features: F, of each dictionary.
    tokens: N, of the text.
    a_token: What a token of it takes: forward pass and encoders.
    output_lens: Decoders with the unembedding.
    input_lens: Encoders with the embedding.
    attention: Queries and keys of all features in all heads, and their scores.
  """

  name: str
  features: int
  tokens: int
  a_token: float
  output_lens: float
  input_lens: float
  attention: float

  @property
  def activations(self) -> float:
    """FLOPs of the whole text."""
    return self.tokens * self.a_token

  @property
  def weights(self) -> float:
    """FLOPs of both lenses and attention."""
    return self.output_lens + self.input_lens + self.attention

  @property
  def equal_tokens(self) -> float:
    """Length of the text at which either way takes as long."""
    return self.weights / self.a_token


def cost(
    sizes: CostCase | ModelConfig,
    features: int | Sequence[int],
    *,
    name: str = '',
    tokens: int = COST_TOKENS,
    window: int = COST_WINDOW,
    encoded: bool = True,
) -> Cost:
  """FLOPs of either way, for dictionaries of one width or of several.

  A token takes 2P in the matrices, 4 N H T in the attention of each layer (T
  keys, those it may not see too), and 2 D F in each encoder. A lens takes 2 F D
  V, and attention 2 F D H (N + K) + 2 F² H N a layer. Top tokens, softmax and
  the null directions, 4096 a layer by default, are not counted.

  Args:
    sizes: Of the model.
    features: F of a dictionary at every layer, or of each that is read.
    name: Of the model.
    tokens: N.
    window: T.
    encoded: Whether activations need an encoder; those of neurons do not.
  """
  c = sizes
  if isinstance(features, int):
    features = [features] * c.num_layers
  total = sum(features)
  mixing = 4 * c.num_heads * c.head_dim * window * c.num_layers
  encoders = 2 * c.embed_dim * total if encoded else 0
  lens = 2.0 * total * c.embed_dim * c.vocab_size
  heads = c.num_heads + c.num_kv_heads
  projections = 2.0 * total * c.embed_dim * c.head_dim * heads
  pairs = 2.0 * c.head_dim * c.num_heads * sum(F**2 for F in features)
  return Cost(
      name=name,
      features=max(features),
      tokens=tokens,
      a_token=2.0 * layer_parameters(c) + mixing + encoders,
      output_lens=lens,
      input_lens=lens,
      attention=projections + pairs,
  )


def case_costs(tokens: int = COST_TOKENS) -> list[Cost]:
  """The cost of each of `COST_CASES`."""
  return [
      cost(case, case.features, name=case.name, tokens=tokens)
      for case in COST_CASES
  ]
