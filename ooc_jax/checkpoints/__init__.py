"""Weights in and out: safetensors, GGUF, Orbax, the hub."""

from ooc_jax.checkpoints._hub import MissingFile
from ooc_jax.checkpoints._hub import fetch_file
from ooc_jax.checkpoints._load import load_model
from ooc_jax.checkpoints._orbax import restore_model
from ooc_jax.checkpoints._orbax import save_model
from ooc_jax.checkpoints._registry import MODELS
from ooc_jax.checkpoints._registry import model_entry
from ooc_jax.checkpoints._source import read_json

__all__ = (
    'MODELS',
    'MissingFile',
    'fetch_file',
    'load_model',
    'model_entry',
    'read_json',
    'restore_model',
    'save_model',
)
