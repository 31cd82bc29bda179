"""Predictions from weights beside the model's own forward pass.

Text becomes windows of tokens (`read_windows`), and one pass over them says
what the features of dictionaries do there (`collect_activations`). `Steering`
adds directions to the stream and says which tokens rise. Lists of tokens that
were read from weights are scored against both: `share_in` those at which a
feature is largest, `share_of` those that rise; `permuted` is their null.
`cost` says by formula what activations take, and what reading features from
weights takes.
"""

from ooc_jax.validation._activations import PEAKS
from ooc_jax.validation._activations import FeatureActivations
from ooc_jax.validation._activations import Health
from ooc_jax.validation._activations import Peaks
from ooc_jax.validation._activations import collect_activations
from ooc_jax.validation._activations import is_signed
from ooc_jax.validation._additions import addition
from ooc_jax.validation._additions import continuations
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
from ooc_jax.validation._prefixes import SENTENCES
from ooc_jax.validation._prefixes import Prefixes
from ooc_jax.validation._prefixes import make_prefixes
from ooc_jax.validation._scores import NO_TOKEN
from ooc_jax.validation._scores import permuted
from ooc_jax.validation._scores import share_in
from ooc_jax.validation._scores import share_of
from ooc_jax.validation._scores import steering_scores
from ooc_jax.validation._steering import TARGETS
from ooc_jax.validation._steering import Effect
from ooc_jax.validation._steering import Steering

__all__ = tuple(x for x in dir() if not x.startswith('_'))
