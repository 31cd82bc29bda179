"""How alike the top tokens of a feature are as directions, in a token space."""

from collections.abc import Sequence
import functools
import itertools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import scipy  # Its linear algebra comes when it is used.

from ooc_jax._errors import InputError
from ooc_jax.circuits import TableMoments
from ooc_jax.circuits import readable_mask
from ooc_jax.circuits import table_moments
from ooc_jax.circuits import to_host
from ooc_jax.circuits import unembedding_table
from ooc_jax.circuits.numerics import RowBlocks
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import triangle
from ooc_jax.measures import _measure
from ooc_jax.model import Model

TOKEN_SPACES = ('whitened', 'top_removed', 'centred')

# Variances under this share of the largest are noise of the float32
# covariance (measured: under 3e-7 of the largest; the smallest true variance
# of two trained tables is 3e-4 of it) or exact zeros, as when fewer rows than
# dimensions are kept. Whitening drops those directions, as a pseudo-inverse.
_VARIANCE_FLOOR = 1e-6
# Blocks of features whose sums go through the map at once.
_BLOCKS_TOGETHER = 8


@struct.dataclass
class TokenSpace:
  """A map of the rows of a table to where their cosines mean something.

  The direction of a token is (row - mean) @ map over its norm. That of no token
  is held: the sum of some is (Σ (row - mean) / norm) @ map, one product.

  Attributes:
    table: One row per token, of any float type, as the model holds it.
    mean: Subtracted from every row.
    map: Upper triangular, so that half of a product with it is zeros; or None,
      where rows stay as they are. Another map with the same lengths gives the
      same cosines.
    norms: Of the mapped rows. 0 where the map sends a row to zero, whose
      cosine with every row then counts as 0.
    kind: One of `TOKEN_SPACES`.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  table: Float[Array, 'V D'] | Any
  mean: Float[Array, 'D'] | Any
  map: Float[Array, 'D D'] | None | Any
  norms: Float[Array, 'V'] | Any
  kind: str = struct.field(pytree_node=False)

  def directions(
      self, ids: Int[Array | np.ndarray, '*n']
  ) -> Float[Array, '*n D']:
    """Of some tokens, of norm 1; zeros where a row is mapped to zero."""
    return _directions(self, jnp.asarray(ids))


def _triangular_map(
    covariance: Float[np.ndarray, 'D D'], kind: str
) -> Float[np.ndarray, 'D D']:
  """Upper triangular M, with x @ M as long as x is in the space; in float64."""
  if kind == 'whitened':
    found = _inverse_root(covariance)
    if found is not None:
      return found
  variance, basis = np.linalg.eigh(covariance)
  scale = np.ones_like(variance)
  if kind == 'whitened':
    kept = variance > _VARIANCE_FLOOR * variance[-1]
    scale = np.where(kept, variance, np.inf) ** -0.5
  else:
    scale[-max(1, len(variance) // 100) :] = 0.0
  # The lengths of x are those under basis * scale, and so those under the
  # triangular factor of its transpose; reversed twice, for the other triangle.
  root = (scale[:, None] * basis.T)[:, ::-1]
  return np.asarray(np.linalg.qr(root, mode='r'))[::-1, ::-1].T


def _inverse_root(
    covariance: Float[np.ndarray, 'D D'],
) -> Float[np.ndarray, 'D D'] | None:
  """By Cholesky, a tenth of an eigendecomposition; None where rank is lost."""
  try:  # In NumPy it takes five times as long.
    lower = scipy.linalg.cholesky(covariance, lower=True)
  except np.linalg.LinAlgError:
    return None
  (invert,) = scipy.linalg.get_lapack_funcs(('trtri',), (lower,))
  inverse, _ = invert(lower, lower=1)
  # The least variance is at least this, and the largest at most the norm. A
  # trained table passes; else it is found out.
  least = 1.0 / np.linalg.norm(inverse) ** 2
  surely = least > _VARIANCE_FLOOR * np.linalg.norm(covariance)
  if not surely and not _over_floor(covariance):
    return None
  return np.asarray(inverse).T


def _over_floor(covariance: Float[np.ndarray, 'D D']) -> bool:
  """Whether all variances are over the floor: then there is this root."""
  # By power iterations the largest variance is known to a few percent.
  x, largest = np.sqrt(np.maximum(np.diagonal(covariance), 0.0)), 0.0
  for _ in range(64):
    x = covariance @ x
    largest = float(np.linalg.norm(x))
    x /= largest or 1.0
  floor = _VARIANCE_FLOOR * largest * np.eye(len(covariance))
  try:
    scipy.linalg.cholesky(covariance - floor, lower=True)
  except np.linalg.LinAlgError:
    return False
  return True


def _parts(map_DE: Float[Array, 'D D'] | None) -> list[Array] | None:
  """The columns of a map in parts, without most of its zeros."""
  if map_DE is None:
    return None
  return [map_DE[:last, first:last] for first, last in triangle(len(map_DE))]


def _mapped(x: Float[Array, '... D'], parts: list[Array] | None) -> list[Array]:
  """x @ map in parts side by side."""
  if parts is None:
    return [x]
  return [
      jnp.einsum(
          '...D,DE->...E', x[..., : len(part)], part, precision='highest'
      )
      for part in parts
  ]


def _squares(parts: Sequence[Float[Array, '... _']]) -> Array:
  # XLA:CPU sums a product faster than it reduces rows.
  squares = (
      jnp.einsum('...E,...E->...', x, x, precision='highest') for x in parts
  )
  return functools.reduce(jnp.add, squares)


@functools.partial(jax.jit, static_argnames='blocks')
def _row_norms(table_VD, mean_D, parts, *, blocks):
  """Norms of the mapped rows."""

  def step(norms_V, rows_SBD, start, fresh):
    del fresh  # A row that is met again has the norm that it had.
    # As one matrix: XLA:CPU takes a tenth more time for a batch of one.
    rows_RD = rows_SBD.astype(jnp.float32).reshape(-1, rows_SBD.shape[-1])
    norms_R = jnp.sqrt(_squares(_mapped(rows_RD - mean_D[None], parts)))
    return blocks.write(norms_V, norms_R.reshape(rows_SBD.shape[:2]), start)

  none = jnp.zeros(len(table_VD), jnp.float32)
  return blocks.each(step, table_VD, none)


def token_space(
    unembedding: Float[Array, 'V D'],
    keep: Bool[Array | np.ndarray, 'V'],
    kind: str = 'whitened',
    *,
    moments: TableMoments | None = None,
    block_size: int = 512,
) -> TokenSpace:
  """Maps the rows of an unembedding to where their cosines mean something.

  With u a row, and mean and Cov taken over the rows of `keep` only:
    whitened: (u - mean) Cov^-1/2, the causal inner product of Park, Choe and
      Veitch (2023, arXiv 2311.03658), in a basis in which the map is
      triangular. Directions in which the kept rows do not vary (variance under
      1e-6 of the largest) are dropped.
    top_removed: u - mean without the first max(1, D // 100) principal
      components (Mu and Viswanath 2018, arXiv 1702.01417).
    centred: u - mean.
  Every row is mapped, kept or not, for its norm: a product V·D² over the
  triangle of the map. What is mapped is not held.

  Runs once a model. Beside the table itself, [block_size, D] and a few [D, D]
  are held; rows may be sharded over devices.

  Args:
    unembedding: One row per token, of any float type.
    keep: The tokens over which mean and covariance are taken: those that can
      be read.
    kind: One of `TOKEN_SPACES`.
    moments: `circuits.table_moments` of this table and mask, with the
      covariance; found here if None.
    block_size: Rows at a time, on each device.

  Returns:
    The space, with the table as it was given.

  Raises:
    InputError: The kind is unknown, fewer than two rows are kept, a row is not
      finite, or the moments have no covariance.
  """
  _measure.check_known(kind, TOKEN_SPACES, 'token space')
  keep = np.asarray(keep)
  if keep.sum() < 2:
    raise InputError(
        f'The mask keeps {keep.sum()} of {len(keep)} tokens and a token space'
        ' needs at least two: give a mask that keeps the readable tokens.'
    )
  centred = kind == 'centred'
  if moments is None:
    moments = table_moments(unembedding, keep, covariance=not centred)
  map_DE = None
  if not centred:
    if moments.covariance is None:
      raise InputError(
          f'The moments of the table have no covariance, of which the {kind}'
          ' token space is made: find them with covariance=True.'
      )
    covariance_DD = to_host(moments.covariance).astype(np.float64)
    map_DE = jnp.asarray(_triangular_map(covariance_DD, kind), jnp.float32)
  mean_D = jnp.asarray(to_host(moments.mean))
  norms_V = _row_norms(
      unembedding,
      mean_D,
      _parts(map_DE),
      blocks=RowBlocks.of(unembedding, block_size),
  )
  return TokenSpace(unembedding, mean_D, map_DE, norms_V, kind)


def model_token_space(model: Model, kind: str = 'whitened') -> TokenSpace:
  """The token space of a model over its readable tokens; see `token_space`."""
  return token_space(unembedding_table(model), readable_mask(model), kind)


def _num_shards(x: jax.Array) -> int:
  """Over how many devices the rows lie; a traced array is taken as whole."""
  if isinstance(x, jax.core.Tracer):
    return 1
  return x.shape[0] // x.sharding.shard_shape(x.shape)[0]


def _before_map(space: TokenSpace, ids: Int[Array, '*n']):
  """Directions but for the map, and 1 where there is one."""
  rows = space.table[ids].astype(jnp.float32)
  rows -= jnp.broadcast_to(space.mean, rows.shape)
  norms = space.norms[ids]
  return rows * divide(1.0, norms)[..., None], (norms > 0).astype(jnp.float32)


@jax.jit
def _directions(space: TokenSpace, ids: Int[Array, '*n']):
  rows, _ = _before_map(space, ids)
  return jnp.concatenate(_mapped(rows, _parts(space.map)), axis=-1)


@functools.partial(jax.jit, static_argnames=('sizes', 'block_size', 'shards'))
def _mean_cosines(top_ids_Fk, space, sizes, block_size, shards):
  num_features, num_top = top_ids_Fk.shape
  rising = sorted(set(sizes))
  cut = [0, *rising]

  def add(top_ids_SBk):
    """Of each block the sums over the first tokens, and how many count."""
    # Or XLA:CPU casts the whole table to float32 ahead of the loop.
    whole, top_ids_SBk = jax.lax.optimization_barrier((space, top_ids_SBk))
    rows_SBkD, own_SBk = _before_map(whole, top_ids_SBk)
    # The sum over more tokens goes on from that over fewer.
    parts = itertools.pairwise(cut)
    sums = [rows_SBkD[:, :, a:b].sum(axis=2) for a, b in parts]
    own_SBZ = jnp.cumsum(own_SBk, axis=2)[:, :, jnp.asarray(rising) - 1]
    return jnp.cumsum(jnp.stack(sums, axis=2), axis=2), own_SBZ

  def of_blocks(top_ids_CSBk):
    sums_CSBZD, own_CSBZ = jax.lax.map(add, top_ids_CSBk)
    # |sum t|^2 counts every ordered pair and each row with itself, once where
    # it has a direction.
    pairs_CSBZ = _squares(_mapped(sums_CSBZD, _parts(space.map))) - own_CSBZ
    return jnp.stack(
        [pairs_CSBZ[..., rising.index(k)] / (k * (k - 1)) for k in sizes]
    )

  # Blocks are cut within the shards: a loop over blocks of whole features
  # would have every device measure all of them. A product of the sums of one
  # block would mostly wait for the map.
  per_shard = num_features // shards
  size = min(block_size, per_shard)
  together = min(_BLOCKS_TOGETHER, -(-per_shard // size))
  top_ids_SRk = top_ids_Fk.reshape(shards, per_shard, num_top)
  padding = (0, 0), (0, -per_shard % (together * size)), (0, 0)
  top_ids_SNCBk = jnp.pad(top_ids_SRk, padding).reshape(
      shards, -1, together, size, num_top
  )
  cosine_NZCSB = jax.lax.map(of_blocks, top_ids_SNCBk.transpose(1, 2, 0, 3, 4))
  cosine_ZSNCB = cosine_NZCSB.transpose(1, 3, 0, 2, 4)
  cosine_ZSR = cosine_ZSNCB.reshape(len(sizes), shards, -1)[:, :, :per_shard]
  return cosine_ZSR.reshape(len(sizes), num_features)


def mean_pairwise_cosine(
    top_ids: Int[Array | np.ndarray, 'F k'],
    space: TokenSpace | Float[Array, 'V D'],
    *,
    block_size: int = 64,
) -> Float[Array, 'F']:
  """Mean over pairs of top tokens of the cosine of their directions.

  Computed from the norm of the directions' sum, (|sum t|^2 - sum |t|^2) /
  (k (k - 1)), in float32: one product with the map of the space a feature.

  Args:
    top_ids: The top tokens of each feature, in any order. Ids are not checked
      here, so that this works under `jit`: JAX clamps what is out of range.
      Sharded features stay on their devices.
    space: A `TokenSpace`; or directions themselves, one row of norm 1 per
      token, or of norm 0, whose cosine with every row then counts as 0.
    block_size: Features at a time, on each device; [block_size, k, D] is what
      is held, and the sums of eight blocks.

  Returns:
    A number in [-1 / (k - 1), 1] per feature.

  Raises:
    InputError: There is no pair (k < 2).
  """
  return mean_pairwise_cosines(
      top_ids, space, top_ids.shape[1:], block_size=block_size
  )[0]


def mean_pairwise_cosines(
    top_ids: Int[Array | np.ndarray, 'F k'],
    space: TokenSpace | Float[Array, 'V D'],
    sizes: Sequence[int],
    *,
    block_size: int = 64,
) -> Float[Array, 'sizes F']:
  """`mean_pairwise_cosine` of the first top tokens, at each size.

  Args:
    top_ids: See there.
    space: See there.
    sizes: How many of the top tokens, at most k.
    block_size: See there.

  Raises:
    InputError: There is no pair (a size under 2).
  """
  _measure.check_num_top(min(sizes))
  if not top_ids.shape[0]:
    return jnp.zeros((len(sizes), 0), jnp.float32)
  if not isinstance(space, TokenSpace):
    zero = jnp.zeros(space.shape[1], jnp.float32)
    norms = jnp.linalg.norm(space, axis=1)
    space = TokenSpace(space, zero, None, norms, 'centred')
  top_ids = jnp.asarray(top_ids)[:, : max(sizes)]
  return _mean_cosines(
      top_ids, space, tuple(sizes), block_size, _num_shards(top_ids)
  )


COSINE = _measure.Measure(
    name='cosine',
    description='mean pairwise cosine of the top tokens in the token space',
    low_is_coherent=False,
    compute=lambda lens, strings, space: mean_pairwise_cosine(
        lens.top_ids, space
    ),
    compute_sizes=lambda lens, strings, space, sizes: to_host(
        mean_pairwise_cosines(lens.top_ids, space, sizes)
    ),
    label='cosine',
    short_label='cos',
    limits=(-1.0, 1.0),
)
