"""Continuations of texts, with a cache of keys and values."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.model._model import Model
from ooc_jax.model._model import check_tokens
from ooc_jax.model._taps import Tap
from ooc_jax.model._taps import no_tap
from ooc_jax.model._transformer import Transformer


def generate(
    model: Model,
    tokens: Int[Array, 'B T'],
    steps: int,
    *,
    key: Key[Array, ''] | None = None,
    temperature: float = 1.0,
    mask: Bool[np.ndarray, 'V'] | None = None,
    dtype: Any = jnp.float32,
    tap: Tap = no_tap,
) -> Int[Array, 'B T_steps']:
  """The texts, each with `steps` tokens more.

  Greedy without a key; with one, each token is drawn from the softmax of the
  logits. No token ends a text early. May be called under `jit` with traced
  `model`, `tokens`, `key` and whatever `tap` closes over.

  Args:
    model: With all its parts.
    tokens: [B, T] ids to continue, BOS included, T > 0; all of one length.
    steps: How many tokens to add.
    key: Of the draws. Row b and step s of one key are always the same draw.
    temperature: Divides the logits before a draw.
    mask: Ids that may be chosen; None is all.
    dtype: Of the computation, and of the cache.
    tap: Reads or replaces activations, as of `forward`. It is called with all
      T positions at first, then with the newest alone.

  Returns:
    [B, T + steps], int32.

  Raises:
    InputError: As of `forward`; or there is nothing to continue, or no token
      to choose.
  """
  tokens = check_tokens(model, tokens, steps)
  if not tokens.size or steps < 0 or not temperature > 0:
    raise InputError(
        f'{steps} tokens after {tokens.shape} at temperature {temperature}'
        ' cannot be generated; give texts of one token or more, steps from 0'
        ' and a temperature over 0.'
    )
  if mask is None:
    mask = np.ones(model.config.vocab_size, bool)
  if mask.shape != (model.config.vocab_size,) or not mask.any():
    raise InputError(
        f'mask has shape {mask.shape} and {int(mask.sum())} tokens to choose;'
        f' give {model.config.vocab_size} values, some of them True.'
    )
  continued = functools.partial(
      _continued, steps=steps, temperature=temperature, dtype=dtype, tap=tap
  )
  if tap is no_tap:
    # A tap may close over anything, so it is not cached as a static argument.
    continued = functools.partial(
        _compiled, steps=steps, temperature=temperature, dtype=dtype
    )
  return continued(model, tokens.astype(jnp.int32), key, jnp.asarray(mask))


def _continued(
    model: Model,
    tokens: Int[Array, 'B T'],
    key: Key[Array, ''] | None,
    mask: Bool[Array, 'V'],
    *,
    steps: int,
    temperature: float,
    dtype: Any,
    tap: Tap = no_tap,
) -> Int[Array, 'B T_steps']:
  T = tokens.shape[1]
  module = Transformer(model.config, dtype=dtype, cached=T + steps)
  params = {'params': model.params}

  def choose(logits_BV: Float[Array, 'B V'], step: Any) -> Int[Array, 'B']:
    allowed = jnp.where(mask[None], logits_BV, -jnp.inf)
    if key is None:
      return jnp.argmax(allowed, axis=-1).astype(jnp.int32)
    drawn = jax.random.categorical(
        jax.random.fold_in(key, step), allowed / temperature
    )
    return drawn.astype(jnp.int32)

  def add(carry: Any, step: Any) -> Any:
    cache, last_B = carry
    logits, cache = module.apply(
        params | cache, last_B[:, None], T + step, tap=tap, mutable=['cache']
    )
    next_B = choose(logits[:, 0], step + 1)
    return (cache, next_B), last_B

  logits, cache = module.apply(params, tokens, tap=tap, mutable=['cache'])
  carry = (cache, choose(logits[:, -1], 0))
  _, added_SB = jax.lax.scan(add, carry, jnp.arange(steps, dtype=jnp.int32))
  return jnp.concatenate([tokens, added_SB.T], axis=1)


_compiled = jax.jit(
    _continued, static_argnames=('steps', 'temperature', 'dtype')
)
