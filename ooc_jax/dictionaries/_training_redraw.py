"""Features that fell silent start anew."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax.dictionaries import _training_loss
from ooc_jax.dictionaries._training_recipe import TrainingRecipe
from ooc_jax.dictionaries._training_state import SaeParams
from ooc_jax.dictionaries._training_state import SaeState


def with_redrawn(
    recipe: TrainingRecipe, state: SaeState, x: Float[Array, 'S n D']
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
  pre = _training_loss.pre_activations(params, x, recipe.dtype)
  a = jnp.where(pre > jnp.exp(params.log_threshold)[None], pre, 0.0)
  error = x - _training_loss.reconstruct(params, a, recipe.dtype)
  mass = jnp.cumsum(jnp.square(error).sum(axis=1))
  draws = jax.random.uniform(key, silent.shape) * mass[-1]
  tokens = jnp.searchsorted(mass, draws)
  columns = _training_loss.unit_columns(error[tokens].T)
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
