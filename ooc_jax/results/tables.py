"""Every table of a results folder: what its columns are, how it is called.

A file is written and read through its `TableSchema`, so that a name, a type, a
shape or the order of columns stands here and nowhere else:

  features/layer=NN   `output_features`, `ATTENTION_FEATURES`: a row a feature
  directions[_NN]     `DIRECTIONS`: a row a random direction of every readout
  null[_READOUT]      those of one readout
  labels              `labels`: a row a feature of every layer
  sweep[_READOUT]     `OUTPUT_SWEEP`, `ATTENTION_SWEEP`
  heads, heads_NN     `HEADS`: a row a head
  nulls_NN            `NULLS`: a row a null direction
  participation       `PARTICIPATION`: a row a feature of every layer
  shapes              `SHAPES`: a row a decision and a context
  populations         `POPULATIONS`: a row a context, layer and population
  effects             `EFFECTS`: a row a context and layer
  features/layer=NN   of the validation: `VALIDATION_FEATURES`
  validation_null_NN  `VALIDATION_NULL`: a row a random direction
  validation_map_NN   `VALIDATION_MAP`: a row a cell of lens and effect
  validation_heads_NN `VALIDATION_HEADS`: a row a predictor and head

Arrays have the shape of `Column.shape` in memory, with heads first; in a file a
row is a feature, so a number for each head is a list of N.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax.results._table_schema import Column
from ooc_jax.results._table_schema import Columns
from ooc_jax.results._table_schema import TableSchema

# Decoder and unembedding, encoder and embedding, decoder and embedding.
READOUTS = ('output', 'input', 'embedding')
ALL_LAYERS = -1  # The layer of a row that stands for every layer.
# Numbers of top tokens at which the sweep of experiment 1 decides anew.
SWEEP_SIZES = (5, 10, 20, 50)
# What stands for chance in experiment 2.
ATTENTION_NULLS = ('random', 'permuted', 'tokens')
# Column of `ATTENTION_FEATURES` that each context is decided by.
STATISTIC = {
    'query_pre': 'query_max',
    'query_post': 'largest_weight',
    'key_pre': 'key_max',
    'key_post': 'largest_received',
}
LABELS_NAME = 'labels'
HEADS_NAME = 'heads'
POPULATIONS_NAME = 'populations'
EFFECTS_NAME = 'effects'
VALIDATION_HEADS_NAME = 'validation_heads'
ALL_HEADS = -1  # The head of a row that stands for the mean of all.

_WEIGHTS = b'ooc_jax.weights'
_ORIGIN = b'ooc_jax.dictionary_layer'
_HEALTH = b'ooc_jax.health'


def prefix_of(readout: str) -> str:
  """Of the columns of a readout; the output readout has plain names."""
  return '' if readout == 'output' else f'{readout}_'


def name_of(stem: str, readout: str) -> str:
  """Of a table of one readout: 'sweep', 'sweep_input'."""
  return stem if readout == 'output' else f'{stem}_{readout}'


def directions_name(layer: int) -> str:
  """Of the random directions of a layer, or of `ALL_LAYERS`."""
  end = '' if layer == ALL_LAYERS else f'_{layer:02d}'
  return f'directions{end}'


def size_column(measure: str, k: int) -> str:
  """Column of a measure of k top tokens, where the run reads another k."""
  return f'{measure}_k{k}'


def heads_name(layer: int) -> str:
  """Of the table of a layer's heads."""
  return f'{HEADS_NAME}_{layer:02d}'


def validation_null_name(layer: int) -> str:
  """Of the table of a layer's random directions."""
  return f'validation_null_{layer:02d}'


def validation_map_name(layer: int) -> str:
  """Of the table of what a lens says and what steering does."""
  return f'validation_map_{layer:02d}'


def validation_heads_name(layer: int) -> str:
  """Of the table of how well the heads that read a dictionary are predicted.

  By the layer of the dictionary, as `features/layer=NN`.
  """
  return f'{VALIDATION_HEADS_NAME}_{layer:02d}'


def nulls_name(layer: int) -> str:
  """Of the table of a layer's null directions."""
  return f'nulls_{layer:02d}'


