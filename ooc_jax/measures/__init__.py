"""Numbers about what circuits computed: how coherent, and is that a lot."""

from ooc_jax.measures._bootstrap import ShareInterval
from ooc_jax.measures._bootstrap import bootstrap_excess
from ooc_jax.measures._bootstrap import bootstrap_share
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._coherence import coherence
from ooc_jax.measures._coherence import lens_coherence
from ooc_jax.measures._coherence import model_string_table
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
from ooc_jax.measures._depth_shape import SHAPES
from ooc_jax.measures._depth_shape import DepthShape
from ooc_jax.measures._depth_shape import depth_shape
from ooc_jax.measures._depth_shape import share_errors
from ooc_jax.measures._edit_distance import mean_pairwise_edit_distance
from ooc_jax.measures._null import NULL_SIZE
from ooc_jax.measures._null import isotropic_directions
from ooc_jax.measures._null import matched_directions
from ooc_jax.measures._null_level import null_p_values
from ooc_jax.measures._null_level import null_thresholds
from ooc_jax.measures._null_level import q_values
from ooc_jax.measures._null_level import rule_p_values
from ooc_jax.measures._string_table import StringTable
from ooc_jax.measures._string_table import string_table
from ooc_jax.measures._sweep import SWEEP_ALPHAS
from ooc_jax.measures._sweep import SWEEP_QUANTILES
from ooc_jax.measures._sweep import WHOLE_MODEL
from ooc_jax.measures._sweep import sweep
from ooc_jax.measures._token_space import TOKEN_SPACES
from ooc_jax.measures._token_space import TokenSpace
from ooc_jax.measures._token_space import token_space

__all__ = (
    'Coherence',
    'DepthShape',
    'LOW_IS_COHERENT',
    'NULL_SIZE',
    'RULES',
    'SHAPES',
    'ShareInterval',
    'StringTable',
    'SWEEP_ALPHAS',
    'SWEEP_QUANTILES',
    'THRESHOLD_KINDS',
    'Thresholds',
    'TOKEN_SPACES',
    'TokenSpace',
    'WHOLE_MODEL',
    'bootstrap_excess',
    'bootstrap_share',
    'coherence',
    'depth_shape',
    'fixed_thresholds',
    'isotropic_directions',
    'lens_coherence',
    'matched_directions',
    'mean_pairwise_cosine',
    'mean_pairwise_edit_distance',
    'model_string_table',
    'model_token_space',
    'null_p_values',
    'null_thresholds',
    'passes',
    'q_values',
    'quantile_thresholds',
    'rule_p_values',
    'semantic',
    'share_errors',
    'string_table',
    'sweep',
    'token_space',
)
