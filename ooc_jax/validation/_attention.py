"""Attention predicted from features beside the true scores of real windows.

For pairs of positions (query i, key j ≤ i) a head's true score before the
softmax is set beside what a direction in place of either stream would score:
  strongest: of the feature that writes most there;
  sum: of the sum of all active features, which is Σ a_f a_g times the scores
    of the pairs but for a factor of each position, as the norm takes lengths;
  biased_sum: the same with the decoder's bias as one more feature;
  tokens: of the token's embedding less the mean of all tokens,
each without rotation, and turned by the true distance (`_turned`); and beside
the distance alone, nearer being more. Spearman's correlation of each head, with
windows drawn again for its interval. Null: the same activations with the
features' directions permuted, or the tokens of the text among themselves.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import scipy  # Its stats, slow to import, come when they are used.

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.model import Model
from ooc_jax.model import Site
from ooc_jax.model import apply_rope
from ooc_jax.model import rope_frequencies
from ooc_jax.validation._activations import dictionary_tap
from ooc_jax.validation._activations import is_signed
from ooc_jax.validation._activations import make_tapped

_DIRECTIONS = ('strongest', 'sum', 'biased_sum', 'tokens')
_DISTANCE = 'distance'
ATTENTION_PREDICTORS = (
    *_DIRECTIONS,
    *(f'{name}_turned' for name in _DIRECTIONS),
    _DISTANCE,
)
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class HeadCorrelations:
  """Of one predictor with the true scores, head by head.

  Attributes:
    spearman: [N]; NaN where the predictor is constant.
    low: [N] of its interval.
    high: [N] of its interval.
    null: [N, permutations] the same of permuted features; None of distance,
      which has no features.
    mean: Over the heads, and the ends of its interval.
  """

  spearman: Float[np.ndarray, 'N']
  low: Float[np.ndarray, 'N']
  high: Float[np.ndarray, 'N']
  null: Float[np.ndarray, 'N permutations'] | None
  mean: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class AttentionAgreement:
  """How well predictors do in the heads of a layer.

  Attributes:
    layer: Of the attention.
    windows: How many.
    pairs: Of positions, in all of them.
    predictors: Each of `ATTENTION_PREDICTORS`.
  """

  layer: int
  windows: int
  pairs: int
  predictors: dict[str, HeadCorrelations]


def attention_agreement(
    model: Model,
    dictionary: Dictionary,
    windows: Int[np.ndarray, 'W T'],
    layer: int,
    *,
    pairs: int = 64,
    permutations: int = 20,
    draws: int = 200,
    level: float = 0.95,
    batch: int = 16,
    seed: int = 0,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> AttentionAgreement:
  """Correlates what features say of attention with what attention does.

  A query is any position but the first, whose norm is an outlier, and its key
  any that it sees but the first; both are drawn uniformly.

  Args:
    model: With all its parts.
    dictionary: At the input of the layer, with an encoder; or neurons.
    windows: Token ids, BOS first; two windows or more.
    layer: Of the attention.
    pairs: Of positions, in each window.
    permutations: Of the null.
    draws: Of the windows, for the intervals.
    level: Of the intervals.
    batch: Windows at a time.
    seed: Of pairs, permutations and draws.
    progress: Goes through the numbers of the batches.

  Raises:
    InputError: The dictionary is elsewhere or has no encoder, or the windows
      are too few or too short.
  """
  circuits.check_attention_input(model, dictionary, layer)
  if len(windows) < 2 or windows.shape[1] < 3:
    raise InputError(
        f'The windows have the shape {windows.shape}; give at least two, of'
        ' three tokens or more.'
    )
  rng = np.random.default_rng((seed, layer))
  query, key = _draw_pairs(rng, model, layer, windows.shape, pairs)
  orders = np.stack(
      [rng.permutation(dictionary.size) for _ in range(permutations)]
  ).astype(np.int32)
  ids = np.unique(windows)
  others = np.stack([rng.permutation(ids) for _ in range(permutations)])
  reads = dictionary_tap(model.config, dictionary)
  stream = (Site.RESID_PRE, layer)
  tapped = make_tapped(model.config, tuple(sorted({reads, stream})))
  mean = _mean_embedding(circuits.embedding_table(model))
  found = []
  for i in progress(range(-(-len(windows) // batch))):
    rows = slice(i * batch, (i + 1) * batch)
    tokens = windows[rows]
    at = np.arange(len(tokens))[:, None]
    ends = np.stack([query[rows], key[rows]])
    own = tokens[at, ends]
    saved = tapped(model.params, tokens)
    scores = _scores(
        model,
        dictionary,
        saved[reads][at, ends],
        saved[stream][at, ends],
        jnp.asarray(own),
        jnp.asarray(others[:, np.searchsorted(ids, own)]),
        jnp.asarray(query[rows] - key[rows]),
        orders,
        mean,
        layer=layer,
        signed=is_signed(dictionary, model.config),
    )
    found.append(jax.tree.map(lambda x: np.asarray(x, np.float64), scores))
  true, predicted, null = (
      np.concatenate(x, -1) for x in zip(*found, strict=True)
  )
  distance = -(query - key).ravel().astype(np.float64)
  return _agreement(true, predicted, null, distance, layer, pairs, draws, level)


def _draw_pairs(
    rng: np.random.Generator,
    model: Model,
    layer: int,
    shape: tuple[int, ...],
    pairs: int,
) -> tuple[Int[np.ndarray, 'W pairs'], Int[np.ndarray, 'W pairs']]:
  """Positions of queries, and of keys that they see."""
  W, T = shape
  query = rng.integers(1, T, (W, pairs))
  seen = model.config.windows[layer] or T
  first = np.maximum(query - seen + 1, 1)
  return query, rng.integers(first, query + 1)


@jax.jit
def _mean_embedding(table: Float[Array, 'V D']) -> Float[Array, 'D']:
  return table.mean(axis=0, dtype=jnp.float32)


@functools.partial(jax.jit, static_argnames=('layer', 'signed'))
def _scores(
    model: Model,
    dictionary: Dictionary,
    reads: Float[Array, '2 B pairs R'],
    stream: Float[Array, '2 B pairs D'],
    tokens: Int[Array, '2 B pairs'],
    others: Int[Array, 'permutations 2 B pairs'],
    distance: Int[Array, 'B pairs'],
    orders: Int[Array, 'permutations F'],
    mean: Float[Array, 'D'],
    *,
    layer: int,
    signed: bool,
) -> tuple[Any, Any, Any]:
  """Scores of the pairs of a batch; the softcap, which keeps ranks, left out.

  Args:
    reads: What the dictionary reads at the query and the key of each pair.
    stream: What the layer reads there.
    tokens: What is there.
    others: What is there in each permutation of the tokens.
    distance: From the key to the query.
    orders: Permutations of the features.
    mean: Of the embedding.

  Returns:
    True scores [N, n], those of the directions without and with rotation
    [8, N, n], and those of the null [permutations, 8, N, n].
  """
  D, n = stream.shape[-1], distance.size
  distance_n = distance.reshape(n)
  a_2nF = reads.reshape(2, n, -1).astype(jnp.float32)
  if not signed:
    a_2nF = dictionary.encode(a_2nF)
  decoder = dictionary.decoder.astype(jnp.float32)
  bias = dictionary.decoder_bias.astype(jnp.float32)
  written = jnp.abs(a_2nF) * jnp.linalg.norm(decoder, axis=1)[None, None]
  strongest_2n = jnp.argmax(written, axis=-1)
  sign = jnp.sign(jnp.take_along_axis(a_2nF, strongest_2n[..., None], axis=-1))
  table = circuits.embedding_table(model)

  def predicted(order: Array, ids: Array) -> Float[Array, '8 N n']:
    # Feature f has the direction of feature order[f].
    moved = decoder[order]
    total = jnp.einsum('znf,fd->znd', a_2nF, moved, precision=_HIGHEST)
    # Or XLA:CPU casts a whole bfloat16 table ahead of the loop over orders.
    whole, ids = jax.lax.optimization_barrier((table, ids))
    rows = whole[ids.reshape(2, n)].astype(jnp.float32) - mean[None, None]
    directions = jnp.stack([
        moved[strongest_2n] * sign,
        total,
        total + bias[None, None],
        rows,
    ])
    q, k = directions[:, 0].reshape(4 * n, D), directions[:, 1].reshape(
        4 * n, D
    )
    heads = range(model.config.num_heads)
    queries = [circuits.head_queries(model, q, layer, h) for h in heads]
    keys = [circuits.head_keys(model, k, layer, h) for h in heads]
    shape = (len(heads), 4, n, -1)
    q_N4nH = jnp.stack(queries).reshape(shape)
    k_N4nH = jnp.stack(keys).reshape(shape)
    turned = _turned(model, q_N4nH, distance_n, layer)
    both = jnp.stack([
        jnp.einsum('hpnd,hpnd->phn', x, k_N4nH, precision=_HIGHEST)
        for x in (q_N4nH, turned)
    ])
    return both.reshape(8, len(heads), n)

  own = predicted(jnp.arange(dictionary.size), tokens)
  null = jax.lax.map(lambda x: predicted(*x), (orders, others))
  true = _true_scores(model, stream.reshape(2, n, D), distance_n, layer)
  return true, own, null


def _true_scores(
    model: Model,
    stream: Float[Array, '2 n D'],
    distance: Int[Array, 'n'],
    layer: int,
) -> Float[Array, 'N n']:
  """Of the streams at query and key, biases of the projections included."""
  scores = []
  for head in range(model.config.num_heads):
    q = circuits.head_queries(model, stream[0], layer, head)
    k = circuits.head_keys(model, stream[1], layer, head)
    if constants := circuits.head_constants(model, layer, head):
      q, k = q + constants[0][None], k + constants[1][None]
    q, k = (
        _turned(model, x[None, None], at, layer)[0, 0]
        for x, at in ((q, distance), (k, jnp.zeros_like(distance)))
    )
    scores.append(jnp.einsum('nh,nh->n', q, k, precision=_HIGHEST))
  return jnp.stack(scores) * model.config.attention_scale


def _turned(
    model: Model,
    x: Float[Array, 'heads kinds n H'],
    positions: Int[Array, 'n'],
    layer: int,
) -> Float[Array, 'heads kinds n H']:
  """Vectors as rotary attention has them at these positions."""
  frequencies = rope_frequencies(
      model.config.rope_of(layer), model.config.head_dim
  )
  flat = x.reshape(-1, x.shape[2], 1, x.shape[3])
  positions = jnp.broadcast_to(positions[None], flat.shape[:2])
  return apply_rope(flat, positions, frequencies).reshape(x.shape)


def _agreement(
    true: Float[np.ndarray, 'N n'],
    predicted: Float[np.ndarray, '8 N n'],
    null: Float[np.ndarray, 'permutations 8 N n'],
    distance: Float[np.ndarray, 'n'],
    layer: int,
    pairs: int,
    draws: int,
    level: float,
) -> AttentionAgreement:
  """The correlations of all heads."""
  N, n = true.shape
  windows = np.arange(n) // pairs
  predicted, null = _without_rounding(predicted), _without_rounding(null)
  values, resampled = [], []
  for head in range(N):
    rows = np.concatenate([predicted[:, head], distance[None]])
    found = measures.grouped_spearman(true[head], rows, windows, draws=draws)
    values.append(found.values)
    resampled.append(found.resampled)
  value_NP, draw_NdP = np.stack(values), np.stack(resampled)
  ends = ((1 - level) / 2, (1 + level) / 2)
  low, high = np.nanquantile(draw_NdP, ends, axis=1)
  ranks = scipy.stats.rankdata(true, axis=-1)
  null_r8N = _pearson(scipy.stats.rankdata(null, axis=-1), ranks)
  out = {}
  for i, name in enumerate(ATTENTION_PREDICTORS):
    mean = draw_NdP[..., i].mean(axis=0)
    out[name] = HeadCorrelations(
        spearman=value_NP[:, i],
        low=low[:, i],
        high=high[:, i],
        null=None if name == _DISTANCE else null_r8N[:, i].T,
        mean=(float(value_NP[:, i].mean()), *np.quantile(mean, ends).tolist()),
    )
  return AttentionAgreement(layer, n // pairs, n, out)


def _without_rounding(
    x: Float[np.ndarray, '*more n'],
) -> Float[np.ndarray, '*more n']:
  """Pairs of the same two features have one score, whatever their place."""
  spread = x.std(axis=-1, keepdims=True)
  return np.round(x / np.where(spread > 0, spread, 1), 5)


def _pearson(
    a: Float[np.ndarray, '*more n'], b: Float[np.ndarray, '*fewer n']
) -> Float[np.ndarray, '*more']:
  a = a - a.mean(axis=-1, keepdims=True)
  b = b - b.mean(axis=-1, keepdims=True)
  size = np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1))
  out = np.full(size.shape, np.nan)
  np.divide((a * b).sum(-1), size, out=out, where=size > 0)
  return out
