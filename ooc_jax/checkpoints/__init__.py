"""Weights in and out: safetensors, GGUF, Orbax, the hub."""

from ooc_jax.checkpoints._load import load_model
from ooc_jax.checkpoints._orbax import restore_model
from ooc_jax.checkpoints._orbax import save_model
from ooc_jax.checkpoints._registry import MODELS
from ooc_jax.checkpoints._registry import model_entry

__all__ = (
    'MODELS',
    'load_model',
    'model_entry',
    'restore_model',
    'save_model',
)
