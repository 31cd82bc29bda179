"""Numbers about what circuits computed: how coherent, and is that a lot.

A `Measure` says how well the top tokens of a feature go together. From a lens,
the strings of the tokens and a space in which they are directions,
`lens_coherence` makes a `Coherence`: an array [F] for each of `MEASURES`.
`Thresholds` turn these into labels (`is_semantic`), by a rule of how many
measures must pass. They are set so that random directions
(`isotropic_directions`, `matched_directions`), read in the same way, pass at a
chosen rate (`null_thresholds`); every feature gets a p value against the same
directions, and `sweep` says what other rules and levels would have found.

Attention goes the same way: statistics of each head, cut-offs, in how many
heads a feature participates. Over layers, `depth_shape` names the course of a
share, `cliffs_delta` compares two populations of features, and `label_trends`
says whether that changes as it does not under permuted labels.
`grouped_spearman` is for values that come in windows.
"""

from ooc_jax.measures._bootstrap import ShareInterval
from ooc_jax.measures._bootstrap import excess_interval
from ooc_jax.measures._bootstrap import share_interval
from ooc_jax.measures._coherence import ALL_MEASURES
from ooc_jax.measures._coherence import ENDS
from ooc_jax.measures._coherence import MEASURES
from ooc_jax.measures._coherence import Coherence
from ooc_jax.measures._coherence import coherence
from ooc_jax.measures._coherence import lens_coherence
from ooc_jax.measures._coherence import lens_coherences
from ooc_jax.measures._coherence import measures_at
from ooc_jax.measures._decision import RULES
from ooc_jax.measures._decision import THRESHOLD_KINDS
from ooc_jax.measures._decision import Thresholds
from ooc_jax.measures._decision import fixed_thresholds
from ooc_jax.measures._decision import found_by_measures
from ooc_jax.measures._decision import is_semantic
from ooc_jax.measures._decision import passes_by_measure
from ooc_jax.measures._decision import quantile_thresholds
from ooc_jax.measures._decision import vote
from ooc_jax.measures._depth_shape import SHAPES
from ooc_jax.measures._depth_shape import DepthShape
from ooc_jax.measures._depth_shape import depth_shape
from ooc_jax.measures._depth_shape import depth_shapes
from ooc_jax.measures._depth_shape import share_errors
from ooc_jax.measures._label_trend import VERDICTS
from ooc_jax.measures._label_trend import LabelTrends
from ooc_jax.measures._label_trend import PermutedDeltas
from ooc_jax.measures._label_trend import label_trends
from ooc_jax.measures._label_trend import permuted_deltas
from ooc_jax.measures._label_trend import verdict
from ooc_jax.measures._measure import Measure
from ooc_jax.measures._null import NULL_SIZE
from ooc_jax.measures._null import isotropic_directions
from ooc_jax.measures._null import matched_directions
from ooc_jax.measures._null import null_p_values
from ooc_jax.measures._null import null_thresholds
from ooc_jax.measures._null import q_values
from ooc_jax.measures._null import rule_p_values
from ooc_jax.measures._null import smallest_p_value
from ooc_jax.measures._participation import CONTEXTS
from ooc_jax.measures._participation import KINDS
from ooc_jax.measures._participation import PARTICIPATION_QUANTILES
from ooc_jax.measures._participation import ROLES
from ooc_jax.measures._participation import head_counts
from ooc_jax.measures._participation import heads_errors
from ooc_jax.measures._participation import null_cutoffs
from ooc_jax.measures._participation import participates
from ooc_jax.measures._participation import participation_statistics
from ooc_jax.measures._participation import pooled_quantile
from ooc_jax.measures._participation_shares import Cutoffs
from ooc_jax.measures._participation_shares import HeadsInterval
from ooc_jax.measures._participation_shares import LayerShares
from ooc_jax.measures._participation_shares import head_cutoffs
from ooc_jax.measures._participation_shares import participation_shares
from ooc_jax.measures._participation_shares import quantile_cutoffs
from ooc_jax.measures._populations import EffectSize
from ooc_jax.measures._populations import MannWhitney
from ooc_jax.measures._populations import Population
from ooc_jax.measures._populations import cliffs_delta
from ooc_jax.measures._populations import mann_whitney
from ooc_jax.measures._populations import median_error
from ooc_jax.measures._populations import population
from ooc_jax.measures._populations import split_by_label
from ooc_jax.measures._relation import Relation
from ooc_jax.measures._relation import relation_over_depth
from ooc_jax.measures._resampled import Resampled
from ooc_jax.measures._resampled import resampled_labels
from ooc_jax.measures._resampled import resampled_thresholds
from ooc_jax.measures._spearman import Correlations
from ooc_jax.measures._spearman import grouped_spearman
from ooc_jax.measures._strings import mean_pairwise_edit_distance
from ooc_jax.measures._strings import model_strings
from ooc_jax.measures._sweep import PARTICIPATION_ALPHAS
from ooc_jax.measures._sweep import SWEEP_ALPHAS
from ooc_jax.measures._sweep import SWEEP_QUANTILES
from ooc_jax.measures._sweep import WHOLE_MODEL
from ooc_jax.measures._sweep import participation_sweep
from ooc_jax.measures._sweep import sweep
from ooc_jax.measures._token_space import TOKEN_SPACES
from ooc_jax.measures._token_space import TokenSpace
from ooc_jax.measures._token_space import mean_pairwise_cosine
from ooc_jax.measures._token_space import model_token_space
from ooc_jax.measures._token_space import token_space

__all__ = tuple(x for x in dir() if not x.startswith('_'))
