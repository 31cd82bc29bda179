"""SAEs trained on activations that one forward pass gives for all sites."""

from collections.abc import Callable, Sequence
import functools
import json
import pathlib
import time
from typing import Any

from _corpus import Windows
import _study
from _training_state import Checkpoints
from absl import logging
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import tqdm

import ooc_jax
from ooc_jax import results
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import SaeState
from ooc_jax.dictionaries import TrainingRecipe
from ooc_jax.dictionaries import init_sae_state
from ooc_jax.dictionaries import make_sae_step
from ooc_jax.model import Site

_CALIBRATION_TOKENS = 4096
EMBEDDING = 'embedding'


def parse_sites(text: str, num_layers: int) -> tuple[DictionarySite, ...]:
  """'embedding,0,3-5' as sites: the stream before layer 0, and after layers.

  Args:
    text: As `_study.parse_layers` takes it, with 'embedding' anywhere in it.
    num_layers: Of the model.

  Raises:
    InputError: The text is of another form, or names a layer that is not
      there.
  """
  items = [item.strip() for item in text.split(',')]
  layers = ','.join(item for item in items if item != EMBEDDING)
  sites = []
  if EMBEDDING in items:
    sites.append(DictionarySite(0, 'embedding'))
  if layers or not sites:
    sites += [
        DictionarySite(layer, 'resid_post')
        for layer in _study.parse_layers(layers, num_layers)
    ]
  return tuple(sites)


def folder_name(site: DictionarySite) -> str:
  """'embedding' or 'layer_3'."""
  return EMBEDDING if site.hook == EMBEDDING else f'layer_{site.layer}'


def tap_key(site: DictionarySite) -> tuple[Site, int]:
  """Where the forward pass shows the activations of `site`."""
  if site.hook == EMBEDDING:
    return (Site.RESID_PRE, 0)
  return (Site.RESID_POST, site.layer)


# One program for the same question, whoever asks.
@functools.lru_cache(maxsize=8)
def make_activations(
    config: ooc_jax.ModelConfig,
    sites: tuple[DictionarySite, ...],
    dtype: Any = jnp.float32,
) -> Callable[[Any, Array], Array]:
  """A compiled function (params, rows [B, T + 1]) -> [S, B·T, D].

  A row is BOS and T tokens; the activations at BOS are left out. Layers and
  logits that no site needs are not computed. Bfloat16 is no faster here on a
  CPU.
  """
  keys = tuple(tap_key(site) for site in sites)

  @jax.jit
  def activations(
      params: Any, rows: Int[Array, 'B T1']
  ) -> Float[Array, 'S n D']:
    net = ooc_jax.Transformer(config, dtype=dtype)
    forward = functools.partial(net.apply, {'params': params})
    _, saved = ooc_jax.run_with_taps(forward, rows, save=keys)
    D = config.embed_dim
    return jnp.stack([saved[key][:, 1:].reshape(-1, D) for key in keys])

  return activations


def train(
    model: ooc_jax.Model,
    sites: tuple[DictionarySite, ...],
    windows: Windows,
    recipe: TrainingRecipe,
    checkpoints: Checkpoints,
    log: pathlib.Path,
    *,
    batch_tokens: int,
    every: int,
) -> SaeState:
  """All steps that are left, with a checkpoint and a line every so often.

  Args:
    model: With all its parts.
    sites: Whose SAEs are trained.
    windows: The text.
    recipe: Of the training.
    checkpoints: Where it goes on, and what it leaves.
    log: A line of JSON for each checkpoint, with means since the one before.
    batch_tokens: Of a step, a multiple of the windows' length.
    every: Steps between two checkpoints.
  """
  rows = batch_tokens // windows.length
  activations = make_activations(model.config, sites)

  def batch(index: int) -> Float[Array, 'S n D']:
    return activations(model.params, jnp.asarray(windows.batch(index, rows)))

  # Of batches that no step sees.
  count = -(-_CALIBRATION_TOKENS // batch_tokens)
  sample = [batch(recipe.steps + i) for i in range(count)]
  state = init_sae_state(recipe, jnp.concatenate(sample, axis=1))
  first = checkpoints.newest() or 0
  if first:
    state = checkpoints.load(first, state)
    logging.info('continuing after step %d', first)
  step = make_sae_step(recipe)
  lines = _lines(log, first)
  start = time.monotonic()
  seen = []
  # A bar on a terminal, and nowhere else.
  for i in tqdm.tqdm(
      range(first, recipe.steps), unit='step', disable=None, leave=False
  ):
    state, losses = step(state, batch(i))
    seen.append((losses.fvu, losses.l0))
    if (i + 1) % every and i + 1 < recipe.steps:
      continue
    fvu, l0 = np.mean(jax.device_get(seen), axis=0)
    silent = np.asarray(state.silent >= recipe.silent_steps).mean(axis=1)
    seen = []
    means = {'fvu': fvu, 'l0': l0, 'silent': silent}
    lines.append(json.dumps(results.plain({'step': i + 1, **means})))
    # The log first: lines past the checkpoint are dropped on resuming.
    text = ''.join(f'{line}\n' for line in lines)
    results.atomic_write(log, text.encode())
    checkpoints.save(i + 1, state)
    speed = (i + 1 - first) * batch_tokens / (time.monotonic() - start)
    logging.info(
        'step %d of %d: FVU %.3f to %.3f, L0 %.1f to %.1f, silent at most'
        ' %.1f %%; %.0f tokens/s, %.0f s left',
        i + 1,
        recipe.steps,
        fvu.min(),
        fvu.max(),
        l0.min(),
        l0.max(),
        100 * silent.max(),
        speed,
        (recipe.steps - i - 1) * batch_tokens / speed,
    )
  return state


def _lines(log: pathlib.Path, last: int) -> list[str]:
  """Lines of the log up to step `last`."""
  lines: Sequence[str] = log.read_text().splitlines() if log.exists() else ()
  return [line for line in lines if json.loads(line)['step'] <= last]
