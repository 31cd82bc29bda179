"""Flags that override settings of experiment 2 alone."""

from _attention_study import NULL_KINDS
from absl import flags

FLAGS = {
    'first': flags.DEFINE_string(
        'first',
        None,
        "Dictionary at the input of layer 0: 'auto', 'none', or its name.",
    ),
    'offset': flags.DEFINE_integer(
        'offset', None, 'Tokens from key to query; 0 leaves out RoPE.'
    ),
    'partners': flags.DEFINE_integer(
        'partners', None, 'Best partners of a feature to keep, in each head.'
    ),
    'sink_share': flags.DEFINE_float(
        'sink_share',
        None,
        'Keys that get more than this share of all weight are left out.',
    ),
    'participation': flags.DEFINE_string(
        'participation',
        None,
        "Threshold: 'quantile:0.75', or 'null:' and one of"
        f' {", ".join(NULL_KINDS)}.',
    ),
    'at_least': flags.DEFINE_integer(
        'at_least', None, 'Heads in which a feature must participate.'
    ),
    'nulls': flags.DEFINE_string(
        'nulls', None, f"'all', 'none', or some of {', '.join(NULL_KINDS)}."
    ),
    'pairs': flags.DEFINE_integer(
        'pairs', None, 'Strongest pairs of a head to follow over distance.'
    ),
    'context': flags.DEFINE_integer(
        'context', None, 'Distances of that, from 0.'
    ),
    'write_tokens': flags.DEFINE_integer(
        'write_tokens', None, 'Top tokens of what a head writes; 0 for none.'
    ),
}
