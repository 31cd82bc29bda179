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
  validation_windows_NN  `VALIDATION_WINDOWS`: a row a feature and window

Arrays have the shape of `Column.shape` in memory, with heads first; in a file a
row is a feature, so a number for each head is a list of N.
"""

from ooc_jax.results._table_schema import Column
from ooc_jax.results._table_schema import Columns
from ooc_jax.results._table_schema import TableSchema
from ooc_jax.results._table_schema import weights_of
from ooc_jax.results._table_schema import with_weights
from ooc_jax.results.tables._attention import ATTENTION_FEATURES
from ooc_jax.results.tables._attention import ATTENTION_NULLS
from ooc_jax.results.tables._attention import ATTENTION_SWEEP
from ooc_jax.results.tables._attention import EFFECTS
from ooc_jax.results.tables._attention import EFFECTS_NAME
from ooc_jax.results.tables._attention import HEADS
from ooc_jax.results.tables._attention import HEADS_NAME
from ooc_jax.results.tables._attention import NULLS
from ooc_jax.results.tables._attention import PARTICIPATION
from ooc_jax.results.tables._attention import POPULATIONS
from ooc_jax.results.tables._attention import POPULATIONS_NAME
from ooc_jax.results.tables._attention import SHAPES
from ooc_jax.results.tables._attention import STATISTIC
from ooc_jax.results.tables._attention import dictionary_layer
from ooc_jax.results.tables._attention import heads_name
from ooc_jax.results.tables._attention import null_statistic
from ooc_jax.results.tables._attention import nulls_name
from ooc_jax.results.tables._attention import selectivity_name
from ooc_jax.results.tables._attention import share_name
from ooc_jax.results.tables._attention import with_dictionary_layer
from ooc_jax.results.tables._output_prediction import ALL_LAYERS
from ooc_jax.results.tables._output_prediction import DIRECTIONS
from ooc_jax.results.tables._output_prediction import LABELS_NAME
from ooc_jax.results.tables._output_prediction import OUTPUT_SWEEP
from ooc_jax.results.tables._output_prediction import READOUTS
from ooc_jax.results.tables._output_prediction import SWEEP_SIZES
from ooc_jax.results.tables._output_prediction import coherence_columns
from ooc_jax.results.tables._output_prediction import directions_name
from ooc_jax.results.tables._output_prediction import labels
from ooc_jax.results.tables._output_prediction import name_of
from ooc_jax.results.tables._output_prediction import output_features
from ooc_jax.results.tables._output_prediction import prefix_of
from ooc_jax.results.tables._output_prediction import size_column
from ooc_jax.results.tables._validation import LENS_EDGES
from ooc_jax.results.tables._validation import RISE_EDGES
from ooc_jax.results.tables._validation import SCORES
from ooc_jax.results.tables._validation import VALIDATION_FEATURES
from ooc_jax.results.tables._validation import VALIDATION_HEADS
from ooc_jax.results.tables._validation import VALIDATION_HEADS_NAME
from ooc_jax.results.tables._validation import VALIDATION_MAP
from ooc_jax.results.tables._validation import VALIDATION_NULL
from ooc_jax.results.tables._validation import VALIDATION_WINDOWS
from ooc_jax.results.tables._validation import health_of
from ooc_jax.results.tables._validation import permuted_name
from ooc_jax.results.tables._validation import validation_heads_name
from ooc_jax.results.tables._validation import validation_map_name
from ooc_jax.results.tables._validation import validation_null_name
from ooc_jax.results.tables._validation import validation_windows_name
from ooc_jax.results.tables._validation import with_health

__all__ = tuple(x for x in dir() if not x.startswith('_'))
