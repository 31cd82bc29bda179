"""Numbers about what circuits computed: how coherent, and is that a lot."""

from ooc_jax.measures._bootstrap import ShareInterval
from ooc_jax.measures._bootstrap import bootstrap_share
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._coherence import coherence
from ooc_jax.measures._coherence import lens_coherence
from ooc_jax.measures._coherence import model_token_space
from ooc_jax.measures._cosine import mean_pairwise_cosine
from ooc_jax.measures._decision import LOW_IS_COHERENT
from ooc_jax.measures._decision import RULES
from ooc_jax.measures._decision import THRESHOLD_KINDS
from ooc_jax.measures._decision import Thresholds
from ooc_jax.measures._decision import fixed_thresholds
from ooc_jax.measures._decision import passes
from ooc_jax.measures._decision import quantile_thresholds
from ooc_jax.measures._decision import semantic
from ooc_jax.measures._edit_distance import mean_pairwise_edit_distance
from ooc_jax.measures._token_space import TOKEN_SPACES
from ooc_jax.measures._token_space import TokenSpace
from ooc_jax.measures._token_space import token_space

__all__ = (
    'Coherence',
    'LOW_IS_COHERENT',
    'RULES',
    'ShareInterval',
    'THRESHOLD_KINDS',
    'Thresholds',
    'TOKEN_SPACES',
    'TokenSpace',
    'bootstrap_share',
    'coherence',
    'fixed_thresholds',
    'lens_coherence',
    'mean_pairwise_cosine',
    'mean_pairwise_edit_distance',
    'model_token_space',
    'passes',
    'quantile_thresholds',
    'semantic',
    'token_space',
)
