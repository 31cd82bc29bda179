"""How the score of a pair of features depends on the distance between them."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.numerics import to_host
from ooc_jax.circuits.qk._attention import AttentionStatistics
from ooc_jax.circuits.qk._head_vectors import check_attention_input
from ooc_jax.circuits.qk._head_vectors import head_keys
from ooc_jax.circuits.qk._head_vectors import head_queries
from ooc_jax.circuits.qk._head_vectors import rotary_halves
from ooc_jax.circuits.qk._head_vectors import rotation
from ooc_jax.dictionaries import Dictionary
from ooc_jax.model import Model
from ooc_jax.model import softcap

CONTEXT = 2048


@flax.struct.dataclass
class RopeProfile:
  """Scores over the distance from key to query.

  Attributes:
    offsets: [offsets] in tokens, 0 upwards.
    scores: [pairs, offsets] of every pair, after the attention softcap.
    mean: [offsets] over the pairs.
    preferred: Offset with the largest mean, the nearest of equal ones.
  """

  offsets: Int[Array, 'offsets'] | Any
  scores: Float[Array, '*N pairs offsets'] | Any
  mean: Float[Array, '*N offsets'] | Any
  preferred: Int[Array, '*N'] | Any


def rope_profile(
    model: Model,
    dictionary: Dictionary,
    layer: int,
    head: int,
    pairs: Int[Array | np.ndarray, 'pairs 2'],
    *,
    context: int = CONTEXT,
) -> RopeProfile:
  """Score of pairs (query feature, key feature) at every offset of a context.

  Scores as in `attention_statistics`, with R(offset) on the query: a rotary
  pair turns by offset times its frequency, Llama 3.1's scaling included.
  A layer that slides has offsets below its window only.

  Args:
    model: With its attention and norms.
    dictionary: At the layer's input, see `attention_statistics`.
    layer: From 0.
    head: Query head, from 0.
    pairs: Ids of a query and of a key in each row.
    context: Offsets 0 to context - 1.

  Raises:
    InputError: Model and dictionary do not fit, an id is not in the
      dictionary, or `context` is below 1.
  """
  check_attention_input(model, dictionary, layer)
  pairs = np.asarray(pairs)
  F = dictionary.size
  if pairs.ndim != 2 or pairs.shape[1] != 2 or not pairs.size:
    raise InputError(
        f'pairs has shape {pairs.shape}; give rows of a query and a key id.'
    )
  if pairs.min() < 0 or pairs.max() >= F:
    raise InputError(
        f'pairs hold ids from {pairs.min()} to {pairs.max()}, but'
        f' {dictionary.name} has features 0 to {F - 1}.'
    )
  if context < 1:
    raise InputError(f'A context of {context} tokens was asked for.')
  window = model.config.windows[layer]
  # A model with learned positions has no more of them.
  bounds = [x for x in (window, model.config.positions) if x is not None]
  offsets = np.arange(min(context, *bounds) if bounds else context)
  queries = head_queries(model, dictionary.decoder[pairs[:, 0]], layer, head)
  keys = head_keys(model, dictionary.decoder[pairs[:, 1]], layer, head)
  cos, sin = rotation(model, layer, offsets)
  scores = _scores(queries, keys, jnp.asarray(cos), jnp.asarray(sin))
  scores = softcap(
      scores * model.config.attention_scale, model.config.attention_softcap
  )
  mean = scores.mean(axis=0)
  return RopeProfile(
      offsets=jnp.asarray(offsets, jnp.int32),
      scores=scores,
      mean=mean,
      preferred=jnp.argmax(mean).astype(jnp.int32),
  )


def head_profiles(
    model: Model,
    dictionary: Dictionary,
    attention: AttentionStatistics,
    *,
    pairs: int = 64,
    context: int = CONTEXT,
) -> RopeProfile:
  """The profile of each head over its strongest pairs.

  A head's strongest pairs are the queries with the largest maximum, each with
  its best key, at the offset of `attention`.

  Args:
    model: As for `attention`.
    dictionary: As for `attention`.
    attention: `attention_statistics` of model and dictionary.
    pairs: Pairs of each head; all queries where there are fewer.
    context: Offsets 0 to context - 1.

  Returns:
    Profiles with a leading axis N, one a row of `attention`.

  Raises:
    InputError: `pairs` or `context` is below 1, or model and dictionary do not
      fit.
  """
  if pairs < 1:
    raise InputError(f'{pairs} pairs a head were asked for; choose 1 or more.')
  found = []
  for row, head in enumerate(attention.heads):
    maximum = to_host(attention.query.maximum[row])
    best = np.argsort(-maximum, kind='stable')[:pairs]
    partners = to_host(attention.query.top_ids[row, :, 0])[best]
    found.append(
        rope_profile(
            model,
            dictionary,
            attention.layer,
            head,
            np.stack([best, partners], axis=1),
            context=context,
        )
    )
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *found)
  return stacked.replace(offsets=found[0].offsets)


@jax.jit
def _scores(
    queries: Float[Array, 'pairs H'],
    keys: Float[Array, 'pairs H'],
    cos: Float[Array, 'offsets P'],
    sin: Float[Array, 'offsets P'],
) -> Float[Array, 'pairs offsets']:
  """R(offset) q · k, with P rotary pairs (i, i + P); the rest does not turn."""
  q1, q2, q3 = rotary_halves(queries, cos.shape[1])
  k1, k2, k3 = rotary_halves(keys, cos.shape[1])
  with_cos, with_sin = q1 * k1 + q2 * k2, q1 * k2 - q2 * k1
  highest = jax.lax.Precision.HIGHEST
  turning = jnp.einsum('pr,tr->pt', with_cos, cos, precision=highest)
  turning += jnp.einsum('pr,tr->pt', with_sin, sin, precision=highest)
  return turning + (q3 * k3).sum(axis=1, keepdims=True)
