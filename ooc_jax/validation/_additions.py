"""Where a dictionary writes, and the forward pass with a vector added there."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax.dictionaries import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Site
from ooc_jax.model import Tap
from ooc_jax.model import generate


def entry(site: DictionarySite, config: ModelConfig) -> tuple[bool, int]:
  """Whether a dictionary writes into the middle of a layer, and which.

  Where not, the layer is the one whose input it writes to; L after the last.
  """
  hook, layer = site.writes
  if hook in (Site.RESID_PRE, Site.EMBEDDING):
    return False, layer
  if hook in (Site.ATTN_OUT, Site.RESID_MID) and not config.parallel:
    return True, layer
  return False, layer + 1


def addition(
    site: DictionarySite,
    config: ModelConfig,
    vectors: Float[Array, '*B D'],
) -> Tap:
  """The tap that adds a vector where a dictionary writes, at all positions.

  Args:
    site: Of the dictionary.
    config: Of the model.
    vectors: One, or one for each text of the batch.
  """
  middle, first = entry(site, config)
  return adding(vectors, first, middle, config.num_layers)


def adding(
    vectors: Float[Array, '*B D'],
    first: Int[Array, ''] | int,
    middle: bool,
    num_layers: int,
) -> Tap:
  """The tap that adds vectors at an `entry`; the layer may be traced.

  Args:
    vectors: One, or one for each text of the batch.
    first: The layer of the entry.
    middle: Whether it is in the middle of that layer.
    num_layers: Of the model.
  """
  added = vectors.reshape(-1, 1, vectors.shape[-1])

  def tap(site: Site, layer: int, x: Array) -> Array:
    if site == (Site.RESID_MID if middle else Site.RESID_PRE):
      here = first == layer
    elif site == Site.RESID_POST and layer == num_layers - 1 and not middle:
      here = first == num_layers
    else:
      return x
    return x + jnp.where(here, added, 0).astype(x.dtype)

  return tap


def continuations(
    model: Model,
    site: DictionarySite,
    vectors: Float[Array | np.ndarray, 'B D'],
    tokens: Int[np.ndarray, 'T'],
    steps: int,
) -> Int[np.ndarray, 'B steps']:
  """What the model goes on with, greedily, with each of the vectors added.

  Args:
    model: With all its parts.
    site: Of the dictionary.
    vectors: To add where it writes, at every position.
    tokens: Of the text before, BOS included.
    steps: Tokens to add.
  """
  middle, first = entry(site, model.config)
  texts = np.repeat(tokens[None].astype(np.int32), len(vectors), axis=0)
  found = _continuations(
      model,
      jnp.asarray(vectors, jnp.float32),
      first,
      texts,
      middle=middle,
      steps=steps,
  )
  return np.asarray(found)[:, len(tokens) :]


@functools.partial(jax.jit, static_argnames=('middle', 'steps'))
def _continuations(
    model: Model,
    vectors: Float[Array, 'B D'],
    first: Int[Array, ''] | int,
    tokens: Int[Array, 'B T'],
    *,
    middle: bool,
    steps: int,
) -> Int[Array, 'B T_steps']:
  tap = adding(vectors, first, middle, model.config.num_layers)
  return generate(model, tokens, steps, tap=tap)
