"""What `summary.json` holds; `tables` says it of the other files.

Shares are fractions from 0 to 1, entropies are in nats, null stands for a
number that does not exist (the median of nothing).
"""

from typing import Any, NotRequired, TypedDict

SCHEMA_VERSION = 2


class Share(TypedDict):
  """A share of features with its 95% interval, see `measures`."""

  share: float | None
  low: float | None
  high: float | None


class Agreement(TypedDict):
  """How far a side says the same of a feature as the output side."""

  shared_tokens: float  # Mean share of the top tokens in common.
  both: float  # Share of features with both labels.
  phi: float | None  # Correlation of the labels; null where one is constant.


class AttentionLayerSummary(TypedDict):
  """Of experiment 2: one layer, or all together, in one context of attention.

  With `layer`, `weights`, `features`, `null_share` and what follows it as in
  `LayerSummary`. The summary has `sides`: context -> `layers`, `total`, `shape`
  and `shape_of_mean_heads`; `top_key`, the key with the largest share of the
  weight in a head; and where the mean of the stream is known `mean_stream`:
  distances that it prefers -> heads, and features' scores with it.
  """

  participating: Share  # In at least so many heads as the run asks for.
  at_least: dict[str, Share]  # In at least so many heads.
  mean_heads: dict[str, float]  # mean, low, high.
  nulls: NotRequired[dict[str, float]]  # Null -> share of its directions.
  median: NotRequired[float]  # Of the statistic, over heads and features.
  thresholds: NotRequired[list[float]]  # Of each head.


class LayerSummary(TypedDict):
  """One layer, or `total`: all layers together, without `layer`."""

  layer: NotRequired[int]
  weights: NotRequired[dict[str, str]]  # Dictionary file -> SHA-256.
  features: int  # How many there are.
  semantic: Share  # Under the rule and the thresholds of the run.
  measures: dict[str, float | None]  # Measure -> share that passes it alone.
  found: dict[str, float]  # 'coherent', 'sharp' -> share that some measure of
  # this kind finds so; 'sharp only' -> share of semantic features.
  median: dict[str, float | None]  # Measure -> median over the features.
  undertrained: float | None  # Share of the top tokens.
  # Standard deviation of the share over nulls; null: thresholds of no null.
  threshold_error: NotRequired[float | None]
  # Null -> how many `directions`; the `share` of them that is semantic by the
  # thresholds of the run; the share of features `semantic` by its own.
  nulls: NotRequired[dict[str, dict[str, Any]]]
  ends: NotRequired[dict[str, float]]  # End -> share semantic by it.
  # 'null', 'k' -> mean share of other nulls, of other numbers of top tokens,
  # that give a feature the same label.
  stability: NotRequired[dict[str, float | None]]
  null_share: NotRequired[float]  # Of random directions called semantic.
  null_directions: NotRequired[int]  # How many of them.
  excess: NotRequired[float]  # Share over chance, with its 95% interval.
  excess_low: NotRequired[float]
  excess_high: NotRequired[float]
  thresholds: NotRequired[dict[str, Any]]  # Of the layer.


class Example(TypedDict):
  """A feature worth showing, most coherent first."""

  layer: int
  feature: int
  levenshtein: float | None
  cosine: float | None
  entropy: float | None  # Nats.
  tokens: list[str]  # Raw text, highest logit first.


class SideSummary(TypedDict):
  """A side beside the output side."""

  layers: list[LayerSummary]
  total: LayerSummary
  thresholds: dict[str, Any]  # Of the first layer.
  shape: dict[str, Any]
  agreement: Agreement


class Summary(TypedDict):
  """The whole of `summary.json`."""

  schema: int  # `SCHEMA_VERSION` of the writer.
  experiment: str  # 'output_prediction', ...
  num_layers: int  # Of the model, not of the run.
  layers: list[LayerSummary]
  total: LayerSummary
  thresholds: dict[str, Any]  # Of the first layer.
  shape: NotRequired[dict[str, Any]]  # `measures.DepthShape`, with `p_value`.
  sides: NotRequired[dict[str, SideSummary]]  # But for the output side.
  # What a validation of the same features found: `folder`, its name, and
  # `checks`: readout (of experiment 2 'attention') -> `subject`, `layers`, and
  # at each of them `mean`, `low`, `high` and `chances`, null -> number.
  validation: NotRequired[dict[str, Any]]
  examples: list[Example]
