"""The paper's two statements about the populations, against permuted labels.

  inverse: "Semantic and non-semantic feature populations show inverse
    relationships in output-oriented contexts": the labels are those of the
    decoder and the unembedding.
  reversed: "but reversed relationships for input-encoding features in untied
    architectures": those of the encoder and the embedding, of an untied model.

Scores of a layer share the scale of its weights, which moves both populations
alike, so the courses of their medians say more of the layers than of the
labels. Ranks within a layer do not have that scale, and in ranks one population
is ahead by what the other is behind: the two are inversely related over depth
where Cliff's delta has a slope. How large a slope is by chance, labels permuted
within each layer say (`measures.label_trends`), in the four contexts of
attention (query or key, score or weight) together.

  inverse is supported where a context has a slope, up or down, with p <= 0.05.
    Else it is not decided: `least_change` is what might have been missed. Of a
    course that both populations share, ranks say nothing, so nothing speaks
    against the statement.
  reversed is supported where in a context the slopes under the two labellings
    have opposite signs, and not supported where they have the same. P is the
    largest of three: of the difference of the slopes (both labellings permuted
    together) and of either slope. The difference alone would also be there
    where one labelling has a slope and the other has none.

Layers where a population has too few features are left out; with fewer than 6
layers nothing is decided. Of a tied model the second statement says nothing, so
it is not decided.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from ooc_jax import measures
from ooc_jax.experiments.semantic_attention._populations import LABELLINGS
from ooc_jax.experiments.semantic_attention._populations import Layer

_TIED = 'the model is tied, and the statement is about untied ones'
_UNREAD = 'there are no labels of the encoder and the embedding'
_LEAST_LAYERS = 6
_NO_TEST = {'sign': 0, 'p_value': 1.0}
_FIGURES = ('change', 'error', 'p_value', 'least_change')


def statements(
    layers: Sequence[Layer], tied: bool, least: int
) -> dict[str, dict[str, Any]]:
  """The verdict on each statement, with the tests that it rests on.

  Args:
    layers: With their labels.
    tied: Whether the model is.
    least: Features that both populations of a layer must have.

  Returns:
    'inverse' and 'reversed', each with `verdict` (of `measures.VERDICTS`),
    `why` (None, or why nothing was decided) and `tests`, context -> its
    numbers: `sign` (of 'inverse', that of the change of delta from the first
    layer to the last; of 'reversed', 1 where both change alike and -1 where
    not), `p_value`, corrected for the contexts, and, where there are layers
    enough, `change`, its `error` under permuted labels and `least_change`,
    which is found in 80 of 100 cases.
  """
  output, given = LABELLINGS
  inverse, few = _tests(layers, (output,), least, _inverse)
  opposite, few_both = _tests(layers, LABELLINGS, least, _reversed)
  why = None
  if tied:
    why = _TIED
  elif not any(given in one.labels for one in layers):
    why = _UNREAD
  signs = [abs(test['sign']) for test in inverse.values()]
  return {
      'inverse': _statement(inverse, signs, 1, few),
      'reversed': _statement(
          opposite,
          [test['sign'] for test in opposite.values()],
          -1,
          why or few_both,
      ),
  }


def _statement(tests, signs, expected: int, why: str | None) -> dict[str, Any]:
  p_values = [test['p_value'] for test in tests.values()]
  found = measures.verdict(signs, p_values, expected, corrected=True)
  return {
      'verdict': found if why is None else 'not decided',
      'why': why,
      'tests': tests,
  }


def _tests(
    layers, labellings, least, test
) -> tuple[dict[str, dict[str, Any]], str | None]:
  """Context -> numbers of the test, and why there are none."""
  own = [x for x in layers if x.compared(labellings, least)]
  if len(own) < _LEAST_LAYERS:
    count = '1 layer has' if len(own) == 1 else f'{len(own)} layers have'
    return dict.fromkeys(measures.CONTEXTS, _NO_TEST), (
        f'{count} enough features in both populations, and {_LEAST_LAYERS} are'
        ' needed'
    )
  permuted = [
      measures.permuted_deltas(
          np.stack([x.statistics[name] for name in measures.CONTEXTS]),
          np.stack([x.labels[name] for name in labellings]),
      )
      for x in own
  ]
  rows = test(
      np.asarray([x.layer for x in own]),
      np.stack([x.deltas for x in permuted]),
      np.stack([x.covariance for x in permuted]),
  )
  return dict(zip(measures.CONTEXTS, rows, strict=True)), None


def _inverse(layers, deltas, covariance) -> list[dict[str, Any]]:
  found = measures.label_trends(layers, deltas[:, 0], covariance[:, 0, :, 0])
  return _rows(np.sign(found.change), found.p_value, found)


def _reversed(layers, deltas, covariance) -> list[dict[str, Any]]:
  first, second = (
      measures.label_trends(layers, deltas[:, i], covariance[:, i, :, i])
      for i in range(2)
  )
  ways = np.array([-1.0, 1.0])
  difference = measures.label_trends(
      layers,
      np.einsum('p,lpc->lc', ways, deltas),
      np.einsum('p,q,lpcqd->lcd', ways, ways, covariance),
  )
  sign = np.sign(first.change) * np.sign(second.change)
  p_value = np.maximum(first.p_value, second.p_value)
  # Slopes that are alike need not differ.
  p_value = np.where(sign < 0, np.maximum(p_value, difference.p_value), p_value)
  rows = _rows(sign, p_value, difference)
  for i, row in enumerate(rows):
    row |= {
        'difference_p_value': float(difference.p_value[i]),
        'output_change': float(first.change[i]),
        'output_p_value': float(first.p_value[i]),
        'input_change': float(second.change[i]),
        'input_p_value': float(second.p_value[i]),
    }
  return rows


def _rows(sign, p_value, found: measures.LabelTrends) -> list[dict[str, Any]]:
  rows = []
  for i in range(sign.size):
    row: dict[str, Any] = {x: float(getattr(found, x)[i]) for x in _FIGURES}
    row |= {'sign': int(sign[i]), 'p_value': float(p_value[i])}
    if not np.isfinite(row['least_change']):  # All values are equal.
      row['least_change'] = None
    rows.append(row)
  return rows


def verdict_sweep(
    layers: Mapping[str, Sequence[Layer]], tied: bool, least: int
) -> list[dict[str, Any]]:
  """The verdicts under every choice of labels, and every way over heads.

  Args:
    layers: How the heads' numbers became one -> the layers.
    tied: Whether the model is.
    least: As of `statements`.

  Returns:
    Rows with `labels`, `over_heads`, and the verdict on each statement.
  """
  return [
      {
          'labels': choice,
          'over_heads': over_heads,
          **{
              name: found['verdict']
              for name, found in statements(
                  [
                      dataclasses.replace(x, labels=x.choices[choice])
                      for x in own
                  ],
                  tied,
                  least,
              ).items()
          },
      }
      for over_heads, own in layers.items()
      for choice in own[0].choices
  ]
