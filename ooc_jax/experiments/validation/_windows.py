"""The windows of the corpus, and those in which features are largest."""

import jax
import jax.numpy as jnp
from jaxtyping import Int
import numpy as np
import pyarrow as pa

from ooc_jax import validation
from ooc_jax.experiments.validation._config import SELF
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.model import Model
from ooc_jax.model import generate
from ooc_jax.results import tables

_WINDOWS = 5  # Of each feature: more do not stay small.
_BEFORE, _AFTER = 16, 7  # Tokens about the peak.


def corpus_windows(model: Model, config: Validation) -> Int[np.ndarray, 'W T']:
  """The corpus; or texts that the model writes, each from its beginning."""
  assert model.tokenizer is not None  # As the caller has checked.
  if config.corpus != SELF:
    return validation.read_windows(
        config.corpus,
        model.tokenizer,
        length=config.length,
        limit=config.windows,
        field=config.field,
    )
  # After BOS, or after a word where the tokenizer has none.
  start = model.tokenizer.encode('') or model.tokenizer.encode('The')[:1]
  batch = 32
  written = []
  for first in range(0, config.windows, batch):
    key = jax.random.fold_in(jax.random.key(config.seed), first)
    tokens = jnp.repeat(jnp.asarray([start], jnp.int32), batch, axis=0)
    steps = config.length - len(start)
    written.append(np.asarray(generate(model, tokens, steps, key=key)))
  return np.concatenate(written)[: config.windows]


def windows_table(
    layer: int,
    found: validation.FeatureActivations,
    windows: Int[np.ndarray, 'W T'],
    strings: np.ndarray,
) -> pa.Table:
  """What each feature is largest at, and of neurons what it is lowest at.

  Args:
    layer: Of the dictionary.
    found: What its features did.
    windows: The text that they did it on.
    strings: [V] text of each token id.

  Returns:
    A table of `VALIDATION_WINDOWS`; a feature that fires nowhere has no row.
  """
  ends = [found.peaks]
  if found.low_peaks is not None:
    ends.append(found.low_peaks)
  shape = ends[0].values[:, :_WINDOWS].shape
  grid = np.indices(shape)
  # [F, end, rank], so that the rows of a feature follow each other.
  columns = {
      'feature': np.stack([grid[0]] * len(ends), axis=1),
      'rank': np.stack([grid[1]] * len(ends), axis=1),
      'value': np.stack([x.values[:, :_WINDOWS] for x in ends], axis=1),
      'window': np.stack([x.windows[:, :_WINDOWS] for x in ends], axis=1),
      'position': np.stack([x.positions[:, :_WINDOWS] for x in ends], axis=1),
  }
  fires = columns['window'] >= 0
  columns = {name: x[fires] for name, x in columns.items()}
  first = np.maximum(columns['position'] - _BEFORE, 0)
  tokens = [
      strings[windows[window, start : position + _AFTER + 1]].tolist()
      for window, position, start in zip(
          columns['window'], columns['position'], first, strict=True
      )
  ]
  return tables.VALIDATION_WINDOWS.build({
      'layer': np.full(len(tokens), layer),
      **columns,
      'value': columns['value'].astype(np.float64),
      'peak': columns['position'] - first,
      'tokens': tokens,
  })
