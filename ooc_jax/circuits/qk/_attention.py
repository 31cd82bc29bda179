"""How features attend to each other, for all heads of a layer."""

from collections.abc import Sequence
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.numerics import feature_mesh
from ooc_jax.circuits.numerics import side_by_side
from ooc_jax.circuits.qk._head_vectors import check_attention_input
from ooc_jax.circuits.qk._head_vectors import head_keys
from ooc_jax.circuits.qk._head_vectors import head_queries
from ooc_jax.circuits.qk._on_bias import BiasScores
from ooc_jax.circuits.qk._on_bias import bias_scores
from ooc_jax.circuits.qk._on_bias import check_bias
from ooc_jax.circuits.qk._on_bias import on_bias
from ooc_jax.circuits.qk._statistics import HeadStatistics
from ooc_jax.circuits.qk._statistics import qk_statistics
from ooc_jax.dictionaries import Dictionary
from ooc_jax.model import Model


@flax.struct.dataclass
class AttentionStatistics(HeadStatistics):
  """`HeadStatistics` with a leading axis N of heads, and where they are from.

  Attributes:
    layer: Whose attention.
    offset: Tokens from key to query.
    heads: Which head each row of axis N is.
    bias: Scores with the mean of the stream, [N, F]; None without one.
    length: Of features on that mean; None where they are alone.
  """

  layer: int = flax.struct.field(pytree_node=False, kw_only=True)
  offset: int = flax.struct.field(pytree_node=False, kw_only=True)
  heads: tuple[int, ...] = flax.struct.field(pytree_node=False, kw_only=True)
  bias: BiasScores | Any = flax.struct.field(default=None, kw_only=True)
  length: float | None = flax.struct.field(
      pytree_node=False, default=None, kw_only=True
  )


def attention_statistics(
    model: Model,
    dictionary: Dictionary,
    layer: int,
    *,
    offset: int = 0,
    heads: Sequence[int] | None = None,
    k: int = 10,
    counts: Bool[Array | np.ndarray, '*N F'] | None = None,
    bias: Float[Array | np.ndarray, 'D'] | None = None,
    length: float | None = None,
    mesh: Mesh | None = None,
) -> AttentionStatistics:
  """Attention scores and weights between all features, from weights alone.

  For head n and kv head n // G, with d the decoder rows in both roles and g
  the gain of the norm before the attention (1 + weight in Gemma):
    q_i = (√D d_i/‖d_i‖ ⊙ g) W_Q[n],  k_j = (√D d_j/‖d_j‖ ⊙ g) W_K[n // G],
    score = scale · q_i · R(offset) k_j, then the attention softcap.
  In Gemma 3 queries and keys pass through their norms. Softmaxes are over the
  whole dictionary, not over the tokens of a text. With `length`, d is the
  feature on the mean of the stream, see `on_bias`.

  Args:
    model: With its attention and norms.
    dictionary: At the layer's input: `resid_pre` of the layer, `resid_post`
      of the one before, or what that one's MLP or attention wrote (see
      `attention_layer`); token embeddings fit every layer.
    layer: From 0.
    offset: Tokens from key to query; 0 leaves out RoPE, which is then the
      identity.
    heads: Query heads; None for all.
    k: Partners to keep of every feature in each role.
    counts: True for a feature that counts as a key, to leave out sinks: [F], or
      [N, F] for each of `heads`; None for all.
    bias: Mean of the stream at the layer's input, to score features with.
    length: Of a feature on that mean; None scores features alone.
    mesh: With an axis 'feature'; None takes the one the dictionary is sharded
      over. Give it under `jit`.

  Returns:
    Statistics [N, F] of all heads. A zero direction scores 0 with everyone.

  Raises:
    InputError: The dictionary is not at the layer's input, or a setting is out
      of range.
  """
  check_attention_input(model, dictionary, layer)
  mesh = feature_mesh(mesh, dictionary.decoder)
  heads = tuple(range(model.config.num_heads) if heads is None else heads)
  if not heads:
    raise InputError(f'No head of layer {layer} was asked for: name one.')
  of_heads: list[Any] = [counts] * len(heads)
  if counts is not None and counts.ndim == 2:
    of_heads = list(counts)
  if counts is not None and len(of_heads) != len(heads):
    raise InputError(
        f'counts has shape {counts.shape} for {len(heads)} heads: give a row'
        ' for each, or one for all.'
    )
  check_bias(model, bias, length)
  rows, biases = dictionary.decoder, length is not None
  if bias is not None and length is not None:
    rows = on_bias(model, rows, bias, length)
  found, with_bias, keys, kv_head = [], [], jnp.zeros(0, jnp.float32), None
  # Two heads in memory, however many there are.
  for first in range(0, len(heads), 2):
    runs = []
    for i, head in enumerate(heads[first : first + 2], first):
      queries = head_queries(
          model, rows, layer, head, offset=offset, biases=biases
      )
      if kv_head != head // model.config.group_size:
        kv_head = head // model.config.group_size
        keys = head_keys(model, rows, layer, head, biases=biases)
      runs.append(
          functools.partial(
              qk_statistics,
              queries,
              keys,
              scale=model.config.attention_scale,
              softcap=model.config.attention_softcap,
              k=k,
              counts=of_heads[i],
              mesh=mesh,
          )
      )
      if bias is not None:
        with_bias.append(
            bias_scores(model, bias, layer, head, queries, keys, offset=offset)
        )
    found += side_by_side(runs, keys, mesh)
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *found)
  return AttentionStatistics(
      **vars(stacked),
      layer=layer,
      offset=offset,
      heads=heads,
      bias=jax.tree.map(lambda *x: jnp.stack(x), *with_bias)
      if with_bias
      else None,
      length=length,
  )
