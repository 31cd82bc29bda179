"""What SAEs are worth on text that they were not trained on."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries.training._activations import make_activations
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Transformer
from ooc_jax.model import run_with_taps

_SPLICED, _ZERO, _MEAN = range(3)
_NOWHERE = -1


@dataclasses.dataclass(frozen=True)
class Metrics:
  """Of one SAE, at positions after BOS.

  Attributes:
    tokens: Activations that the first three are of.
    fvu: Σ‖x - x̂‖² / Σ‖x - mean‖².
    l0: Features that fire, a token.
    dead: Share of the features that fire on none of these tokens.
    predictions: Tokens that the cross-entropies are of.
    ce_clean: Mean cross-entropy of the model itself, in nats.
    ce_spliced: With x̂ in the place of x.
    ce_zero: With 0 in the place of x.
    ce_mean: With the mean activation in the place of x.
    recovered: (ce_zero - ce_spliced) / (ce_zero - ce_clean).
    recovered_mean: The same against ce_mean, which is nearer: a stricter
      number.
  """

  tokens: int
  fvu: float
  l0: float
  dead: float
  predictions: int
  ce_clean: float
  ce_spliced: float
  ce_zero: float
  ce_mean: float
  recovered: float
  recovered_mean: float


def evaluate(
    model: Model,
    dictionaries: Sequence[Dictionary],
    rows: Int[np.ndarray, 'W T1'],
    *,
    spliced_rows: int,
    size: int = 8,
) -> list[Metrics]:
  """Measures dictionaries of one model, each spliced in alone; in float32.

  Args:
    model: With all its parts.
    dictionaries: Of the stream before layer 0 or after any layer.
    rows: BOS and T held-out tokens each.
    spliced_rows: How many of them, spread evenly, the cross-entropies are of.
    size: Rows of a batch; what is left over of the rows is not read.

  Raises:
    InputError: There are fewer rows than a batch.
  """
  if min(len(rows), spliced_rows) < size:
    raise InputError(
        f'{len(rows)} held-out windows, {spliced_rows} of them spliced, are'
        f' fewer than a batch of {size}; give a longer corpus or a shorter'
        ' context.'
    )
  dictionaries = tuple(dictionaries)
  fits = _reconstruction(model, dictionaries, rows, size)
  means = jnp.asarray(np.stack([fit.pop('mean') for fit in fits]), jnp.float32)
  loss = make_spliced_loss(model.config)
  # Spread over the texts, which stand one after the other.
  count = min(spliced_rows, len(rows)) // size * size
  rows = rows[np.arange(count) * len(rows) // count]

  def mean_loss(where: int, how: int) -> float:
    total = 0.0
    for start in range(0, len(rows), size):
      batch = rows[start : start + size]
      losses = loss(model.params, batch, dictionaries, means, where, how)
      total += np.asarray(losses, np.float64).sum()
    return total / rows[:, 2:].size

  clean = mean_loss(_NOWHERE, _SPLICED)
  found = []
  for i, fit in enumerate(fits):
    spliced, zero, mean = (
        mean_loss(i, how) for how in (_SPLICED, _ZERO, _MEAN)
    )
    found.append(
        Metrics(
            **fit,
            predictions=rows[:, 2:].size,
            ce_clean=clean,
            ce_spliced=spliced,
            ce_zero=zero,
            ce_mean=mean,
            recovered=_share(zero - spliced, zero - clean),
            recovered_mean=_share(mean - spliced, mean - clean),
        )
    )
  return found


def _share(part: float, whole: float) -> float:
  return part / whole if whole else float('nan')


@functools.lru_cache(maxsize=8)
def make_spliced_loss(
    config: ModelConfig,
) -> Callable[..., Float[Array, 'B P']]:
  """A compiled function: cross-entropy with one dictionary spliced in.

  Of (params, rows [B, T + 1], dictionaries, means [sites, D], where, how):
  `where` is the index of the dictionary, or -1 for the model itself; `how` says
  what stands in the place of x: x̂, 0 or the mean. BOS keeps its activation,
  and the prediction made there, which nothing can change, is left out:
  P = T - 1.
  """

  @jax.jit
  def loss(
      params: Any,
      rows: Int[Array, 'B T1'],
      dictionaries: tuple[Dictionary, ...],
      means: Float[Array, 'sites D'],
      where: Int[Array, ''] | int,
      how: Int[Array, ''] | int,
  ) -> Float[Array, 'B P']:
    # One program for all places: a branch that is not taken costs nothing.
    edits = {}
    for i, dictionary in enumerate(dictionaries):
      replace = functools.partial(_replaced, dictionary, means[i], how)
      edits[dictionary.site.tap] = functools.partial(
          jax.lax.cond, where == i, replace, lambda x: x
      )
    forward = functools.partial(Transformer(config).apply, {'params': params})
    logits, _ = run_with_taps(forward, rows[:, :-1], edits=edits)
    return optax.softmax_cross_entropy_with_integer_labels(
        logits[:, 1:], rows[:, 2:]
    )

  return loss


def _replaced(
    dictionary: Dictionary,
    mean: Float[Array, 'D'],
    how: Int[Array, ''] | int,
    x: Float[Array, 'B T D'],
) -> Float[Array, 'B T D']:
  rest = x[:, 1:]
  new = jax.lax.switch(
      how,
      (
          lambda y: dictionary.decode(dictionary.encode(y)),
          jnp.zeros_like,
          lambda y: jnp.broadcast_to(mean[None, None], y.shape),
      ),
      rest,
  )
  return jnp.concatenate([x[:, :1], new.astype(x.dtype)], axis=1)


def _reconstruction(
    model: Model,
    dictionaries: tuple[Dictionary, ...],
    rows: Int[np.ndarray, 'W T1'],
    size: int,
) -> list[dict[str, Any]]:
  """tokens, fvu, l0, dead and the mean activation of each dictionary."""
  sites = tuple(dictionary.site for dictionary in dictionaries)
  activations = make_activations(model.config, sites)
  totals = None
  count = 0
  for start in range(0, len(rows) // size * size, size):
    x = activations(model.params, jnp.asarray(rows[start : start + size]))
    sums = [_sums(d, x[i]) for i, d in enumerate(dictionaries)]
    sums = jax.tree.map(lambda y: np.asarray(y, np.float64), sums)
    totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    count += x.shape[1]
  found = []
  for dictionary, total in zip(dictionaries, totals or (), strict=True):
    # About the decoder's bias, which is near the mean: the difference of two
    # large numbers would lose the digits of float32.
    shift = total['x'] / count
    variance = total['square'] - count * np.square(shift).sum()
    found.append({
        'tokens': count,
        'fvu': float(total['error'] / variance),
        'l0': float(total['fired'].sum() / count),
        'dead': float((total['fired'] == 0).mean()),
        'mean': np.asarray(dictionary.decoder_bias, np.float64) + shift,
    })
  return found


@jax.jit
def _sums(dictionary: Dictionary, x: Float[Array, 'n D']) -> dict[str, Array]:
  a = dictionary.encode(x)
  error = dictionary.decode(a) - x
  x = x - dictionary.decoder_bias[None]
  return {
      'x': x.sum(axis=0),
      'square': jnp.square(x).sum(),
      'error': jnp.square(error).sum(),
      'fired': (a != 0).sum(axis=0, dtype=jnp.float32),
  }


def table(metrics: Mapping[str, Metrics]) -> list[str]:
  """A line a site, under a head."""
  columns = {
      'FVU': ('fvu', '.3f'),
      'L0': ('l0', '.1f'),
      'dead': ('dead', '.1%'),
      'CE': ('ce_clean', '.3f'),
      'spliced': ('ce_spliced', '.3f'),
      'zero': ('ce_zero', '.3f'),
      'mean': ('ce_mean', '.3f'),
      'recovered': ('recovered', '.3f'),
      'of mean': ('recovered_mean', '.3f'),
  }
  lines = ['site       ' + ''.join(f'{name:>10}' for name in columns)]
  for name, found in metrics.items():
    cells = [f'{getattr(found, k):>10{f}}' for k, f in columns.values()]
    lines.append(f'{name:<11}{"".join(cells)}')
  return lines
