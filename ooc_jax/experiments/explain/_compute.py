"""A feature from the weights: readouts, partners in attention, who writes it.

All rows that the vocabulary reads are one small dictionary, of as many rows
whatever is asked: the feature first, then what heads write for it and its
partners, then random directions. So there is one program for each side.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.experiments.output_prediction import DictionaryReader
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.experiments.output_prediction import ends_of
from ooc_jax.model import Model
from ooc_jax.model import Site
from ooc_jax.model import softcap

_PARTNERS = 2  # Of each head in each role.
_WRITERS = 3
_SHOWN = 4  # Tokens of a partner, a write or a source.
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class MeasureValue:
  """A measure of the feature beside random directions that are read alike.

  Attributes:
    measure: Which.
    value: Of the feature.
    chance: Median of the random directions.
    p: (1 + how many of them are as coherent) / (1 + how many they are).
  """

  measure: measures.Measure
  value: float
  chance: float
  p: float


@dataclasses.dataclass(frozen=True)
class Side:
  """What a readout says.

  Attributes:
    name: 'output' or 'input'.
    top: Tokens and their logits, largest first.
    bottom: The same from the other end.
    values: Its measures.
    top_mass: Probability of the top tokens, at the spread of the settings.
    active_share: Of tokens over the threshold of the feature; None where that
      has no meaning.
  """

  name: str
  top: Sequence[tuple[str, float]]
  bottom: Sequence[tuple[str, float]]
  values: Sequence[MeasureValue]
  top_mass: float
  active_share: float | None


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


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What the weights say of a feature.

  Attributes:
    name: Of the dictionary.
    site: Where it is.
    feature: Its row.
    size: F, of the dictionary.
    norm: Length of the decoder row.
    cosine: Of encoder and decoder row; None without an encoder in the stream.
    directions: Random directions that measures are beside.
    sides: The output side and, where it can be read, the input side.
    attention_layer: That reads the feature; None where none does.
    heads: Of that layer, by weight.
    partner_tokens: Feature -> its first top tokens.
    writers: Heads at or before its site, strongest first.
  """

  name: str
  site: DictionarySite
  feature: int
  size: int
  norm: float
  cosine: float | None
  directions: int
  sides: Sequence[Side]
  attention_layer: int | None
  heads: Sequence[HeadUse]
  partner_tokens: Mapping[int, Sequence[str]]
  writers: Sequence[Writer]


def compute(
    model: Model,
    dictionary: Dictionary,
    feature: int,
    config: OutputPrediction,
    *,
    directions: int = 256,
    heads: int = 4,
) -> Explanation:
  """Reads one feature.

  Args:
    model: With embedding, unembedding, attention and norms, and a tokenizer.
    dictionary: Whose feature it is.
    feature: Its row.
    config: How it is read; names and layers in it are not used.
    directions: Rows to read at once; random ones fill them up.
    heads: To show of the attention that reads it.

  Raises:
    InputError: There is no such feature, or as `output_lens`.
  """
  if not 0 <= feature < dictionary.size:
    raise InputError(
        f'There is no feature {feature} in {dictionary.name}, which has'
        f' {dictionary.size:,}.'
    )
  reader = DictionaryReader(model, config)
  assert model.tokenizer is not None  # The reader refuses one without.
  strings = model.tokenizer.token_strings()
  rows_of = functools.partial(_rows, dictionary)
  decoder = rows_of('decoder', [feature])[0]
  layer = circuits.attention_layer(dictionary.site)
  if dictionary.site.hook == Site.EMBEDDING:
    layer = 0  # The first of all those that read it.
  elif layer == model.config.num_layers:
    layer = None
  used = [] if layer is None else _heads(model, dictionary, feature, layer)
  used = sorted(used, key=lambda x: -x.weight)[:heads]
  partners = list(
      dict.fromkeys(
          i for use in used for own in use.partners.values() for i, _ in own
      )
  )
  writes = [_write(model, decoder, layer or 0, use.head) for use in used]
  extra = np.concatenate([
      np.zeros((0, len(decoder)), np.float32),
      *(x[None] for x in writes),
      rows_of('decoder', partners),
  ])
  count = len(extra)
  random = circuits.to_host(
      measures.isotropic_directions(
          max(directions - 1, count + 32), len(decoder), seed=config.seed
      )
  )
  encoder = None
  if dictionary.reads_stream:
    encoder = rows_of('encoder', [feature])[0]
  together = _together(
      dictionary,
      feature,
      np.concatenate([decoder[None], extra, random[count:]]),
      None if encoder is None else np.concatenate([encoder[None], random]),
  )
  ends, sides, first = ends_of(config, dictionary), [], None
  for name in ('output',) if encoder is None else ('output', 'input'):
    lens, by_size = reader.read(name, together, ends, ())
    first = first or lens
    skipped = 1 + (count if name == 'output' else 0)
    sides.append(_side(name, lens, by_size[config.k], skipped, config, strings))
  assert first is not None
  top = circuits.to_host(first.top_ids)[1 : 1 + count, :_SHOWN]
  lists = [[strings[i] for i in row] for row in top.tolist()]
  return Explanation(
      name=dictionary.name,
      site=dictionary.site,
      feature=feature,
      size=dictionary.size,
      norm=float(np.linalg.norm(decoder.astype(np.float64))),
      cosine=None if encoder is None else _cosine(encoder, decoder),
      directions=len(random) - count,
      sides=sides,
      attention_layer=layer,
      heads=[
          dataclasses.replace(use, writes=own)
          for use, own in zip(used, lists, strict=False)
      ],
      partner_tokens=dict(zip(partners, lists[len(used) :], strict=True)),
      writers=(
          []
          if encoder is None
          else _writers(model, dictionary.site, encoder, reader.mask, strings)
      ),
  )