def with_weights(table: pa.Table, weights: Mapping[str, str]) -> pa.Table:
  """The table with the SHA-256 of the files its layer was read from."""
  return _with(table, _WEIGHTS, json.dumps(dict(weights), sort_keys=True))


def weights_of(table: Columns) -> dict[str, str]:
  """File -> SHA-256, as `with_weights` put them."""
  return json.loads(table.schema.metadata[_WEIGHTS])


def with_health(
    table: pa.Table, health: Mapping[str, float | int | None]
) -> pa.Table:
  """The table with how its dictionary does on the corpus, and its seconds."""
  return _with(table, _HEALTH, json.dumps(dict(health), sort_keys=True))


def health_of(table: Columns) -> dict[str, float | int | None]:
  """As `with_health` put it."""
  return json.loads(table.schema.metadata[_HEALTH])


def with_dictionary_layer(table: pa.Table, layer: int | None) -> pa.Table:
  """The table with the layer by which experiment 1 knows its features."""
  return _with(table, _ORIGIN, '' if layer is None else str(layer))


def dictionary_layer(table: Columns) -> int | None:
  """As `with_dictionary_layer` put it; None where experiment 1 has none."""
  text = table.schema.metadata[_ORIGIN].decode()
  return int(text) if text else None


def _with(table: pa.Table, key: bytes, value: str) -> pa.Table:
  return table.replace_schema_metadata(
      {**(table.schema.metadata or {}), key: value}
  )


_INT, _LONG, _BOOL = pa.int32(), pa.int64(), pa.bool_()
_SINGLE, _DOUBLE, _TEXT = pa.float32(), pa.float64(), pa.string()


def _columns(
    kind: pa.DataType, shape: str = 'F', /, **texts: str
) -> tuple[Column, ...]:
  return tuple(Column(name, kind, text, shape) for name, text in texts.items())


_FEATURE = Column('feature', _INT)  # Row of the dictionary.
_COUNTED = 'of the logits over the tokens that count'
_LENS = (
    *_columns(_INT, 'F k', top_ids='token ids of the largest logits'),
    *_columns(_TEXT, 'F k', top_tokens='their text'),
    *_columns(_SINGLE, 'F k', top_logits='their logits'),
    *_columns(_INT, 'F k', bottom_ids='token ids of the smallest logits'),
    *_columns(_TEXT, 'F k', bottom_tokens='their text'),
    *_columns(_SINGLE, 'F k', bottom_logits='their logits'),
    *_columns(
        _SINGLE,
        mean=_COUNTED,
        std=_COUNTED,
        skewness=_COUNTED,
        kurtosis=f'excess, {_COUNTED}',
        entropy=(
            'of the softmax at the spread of the run over the tokens that'
            ' count, nats'
        ),
        top_mass='probability of the top tokens in that softmax',
        top_entropy='of the top tokens renormalised, nats',
    ),
)


def coherence_columns() -> tuple[Column, ...]:
  """A column for each measure; a run has those of its ends."""
  return tuple(
      Column(measure.name, _SINGLE, measure.description, optional=True)
      for measure in measures.ALL_MEASURES
  )


def _readout_columns() -> tuple[Column, ...]:
  own = {column.name for column in _LENS}
  return (
      *_LENS,
      *(c for c in coherence_columns() if c.name not in own),
      *_columns(
          _INT, undertrained='how many of the top tokens look under-trained'
      ),
      *(
          Column(
              size_column(measure.name, k),
              _SINGLE,
              f'{measure.description}; of {k} tokens',
              optional=True,
          )
          for k in SWEEP_SIZES
          for measure in measures.ALL_MEASURES
          if measure.finds == 'coherent'
      ),
      Column(
          'active_share',
          _SINGLE,
          'share of tokens over the threshold of the feature',
          optional=True,
      ),
      Column(
          'shared',
          _SINGLE,
          'share of the top tokens that are top tokens of the output side too',
          optional=True,
      ),
  )


def _by_readout(
    first: Sequence[Column], own: Sequence[Column], readouts: Iterable[str]
) -> tuple[Column, ...]:
  return (
      *first,
      *(
          dataclasses.replace(column, name=prefix_of(readout) + column.name)
          for readout in readouts
          for column in own
      ),
  )


