"""What experiment 1 finds once a model: tokens that count, and their geometry.

Where a program keeps what it finds between runs, a table is gone over once in
all, but for its hash: then a run reads a few megabytes instead.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax import _cache
from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax.circuits.numerics import platform_of
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_readouts
from ooc_jax.model import Model
from ooc_jax.model import Tokenizer
from ooc_jax.model import random_weights

# Below the level at which tokens are masked: what is left is still reported.
_SUSPECT_COSINE = 0.5
# Of the numbers that are kept: another one, and those of before are not read.
_VERSION = 1


class Prepared(NamedTuple):
  """Of a model.

  Attributes:
    model: That is read: of other weights where the settings say so.
    mask: The tokens that count.
    suspects: Those that look under-trained, at a level below that of the mask.
    moments: Of the table of each readout; none where rows have norm 1.
    space: The token space.
  """

  model: Model
  mask: Bool[Array, 'V']
  suspects: Bool[np.ndarray, 'V']
  moments: Mapping[str, circuits.TableMoments]
  space: measures.TokenSpace


def prepare(
    model: Model, config: OutputPrediction, mesh: Mesh | None = None
) -> Prepared:
  """Finds it, or reads what an earlier run found.

  Args:
    model: With the parts `config.parts`, and a tokenizer.
    config: The settings.
    mesh: That the model is spread over.
  """
  hashed: dict[int, str] = {}  # To hash a gigabyte takes half a second.

  def digest(table: Array) -> str:
    if id(table) not in hashed:
      hashed[id(table)] = _cache.digest(table)
    return hashed[id(table)]

  # Of the trained model, also where the control draws other weights: the same
  # tokens are compared.
  trained = circuits.unembedding_table(model)
  mask, suspects = _tokens(model.tokenizer, trained, config, mesh, digest)
  if config.control == 'random_weights':
    model = random_weights(model, config.seed)
  readouts = parse_readouts(config.readouts, model.config.tied)
  unembedding = circuits.unembedding_table(model)
  tables = [unembedding]
  places = []  # Of each readout among the tables.
  for readout in readouts:
    own = unembedding
    if readout != 'output':
      own = circuits.embedding_table(model)
    if own is not tables[-1]:
      tables.append(own)
    places.append(len(tables) - 1)
  if config.convention == 'cosine':  # Divides rows by their norms.
    tables = tables[:1]
  kind = config.token_space

  def make() -> dict[str, Array]:
    moments = [circuits.table_moments(x, mask, mesh=mesh) for x in tables]
    space = measures.token_space(unembedding, mask, kind, moments=moments[0])
    found = {'space.mean': space.mean, 'space.norms': space.norms}
    if space.map is not None:
      found['space.map'] = space.map
    for i, x in enumerate(moments):
      assert x.covariance is not None
      found |= {
          f'{i}.mean': x.mean,
          f'{i}.covariance': x.covariance,
          f'{i}.norms': x.norms,
      }
    return found

  V, D = unembedding.shape
  shapes = {'mean': (D,), 'norms': (V,), 'map': (D, D), 'covariance': (D, D)}
  names = ['space.mean', 'space.norms']
  names += ['space.map'] if kind != 'centred' else []
  for i in range(len(tables)):
    names += [f'{i}.mean', f'{i}.covariance', f'{i}.norms']
  about = None
  if _cache.is_kept():
    about = {
        'version': _VERSION,
        'platform': platform_of(mesh, unembedding),
        'tables': [digest(x) for x in tables],
        'mask': _cache.digest(mask),
        'space': kind,
    }
  like = {x: (shapes[x.partition('.')[2]], np.float32) for x in names}
  found = _cache.recall('geometry of tokens', about, like, make)
  found = {name: jnp.asarray(x) for name, x in found.items()}
  moments = [
      circuits.TableMoments(
          found[f'{i}.mean'], found[f'{i}.covariance'], found[f'{i}.norms']
      )
      for i in range(len(tables))
  ]
  by_readout = {}
  if config.convention != 'cosine':
    by_readout = {x: moments[i] for x, i in zip(readouts, places, strict=True)}
  space = measures.TokenSpace(
      unembedding,
      found['space.mean'],
      found.get('space.map'),
      found['space.norms'],
      kind,
  )
  return Prepared(model, mask, suspects, by_readout, space)


def _tokens(
    tokenizer: Tokenizer | None,
    table: Float[Array, 'V D'],
    config: OutputPrediction,
    mesh: Mesh | None,
    digest: Callable[[Array], str],
) -> tuple[Bool[Array, 'V'], Bool[np.ndarray, 'V']]:
  """Mask and suspects; see `Prepared`."""
  assert tokenizer is not None  # Who reads a dictionary refuses one without.
  seeds = np.asarray(tokenizer.unreachable())
  masked = config.undertrained_cosine
  levels = [x for x in (masked, _SUSPECT_COSINE) if x is not None]
  about = None
  if _cache.is_kept():
    about = {
        'version': _VERSION,
        'platform': platform_of(mesh, table),
        'table': digest(table),
        'seeds': _cache.digest(seeds),
        'levels': levels,
    }
  flagged = _cache.recall(
      'under-trained tokens',
      about,
      {'flagged': ((len(table), len(levels)), np.bool_)},
      lambda: {'flagged': circuits.undertrained_at(table, seeds, levels)},
  )['flagged']
  flagged = circuits.to_host(flagged)
  readable = np.asarray(tokenizer.mask())
  if masked is not None:
    readable = readable & ~flagged[:, 0]
  return jnp.asarray(readable), flagged[:, -1]
