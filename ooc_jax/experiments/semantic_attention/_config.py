"""The settings that experiment 3 adds to those of the other two."""

import dataclasses

from ooc_jax._settings import check
from ooc_jax._settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemanticAttention:
  """How the two populations of features are compared."""

  over_heads: str = setting(
      'mean',
      help="How a feature's numbers of the heads become one.",
      choices=('mean', 'largest'),
  )
  least: int = setting(
      10, help='Features that both populations of a layer must have.', least=2
  )

  def __post_init__(self):
    check(self)
