"""Tables of experiments 2 and 3: scores, heads, participation, populations."""

import dataclasses

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax.results._table_schema import BOOL
from ooc_jax.results._table_schema import DOUBLE
from ooc_jax.results._table_schema import FEATURE
from ooc_jax.results._table_schema import INT
from ooc_jax.results._table_schema import LONG
from ooc_jax.results._table_schema import SINGLE
from ooc_jax.results._table_schema import TEXT
from ooc_jax.results._table_schema import Column
from ooc_jax.results._table_schema import Columns
from ooc_jax.results._table_schema import TableSchema
from ooc_jax.results._table_schema import columns
from ooc_jax.results._table_schema import with_metadata

# What stands for chance in experiment 2.
ATTENTION_NULLS = ('random', 'permuted', 'tokens')
# Column of `ATTENTION_FEATURES` that each context is decided by.
STATISTIC = {
    'query_pre': 'query_max',
    'query_post': 'largest_weight',
    'key_pre': 'key_max',
    'key_post': 'largest_received',
}
HEADS_NAME = 'heads'
POPULATIONS_NAME = 'populations'
EFFECTS_NAME = 'effects'

_ORIGIN = b'ooc_jax.dictionary_layer'


def heads_name(layer: int) -> str:
  """Of the table of a layer's heads."""
  return f'{HEADS_NAME}_{layer:02d}'


def nulls_name(layer: int) -> str:
  """Of the table of a layer's null directions."""
  return f'nulls_{layer:02d}'


def with_dictionary_layer(table: pa.Table, layer: int | None) -> pa.Table:
  """The table with the layer by which experiment 1 knows its features."""
  return with_metadata(table, _ORIGIN, '' if layer is None else str(layer))


def dictionary_layer(table: Columns) -> int | None:
  """As `with_dictionary_layer` put it; None where experiment 1 has none."""
  text = table.schema.metadata[_ORIGIN].decode()
  return int(text) if text else None


def _role_columns(role: str) -> tuple[Column, ...]:
  where = f'as a {role}, of each head'
  scores = {
      f'{role}_max': f'{where}: largest score',
      f'{role}_mean': f'{where}: mean score',
      f'{role}_std': f'{where}: standard deviation of the scores',
  }
  best = f'as a {role}, {{k}} best partners of each head, head after head'
  return (
      *columns(SINGLE, 'N F', **scores),
      *columns(INT, 'N F k', **{f'{role}_partners': f'{best}: ids'}),
      *columns(SINGLE, 'N F k', **{f'{role}_scores': f'{best}: scores'}),
  )


ATTENTION_FEATURES = TableSchema(
    (
        FEATURE,
        *(column for role in measures.ROLES for column in _role_columns(role)),
        *columns(
            SINGLE,
            'N F',
            entropy="of each head: of a query's weights, nats",
            largest_weight="of each head: of a query's weights, the largest",
            self_weight='of each head: of a query on its own key',
            received='of each head: sum of the weights on a key',
            largest_received='of each head: largest weight on a key',
        ),
        *(
            Column(
                f'{role}_bias',
                SINGLE,
                f'as a {role}, of each head: score with the mean of the stream',
                'N F',
                optional=True,
            )
            for role in measures.ROLES
        ),
        Column('sink', BOOL, 'of each head: no key of it', 'N F', True),
    ),
    described=True,
)

NULLS = TableSchema((
    *columns(TEXT, null='one of `ATTENTION_NULLS`'),
    *columns(INT, direction='its number in that null'),
    *columns(
        SINGLE,
        'N F',
        **{x: f'of each head: {STATISTIC[x]}' for x in measures.CONTEXTS},
    ),
))


def null_statistic(table: Columns, null: str, context: str) -> np.ndarray:
  """[N, n] of the directions of one null in one context, from `NULLS`."""
  own = pa.array(np.asarray(table['null']) == null)
  return NULLS.array(pa.table({context: table[context].filter(own)}), context)


_HEAD = (
    *columns(
        INT,
        layer='of the attention',
        head='its number',
        kv_head='whose keys it has',
        features='F',
    ),
    *columns(
        DOUBLE,
        selectivity=(
            'mean over queries of the largest weight times F; 1 where every'
            ' query sees all keys alike; it grows with F'
        ),
        median_selectivity='the median instead',
        diagonal_mass='mean weight of a query on its own key; 1/F by chance',
        entropy="mean over queries, of a query's weights, nats",
    ),
    *columns(
        INT,
        best_query='of the pair with the largest score',
        best_key='of that pair',
    ),
    *columns(DOUBLE, best_score='of that pair'),
    *columns(
        INT,
        preferred_offset='distance at which the strongest pairs score most',
    ),
    *columns(
        DOUBLE,
        preferred_score='their mean score there',
        score_at_0='their mean score at distance 0',
    ),
    *columns(pa.list_(SINGLE), profile='that mean at each distance from 0'),
    *columns(
        DOUBLE,
        copy_score='of `ov_copying`; null where encoders read no stream',
        positive_share='of `ov_copying`',
        eigenvalue_score='of `ov_copying`',
        self_write_z='mean of the `z_score` of `ov_copying`',
    ),
    *columns(pa.list_(INT), write_features='keys that receive most weight'),
    *columns(DOUBLE, top_key_share='share of all weight on the first of them'),
    *columns(
        pa.list_(pa.list_(TEXT)),
        write_tokens='top tokens of what the head writes at each of them',
    ),
)


