"""What a study finds once a model: the tokens that count, and their geometry.

Where a program keeps what it finds between runs, a table is gone over once in
all, but for its hash: then a run reads a few megabytes instead. The keys are of
tables and tokens alone, so studies of one model share their files.
"""

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax import _cache
from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax.circuits.numerics import platform_of
from ooc_jax.model import Tokenizer

# Below the level at which tokens are left out: the rest is still reported.
_SUSPECT_COSINE = 0.5
# Of the numbers that are kept: another one, and those of before are not read.
_VERSION = 2


class Preparation:
  """Finds each of them, or reads what an earlier run found.

  It keeps the tables that it was given; let it go with them.
  """

  def __init__(self, mesh: Mesh | None = None):
    """Finds nothing yet.

    Args:
      mesh: That the tables are spread over.
    """
    self._mesh = mesh
    # By the addresses of arrays, beside these, which keeps them theirs.
    self._digests: dict[int, tuple[Array, str]] = {}
    self._moments: dict[
        tuple[int, int], tuple[Array, Array, circuits.TableMoments]
    ] = {}

  def tokens(
      self,
      tokenizer: Tokenizer,
      table: Float[Array, 'V D'],
      level: float | None = circuits.UNDERTRAINED_COSINE,
  ) -> tuple[Bool[Array, 'V'], Bool[np.ndarray, 'V']]:
    """Those that count, and those that look under-trained at a lower level.

    Args:
      tokenizer: Of the model.
      table: Its unembedding.
      level: As of `circuits.readable_mask`, whose mask is the first of both.
    """
    seeds = np.asarray(tokenizer.unreachable())
    levels = [x for x in (level, _SUSPECT_COSINE) if x is not None]
    flagged = _cache.recall(
        'under-trained tokens',
        self._about(table, seeds=seeds, levels=levels),
        {'flagged': ((len(table), len(levels)), np.bool_)},
        lambda: {'flagged': circuits.undertrained_at(table, seeds, levels)},
    )['flagged']
    flagged = circuits.to_host(flagged)
    readable = np.asarray(tokenizer.mask())
    if level is not None:
      readable = readable & ~flagged[:, 0]
    return jnp.asarray(readable), flagged[:, -1]

  def moments(
      self, table: Float[Array, 'V D'], mask: Bool[Array, 'V']
  ) -> circuits.TableMoments:
    """`circuits.table_moments` with the covariance."""
    if (known := self._moments.get((id(table), id(mask)))) is not None:
      return known[-1]

    def make() -> dict[str, Array]:
      made = circuits.table_moments(table, mask, mesh=self._mesh)
      assert made.covariance is not None
      return {
          'mean': made.mean,
          'covariance': made.covariance,
          'norms': made.norms,
      }

    V, D = table.shape
    shapes = {'mean': (D,), 'covariance': (D, D), 'norms': (V,)}
    found = _cache.recall(
        'moments of a table',
        self._about(table, mask=mask),
        {name: (shape, np.float32) for name, shape in shapes.items()},
        make,
    )
    moments = circuits.TableMoments(
        **{name: jnp.asarray(x) for name, x in found.items()}
    )
    self._moments[id(table), id(mask)] = table, mask, moments
    return moments

  def space(
      self, table: Float[Array, 'V D'], mask: Bool[Array, 'V'], kind: str
  ) -> measures.TokenSpace:
    """`measures.token_space`."""

    def make() -> dict[str, Array]:
      # Where rows are only centred, they need no covariance.
      moments = None if kind == 'centred' else self.moments(table, mask)
      made = measures.token_space(table, mask, kind, moments=moments)
      found = {'mean': made.mean, 'norms': made.norms}
      return found if made.map is None else {**found, 'map': made.map}

    V, D = table.shape
    shapes: dict[str, tuple[int, ...]] = {'mean': (D,), 'norms': (V,)}
    if kind != 'centred':
      shapes['map'] = (D, D)
    found = _cache.recall(
        'token space',
        self._about(table, mask=mask, kind=kind),
        {name: (shape, np.float32) for name, shape in shapes.items()},
        make,
    )
    own = {name: jnp.asarray(x) for name, x in found.items()}
    return measures.TokenSpace(
        table, own['mean'], own.get('map'), own['norms'], kind
    )

  def _about(
      self, table: Float[Array, 'V D'], **more: object
  ) -> dict[str, object] | None:
    """All that something found of a table hangs on; None keeps nothing."""
    if not _cache.is_kept():
      return None
    # To hash a gigabyte takes half a second.
    if id(table) not in self._digests:
      self._digests[id(table)] = table, _cache.digest(table)
    return {
        'version': _VERSION,
        'platform': platform_of(self._mesh, table),
        'table': self._digests[id(table)][1],
        **{
            name: x if isinstance(x, str | list) else _cache.digest(x)
            for name, x in more.items()
        },
    }
