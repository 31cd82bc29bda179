"""Predictions from weights beside the model's own forward pass.

Text becomes windows of tokens (`read_windows`).
"""

from ooc_jax.validation._corpus import DEFAULT_CORPUS
from ooc_jax.validation._corpus import read_windows

__all__ = (
    'DEFAULT_CORPUS',
    'read_windows',
)
