"""A feature from the weights: readouts, partners in attention, who writes it.

All rows that the vocabulary reads are one small dictionary, of as many rows
whatever is asked: the feature first, then what heads write for it and its
partners, then random directions. So there is one program for each side.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.experiments.explain._attention import SHOWN
from ooc_jax.experiments.explain._attention import HeadUse
from ooc_jax.experiments.explain._attention import Writer
from ooc_jax.experiments.explain._attention import float_rows
from ooc_jax.experiments.explain._attention import head_uses
from ooc_jax.experiments.explain._attention import write
from ooc_jax.experiments.explain._attention import writers
from ooc_jax.experiments.output_prediction import DictionaryReader
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.experiments.output_prediction import ends_of
from ooc_jax.model import Model
from ooc_jax.model import Site

_NEAREST = 3  # Features to show; fewer where the settings say so.


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
    nearest: Features with the nearest decoders, and their cosines.
    partner_tokens: Feature -> its first top tokens, of those of both.
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
  nearest: Sequence[tuple[int, float]]
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
  rows_of = functools.partial(float_rows, dictionary)
  decoder = rows_of('decoder', [feature])[0]
  layer = circuits.attention_layer(dictionary.site)
  if dictionary.site.hook == Site.EMBEDDING:
    layer = 0  # The first of all those that read it.
  elif layer == model.config.num_layers:
    layer = None
  used = [] if layer is None else head_uses(model, dictionary, feature, layer)
  used = sorted(used, key=lambda x: -x.weight)[:heads]
  nearest = _nearest(dictionary, feature, min(_NEAREST, config.neighbours))
  lists = [*(own for use in used for own in use.partners.values()), nearest]
  partners = list(dict.fromkeys(i for own in lists for i, _ in own))
  writes = [write(model, decoder, layer or 0, use.head) for use in used]
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
  top = circuits.to_host(first.top_ids)[1 : 1 + count, :SHOWN]
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
      nearest=nearest,
      partner_tokens=dict(zip(partners, lists[len(used) :], strict=True)),
      writers=(
          []
          if encoder is None
          else writers(model, dictionary.site, encoder, reader.mask, strings)
      ),
  )


def _nearest(
    dictionary: Dictionary, feature: int, most: int
) -> Sequence[tuple[int, float]]:
  if dictionary.size < 2 or not most:
    return []
  found = circuits.nearest_directions(dictionary.decoder, most, of=[feature])
  ids, cosines = map(circuits.to_host, (found.ids, found.cosines))
  return list(zip(ids[0].tolist(), cosines[0].tolist(), strict=True))


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
