"""A feature in attention: its partners, and the heads that can write it."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax import circuits
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import softcap

SHOWN = 4  # Tokens of a partner, a write or a source.
_PARTNERS = 2  # Of each head in each role.
_WRITERS = 3
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class HeadUse:
  """The feature in a head that reads it.

  Attributes:
    head: Its number.
    weight: Largest attention weight as a query, over the whole dictionary.
    partners: Role -> features with the largest scores, and those.
    writes: Top tokens of what the head writes where it attends to the feature.
  """

  head: int
  weight: float
  partners: Mapping[str, Sequence[tuple[int, float]]]
  writes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Writer:
  """A head that can write what the feature reads.

  Attributes:
    layer: Of the attention.
    head: Its number.
    strength: Length of what it takes to the encoder, by that of a random
      direction in its place: 1 by chance.
    sources: Tokens that it takes there most, read as embeddings.
  """

  layer: int
  head: int
  strength: float
  sources: Sequence[str]


def float_rows(
    dictionary: Dictionary, name: str, features: Sequence[int]
) -> Float[np.ndarray, 'n R']:
  """Some rows of the decoder or the encoder, on the host."""
  rows = getattr(dictionary, name)[np.asarray(features, np.int32)]
  return circuits.to_host(rows).astype(np.float32)


def head_uses(
    model: Model, dictionary: Dictionary, feature: int, layer: int
) -> list[HeadUse]:
  """Partners in every head of the layer that reads the feature."""
  rows, found, keys, kv_head = dictionary.decoder, [], None, None
  own = jnp.asarray(float_rows(dictionary, 'decoder', [feature]))
  for head in range(model.config.num_heads):
    if keys is None or kv_head != head // model.config.group_size:
      kv_head = head // model.config.group_size
      keys = circuits.head_keys(model, rows, layer, head)
    scores = {
        'query': _scores(
            model, circuits.head_queries(model, own, layer, head)[0], keys
        ),
        'key': _scores(
            model,
            circuits.head_keys(model, own, layer, head)[0],
            circuits.head_queries(model, rows, layer, head),
        ),
    }
    query = scores['query'].astype(np.float64)
    weight = 1 / np.exp(query - query.max()).sum()
    found.append(
        HeadUse(
            head,
            float(weight),
            {role: _best(x, _PARTNERS) for role, x in scores.items()},
            (),
        )
    )
  return found


def _scores(
    model: Model, one: Float[Array, 'H'], all_rows: Float[Array, 'F H']
) -> Float[np.ndarray, 'F']:
  """Attention scores of one query with all keys, or of one key."""
  config = model.config
  return circuits.to_host(
      _products(
          all_rows,
          one,
          scale=config.attention_scale,
          cap=config.attention_softcap,
      )
  )


@functools.partial(jax.jit, static_argnames=('scale', 'cap'))
def _products(
    all_rows: Float[Array, 'F H'],
    one: Float[Array, 'H'],
    *,
    scale: float,
    cap: float | None,
) -> Float[Array, 'F']:
  scores = jnp.einsum('fh,h->f', all_rows, one, precision=_HIGHEST) * scale
  return scores if cap is None else softcap(scores, cap)


def _best(
    values: Float[np.ndarray, 'F'], count: int
) -> list[tuple[int, float]]:
  order = np.argsort(-values, kind='stable')[:count]
  return [(int(i), float(values[i])) for i in order]


def write(
    model: Model, direction: Float[np.ndarray, 'D'], layer: int, head: int
) -> Float[np.ndarray, 'D']:
  """What a head writes where it attends to a direction."""
  row = jnp.asarray(direction[None])
  value = circuits.to_host(circuits.head_values(model, row, layer, head))[0]
  return value @ circuits.to_host(circuits.head_output(model, layer, head))


def writers(
    model: Model,
    site: DictionarySite,
    encoder: Float[np.ndarray, 'D'],
    mask: Array,
    strings: Sequence[str],
) -> list[Writer]:
  """The heads before an encoder that can write what it reads.

  A head takes a normed direction x to (x ⊙ g √D) W_V W_O · e = x · r, so it
  writes most for directions along r. ‖r‖ is set beside the root mean square of
  the same for random e of the same length, ‖(g √D) W_V W_O‖ ‖e‖ / √D.
  """
  before = {'resid_pre': site.layer, 'embedding': 0}
  strengths, readers = {}, {}
  length = float(np.linalg.norm(encoder))
  # The value of each coordinate: the norm sees directions alone.
  identity = jnp.asarray(np.eye(len(encoder), dtype=np.float32))
  rows = jnp.asarray(encoder)
  for layer in range(before.get(str(site.hook), site.layer + 1)):
    for head in range(model.config.num_heads):
      values = circuits.head_values(model, identity, layer, head)
      output = circuits.head_output(model, layer, head)
      r, size = _reader(values, output, rows)
      reader = circuits.to_host(r)
      expected = float(size) * length / math.sqrt(len(encoder))
      strengths[layer, head] = float(np.linalg.norm(reader)) / expected
      readers[layer, head] = reader
  strongest = sorted(strengths, key=lambda x: -strengths[x])[:_WRITERS]
  if not strongest:
    return []
  sources = _sources(
      model, jnp.asarray(np.stack([readers[x] for x in strongest])), mask
  )
  return [
      Writer(layer, head, strengths[layer, head], [strings[i] for i in row])
      for (layer, head), row in zip(strongest, sources, strict=True)
  ]


@jax.jit
def _reader(
    values: Float[Array, 'D H'],
    output: Float[Array, 'H D'],
    encoder: Float[Array, 'D'],
) -> tuple[Float[Array, 'D'], Float[Array, '']]:
  """r, and the Frobenius norm of W_V W_O without that product."""
  written = jnp.einsum('hd,d->h', output, encoder, precision=_HIGHEST)
  reader = jnp.einsum('dh,h->d', values, written, precision=_HIGHEST)
  left = jnp.einsum('dh,di->hi', values, values, precision=_HIGHEST)
  right = jnp.einsum('hd,id->hi', output, output, precision=_HIGHEST)
  return reader, jnp.sqrt((left * right).sum())


def _sources(
    model: Model, readers: Float[Array, 'n D'], mask: Array
) -> list[list[int]]:
  """Tokens whose embeddings, normed, are most along each of `readers`."""
  cosines = circuits.to_host(_along(circuits.embedding_table(model), readers))
  kept = circuits.to_host(mask)
  cosines = np.where(kept, cosines, -np.inf)
  return np.argsort(-cosines, axis=1, kind='stable')[:, :SHOWN].tolist()


@jax.jit
def _along(
    table: Float[Array, 'V D'], readers: Float[Array, 'n D']
) -> Float[Array, 'n V']:
  """Products with unit rows of the table, which keeps its type: it is large."""
  along = jnp.einsum(
      'vd,nd->nv',
      table,
      readers.astype(table.dtype),
      preferred_element_type=jnp.float32,
  )
  squares = jnp.einsum(
      'vd,vd->v', table, table, preferred_element_type=jnp.float32
  )
  return along / jnp.sqrt(jnp.maximum(squares, 1e-30))[None]