def selectivity_name(null: str) -> str:
  """Column of `HEADS`: the selectivity of a null's directions."""
  return f'selectivity_{null}_null'


def share_name(context: str, null: str | None = None) -> str:
  """Column of `HEADS`: the share of features, or of a null, in a head."""
  return f'{context}_share' + ('' if null is None else f'_{null}_null')


# Of the mean of the stream, where that is known.
_OF_MEAN = (
    *columns(TEXT, bias="where it is from: 'dictionary' or 'estimate'"),
    *columns(
        DOUBLE,
        bias_score='of the mean with itself, at the offset of the run',
        query_bias_mean='of features as queries with it, mean over features',
        query_bias_std='of those scores, over features',
        key_bias_mean='of features as keys with it, mean over features',
        key_bias_std='of those scores, over features',
    ),
    *columns(INT, bias_offset='distance at which it scores itself most'),
    *columns(
        pa.list_(SINGLE), bias_profile='that score at each distance from 0'
    ),
)

HEADS = TableSchema((
    *_HEAD,
    *(dataclasses.replace(x, optional=True) for x in _OF_MEAN),
    # Of a model with biases.
    *(
        Column(
            f'{x}_constant',
            DOUBLE,
            f'length of what biases put into each {x}, whatever the feature',
            optional=True,
        )
        for x in ('query', 'key')
    ),
    *(
        Column(selectivity_name(null), DOUBLE, optional=True)
        for null in ATTENTION_NULLS
    ),
    Column(
        'relative_selectivity',
        DOUBLE,
        'selectivity by that of the first null, which has as many directions',
        optional=True,
    ),
    *(
        Column(share_name(x, null), DOUBLE, optional=True)
        for x in measures.CONTEXTS
        for null in (None, *ATTENTION_NULLS)
    ),
))

_DECISION = (
    *columns(TEXT, context='role and kind', thresholds='their kind'),
    *columns(DOUBLE, level='of the thresholds'),
)
ATTENTION_SWEEP = TableSchema((
    *_DECISION,
    *columns(
        LONG, at_least='so many heads', layer='-1 for all layers together'
    ),
    *columns(
        DOUBLE, share='of participating features', mean_heads='of a feature'
    ),
    *columns(TEXT, null='that `null_share` is of'),
    *columns(DOUBLE, null_share='of its directions'),
))

PARTICIPATION = TableSchema((
    *columns(INT, layer='of the attention', feature='its row'),
    *columns(INT, **{f'{x}_heads': 'how many' for x in measures.CONTEXTS}),
))

SHAPES = TableSchema((
    *_DECISION,
    *columns(INT, at_least='so many heads'),
    *columns(TEXT, name='of the shape over depth'),
    *columns(DOUBLE, p_value='of it', turning_point='layer; null: none'),
))

POPULATIONS = TableSchema((
    *columns(TEXT, labelling='of the features', context='role and kind'),
    *columns(INT, layer='of the attention'),
    *columns(TEXT, population='semantic or other'),
    *columns(INT, size='features in it'),
    *columns(DOUBLE, mean='of the statistic', median='of it', p75='of it'),
    *columns(pa.list_(INT), counts='histogram of it'),
    *columns(pa.list_(DOUBLE), edges='of the bins, one set a context'),
))

EFFECTS = TableSchema((
    *columns(TEXT, labelling='of the features', context='role and kind'),
    *columns(
        INT, layer='of the attention', semantic='how many', other='how many'
    ),
    *columns(
        DOUBLE,
        delta="Cliff's, over 0 where semantic features are ahead",
        low='of its 95% interval',
        high='of its 95% interval',
        error='standard error of delta',
        permuted='standard deviation of delta under permuted labels',
        u='of Mann and Whitney',
        p_value='of that',
        q_value='after Benjamini and Hochberg, over the layers',
        semantic_median='of the semantic features',
        semantic_error='its standard error',
        other_median='of the others',
        other_error='its standard error',
        chance_median='of the first null',
        chance_spread='its quartile range',
    ),
))
