"""Directions that are added to the stream, and how well lists foretold it."""

from collections.abc import Iterator, Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import scipy  # Its stats, slow to import, come when they are used.

from ooc_jax import circuits
from ooc_jax import validation
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.model import Model
from ooc_jax.model import stream_logits
from ooc_jax.results import tables

# Of the steering score: how many times its largest activation a feature is
# raised by, how many tokens of the lens, and after what.
_RAISED, _NAMED, _PROMPT = 10.0, 20, 'In my opinion, the'
_EDGES = (tables.LENS_EDGES, tables.RISE_EDGES)


class Scorer:
  """The prefixes of a model, read once, and the scores of directions there."""

  def __init__(
      self, model: Model, kept: Bool[np.ndarray, 'V'], config: Validation
  ):
    """Reads the prefixes.

    Args:
      model: With all its parts and a tokenizer.
      kept: Tokens that count.
      config: The settings.
    """
    tokenizer = model.tokenizer
    assert tokenizer is not None  # As the caller has checked.
    self._model, self._kept, self._config = model, kept, config
    self._tokenizer = tokenizer
    self._steering = validation.Steering(
        model, validation.make_prefixes(tokenizer)
    )
    self._start = validation.make_prefixes(
        tokenizer, [_PROMPT], [len(_PROMPT.split())]
    )
    self._prompt = validation.Steering(model, self._start)

  def scores(
      self,
      site: DictionarySite,
      directions: Float[np.ndarray, 'n D'],
      largest: Float[np.ndarray, 'n'],
      readouts: Mapping[str, Int[np.ndarray, 'n _']],
  ) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores directions as what their readouts name.

    Args:
      site: Where they write.
      directions: One a row.
      largest: Activation of each on the corpus.
      readouts: Lists of tokens: 'decoder' and 'encoder', their lenses; 'peaks',
        where they are largest.

    Returns:
      Columns of `VALIDATION_NULL` but for the number, with `raised_ids`; and
      how many tokens are in each cell of `VALIDATION_MAP`.
    """
    k, n = self._config.k, len(directions)
    raised = np.full((n, k), validation.NO_TOKEN, np.int32)
    ends = np.full((4, n), np.nan)
    correlations = np.full(n, np.nan)
    counts = np.zeros(tuple(len(x) - 1 for x in _EDGES), np.int64)
    for i, effect in enumerate(
        self._steering.effects(site, directions, self._kept)
    ):
      raised[i] = effect.raised(k)
      ends[:, i] = *effect.strengths, *effect.divergences
      if raised[i, 0] == validation.NO_TOKEN:
        continue
      z = self._standard_lens(directions[i])
      rise = effect.rise[self._kept]
      correlations[i] = scipy.stats.spearmanr(z, rise).statistic
      counts += np.histogram2d(
          np.clip(z, _EDGES[0][0], _EDGES[0][-1]),
          rise,
          _EDGES,
      )[0].astype(np.int64)
    peaks, decoder = readouts['peaks'], readouts['decoder']
    columns: dict[str, np.ndarray] = {'raised_ids': raised}
    for name, score, lists in (
        ('output', validation.share_of, raised),
        ('input', validation.share_in, peaks),
    ):
      for readout, tokens in readouts.items():
        if name == 'input' and readout == 'peaks':
          continue  # A list is in itself.
        column = f'{name}_{readout}'
        columns[column] = score(lists, tokens)
        # Without tokens of its own it has no score of others' either.
        other = validation.permuted(lists, tokens)
        columns[tables.permuted_name(column)] = np.where(
            np.isnan(columns[column]), np.nan, other
        )
    added = (directions * _RAISED * largest[:, None]).astype(np.float32)
    columns |= _steering_columns(
        added, self._prompt.logits(site, added), decoder[:, :_NAMED]
    )
    names = ('strength_low', 'strength_high', 'divergence_low')
    columns |= dict(zip((*names, 'divergence_high'), ends, strict=True))
    return columns | {'lens_correlation': correlations}, counts

  def _standard_lens(
      self, direction: Float[np.ndarray, 'D']
  ) -> Float[np.ndarray, 'kept']:
    """Logits of a direction over the tokens that count, in standard units."""
    z = np.asarray(
        _lens_logits(self._model.params, direction, config=self._model.config)
    )[self._kept]
    return (z - z.mean()) / max(z.std(), np.finfo(np.float32).tiny)

  def example(
      self,
      dictionary: Dictionary,
      columns: Mapping[str, np.ndarray],
      sampled: np.ndarray,
  ) -> dict[str, list[str]]:
    """Texts with the sampled feature whose lens does best added.

    Args:
      dictionary: Of the layer.
      columns: Scores of its features.
      sampled: Those to choose from.

    Returns:
      Columns of `VALIDATION_FEATURES`, '' for all features but that one.
    """
    texts = {
        name: [''] * dictionary.size
        for name in ('prompt', 'plain', 'steered_low', 'steered_high')
    }
    order = np.where(
        sampled,
        columns['output_decoder'] + 0.01 * columns['lens_correlation'],
        np.nan,
    )
    if np.isnan(order).all() or not self._config.examples:
      return texts
    best = int(np.nanargmax(order))
    direction = circuits.to_host(dictionary.decoder[best]).astype(np.float32)
    unit = direction / np.linalg.norm(direction)
    lengths = np.array(
        [0.0, columns['strength_low'][best], columns['strength_high'][best]],
        np.float32,
    )
    start = self._start.tokens[0]
    written = validation.continuations(
        self._model,
        dictionary.site,
        lengths[:, None] * unit,
        start,
        self._config.continued,
    )
    texts['prompt'][best] = _PROMPT
    for name, ids in zip(list(texts)[1:], written.tolist(), strict=True):
      texts[name][best] = self._tokenizer.decode(ids)
    return texts


def _steering_columns(
    added: Float[np.ndarray, 'n D'],
    found: Iterator[Float[np.ndarray, '1 V']],
    readouts: Int[np.ndarray, 'n _'],
) -> dict[str, np.ndarray]:
  """The steering score, and its mean over the lenses of other features."""
  n = len(added)
  own, others = np.full((2, n), np.nan)
  for i, logits in enumerate(found):
    if not added[i].any():
      continue  # It never fires: there is nothing to raise.
    scores = validation.steering_scores(logits[0], readouts)
    own[i] = scores[i]
    others[i] = (scores.sum() - scores[i]) / (n - 1)
  return {'steering': own, tables.permuted_name('steering'): others}


@functools.partial(jax.jit, static_argnames='config')
def _lens_logits(
    params: Any, direction: Float[Array, 'D'], *, config: Any
) -> Float[Array, 'V']:
  x = direction * jnp.sqrt(float(direction.size)) / jnp.linalg.norm(direction)
  return stream_logits(config, params, x[None, None])[0, 0]