def output_features(readouts: Iterable[str] = READOUTS) -> TableSchema:
  """A row a feature of a layer, with the columns of these readouts."""
  columns = _by_readout((_FEATURE,), _readout_columns(), readouts)
  return TableSchema(columns, described=True)


def labels(readouts: Iterable[str] = READOUTS) -> TableSchema:
  """A row a feature of every layer, with the labels of these readouts."""
  own = (
      *_columns(_BOOL, semantic='by the rule of the run'),
      *(
          Column(f'{x.name}_passes', _BOOL, 'this alone', optional=True)
          for x in measures.ALL_MEASURES
      ),
      *_columns(
          _BOOL,
          coherent='by a measure of how its top tokens go together',
          sharp='by the entropy of its prediction',
      ),
      *_columns(
          _DOUBLE,
          p_value='of the rule, against the random directions',
          q_value='after Benjamini and Hochberg, over all layers',
      ),
      *_columns(
          _BOOL,
          at_resolution=(
              'no p is smaller with so many random directions, so'
              ' that p and q are bounds'
          ),
      ),
      Column(
          'null_stability',
          _DOUBLE,
          'share of resampled nulls by whose thresholds the label is the same',
          optional=True,
      ),
      Column(
          'k_stability',
          _DOUBLE,
          'share of the other numbers of top tokens at which it is the same',
          optional=True,
      ),
  )
  first = _columns(_INT, layer='of the dictionary', feature='its row')
  return TableSchema(_by_readout(first, own, readouts))


DIRECTIONS = TableSchema((
    *_columns(_TEXT, side='the readout', null='isotropic or matched'),
    *_columns(
        _INT,
        layer='whose null it is; -1 for every layer',
        k='how many top tokens are measured',
    ),
    *coherence_columns(),
))

OUTPUT_SWEEP = TableSchema((
    *_columns(
        _TEXT,
        rule="how many measures must pass; '' for one alone",
        measure="that one; '' for a vote",
        kind='of threshold',
    ),
    *_columns(_DOUBLE, level='of the threshold; null where fixed'),
    *_columns(_LONG, layer='-1 for all layers together', k='top tokens'),
    *_columns(
        _DOUBLE,
        share='of features called semantic',
        null_share='of random directions',
    ),
))


def _role_columns(role: str) -> tuple[Column, ...]:
  where = f'as a {role}, of each head'
  scores = {
      f'{role}_max': f'{where}: largest score',
      f'{role}_mean': f'{where}: mean score',
      f'{role}_std': f'{where}: standard deviation of the scores',
  }
  best = f'as a {role}, {{k}} best partners of each head, head after head'
  return (
      *_columns(_SINGLE, 'N F', **scores),
      *_columns(_INT, 'N F k', **{f'{role}_partners': f'{best}: ids'}),
      *_columns(_SINGLE, 'N F k', **{f'{role}_scores': f'{best}: scores'}),
  )


ATTENTION_FEATURES = TableSchema(
    (
        _FEATURE,
        *(column for role in measures.ROLES for column in _role_columns(role)),
        *_columns(
            _SINGLE,
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
                _SINGLE,
                f'as a {role}, of each head: score with the mean of the stream',
                'N F',
                optional=True,
            )
            for role in measures.ROLES
        ),
        Column('sink', _BOOL, 'of each head: no key of it', 'N F', True),
    ),
    described=True,
)

NULLS = TableSchema((
    *_columns(_TEXT, null='one of `ATTENTION_NULLS`'),
    *_columns(_INT, direction='its number in that null'),
    *_columns(
        _SINGLE,
        'N F',
        **{x: f'of each head: {STATISTIC[x]}' for x in measures.CONTEXTS},
    ),
))


def null_statistic(table: Columns, null: str, context: str) -> np.ndarray:
  """[N, n] of the directions of one null in one context, from `NULLS`."""
  own = pa.array(np.asarray(table['null']) == null)
  return NULLS.array(pa.table({context: table[context].filter(own)}), context)


