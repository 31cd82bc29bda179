"""Tiny models, with the tensors of their files beside them."""

import functools
import pathlib
import tempfile

import numpy as np
from safetensors.numpy import load_file

import ooc_jax
from tests.tiny import make_checkpoint


@functools.cache
def tiny_model(family: str) -> ooc_jax.Model:
  return _both(family)[0]


def tiny_tensors(family: str) -> dict[str, np.ndarray]:
  """Float64, by the names of the Hugging Face file."""
  return _both(family)[1]


@functools.cache
def _both(family):
  with tempfile.TemporaryDirectory() as folder:
    path = make_checkpoint(pathlib.Path(folder), family)
    tensors = load_file(path / 'model.safetensors')
    wide = {name: x.astype(np.float64) for name, x in tensors.items()}
    return ooc_jax.load_model(path), wide
