"""The settings of the validation."""

import dataclasses
from typing import ClassVar

from ooc_jax import validation
from ooc_jax._errors import InputError
from ooc_jax._settings import setting
from ooc_jax.experiments._first import AUTO
from ooc_jax.experiments._settings import LensSettings

SELF = 'self'  # A corpus that the model writes.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation(LensSettings):
  """Everything that defines a run; all of it is written into its results."""

  CONFIG_ENTRY: ClassVar[str | None] = 'validation'

  corpus: str = setting(
      validation.DEFAULT_CORPUS,
      help=(
          f"'{validation.DEFAULT_CORPUS}' for the prose that comes along,"
          f" '{SELF}' for text that the model writes, a .txt, .jsonl, .jsonl.gz"
          " or .parquet, a folder of these, or 'hub:OWNER/NAME/FILE'."
      ),
  )
  field: str = setting('text', help='Of the text in a row of JSON or Parquet.')
  length: int = setting(128, help='Tokens of a window, BOS included.', least=2)
  windows: int = setting(256, help='Most windows that are read.', least=1)
  features: int = setting(
      64, help='Features of a layer that are steered, drawn by chance.', least=2
  )
  null_features: int = setting(
      24, help='Random directions of a layer that are steered.', least=2
  )
  attention_windows: int = setting(
      64,
      help=(
          'Most windows on which the attention that reads a dictionary is'
          ' predicted; 0 leaves it out.'
      ),
      least=0,
  )
  first: str = setting(
      AUTO,
      help=(
          'Dictionary at the input of layer 0, whose attention is predicted'
          " too: 'auto', 'none', or its name."
      ),
  )
  k: int = setting(
      25, help='Tokens of a lens, and tokens that rise most.', least=2
  )
  coherence_k: int = setting(
      20,
      help=(
          'Top tokens of a lens by which a feature is semantic; at most k, and'
          f' {validation.PEAKS} peak tokens are there to compare.'
      ),
      least=2,
  )
  rare: int = setting(
      10,
      help=(
          'A feature that fires less often on the corpus is rare; one that'
          ' peaks in fewer windows is not judged by activations.'
      ),
      least=2,
  )
  null_size: int = setting(
      4096, help='Random directions and token lists of each null.', least=100
  )
  continued: int = setting(
      12, help='Tokens of a steered continuation.', least=1
  )

  def __post_init__(self):
    super().__post_init__()
    if self.coherence_k > self.k:
      raise InputError(
          f'coherence_k={self.coherence_k} is more than k={self.k}: give at'
          ' most as many tokens as the lens has.'
      )
