"""The lens of directions over any vocabulary table."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.lens._lens import Lens
from ooc_jax.circuits.lens._lens import LensSpec
from ooc_jax.circuits.lens._lens import check_kernel
from ooc_jax.circuits.lens._lens import use_screen
from ooc_jax.circuits.lens._moments import TableMoments
from ooc_jax.circuits.lens._sharded import find_lens
from ooc_jax.circuits.lens._sharded import find_moments
from ooc_jax.circuits.numerics import check_mesh
from ooc_jax.circuits.numerics import device_of
from ooc_jax.circuits.numerics import mesh_of


def unembedding_lens(
    directions: Float[Array | np.ndarray, 'F D'],
    gain: Float[Array | np.ndarray, 'D'],
    unembedding: Float[Array | np.ndarray, 'V D'],
    mask: Bool[Array | np.ndarray, 'V'],
    *,
    k: int,
    precision: str = 'auto',
    kernel: str = 'xla',
    softcap: float | None = None,
    spread: float | None = None,
    both_ends: bool = False,
    bottom: bool = True,
    moments: TableMoments | None = None,
    mesh: Mesh | None = None,
) -> Lens:
  """Logits (directions ⊙ gain) · unembeddingᵀ, reduced as they are made.

  Rows of `directions` are used as given, times `gain`; the caller normalises.
  May be called under `jit`.

  Top and bottom are exact whatever the precision: tokens are ordered by inner
  products correct to about 2^-36 of Σ|d_i u_i| of the float32 rows, and the
  logits given are these products rounded once. So they do not depend on
  blocks, mesh or device. A pass finds candidates, which are computed so, and
  a bound on its errors proves that no other token belongs to either (method:
  `ooc_jax.circuits.lens`). Features for which it does not are computed again,
  in float32 or product by product: `Lens.recomputed`.

  The mean is d·mean(u), and with the covariance in `moments` the standard
  deviation is √(dᵀCd). The other statistics, and `active_share`, are sums over
  the logits of the pass, which are float32 products. Under 'screened' each is
  the sum of products of bfloat16 numbers that add up to its factors: d in three
  pieces with u, which is in three where it is not bfloat16 (six products then:
  those of smaller pieces are under 2^-24). So it is as near to the truth as
  under 'exact'. Measured on SmolLM2, 72 neurons at a spread of 1.5: entropy is
  off float64 by at most 4.7e-6 nats exact and 5.9e-6 screened, half of them by
  less than 5e-7. These are the float32 sums; were sums exact, pieces would
  leave 4e-8 of a float32 table, and nothing of a bfloat16 one. With a piece
  fewer that is 1e-5 and 5e-6, with two fewer 1e-2 and 6e-3.

  Args:
    directions: What each feature writes; any float dtype.
    gain: True gain of the final norm (1 + weight in Gemma).
    unembedding: One row a token; any float dtype.
    mask: True where a token counts.
    k: How many tokens to keep at either end; at most the tokens that count.
    precision: 'exact' multiplies in float32 at highest precision, 'screened'
      pieces in bfloat16 with float32 sums; 'auto' is 'screened' where three
      (six, where the table is not bfloat16) such products are known to take
      less time than one of float32 (large GPUs; CPUs with AMX), and 'exact'
      elsewhere (a TPU multiplies pieces under 'exact', too).
    kernel: 'xla' makes logits a block at a time in the device's memory;
      'pallas' in one kernel that keeps them on the chip, for the same ids and,
      to float32, the same statistics. 'xla' until a device has measured the
      other, which on a CPU is interpreted: for tests, and slow.
    softcap: Final softcap c of c·tanh(x/c), applied inside the softmax only.
    spread: The softmax is of logits scaled, feature by feature, to this
      standard deviation over the tokens that count, and without the softcap:
      then its entropy depends on neither the length of a direction nor the
      scale of the table, and means the same in every model and layer. None
      takes the logits as they are.
    both_ends: Whether the entropy of the softmax of minus the logits is made,
      too: what -d would have.
    bottom: Whether the smallest logits are found, too.
    moments: `table_moments` of this table and mask; without them the mean and
      norms are found in a pass of their own.
    mesh: Spreads features over its axis 'feature' and the vocabulary over
      'vocab' (either may be missing; sizes need not divide). None takes the
      mesh that the arrays lie on; under `jit` it must be given.

  Returns:
    The lens; its arrays lie over 'feature', where there is a mesh.

  Raises:
    InputError: Shapes do not fit, `k` is out of range, `precision` or `kernel`
      is unknown, the platform has no such kernel, a number is not finite
      (checked outside of `jit` only).
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
      kernel=kernel,
      softcap=softcap,
      spread=spread,
      both_ends=both_ends,
      bottom=bottom,
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

  All that the lenses and the token space need to know of a table: give them
  the result, so that none of them goes over the table again for it.

  Args:
    table: One row a token; any float dtype.
    mask: True where a token counts.
    covariance: Whether it is wanted: V·D² operations in float32, and an
      eighth more.
    mesh: As in `unembedding_lens`.

  Raises:
    InputError: The mask does not fit or keeps nothing, or a row is not finite.
  """
  table, mask = jnp.asarray(table), jnp.asarray(mask)
  _check_mask(mask, table)
  check_mesh(mesh)
  mesh = mesh or mesh_of(table)
  _check_count(1, mask)
  moments = find_moments(
      table, mask, mesh, unit_rows=False, covariance=covariance
  )
  _check_moments_finite(moments)
  return moments


def lens_of_rows(
    rows: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    mask: Bool[Array, 'V'],
    *,
    k: int,
    precision: str,
    kernel: str = 'xla',
    softcap: float | None = None,
    spread: float | None = None,
    both_ends: bool = False,
    bottom: bool = True,
    unit_rows: bool = False,
    centered: bool = False,
    threshold: Float[Array, 'F'] | None = None,
    moments: TableMoments | None = None,
    mesh: Mesh | None = None,
) -> Lens:
  """The lens of float32 rows over a table of the same width.

  Shapes were checked where the arrays came in; `k`, the mesh, the precision and
  the numbers themselves are checked here.

  Args:
    rows: As they are multiplied.
    table: One row a token.
    mask: True where a token counts.
    k: How many tokens at either end.
    precision: See `unembedding_lens`.
    kernel: See `unembedding_lens`.
    softcap: See `unembedding_lens`.
    spread: See `unembedding_lens`.
    both_ends: See `unembedding_lens`.
    bottom: See `unembedding_lens`.
    unit_rows: Whether rows of the table are divided by their norms.
    centered: Whether the mean kept row is subtracted from the table.
    threshold: Tokens with logits over it, before centering, are counted.
    moments: See `unembedding_lens`; not used with `unit_rows`.
    mesh: See `unembedding_lens`.

  Raises:
    InputError: See `unembedding_lens`.
  """
  check_mesh(mesh)
  mesh = mesh or mesh_of(table, rows)
  device = device_of(mesh, table)
  spec = LensSpec(
      k=k,
      screened=use_screen(precision, device, table.dtype, rows.shape[1]),
      softcap=softcap if spread is None else None,
      spread=spread,
      both_ends=both_ends,
      bottom=bottom or both_ends,
      unit_rows=unit_rows,
      centered=centered,
      platform=device.platform,
      kernel=check_kernel(kernel, device.platform),
  )
  _check_count(k, mask)
  if spread is not None and not 0 < spread < math.inf:
    raise InputError(
        f'spread={spread} is no standard deviation of logits: give a number'
        ' over 0, or None for the logits as they are.'
    )
  if (
      moments is None
      or unit_rows
      or (spread is not None and moments.covariance is None)
  ):
    moments = find_moments(
        table,
        mask,
        mesh,
        unit_rows=unit_rows,
        # The standard deviation of the logits is known before the pass.
        covariance=spread is not None,
    )
    _check_moments_finite(moments)
  elif moments.norms.shape != mask.shape:
    raise InputError(
        f'The moments are of a table of {moments.norms.shape[0]} rows, and this'
        f' one has {mask.shape[0]}; take table_moments of this table.'
    )
  _check_logits_finite(rows, moments, mask)
  counted = threshold is not None
  if threshold is None:
    # Of the same type as one that is given: a weak one would make every
    # program anew.
    threshold = jnp.full(rows.shape[0], jnp.inf, jnp.float32)
  lens = find_lens(
      rows,
      table,
      mask,
      moments,
      threshold,
      spec,
      mesh,
  )
  active_share = lens.active_share if counted else None
  return dataclasses.replace(lens, mask=mask, active_share=active_share)


def check_shapes(directions: Array, table: Array, mask: Array) -> None:
  """Refuses arrays that do not belong together."""
  if directions.ndim != 2 or directions.shape[1] != table.shape[1]:
    raise InputError(
        f'Directions of shape {directions.shape} do not fit a vocabulary table'
        f' of shape {table.shape}: both need the width of one residual stream.'
    )
  _check_mask(mask, table)


def _check_mask(mask: Array, table: Array) -> None:
  if mask.shape != (table.shape[0],) or mask.dtype != bool:
    raise InputError(
        f'The mask is {mask.dtype} {mask.shape}, not bool ({table.shape[0]},):'
        ' it says for every token whether it counts.'
    )


def _check_count(k: int, mask: Array) -> None:
  """Refuses to look for more tokens than count; not under `jit`."""
  if isinstance(mask, jax.core.Tracer):
    return
  kept = int(mask.sum())
  if not 1 <= k <= kept:
    raise InputError(
        f'k={k} tokens were asked for, and {kept} of {mask.size} tokens count'
        ' (True in the mask); choose k between 1 and that.'
    )


def _check_moments_finite(moments: TableMoments) -> None:
  """Refuses a table without norms or covariance; not under `jit`."""
  norms, covariance = moments.norms, moments.covariance
  if isinstance(norms, jax.core.Tracer):
    return
  if not bool(jnp.isfinite(norms).all()):
    raise InputError(
        f'{int((~jnp.isfinite(norms)).sum())} rows of the vocabulary table are'
        ' not finite: load the weights again.'
    )
  if covariance is not None and not bool(jnp.isfinite(covariance).all()):
    raise InputError(
        'The covariance of the vocabulary table overflows float32: its rows are'
        f' as long as {float(norms.max()):.1e}; scale them down, or leave the'
        ' covariance out (covariance=False).'
    )


def _check_logits_finite(
    rows: Array, moments: TableMoments, mask: Array
) -> None:
  """Refuses directions without a largest logit; not under `jit`."""
  if any(isinstance(x, jax.core.Tracer) for x in (rows, moments.norms, mask)):
    return
  count, first = jax.device_get(_overflowing(rows, moments.norms, mask))
  if count:
    raise InputError(
        f'{count} directions, the first of them {first}, are not finite or so'
        ' long that their logits overflow float32: load them again, or scale'
        ' them down.'
    )


@jax.jit
def _overflowing(rows, norms, mask):
  """How many rows are too long for a table, and the first of them."""
  sizes = jnp.linalg.norm(rows, axis=1)
  bad = ~jnp.isfinite(sizes * jnp.where(mask, norms, 0.0).max())
  return bad.sum(), jnp.argmax(bad)
