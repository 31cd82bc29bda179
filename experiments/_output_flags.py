"""Flags that override settings of experiment 1 alone."""

import _sides
from absl import flags

import ooc_jax

PLAN = flags.DEFINE_string(
    'plan',
    None,
    "TPUs that need not be here, 'v5e:2x4': say whether it would fit, and what"
    ' they would send to each other.',
)
FLAGS = {
    'k': flags.DEFINE_integer('k', None, 'Top tokens a feature.'),
    'convention': flags.DEFINE_string(
        'convention', None, f'One of {", ".join(ooc_jax.circuits.CONVENTIONS)}.'
    ),
    'centered': flags.DEFINE_boolean(
        'centered', None, 'Subtract the mean row of the unembedding.'
    ),
    'precision': flags.DEFINE_string(
        'precision', None, f'One of {", ".join(ooc_jax.circuits.PRECISIONS)}.'
    ),
    'token_space': flags.DEFINE_string(
        'token_space',
        None,
        f'Of the cosine: one of {", ".join(ooc_jax.measures.TOKEN_SPACES)}.',
    ),
    'rule': flags.DEFINE_string(
        'rule',
        None,
        f'Measures that must pass: {", ".join(ooc_jax.measures.RULES)}.',
    ),
    'thresholds': flags.DEFINE_string(
        'thresholds',
        None,
        "'null', 'quantile', 'quantile:0.9' or"
        " 'fixed:levenshtein=0.6,cosine=0.2,entropy=3'.",
    ),
    'null_size': flags.DEFINE_integer(
        'null_size', None, 'Random directions that features are compared with.'
    ),
    'sides': flags.DEFINE_string(
        'sides', None, f"'all', or some of {', '.join(_sides.SIDES)}."
    ),
}