def _rows(
    dictionary: Dictionary, name: str, features: Sequence[int]
) -> Float[np.ndarray, 'n R']:
  rows = getattr(dictionary, name)[np.asarray(features, np.int32)]
  return circuits.to_host(rows).astype(np.float32)


def _together(
    dictionary: Dictionary,
    feature: int,
    decoder: Float[np.ndarray, 'n D'],
    encoder: Float[np.ndarray, 'n R'] | None,
) -> Dictionary:
  """Rows as a dictionary at the site of another, with the bias of a feature."""

  def repeated(vector: Array) -> Float[Array, 'n']:
    value = circuits.to_host(vector)[feature]
    return jnp.asarray(np.full(len(decoder), value, np.float32))

  return dataclasses.replace(
      dictionary,
      decoder=jnp.asarray(decoder),
      encoder=None if encoder is None else jnp.asarray(encoder),
      encoder_bias=repeated(dictionary.encoder_bias),
      threshold=repeated(dictionary.threshold),
  )


def _cosine(a: Float[np.ndarray, 'D'], b: Float[np.ndarray, 'D']) -> float:
  norms = float(np.linalg.norm(a) * np.linalg.norm(b))
  return float(a @ b) / norms if norms else 0.0


def _side(
    name: str,
    lens: circuits.Lens,
    coherence: measures.Coherence,
    skipped: int,
    config: OutputPrediction,
    strings: Sequence[str],
) -> Side:
  """Of the first row; those after `skipped` are random directions."""
  own = coherence.replace(**{x: v[:1] for x, v in coherence.items()})
  null = coherence.replace(**{x: v[skipped:] for x, v in coherence.items()})
  p = measures.null_p_values(own, null)
  shown = lens.first(config.k, config.spread)

  def pairs(end: str) -> list[tuple[str, float]]:
    ids = circuits.to_host(getattr(shown, f'{end}_ids'))[0].tolist()
    logits = circuits.to_host(getattr(shown, f'{end}_logits'))[0].tolist()
    return [(strings[i], x) for i, x in zip(ids, logits, strict=True)]

  share = lens.active_share if name == 'input' else None
  return Side(
      name,
      pairs('top'),
      pairs('bottom'),
      [
          MeasureValue(
              m,
              float(own[m.name][0]),
              float(np.median(null[m.name])),
              float(p[m.name][0]),
          )
          for m in coherence.measures
      ],
      float(circuits.to_host(shown.top_mass)[0]),
      None if share is None else float(circuits.to_host(share)[0]),
  )


def _heads(
    model: Model, dictionary: Dictionary, feature: int, layer: int
) -> list[HeadUse]:
  """Partners in every head of the layer that reads the feature."""
  rows, found, keys, kv_head = dictionary.decoder, [], None, None
  own = jnp.asarray(_rows(dictionary, 'decoder', [feature]))
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


def _write(
    model: Model, direction: Float[np.ndarray, 'D'], layer: int, head: int
) -> Float[np.ndarray, 'D']:
  """What a head writes where it attends to a direction."""
  row = jnp.asarray(direction[None])
  value = circuits.to_host(circuits.head_values(model, row, layer, head))[0]
  return value @ circuits.to_host(circuits.head_output(model, layer, head))


def _writers(
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
  return np.argsort(-cosines, axis=1, kind='stable')[:, :_SHOWN].tolist()


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
