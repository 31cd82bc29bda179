"""Weights in and out: safetensors, GGUF, Orbax, the hub."""

from ooc_jax.checkpoints._hub_errors import MissingFile
from ooc_jax.checkpoints._hub_file import HubOrigin
from ooc_jax.checkpoints._hub_file import fetch_file
from ooc_jax.checkpoints._hub_file import hub_origin
from ooc_jax.checkpoints._load import load_model
from ooc_jax.checkpoints._orbax import restore_model
from ooc_jax.checkpoints._orbax import save_model
from ooc_jax.checkpoints._registry import MODELS
from ooc_jax.checkpoints._registry import model_entry
from ooc_jax.checkpoints._source import read_json

__all__ = (
    'HubOrigin',
    'MODELS',
    'MissingFile',
    'fetch_file',
    'hub_origin',
    'load_model',
    'model_entry',
    'read_json',
    'restore_model',
    'save_model',
)
