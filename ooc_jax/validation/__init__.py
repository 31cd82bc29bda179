"""Predictions from weights beside the model's own forward pass.

Text becomes windows of tokens (`read_windows`), and one pass over them says
what the features of dictionaries do there (`collect_activations`). `cost` says
by formula what that takes, and what reading them from weights takes.
"""

from ooc_jax.validation._activations import PEAKS
from ooc_jax.validation._activations import FeatureActivations
from ooc_jax.validation._activations import Health
from ooc_jax.validation._activations import Peaks
from ooc_jax.validation._activations import collect_activations
from ooc_jax.validation._activations import is_signed
from ooc_jax.validation._attention import ATTENTION_PREDICTORS
from ooc_jax.validation._attention import AttentionAgreement
from ooc_jax.validation._attention import HeadCorrelations
from ooc_jax.validation._attention import attention_agreement
from ooc_jax.validation._corpus import DEFAULT_CORPUS
from ooc_jax.validation._corpus import read_windows
from ooc_jax.validation._cost import COST_CASES
from ooc_jax.validation._cost import COST_TOKENS
from ooc_jax.validation._cost import COST_WINDOW
from ooc_jax.validation._cost import FLOPS_PER_SECOND
from ooc_jax.validation._cost import Cost
from ooc_jax.validation._cost import CostCase
from ooc_jax.validation._cost import case_costs
from ooc_jax.validation._cost import cost
from ooc_jax.validation._cost import layer_parameters

__all__ = (
    'ATTENTION_PREDICTORS',
    'AttentionAgreement',
    'COST_CASES',
    'COST_TOKENS',
    'COST_WINDOW',
    'Cost',
    'CostCase',
    'DEFAULT_CORPUS',
    'FLOPS_PER_SECOND',
    'FeatureActivations',
    'HeadCorrelations',
    'Health',
    'PEAKS',
    'Peaks',
    'attention_agreement',
    'case_costs',
    'collect_activations',
    'cost',
    'is_signed',
    'layer_parameters',
    'read_windows',
)
