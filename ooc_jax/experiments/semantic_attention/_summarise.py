"""What experiment 3 says, from its tables alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ooc_jax import measures
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments._summary import number_shape
from ooc_jax.experiments.semantic_attention._compute import SemanticTables
from ooc_jax.experiments.semantic_attention._config import SemanticAttention
from ooc_jax.results import tables as schemas

_COURSES = {
    'semantic': ('semantic_median', 'semantic_error'),
    'other': ('other_median', 'other_error'),
    'delta': ('delta', 'error'),
}


def summarise(tables: SemanticTables, config: SemanticAttention) -> Summary:
  """The verdicts on the paper's statements, and the courses over depth.

  Args:
    tables: Of `compute`.
    config: The settings.

  Returns:
    `populations`, `effects` and the summary.
  """
  del config  # The populations are compared; nothing is left to choose.
  effects = [
      {name: value for name, value in row.items() if value is not None}
      for row in tables.effects.to_pylist()
  ]
  labellings = dict.fromkeys(row['labelling'] for row in effects)
  return Summary(
      tables={
          schemas.POPULATIONS_NAME: tables.populations,
          schemas.EFFECTS_NAME: tables.effects,
      },
      summary={
          'experiment': 'semantic_attention',
          'num_layers': tables.num_layers,
          'tied': tables.tied,
          'layers': list(dict.fromkeys(row['layer'] for row in effects)),
          'statements': tables.statements,
          'sweep': tables.sweep,
          'contexts': {name: _courses(effects, name) for name in labellings},
          'effects': effects,
      },
  )


def _courses(
    effects: Sequence[Mapping[str, Any]], labelling: str
) -> dict[str, Any]:
  """The shape over depth of both medians and of delta, for each context."""
  courses = {}
  for context in measures.CONTEXTS:
    rows = [
        row
        for row in effects
        if (row['labelling'], row['context']) == (labelling, context)
        and 'delta' in row
    ]
    if not rows:
      continue
    courses[context] = {
        name: number_shape(
            [row['layer'] for row in rows],
            np.asarray([row[value] for row in rows]),
            np.asarray([max(row[error], 1e-12) for row in rows]),
        )
        for name, (value, error) in _COURSES.items()
    }
  return courses
