"""Tiny models, dictionaries and planted heads for the tests of attention."""

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import random_dictionary
from tests.tiny import make_checkpoint

# Odd, so that every part of a pass is padded. The same in all tests with these
# models: a pass is compiled once for each number of features.
FEATURES = 77
# Wavelengths of its rotary pairs are 6, 167, 4443 and 118 thousand tokens: the
# first is kept, the second interpolated, the others are divided by 8.
_LLAMA3 = {
    'rope_type': 'llama3',
    'factor': 8.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 512,
}


@functools.cache
def tiny_model(name: str) -> ooc_jax.Model:
  """'llama', 'llama3' (with scaled frequencies), 'gemma2' or 'gemma3'."""
  family = 'llama' if name == 'llama3' else name
  overrides = {'rope_scaling': _LLAMA3} if name == 'llama3' else {}
  with tempfile.TemporaryDirectory() as folder:
    path = make_checkpoint(pathlib.Path(folder), family, **overrides)
    return ooc_jax.load_model(path)


def dictionary(
    model: ooc_jax.Model, layer: int, size: int = FEATURES, seed: int = 0
) -> ooc_jax.Dictionary:
  """Directions of many lengths, with encoders that are not their decoders."""
  drawn = random_dictionary(model, layer, size=size, seed=seed)
  rng = np.random.default_rng(seed)
  lengths = rng.uniform(0.1, 9.0, size=(size, 1)).astype(np.float32)
  encoder = rng.normal(size=drawn.encoder.shape).astype(np.float32)
  return drawn.replace(
      decoder=drawn.decoder * lengths, encoder=jnp.asarray(encoder)
  )


def at_site(
    dictionary: ooc_jax.Dictionary, layer: int, hook: str
) -> ooc_jax.Dictionary:
  return dictionary.replace(site=DictionarySite(layer, hook))


def with_weights(
    model: ooc_jax.Model, layer: int, **weights: jax.Array | np.ndarray
) -> ooc_jax.Model:
  """The model with other attention weights in one layer.

  Args:
    model: Is not changed.
    layer: From 0.
    **weights: By name: 'query' [D, N, H], 'output' [N, H, D], ...
  """
  name = f'layer_{layer}'
  old = model.params[name]
  new = {key: jnp.asarray(x, jnp.float32) for key, x in weights.items()}
  attention = old['attention'] | new
  return model.replace(
      params=model.params | {name: old | {'attention': attention}}
  )


def weight(model: ooc_jax.Model, layer: int, name: str) -> np.ndarray:
  """A copy of an attention weight, float64."""
  return np.array(model.params[f'layer_{layer}']['attention'][name], np.float64)


def gain(model: ooc_jax.Model, layer: int, norm: str) -> np.ndarray:
  """True gain of 'attention_norm', 'post_attention_norm', float64."""
  stored = model.params[f'layer_{layer}'][norm]['weight']
  return np.asarray(stored, np.float64) + model.config.norm_offset


def of_head(statistics, n: int):
  """Row n of `AttentionStatistics`."""
  return jax.tree.map(lambda x: x[n], statistics)
