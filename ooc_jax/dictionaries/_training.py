"""Training of JumpReLU SAEs, several places of a model at once."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import optax

from ooc_jax._errors import InputError
from ooc_jax.dictionaries import _training_loss
from ooc_jax.dictionaries._training_recipe import TrainingRecipe
from ooc_jax.dictionaries._training_recipe import penalty_share
from ooc_jax.dictionaries._training_recipe import rate_share
from ooc_jax.dictionaries._training_redraw import with_redrawn
from ooc_jax.dictionaries._training_state import SaeLosses
from ooc_jax.dictionaries._training_state import SaeParams
from ooc_jax.dictionaries._training_state import SaeState

# A calibration of fewer activations than this is no estimate of a quantile.
_LEAST_SAMPLE = 64
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999)


def init_sae_state(
    recipe: TrainingRecipe, sample: Float[Array, 'S n D']
) -> SaeState:
  """The state before the first step.

  Args:
    recipe: Of the training.
    sample: Activations of every site, a few thousand each: mean, scale and
      first thresholds are estimated from them.

  Raises:
    InputError: There are too few activations, or they do not vary.
  """
  S, n, D = sample.shape
  if n < _LEAST_SAMPLE:
    raise InputError(
        f'{n} activations cannot calibrate an SAE; give at least'
        f' {_LEAST_SAMPLE}, better some thousands.'
    )
  state = _initial(recipe, sample.astype(jnp.float32))
  for site, scale in enumerate(state.scale.tolist()):
    if not 0 < scale < float('inf'):
      raise InputError(
          f'The activations of site {site} have standard deviation {scale};'
          ' there is nothing to train on.'
      )
  return state


@functools.partial(jax.jit, static_argnums=0)
def _initial(recipe: TrainingRecipe, sample: Float[Array, 'S n D']) -> SaeState:
  S, _, D = sample.shape
  F = recipe.width
  mean = sample.mean(axis=1)
  centred = sample - mean[:, None]
  scale = jnp.sqrt(jnp.square(centred).mean(axis=(1, 2)))
  rows = jax.random.normal(jax.random.key(recipe.seed), (S, D, F))
  columns = _training_loss.unit_columns(rows)
  quantile = 1 - recipe.start_ratio * recipe.l0 / F

  def threshold(site: tuple[Array, Array]) -> Float[Array, 'F']:
    x, encoder = site
    pre = _training_loss.product('nD,DF->nF', x, encoder, recipe.dtype)
    return jnp.quantile(pre, quantile, axis=0)

  first = jax.lax.map(threshold, (centred / scale[:, None, None], columns))
  params = SaeParams(
      encoder=columns,
      decoder=columns,
      encoder_bias=jnp.zeros((S, F)),
      decoder_bias=jnp.zeros((S, D)),
      log_threshold=jnp.log(jnp.maximum(first, recipe.bandwidth / 2)),
  )
  moments: Any = _ADAM.init(params)
  return SaeState(
      params,
      moments,
      mean,
      scale,
      jnp.zeros((S, F), jnp.int32),
      jnp.zeros((), jnp.int32),
  )


# One program a recipe, whoever asks for it.
@functools.lru_cache(maxsize=16)
def make_sae_step(
    recipe: TrainingRecipe,
) -> Callable[[SaeState, Array], tuple[SaeState, SaeLosses]]:
  """The update of the weights of all sites, compiled.

  A pure function of (state, activations [S, n, D]), n a multiple of
  `recipe.chunk`: what a step draws at random depends on `recipe.seed` and on
  the number of the step. The state that is given is consumed.
  """

  @functools.partial(jax.jit, donate_argnums=0)
  def step(
      state: SaeState, x: Float[Array, 'S n D']
  ) -> tuple[SaeState, SaeLosses]:
    return sae_step(recipe, state, x)

  return step


def sae_step(
    recipe: TrainingRecipe, state: SaeState, x: Float[Array, 'S n D']
) -> tuple[SaeState, SaeLosses]:
  """`make_sae_step`, not compiled and not consuming."""
  S, n, D = x.shape
  if n % recipe.chunk:
    raise InputError(
        f'{n} activations a step are no multiple of chunk={recipe.chunk};'
        ' choose another chunk.'
    )
  x = (x.astype(jnp.float32) - state.mean[:, None]) / state.scale[:, None, None]
  done = state.step.astype(jnp.float32)
  sparsity = recipe.sparsity * penalty_share(recipe, done)
  # One site after the other: their activations together fit no cache.
  gradient, losses = jax.lax.map(
      lambda site: _site_gradient(recipe, sparsity, *site), (state.params, x)
  )
  # Optax mixes its count, an integer, with floats: not strict about dtypes.
  with jax.numpy_dtype_promotion('standard'):
    # Any: optax's types do not say which state it is.
    found: Any = _ADAM.update(gradient, state.adam)
  updates, adam = found
  share = rate_share(recipe, done)
  rates: Any = SaeParams(
      *[jnp.float32(recipe.rate)] * 4,
      log_threshold=jnp.float32(recipe.threshold_rate),
  )
  params = jax.tree.map(
      lambda p, u, rate: p - rate * share * u, state.params, updates, rates
  )
  params = params._replace(decoder=_training_loss.unit_columns(params.decoder))
  silent = jnp.where(losses.fired > 0, 0, state.silent + 1)
  state = state._replace(
      params=params, adam=adam, silent=silent, step=state.step + 1
  )
  return with_redrawn(recipe, state, x), losses


def _site_gradient(
    recipe: TrainingRecipe,
    sparsity: Float[Array, ''],
    params: SaeParams,
    x: Float[Array, 'n D'],
) -> tuple[SaeParams, SaeLosses]:
  """Means over the chunks of a batch."""
  chunks = x.reshape(-1, recipe.chunk, x.shape[-1])

  def add(total: Any, chunk: Float[Array, 'c D']) -> tuple[Any, None]:
    found = _training_loss.loss_gradient(
        params,
        chunk,
        sparsity=sparsity,
        target=recipe.l0,
        bandwidth=recipe.bandwidth,
        dtype=recipe.dtype,
    )
    return jax.tree.map(jnp.add, total, found), None

  zero = (
      jax.tree.map(jnp.zeros_like, params),
      SaeLosses(
          jnp.zeros(()), jnp.zeros(()), jnp.zeros_like(params.encoder_bias)
      ),
  )
  total, _ = jax.lax.scan(add, zero, chunks)
  gradient, losses = jax.tree.map(lambda y: y / len(chunks), total)
  along = _training_loss.along_sphere(gradient.decoder, params.decoder)
  return gradient._replace(decoder=along), losses
