"""What a lens is asked for, and what it is made of."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int


class Settings(NamedTuple):
  """What is asked of a lens; static under jit.

  Attributes:
    k: How many tokens at either end.
    screened: Whether logits are made in bfloat16.
    softcap: Bound on the logits in the softmax, or None.
    unit: Whether rows of the table are divided by their norms.
    centered: Whether the mean kept row is subtracted from the table.
    platform: Where it runs: 'cpu', 'gpu', 'tpu'.
    feature_axis: The mesh axis of features under `shard_map`, or None.
    vocab_axis: Likewise of the vocabulary.
  """

  k: int
  screened: bool
  softcap: float | None = None
  unit: bool = False
  centered: bool = False
  platform: str = 'cpu'
  feature_axis: str | None = None
  vocab_axis: str | None = None


class Readings(NamedTuple):
  """What a lens is made of, per feature; see `Lens`."""

  top_ids: Int[Array, 'F k']
  top_logits: Float[Array, 'F k']
  bottom_ids: Int[Array, 'F k']
  bottom_logits: Float[Array, 'F k']
  mean: Float[Array, 'F']
  std: Float[Array, 'F']
  skewness: Float[Array, 'F']
  kurtosis: Float[Array, 'F']
  entropy: Float[Array, 'F']
  top_mass: Float[Array, 'F']
  top_entropy: Float[Array, 'F']
  active_share: Float[Array, 'F']
  recomputed: Bool[Array, 'F']
