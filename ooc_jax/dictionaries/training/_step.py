"""A training step of JumpReLU SAEs, several sites of a model at once."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from ooc_jax._errors import InputError
from ooc_jax.dictionaries.training import _loss
from ooc_jax.dictionaries.training._loss import SaeLosses
from ooc_jax.dictionaries.training._loss import SaeParams
from ooc_jax.dictionaries.training._recipe import TrainingRecipe
from ooc_jax.dictionaries.training._recipe import penalty_share
from ooc_jax.dictionaries.training._recipe import rate_share

# A calibration of fewer activations than this is no estimate of a quantile.
_LEAST_SAMPLE = 64
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999)


class SaeState(NamedTuple):
  """All that a step reads and writes, for many sites.

  Attributes:
    params: In units in which activations are centred, of variance 1.
    adam: Moments.
    mean: [sites, D] of the activations.
    scale: [sites] root mean square of a centred component.
    silent: [sites, F] steps since a feature fired.
    step: How many were done.
  """

  params: SaeParams
  adam: optax.ScaleByAdamState
  mean: Float[Array, 'sites D']
  scale: Float[Array, 'sites']
  silent: Int[Array, 'sites F']
  step: Int[Array, '']


def init_sae_state(
    recipe: TrainingRecipe, sample: Float[Array, 'sites n D']
) -> SaeState:
  """The state before the first step.

  Args:
    recipe: Of the training.
    sample: Activations of every site, a few thousand each: mean, scale and
      first thresholds are estimated from them.

  Raises:
    InputError: There are too few activations, or they do not vary.
  """
  n = sample.shape[1]
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
def _initial(
    recipe: TrainingRecipe, sample: Float[Array, 'sites n D']
) -> SaeState:
  sites, _, D = sample.shape
  F = recipe.width
  mean = sample.mean(axis=1)
  centred = sample - mean[:, None]
  scale = jnp.sqrt(jnp.square(centred).mean(axis=(1, 2)))
  rows = jax.random.normal(
      jax.random.key(recipe.seed), (sites, D, F), jnp.float32
  )
  columns = _loss.unit_columns(rows)
  quantile = 1 - recipe.start_ratio * recipe.l0 / F

  def threshold(site: tuple[Array, Array]) -> Float[Array, 'F']:
    x, encoder = site
    pre = _loss.product('nD,DF->nF', x, encoder, recipe.dtype)
    return jnp.quantile(pre, quantile, axis=0)

  first = jax.lax.map(threshold, (centred / scale[:, None, None], columns))
  params = SaeParams(
      encoder=columns,
      decoder=columns,
      encoder_bias=jnp.zeros((sites, F), jnp.float32),
      decoder_bias=jnp.zeros((sites, D), jnp.float32),
      log_threshold=jnp.log(jnp.maximum(first, recipe.bandwidth / 2)),
  )
  moments: Any = _ADAM.init(params)
  return SaeState(
      params,
      moments,
      mean,
      scale,
      jnp.zeros((sites, F), jnp.int32),
      jnp.zeros((), jnp.int32),
  )


# One program a recipe, whoever asks for it.
@functools.lru_cache(maxsize=16)
def make_sae_step(
    recipe: TrainingRecipe,
) -> Callable[[SaeState, Array], tuple[SaeState, SaeLosses]]:
  """The update of the weights of all sites, compiled.

  A pure function of (state, activations [sites, n, D]), n a multiple of
  `recipe.chunk`: what a step draws at random depends on `recipe.seed` and on
  the number of the step. The state that is given is consumed.
  """

  @functools.partial(jax.jit, donate_argnums=0)
  def step(
      state: SaeState, x: Float[Array, 'sites n D']
  ) -> tuple[SaeState, SaeLosses]:
    return sae_step(recipe, state, x)

  return step


def sae_step(
    recipe: TrainingRecipe, state: SaeState, x: Float[Array, 'sites n D']
) -> tuple[SaeState, SaeLosses]:
  """`make_sae_step`, not compiled and not consuming."""
  n = x.shape[1]
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
  params = params._replace(decoder=_loss.unit_columns(params.decoder))
  silent = jnp.where(losses.fired > 0, 0, state.silent + 1)
  state = state._replace(
      params=params, adam=adam, silent=silent, step=state.step + 1
  )
  return _with_redrawn(recipe, state, x), losses


def _site_gradient(
    recipe: TrainingRecipe,
    sparsity: Float[Array, ''],
    params: SaeParams,
    x: Float[Array, 'n D'],
) -> tuple[SaeParams, SaeLosses]:
  """Means over the chunks of a batch."""
  chunks = x.reshape(-1, recipe.chunk, x.shape[-1])

  def add(total: Any, chunk: Float[Array, 'c D']) -> tuple[Any, None]:
    found = _loss.loss_gradient(
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
          jnp.zeros((), jnp.float32),
          jnp.zeros((), jnp.float32),
          jnp.zeros_like(params.encoder_bias),
      ),
  )
  total, _ = jax.lax.scan(add, zero, chunks)
  gradient, losses = jax.tree.map(lambda y: y / len(chunks), total)
  along = _loss.along_sphere(gradient.decoder, params.decoder)
  return gradient._replace(decoder=along), losses


def _with_redrawn(
    recipe: TrainingRecipe, state: SaeState, x: Float[Array, 'sites n D']
) -> SaeState:
  """Every so often, silent features start anew at what is badly explained."""
  now = state.step % recipe.redraw_every == 0
  now &= state.step <= round(recipe.redraw_until * recipe.steps)

  def redraw(state: SaeState) -> SaeState:
    key = jax.random.fold_in(jax.random.key(recipe.seed + 1), state.step)
    keys = jax.random.split(key, len(state.mean))
    silent = state.silent >= recipe.silent_steps
    params, adam = jax.lax.map(
        lambda site: _redrawn_site(recipe, *site),
        (keys, state.params, (state.adam.mu, state.adam.nu), silent, x),
    )
    return state._replace(
        params=params,
        adam=state.adam._replace(mu=adam[0], nu=adam[1]),
        silent=jnp.where(silent, 0, state.silent),
    )

  return jax.lax.cond(now, redraw, lambda state: state, state)


def _redrawn_site(
    recipe: TrainingRecipe,
    key: Array,
    params: SaeParams,
    moments: tuple[SaeParams, SaeParams],
    silent: Array,
    x: Float[Array, 'n D'],
) -> tuple[SaeParams, tuple[SaeParams, SaeParams]]:
  """Silent features read and write the errors of tokens drawn by error².

  As in Bricken et al. 2023 ("Towards Monosemanticity", resampling). Their
  moments start at zero, and their threshold is the mean of the others.
  """
  pre = _loss.pre_activations(params, x, recipe.dtype)
  a = jnp.where(pre > jnp.exp(params.log_threshold)[None], pre, 0.0)
  error = x - _loss.reconstruct(params, a, recipe.dtype)
  mass = jnp.cumsum(jnp.square(error).sum(axis=1))
  draws = jax.random.uniform(key, silent.shape, jnp.float32) * mass[-1]
  tokens = jnp.searchsorted(mass, draws)
  columns = _loss.unit_columns(error[tokens].T)
  others = jnp.where(silent, 0.0, params.log_threshold).sum()
  others = others / jnp.maximum((~silent).sum(dtype=jnp.float32), 1.0)
  fresh = params._replace(
      encoder=columns,
      decoder=columns,
      encoder_bias=jnp.zeros_like(params.encoder_bias),
      log_threshold=jnp.broadcast_to(others, silent.shape),
  )
  zero = jax.tree.map(jnp.zeros_like, params)

  def chosen(new: SaeParams, old: SaeParams) -> SaeParams:
    mixed = {
        name: jnp.where(
            jnp.broadcast_to(silent, x.shape), getattr(new, name), x
        )
        for name, x in old._asdict().items()
        if name != 'decoder_bias'  # Of no feature.
    }
    return old._replace(**mixed)

  first, second = (chosen(zero, m) for m in moments)
  return chosen(fresh, params), (first, second)
