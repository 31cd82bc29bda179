"""The lens of directions over any vocabulary table."""

from typing import Any

import flax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits._lens_checks import check_count
from ooc_jax.circuits._lens_checks import check_finite
from ooc_jax.circuits._lens_checks import check_shapes
from ooc_jax.circuits._mesh import check_mesh
from ooc_jax.circuits._mesh import mesh_of
from ooc_jax.circuits._mesh import platform_of
from ooc_jax.circuits._moments import TableMoments
from ooc_jax.circuits._precision import use_screen
from ooc_jax.circuits._settings import Settings
from ooc_jax.circuits._sharded import find_lens
from ooc_jax.circuits._sharded import find_moments


@flax.struct.dataclass
class Lens:
  """What each feature does to (or reads from) the vocabulary.

  Logits are before any final softcap; statistics are over the kept tokens.

  Attributes:
    top_ids: [F, k] token ids of the largest logits, largest first; equal
      products by rising id.
    top_logits: [F, k] their logits, rounded to float32 once they are ordered.
    bottom_ids: [F, k] token ids of the smallest logits, smallest first.
    bottom_logits: [F, k] their logits.
    mean: [F] of the logits.
    std: [F] population standard deviation.
    skewness: [F] third standardised moment; 0 where std is 0.
    kurtosis: [F] fourth standardised moment less 3; 0 where std is 0.
    entropy: [F] nats, of the softmax over the kept tokens, with the final
      softcap where the model has one.
    top_mass: [F] probability of the top k in that softmax.
    top_entropy: [F] nats, of the top k renormalised.
    active_share: [F] share of kept tokens over the feature's threshold, or
      None where that has no meaning.
    mask: [V] the tokens that count.
    recomputed: [F] whether the screen left an end unproven, so that it was
      found by a closer look; the answer is the same.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  top_ids: Int[Array, 'F k'] | Any
  top_logits: Float[Array, 'F k'] | Any
  bottom_ids: Int[Array, 'F k'] | Any
  bottom_logits: Float[Array, 'F k'] | Any
  mean: Float[Array, 'F'] | Any
  std: Float[Array, 'F'] | Any
  skewness: Float[Array, 'F'] | Any
  kurtosis: Float[Array, 'F'] | Any
  entropy: Float[Array, 'F'] | Any
  top_mass: Float[Array, 'F'] | Any
  top_entropy: Float[Array, 'F'] | Any
  active_share: Float[Array, 'F'] | Any
  mask: Bool[Array, 'V'] | Any
  recomputed: Bool[Array, 'F'] | Any


def unembedding_lens(
    directions: Float[Array | np.ndarray, 'F D'],
    gain: Float[Array | np.ndarray, 'D'],
    unembedding: Float[Array | np.ndarray, 'V D'],
    mask: Bool[Array | np.ndarray, 'V'],
    *,
    k: int,
    precision: str = 'exact',
    softcap: float | None = None,
    moments: TableMoments | None = None,
    mesh: Mesh | None = None,
) -> Lens:
  """Logits (directions ⊙ gain) · unembeddingᵀ, reduced as they are made.

  Rows of `directions` are used as given, times `gain`; the caller normalises.
  May be called under `jit`.

  The ends are exact whatever the precision: tokens are ordered by inner
  products correct to about 2^-36 of Σ|d_i u_i| of the float32 rows, and the
  logits given are these products rounded once. So they do not depend on
  blocks, mesh or device. A pass finds candidates, which are computed so, and
  a bound on its errors proves that no other token belongs to the ends
  (method: `ooc_jax.circuits._certify`). Features for which it does not are
  looked at again, in float32 or product by product: `Lens.recomputed`.

  The mean is d·mean(u), and with the covariance in `moments` the standard
  deviation is √(dᵀCd): float32 in either precision. The other statistics are
  sums over the logits of the pass. Under 'exact' these are float32 products.
  Under 'screened' they are of d rounded to bfloat16 (and of
  u, where it is not bfloat16), on a line that gives them their true mean and
  errors e that are uncorrelated with them; the true logits of the top
  candidates stand in the softmax. With ρ = rms(e) / std, about 0.0016, or
  0.0023 where u is rounded too, and z the standardised logits, to first order
    std without a covariance is off by ρ / 64 of itself: the line is then that
      of a sample of 4,096 tokens;
    skewness by 3 mean(z² e) / std, and kurtosis by 4 mean(z³ e) / std: zero
      where e is independent of z, and at most 3 ρ √(kurtosis + 3) and
      4 ρ √mean(z⁶);
    entropy and mass by the mean of e over the softmax without the candidates,
      at most a few ρ·std nats.
  Measured on two layers of SmolLM2 (std 4, entropy 2.6 nats), largest of 3,072
  features: std 0.02 %, skewness 0.005, kurtosis 0.3 % of kurtosis + 3,
  entropy 0.006 nats, mass 0.001. `active_share` counts the same logits.

  Args:
    directions: What each feature writes; any float dtype.
    gain: True gain of the final norm (1 + weight in Gemma).
    unembedding: One row a token; any float dtype.
    mask: True where a token counts.
    k: How many tokens to keep at either end; at most the tokens that count.
    precision: 'exact' multiplies in float32 at highest precision, 'screened'
      in bfloat16 with float32 sums; 'auto' is 'screened' where that is fast
      (TPU, GPU, CPUs with bfloat16 instructions) and 'exact' elsewhere.
    softcap: Final softcap c of c·tanh(x/c), applied inside the softmax only.
    moments: `table_moments` of this table and mask; without them the mean and
      norms are found in a pass of their own.
    mesh: Spreads features over its axis 'feature' and the vocabulary over
      'vocab' (either may be missing; sizes need not divide). None takes the
      mesh that the arrays lie on; under `jit` it must be given.

  Returns:
    The lens; its arrays lie over 'feature', where there is a mesh.

  Raises:
    InputError: Shapes do not fit, `k` is out of range, `precision` is unknown,
      a number is not finite (checked outside of `jit` only).
  """
  directions, gain, unembedding, mask = map(
      jnp.asarray, (directions, gain, unembedding, mask)
  )
  check_shapes(directions, unembedding, mask)
  if gain.shape != (directions.shape[1],):
    raise InputError(
        f'gain has shape {gain.shape}, directions {directions.shape}; the gain'
        ' needs one number for each column of directions.'
    )
  rows = directions.astype(jnp.float32) * gain.astype(jnp.float32)[None, :]
  return lens_of_rows(
      rows,
      unembedding,
      mask,
      k=k,
      precision=precision,
      softcap=softcap,
      moments=moments,
      mesh=mesh,
  )


def table_moments(
    table: Float[Array, 'V D'],
    mask: Bool[Array | np.ndarray, 'V'],
    *,
    covariance: bool = True,
    mesh: Mesh | None = None,
) -> TableMoments:
  """Mean, covariance and norms of the rows of a table; once a model.

  Args:
    table: One row a token; any float dtype.
    mask: True where a token counts.
    covariance: Whether it is wanted: 2·V·D² operations in float32.
    mesh: As in `unembedding_lens`.

  Raises:
    InputError: The mask does not fit or keeps nothing, or a row is not finite.
  """
  table, mask = jnp.asarray(table), jnp.asarray(mask)
  check_shapes(table[:0], table, mask)
  check_mesh(mesh)
  mesh = mesh or mesh_of(table)
  check_count(1, mask)
  moments = find_moments(
      table, mask, mesh, unit=False, covariance=covariance, losses=True
  )
  check_finite(moments, mask)
  return moments


def lens_of_rows(
    rows: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    mask: Bool[Array, 'V'],
    *,
    k: int,
    precision: str,
    softcap: float | None = None,
    unit: bool = False,
    centered: bool = False,
    threshold: Float[Array, 'F'] | None = None,
    moments: TableMoments | None = None,
    mesh: Mesh | None = None,
) -> Lens:
  """The lens of float32 rows over a table.

  Args:
    rows: As they are multiplied.
    table: One row a token.
    mask: True where a token counts.
    k: How many tokens at either end.
    precision: See `unembedding_lens`.
    softcap: Likewise.
    unit: Whether rows of the table are divided by their norms.
    centered: Whether the mean kept row is subtracted from the table.
    threshold: Tokens with logits over it, before centering, are counted.
    moments: See `unembedding_lens`; not used with `unit`.
    mesh: See `unembedding_lens`.

  Raises:
    InputError: See `unembedding_lens`.
  """
  check_shapes(rows, table, mask)
  check_mesh(mesh)
  mesh = mesh or mesh_of(table, rows)
  platform = platform_of(mesh, table)
  settings = Settings(
      k=k,
      screened=use_screen(precision, platform, rows.shape[1]),
      softcap=softcap,
      unit=unit,
      centered=centered,
      platform=platform,
  )
  check_count(k, mask)
  if moments is None or unit:
    moments = find_moments(
        table,
        mask,
        mesh,
        unit=unit,
        covariance=False,
        losses=settings.screened,
    )
  elif moments.norms.shape != mask.shape:
    raise InputError(
        f'The moments are of a table of {moments.norms.shape[0]} rows, and this'
        f' one has {mask.shape[0]}; take table_moments of this table.'
    )
  check_finite(moments, mask, rows)
  readings = find_lens(
      rows,
      table,
      mask,
      moments,
      jnp.full(rows.shape[0], jnp.inf) if threshold is None else threshold,
      settings,
      mesh,
  )
  values = readings._asdict()
  if threshold is None:
    values['active_share'] = None
  return Lens(mask=mask, **values)
