"""Tables of the validation: scores of features, the map, heads, the null."""

from collections.abc import Mapping
import json

import numpy as np
import pyarrow as pa

from ooc_jax.results._table_schema import BOOL
from ooc_jax.results._table_schema import DOUBLE
from ooc_jax.results._table_schema import FEATURE
from ooc_jax.results._table_schema import INT
from ooc_jax.results._table_schema import LONG
from ooc_jax.results._table_schema import TEXT
from ooc_jax.results._table_schema import Column
from ooc_jax.results._table_schema import Columns
from ooc_jax.results._table_schema import TableSchema
from ooc_jax.results._table_schema import columns
from ooc_jax.results._table_schema import with_metadata

VALIDATION_HEADS_NAME = 'validation_heads'

_HEALTH = b'ooc_jax.health'


def validation_null_name(layer: int) -> str:
  """Of the table of a layer's random directions."""
  return f'validation_null_{layer:02d}'


def validation_map_name(layer: int) -> str:
  """Of the table of what a lens says and what steering does."""
  return f'validation_map_{layer:02d}'


def validation_heads_name(layer: int | None) -> str:
  """Of the table of how well the heads that read a dictionary are predicted.

  By the layer of the dictionary, as `features/layer=NN`; None is the one before
  layer 0.
  """
  end = 'first' if layer is None else f'{layer:02d}'
  return f'{VALIDATION_HEADS_NAME}_{end}'


def validation_windows_name(layer: int) -> str:
  """Of the table of windows of text in which a layer's features are largest."""
  return f'validation_windows_{layer:02d}'


def with_health(
    table: pa.Table, health: Mapping[str, float | int | None]
) -> pa.Table:
  """The table with how its dictionary does on the corpus, and its seconds."""
  return with_metadata(table, _HEALTH, json.dumps(dict(health), sort_keys=True))


def health_of(table: Columns) -> dict[str, float | int | None]:
  """As `with_health` put it."""
  return json.loads(table.schema.metadata[_HEALTH])


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
        Column(name, DOUBLE, text)
        for score, about in SCORES.items()
        for name, text in (
            (score, about),
            (permuted_name(score), 'mean of the same over all other readouts'),
        )
    ),
    *columns(
        DOUBLE,
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
    Column('fires', LONG, 'positions at which it does', optional=True),
    Column(
        'sign',
        INT,
        'of neurons: -1 where all that follows is of minus the neuron, as it'
        ' fires with that sign more',
        optional=True,
    ),
    *columns(
        DOUBLE,
        mean_activation='where it fires; of neurons everywhere',
        max_activation='over the corpus',
    ),
    *columns(
        INT, 'F k', peak_ids='tokens of the windows with the largest; -1: none'
    ),
    *columns(TEXT, 'F k', peak_tokens='their text'),
)
VALIDATION_FEATURES = TableSchema(
    (
        FEATURE,
        *_ACTIVE,
        *columns(
            BOOL,
            semantic_weights='by how the top tokens of its lens go together',
            semantic_activations='by how its peak tokens go together',
            judged='it peaks often enough to be judged by activations',
            sampled='one of the features that scores are means of',
            steered='it has scores; more than the sampled',
        ),
        *columns(INT, 'F k', lens_ids='top tokens of the decoder'),
        *columns(TEXT, 'F k', lens_tokens='their text'),
        *columns(INT, 'F k', raised_ids='tokens that rise most; -1: unknown'),
        *columns(TEXT, 'F k', raised_tokens='their text'),
        *_SCORED,
        *columns(
            TEXT,
            prompt="a text; '' where the feature is no example",
            plain='how the model goes on',
            steered_low='the same with the addition of `strength_low`',
            steered_high='with that of `strength_high`',
        ),
    ),
    described=True,
)
VALIDATION_NULL = TableSchema((
    Column('direction', INT, 'its number'),
    *_SCORED,
))
VALIDATION_MAP = TableSchema(
    columns(
        INT,
        lens='bin of `LENS_EDGES`',
        rise='bin of `RISE_EDGES`',
        tokens='so many',
    )
)

VALIDATION_HEADS = TableSchema((
    *columns(
        INT,
        layer='of the attention',
        windows='of the text',
        pairs='of positions, in all of them',
    ),
    *columns(TEXT, predictor='one of `validation.ATTENTION_PREDICTORS`'),
    *columns(INT, head='its number; -1 is the mean of all'),
    *columns(
        DOUBLE,
        spearman='with the true scores; null where the predictor is constant',
        low='of its 95% interval, over windows',
        high='of its 95% interval',
        null='mean of the permuted features; null where there are none',
        null_low='2.5% quantile over the permutations',
        null_high='97.5% quantile',
    ),
))

# By feature and then rank, of neurons those of the lowest activations last.
VALIDATION_WINDOWS = TableSchema(
    (
        *columns(
            INT,
            layer='of the dictionary',
            feature='its row',
            rank='from 0 at the window in which it is largest, or lowest',
        ),
        *columns(DOUBLE, value='activation at the peak; below 0 at the lowest'),
        *columns(
            INT,
            window='which one of the text, from 0',
            position='of the peak in the window, from 0 at its first token',
            peak='which one of `tokens` the peak is at, from 0',
        ),
        Column('tokens', pa.list_(TEXT), 'text of those about the peak'),
    ),
    described=True,
)