_HEAD = (
    *_columns(
        _INT,
        layer='of the attention',
        head='its number',
        kv_head='whose keys it has',
        features='F',
    ),
    *_columns(
        _DOUBLE,
        selectivity=(
            'mean over queries of the largest weight times F; 1 where every'
            ' query sees all keys alike; it grows with F'
        ),
        median_selectivity='the median instead',
        diagonal_mass='mean weight of a query on its own key; 1/F by chance',
        entropy="mean over queries, of a query's weights, nats",
    ),
    *_columns(
        _INT,
        best_query='of the pair with the largest score',
        best_key='of that pair',
    ),
    *_columns(_DOUBLE, best_score='of that pair'),
    *_columns(
        _INT,
        preferred_offset='distance at which the strongest pairs score most',
    ),
    *_columns(
        _DOUBLE,
        preferred_score='their mean score there',
        score_at_0='their mean score at distance 0',
    ),
    *_columns(pa.list_(_SINGLE), profile='that mean at each distance from 0'),
    *_columns(
        _DOUBLE,
        copy_score='of `ov_copying`; null where encoders read no stream',
        positive_share='of `ov_copying`',
        eigenvalue_score='of `ov_copying`',
        self_write_z='mean of the `z_score` of `ov_copying`',
    ),
    *_columns(pa.list_(_INT), write_features='keys that receive most weight'),
    *_columns(
        _DOUBLE, top_key_share='share of all weight on the first of them'
    ),
    *_columns(
        pa.list_(pa.list_(_TEXT)),
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
    *_columns(_TEXT, bias="where it is from: 'dictionary' or 'estimate'"),
    *_columns(
        _DOUBLE,
        bias_score='of the mean with itself, at the offset of the run',
        query_bias_mean='of features as queries with it, mean over features',
        query_bias_std='of those scores, over features',
        key_bias_mean='of features as keys with it, mean over features',
        key_bias_std='of those scores, over features',
    ),
    *_columns(_INT, bias_offset='distance at which it scores itself most'),
    *_columns(
        pa.list_(_SINGLE), bias_profile='that score at each distance from 0'
    ),
)

HEADS = TableSchema((
    *_HEAD,
    *(dataclasses.replace(x, optional=True) for x in _OF_MEAN),
    # Of a model with biases.
    *(
        Column(
            f'{x}_constant',
            _DOUBLE,
            f'length of what biases put into each {x}, whatever the feature',
            optional=True,
        )
        for x in ('query', 'key')
    ),
    *(
        Column(selectivity_name(null), _DOUBLE, optional=True)
        for null in ATTENTION_NULLS
    ),
    Column(
        'relative_selectivity',
        _DOUBLE,
        'selectivity by that of the first null, which has as many directions',
        optional=True,
    ),
    *(
        Column(share_name(x, null), _DOUBLE, optional=True)
        for x in measures.CONTEXTS
        for null in (None, *ATTENTION_NULLS)
    ),
))

_DECISION = (
    *_columns(_TEXT, context='role and kind', thresholds='their kind'),
    *_columns(_DOUBLE, level='of the thresholds'),
)
ATTENTION_SWEEP = TableSchema((
    *_DECISION,
    *_columns(
        _LONG, at_least='so many heads', layer='-1 for all layers together'
    ),
    *_columns(
        _DOUBLE, share='of participating features', mean_heads='of a feature'
    ),
    *_columns(_TEXT, null='that `null_share` is of'),
    *_columns(_DOUBLE, null_share='of its directions'),
))

PARTICIPATION = TableSchema((
    *_columns(_INT, layer='of the attention', feature='its row'),
    *_columns(_INT, **{f'{x}_heads': 'how many' for x in measures.CONTEXTS}),
))

SHAPES = TableSchema((
    *_DECISION,
    *_columns(_INT, at_least='so many heads'),
    *_columns(_TEXT, name='of the shape over depth'),
    *_columns(_DOUBLE, p_value='of it', turning_point='layer; null: none'),
))

POPULATIONS = TableSchema((
    *_columns(_TEXT, labelling='of the features', context='role and kind'),
    *_columns(_INT, layer='of the attention'),
    *_columns(_TEXT, population='semantic or other'),
    *_columns(_INT, size='features in it'),
    *_columns(_DOUBLE, mean='of the statistic', median='of it', p75='of it'),
    *_columns(pa.list_(_INT), counts='histogram of it'),
    *_columns(pa.list_(_DOUBLE), edges='of the bins, one set a context'),
))

EFFECTS = TableSchema((
    *_columns(_TEXT, labelling='of the features', context='role and kind'),
    *_columns(
        _INT, layer='of the attention', semantic='how many', other='how many'
    ),
    *_columns(
        _DOUBLE,
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

# Share of the tokens that rise, or at which a feature peaks, that a readout
# names; of these readouts.
SCORES = {
    'output_decoder': 'of the tokens that rise, in the lens of the decoder',
    'output_encoder': 'of the tokens that rise, in the lens of the encoder',
    'output_peaks': 'of the tokens that rise, among the peak tokens',
    'input_decoder': 'of the peak tokens, in the lens of the decoder',
    'input_encoder': 'of the peak tokens, in the lens of the encoder',
    'steering': '(1 - min rank / V) max p over the lens of the decoder',
}


# Of `VALIDATION_MAP`: logits in standard deviations from the mean of a feature,
# and rises of a rank as a share of the tokens that count.
LENS_EDGES = np.linspace(-4.0, 8.0, 61)
RISE_EDGES = np.linspace(-1.0, 1.0, 61)


def permuted_name(score: str) -> str:
  """Column of the same with the readouts of the other features."""
  return f'{score}_permuted'


_SCORED = (
    *(
        Column(name, _DOUBLE, text)
        for score, about in SCORES.items()
        for name, text in (
            (score, about),
            (permuted_name(score), 'mean of the same over all other readouts'),
        )
    ),
    *_columns(
        _DOUBLE,
        lens_correlation=(
            "Spearman's, of the lens of the decoder and the rise, over tokens"
        ),
        strength_low='length of the addition at the smaller divergence',
        strength_high='at the larger one',
        divergence_low='mean KL(clean || steered) there, nats',
        divergence_high='mean KL there, nats',
    ),
)
_ACTIVE = (
    Column('fires', _LONG, 'positions at which it does', optional=True),
    *_columns(
        _DOUBLE,
        mean_activation='where it fires; of neurons everywhere',
        max_activation='over the corpus',
    ),
    *_columns(
        _INT, 'F k', peak_ids='tokens of the windows with the largest; -1: none'
    ),
    *_columns(_TEXT, 'F k', peak_tokens='their text'),
)
VALIDATION_FEATURES = TableSchema(
    (
        _FEATURE,
        *_ACTIVE,
        *_columns(
            _BOOL,
            semantic_weights='by how the top tokens of its lens go together',
            semantic_activations='by how its peak tokens go together',
            judged='it peaks often enough to be judged by activations',
            sampled='one of the features that scores are means of',
            steered='it has scores; more than the sampled',
        ),
        *_columns(_INT, 'F k', lens_ids='top tokens of the decoder'),
        *_columns(_TEXT, 'F k', lens_tokens='their text'),
        *_columns(_INT, 'F k', raised_ids='tokens that rise most; -1: unknown'),
        *_columns(_TEXT, 'F k', raised_tokens='their text'),
        *_SCORED,
        *_columns(
            _TEXT,
            prompt="a text; '' where the feature is no example",
            plain='how the model goes on',
            steered_low='the same with the addition of `strength_low`',
            steered_high='with that of `strength_high`',
        ),
    ),
    described=True,
)
VALIDATION_NULL = TableSchema((
    Column('direction', _INT, 'its number'),
    *_SCORED,
))
VALIDATION_MAP = TableSchema(
    _columns(
        _INT,
        lens='bin of `LENS_EDGES`',
        rise='bin of `RISE_EDGES`',
        tokens='so many',
    )
)

VALIDATION_HEADS = TableSchema((
    *_columns(
        _INT,
        layer='of the attention',
        windows='of the text',
        pairs='of positions, in all of them',
    ),
    *_columns(_TEXT, predictor='one of `validation.ATTENTION_PREDICTORS`'),
    *_columns(_INT, head='its number; -1 is the mean of all'),
    *_columns(
        _DOUBLE,
        spearman='with the true scores; null where the predictor is constant',
        low='of its 95% interval, over windows',
        high='of its 95% interval',
        null='mean of the permuted features; null where there are none',
        null_low='2.5% quantile over the permutations',
        null_high='97.5% quantile',
    ),
))
