"""Training of a language model from scratch, step by step."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

import ooc_jax
from ooc_jax.dictionaries.training import Windows


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How long, how fast and on what.

  Attributes:
    steps: Updates of the weights.
    batch_tokens: Tokens of one update.
    context: T of the last part.
    short_context: T before it, where attention costs less.
    rate: Learning rate of the matrices (Muon).
    adam_rate: Of embeddings and norms (Adam).
    warmup: Steps in which the rates rise.
    decay: Share of the steps, at the end, in which they fall to zero, at
      full context.
    seed: Of the weights and of the order of the text.
  """

  steps: int = 1500
  batch_tokens: int = 4096
  context: int = 512
  short_context: int = 128
  rate: float = 0.02
  adam_rate: float = 0.012
  warmup: int = 100
  decay: float = 0.3
  seed: int = 0

  @property
  def decay_start(self) -> int:
    """The step from which on the rates fall and the context is full."""
    return self.steps - round(self.decay * self.steps)


class State(NamedTuple):
  """All that a step reads and writes."""

  params: Any
  optimizer: Any


def _muon_dimensions(params: Any) -> Any:
  """Which parameters are matrices to Muon, and how they are read as such."""

  def dimensions(path: Any, leaf: Array) -> MuonDimensionNumbers | None:
    name = path[-1].key
    if name in ('embedding', 'unembedding') or leaf.ndim < 2:
      return None
    if leaf.ndim == 2:
      return MuonDimensionNumbers(0, 1)
    # [D, N, H] reads D; the output projection [N, H, D] reads (N, H).
    reads = (0, 1) if name == 'output' else (0,)
    return MuonDimensionNumbers(reads, tuple(set(range(3)) - set(reads)))

  return jax.tree_util.tree_map_with_path(dimensions, params)


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
  """Muon for the matrices, Adam for the rest; rates warm up, stay, fall."""

  def schedule(peak: float) -> optax.Schedule:
    fall = max(recipe.steps - recipe.decay_start, 1)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, recipe.warmup),
            optax.constant_schedule(peak),
            optax.linear_schedule(peak, 0.0, fall),
        ],
        [recipe.warmup, recipe.decay_start],
    )

  return optax.chain(
      optax.clip_by_global_norm(1.0),
      optax.contrib.muon(
          schedule(recipe.rate),
          adam_learning_rate=schedule(recipe.adam_rate),
          adam_b2=0.98,
          muon_weight_dimension_numbers=_muon_dimensions,
      ),
  )


def initial_state(config: ooc_jax.ModelConfig, recipe: Recipe) -> State:
  """The state before the first step."""
  tokens = jnp.zeros((1, 1), jnp.int32)
  params = _jitted_init(config)(jax.random.key(recipe.seed), tokens)['params']
  return State(params, make_optimizer(recipe).init(params))


@functools.lru_cache(maxsize=4)
def _jitted_init(config: ooc_jax.ModelConfig) -> Callable[..., Any]:
  return jax.jit(ooc_jax.Transformer(config).init)


def next_token_loss(
    params: Any,
    rows: Int[Array, 'B T1'],
    config: ooc_jax.ModelConfig,
    dtype: Any = jnp.float32,
) -> Float[Array, 'B T']:
  """Cross-entropy, in nats, of each token of the rows but the first."""
  net = ooc_jax.Transformer(config, dtype=dtype)
  logits: Any = net.apply({'params': params}, rows[:, :-1])
  return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:])


@functools.lru_cache(maxsize=4)
def make_step(
    config: ooc_jax.ModelConfig, recipe: Recipe
) -> Callable[[State, Any], tuple[State, Float[Array, '']]]:
  """The update of the weights, compiled: bfloat16 products, float32 weights."""
  optimizer = make_optimizer(recipe)

  @functools.partial(jax.jit, donate_argnums=0)
  def step(
      state: State, rows: Int[Array, 'B T1']
  ) -> tuple[State, Float[Array, '']]:
    def mean_loss(params: Any) -> Float[Array, '']:
      return next_token_loss(params, rows, config, jnp.bfloat16).mean()

    loss, gradient = jax.value_and_grad(mean_loss)(state.params)
    updates, inner = optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, inner), loss

  return step


def batch(
    tokens: Int[np.ndarray, 'n'], bos: int, recipe: Recipe, step: int
) -> Int[np.ndarray, 'B T1']:
  """The rows that step number `step` sees, from 0."""
  full = step >= recipe.decay_start
  length = recipe.context if full else recipe.short_context
  index = step - recipe.decay_start if full else step
  windows = Windows(tokens, length, bos, recipe.seed)
  return windows.batch(index, recipe.batch_tokens // length)


def mean_held_out_loss(
    params: Any,
    rows: Int[np.ndarray, 'W T1'],
    config: ooc_jax.ModelConfig,
    size: int = 8,
) -> float:
  """Mean cross-entropy of all windows, in nats a token, in float32."""
  loss = _jitted_loss(config)
  total, count = 0.0, 0
  for start in range(0, len(rows), size):
    losses = np.asarray(loss(params, rows[start : start + size]), np.float64)
    total += losses.sum()
    count += losses.size
  return total / count


@functools.lru_cache(maxsize=4)
def _jitted_loss(config: ooc_jax.ModelConfig) -> Callable[..., Any]:
  return jax.jit(functools.partial(next_token_loss, config=config))
