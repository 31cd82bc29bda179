"""A loaded model: configuration, parameters and tokenizer."""

from collections.abc import Collection
import dataclasses
import functools
from typing import Any
import zlib

import flax
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.model._config import ModelConfig
from ooc_jax.model._taps import Tap
from ooc_jax.model._taps import no_tap
from ooc_jax.model._tokenizer import Tokenizer
from ooc_jax.model._transformer import Transformer

PARTS = ('embedding', 'unembedding', 'attention', 'mlp', 'norms')
_FINAL_NORM = 'final_norm'


@flax.struct.dataclass
class Model:
  """A pytree of the parameters, with static configuration and tokenizer.

  Attributes:
    config: The hyperparameters.
    params: Nested dict, the `params` collection of `Transformer(config)`, or
      as much of it as `parts` asked for.
    tokenizer: None where the checkpoint has none.
    files: Paths of the files that were read, for provenance.
    notes: What was found in them that a user should know; in provenance too.
  """

  config: ModelConfig = flax.struct.field(pytree_node=False)
  params: Any
  tokenizer: Tokenizer | None = flax.struct.field(
      pytree_node=False, default=None
  )
  files: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
  notes: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())


def part_of(path: Collection[str]) -> str:
  """Which of `PARTS` the parameter at `path` belongs to, or 'final_norm'.

  The final norm belongs to two parts, see `parts_needed`.
  """
  names = tuple(path)
  if names[0] == _FINAL_NORM:
    return _FINAL_NORM
  if names[0] == 'positions':
    return 'embedding'
  if names[-1] in ('weight', 'bias'):
    # q/k norms are needed wherever the attention is, and nowhere else.
    return 'attention' if 'attention' in names else 'norms'
  return names[-2] if len(names) > 1 else names[0]


def parts_needed(config: ModelConfig, parts: Collection[str]) -> frozenset[str]:
  """`parts` checked, as values of `part_of`.

  A tied model's unembedding is its embedding. The final norm comes with
  'norms' and with 'unembedding', which nothing reads without it: of an untied
  8B model the lens then needs one shard, where the norms of all layers are in
  every one.

  Raises:
    InputError: A name is none of `PARTS`.
  """
  if isinstance(parts, str) or set(parts) - set(PARTS):
    raise InputError(f'parts={parts!r} must be a collection of {PARTS}.')
  needed = set(parts)
  if needed & {'unembedding', 'norms'}:
    needed.add(_FINAL_NORM)
  if config.tied and 'unembedding' in needed:
    needed = needed - {'unembedding'} | {'embedding'}
  return frozenset(needed)


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
  """Shape of every parameter, by its path joined with '/'."""
  return dict(_parameter_shapes(config))


# Asked for by each load, save and forward pass; a trace takes a tenth of a
# second.
@functools.lru_cache(maxsize=64)
def _parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
  """The same, cached: not to be changed."""
  # Layers are alike, so one is traced: 126 of them would take seconds.
  one = dataclasses.replace(config, num_layers=1, windows=config.windows[:1])
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  tree = jax.eval_shape(Transformer(one).init, jax.random.key(0), tokens)
  # Any: in flax's own types a flat tree may hold nodes without a shape.
  layer: Any = flax.traverse_util.flatten_dict(tree['params'].pop('layer_0'))
  rest: Any = flax.traverse_util.flatten_dict(tree['params'])
  for i in range(config.num_layers):
    rest |= {(f'layer_{i}', *path): leaf for path, leaf in layer.items()}
  return {'/'.join(path): tuple(leaf.shape) for path, leaf in rest.items()}


def parameter(model: Model, path: str) -> Array:
  """The parameter at `path` ('layer_3/mlp/gate').

  Raises:
    InputError: It was not loaded, with the part to ask for.
  """
  node = model.params
  names = path.split('/')
  for name in names:
    if not isinstance(node, dict) or name not in node:
      part = part_of(names)
      part = 'unembedding' if part == _FINAL_NORM else part
      raise InputError(
          f'{path} was not loaded; call load_model with {part!r} in parts.'
      )
    node = node[name]
  return node


def norm_gain(model: Model, path: str) -> Float[Array, 'D']:
  """True gain of the norm at `path`, float32: 1 + weight in Gemma."""
  weight = parameter(model, f'{path}/weight').astype(jnp.float32)
  return weight + model.config.norm_offset


