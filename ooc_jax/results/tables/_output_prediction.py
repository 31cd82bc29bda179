"""Tables of experiment 1: lens and measures of features, labels, the sweep."""

from collections.abc import Iterable, Sequence
import dataclasses

from ooc_jax import measures
from ooc_jax.results._table_schema import BOOL
from ooc_jax.results._table_schema import DOUBLE
from ooc_jax.results._table_schema import FEATURE
from ooc_jax.results._table_schema import INT
from ooc_jax.results._table_schema import LONG
from ooc_jax.results._table_schema import SINGLE
from ooc_jax.results._table_schema import TEXT
from ooc_jax.results._table_schema import Column
from ooc_jax.results._table_schema import TableSchema
from ooc_jax.results._table_schema import columns

# Decoder and unembedding, encoder and embedding, decoder and embedding.
READOUTS = ('output', 'input', 'embedding')
ALL_LAYERS = -1  # The layer of a row that stands for every layer.
# Numbers of top tokens at which the sweep of experiment 1 decides anew.
SWEEP_SIZES = (5, 10, 20, 50)
LABELS_NAME = 'labels'


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


_COUNTED = 'of the logits over the tokens that count'
_LENS = (
    *columns(INT, 'F k', top_ids='token ids of the largest logits'),
    *columns(TEXT, 'F k', top_tokens='their text'),
    *columns(SINGLE, 'F k', top_logits='their logits'),
    *columns(INT, 'F k', bottom_ids='token ids of the smallest logits'),
    *columns(TEXT, 'F k', bottom_tokens='their text'),
    *columns(SINGLE, 'F k', bottom_logits='their logits'),
    *columns(
        SINGLE,
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

# Of the decoder, so once and not for each readout.
_NEAREST = (
    Column(
        'nearest',
        INT,
        'features of the same layer whose decoders have the largest cosine with'
        ' this one; whatever the side',
        'F k',
        optional=True,
    ),
    Column('nearest_cosines', SINGLE, 'those cosines', 'F k', optional=True),
)


def coherence_columns() -> tuple[Column, ...]:
  """A column for each measure; a run has those of its ends."""
  return tuple(
      Column(measure.name, SINGLE, measure.description, optional=True)
      for measure in measures.ALL_MEASURES
  )


def _readout_columns() -> tuple[Column, ...]:
  own = {column.name for column in _LENS}
  return (
      *_LENS,
      *(c for c in coherence_columns() if c.name not in own),
      *columns(
          INT, undertrained='how many of the top tokens look under-trained'
      ),
      *(
          Column(
              size_column(measure.name, k),
              SINGLE,
              f'{measure.description}; of {k} tokens',
              optional=True,
          )
          for k in SWEEP_SIZES
          for measure in measures.ALL_MEASURES
          if measure.finds == 'coherent'
      ),
      Column(
          'active_share',
          SINGLE,
          'share of tokens over the threshold of the feature',
          optional=True,
      ),
      Column(
          'shared',
          SINGLE,
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
  columns = _by_readout((FEATURE,), _readout_columns(), readouts)
  return TableSchema((*columns, *_NEAREST), described=True)


def labels(readouts: Iterable[str] = READOUTS) -> TableSchema:
  """A row a feature of every layer, with the labels of these readouts."""
  own = (
      *columns(BOOL, semantic='by the rule of the run'),
      *(
          Column(f'{x.name}_passes', BOOL, 'this alone', optional=True)
          for x in measures.ALL_MEASURES
      ),
      *columns(
          BOOL,
          coherent='by a measure of how its top tokens go together',
          sharp='by the entropy of its prediction',
      ),
      *columns(
          DOUBLE,
          p_value='of the rule, against the random directions',
          q_value='after Benjamini and Hochberg, over all layers',
      ),
      *columns(
          BOOL,
          at_resolution=(
              'no p is smaller with so many random directions, so'
              ' that p and q are bounds'
          ),
      ),
      Column(
          'null_stability',
          DOUBLE,
          'share of resampled nulls by whose thresholds the label is the same',
          optional=True,
      ),
      Column(
          'k_stability',
          DOUBLE,
          'share of the other numbers of top tokens at which it is the same',
          optional=True,
      ),
  )
  first = columns(INT, layer='of the dictionary', feature='its row')
  return TableSchema(_by_readout(first, own, readouts))


DIRECTIONS = TableSchema((
    *columns(TEXT, side='the readout', null='isotropic or matched'),
    *columns(
        INT,
        layer='whose null it is; -1 for every layer',
        k='how many top tokens are measured',
    ),
    *coherence_columns(),
))

OUTPUT_SWEEP = TableSchema((
    *columns(
        TEXT,
        rule="how many measures must pass; '' for one alone",
        measure="that one; '' for a vote",
        kind='of threshold',
    ),
    *columns(DOUBLE, level='of the threshold; null where fixed'),
    *columns(LONG, layer='-1 for all layers together', k='top tokens'),
    *columns(
        DOUBLE,
        share='of features called semantic',
        null_share='of random directions',
    ),
))
