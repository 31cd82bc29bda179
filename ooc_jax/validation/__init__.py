"""Predictions from weights beside the model's own forward pass.

Text becomes windows of tokens (`read_windows`), and one pass over them says
what the features of dictionaries do there (`collect_activations`).
"""

from ooc_jax.validation._activations import PEAKS
from ooc_jax.validation._activations import FeatureActivations
from ooc_jax.validation._activations import Health
from ooc_jax.validation._activations import Peaks
from ooc_jax.validation._activations import collect_activations
from ooc_jax.validation._activations import is_signed
from ooc_jax.validation._corpus import DEFAULT_CORPUS
from ooc_jax.validation._corpus import read_windows

__all__ = (
    'DEFAULT_CORPUS',
    'FeatureActivations',
    'Health',
    'PEAKS',
    'Peaks',
    'collect_activations',
    'is_signed',
    'read_windows',
)