@functools.partial(jax.jit, static_argnames=('config', 'dtype'))
def _logits(
    params: Any,
    tokens: Int[Array, 'B T'],
    config: ModelConfig,
    dtype: Any,
) -> Float[Array, 'B T V']:
  logits = Transformer(config, dtype=dtype).apply({'params': params}, tokens)
  assert isinstance(logits, Array)  # Flax says Any or a tuple.
  return logits


def _check_ids(tokens: Int[Array, 'B T'], vocab_size: int) -> None:
  # An id past the end would be clamped to the last row without a word. In
  # NumPy, as the caller may be tracing, where a jnp.min would be a tracer.
  if not tokens.is_fully_addressable or not tokens.size:
    return
  ids = np.asarray(tokens)
  if ids.min() < 0 or ids.max() >= vocab_size:
    raise InputError(
        f'tokens hold ids from {ids.min()} to {ids.max()}, but the model has'
        f' ids 0 to {vocab_size - 1}.'
    )


def check_tokens(
    model: Model, tokens: ArrayLike, further: int = 0
) -> Int[Array, 'B T']:
  """The tokens as an array, if the model can read them and `further` more.

  Raises:
    InputError: A part was not loaded, or tokens are no [B, T] integers, not
      ids of the model, or more than it has positions for.
  """
  tokens = jnp.asarray(tokens)
  for path in _parameter_shapes(model.config):
    parameter(model, path)
  if not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.ndim != 2:
    raise InputError(
        f'tokens are {tokens.dtype} of shape {tokens.shape}; give integers of'
        ' shape [B, T].'
    )
  most = model.config.positions
  if most is not None and tokens.shape[1] + further > most:
    raise InputError(
        f'tokens have {tokens.shape[1] + further} positions, and this model has'
        f' learned {most}; give shorter texts.'
    )
  if not isinstance(tokens, jax.core.Tracer):
    _check_ids(tokens, model.config.vocab_size)
  return tokens


def forward(
    model: Model,
    tokens: Int[Array, 'B T'],
    *,
    dtype: Any = jnp.float32,
    tap: Tap = no_tap,
) -> Float[Array, 'B T V']:
  """Logits of the next token at every position.

  Args:
    model: With all its parts.
    tokens: [B, T] token ids, int32; positions count from 0.
    dtype: Of the computation: float32 at highest precision, or bfloat16.
    tap: Reads or replaces activations; see `run_with_taps`.

  Returns:
    Float32 logits [B, T, V], after the final softcap where there is one.

  Raises:
    InputError: A part was not loaded, or tokens are no [B, T] integers or not
      ids of the model.
  """
  tokens = check_tokens(model, tokens)
  if tap is no_tap:
    return _logits(model.params, tokens, model.config, dtype)
  # A tap may close over anything, so it is not cached as a static argument.
  module = Transformer(model.config, dtype=dtype)
  logits = module.apply({'params': model.params}, tokens, tap=tap)
  assert isinstance(logits, Array)
  return logits


def random_weights(model: Model, seed: int) -> Model:
  """The same architecture and tokenizer with random weights.

  The control of a trained model: every matrix is normal with the root mean
  square that it had, and every norm and bias is as at the start of training
  (gain 1, bias 0).
  What a measure still finds here is no work of training (Heap et al. 2025,
  arXiv 2501.17727).

  Args:
    model: With any of its parts.
    seed: Another one gives other weights; parts that are not loaded do not
      change those that are.
  """
  key = jax.random.key(seed)

  def draw(path: Any, x: Array) -> Array:
    name = '/'.join(part.key for part in path)
    if name.endswith('/weight'):
      return jnp.full_like(x, 1.0 - model.config.norm_offset)
    if name.endswith('bias'):
      return jnp.zeros_like(x)
    # crc32, because Python's own hash of a string differs between runs.
    own = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return _like(x, own)

  params = jax.tree_util.tree_map_with_path(draw, model.params)
  return dataclasses.replace(model, params=params)


@jax.jit
def _like(x: Float[Array, '...'], key: Any) -> Float[Array, '...']:
  scale = jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))
  drawn = jax.random.normal(key, x.shape, jnp.float32) * scale
  return drawn.astype(x.dtype)
