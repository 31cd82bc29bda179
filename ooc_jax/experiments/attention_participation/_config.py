"""The settings of experiment 2."""

import dataclasses
from typing import ClassVar

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax._settings import setting
from ooc_jax.dictionaries import model_parts
from ooc_jax.experiments._settings import SharedSettings
from ooc_jax.model import PARTS
from ooc_jax.results.tables import ATTENTION_NULLS

_NULLS = ', '.join(ATTENTION_NULLS)
STREAMS = ('alone', 'on_bias')


def parse_participation(text: str) -> tuple[str, float | str]:
  """('quantile', q) or ('null', name).

  Raises:
    InputError: The text is of neither form.
  """
  kind, _, rest = text.partition(':')
  if kind == 'null' and (rest or ATTENTION_NULLS[0]) in ATTENTION_NULLS:
    return kind, rest or ATTENTION_NULLS[0]
  if kind == 'quantile':
    try:
      quantile = float(rest or measures.PARTICIPATION_QUANTILES[0])
    except ValueError:
      quantile = 0.0
    if 0 < quantile < 1:
      return kind, quantile
  raise InputError(
      f"participation={text!r} is not understood; write 'quantile:0.75'"
      f' (between 0 and 1) or null: and one of {_NULLS}.'
  )


def parse_nulls(text: str) -> tuple[str, ...]:
  """'all', 'none' or names with commas, in the order of `ATTENTION_NULLS`.

  Raises:
    InputError: A name is unknown.
  """
  if text in ('all', 'none'):
    return ATTENTION_NULLS if text == 'all' else ()
  names = [name.strip() for name in text.split(',')]
  for name in names:
    if name not in ATTENTION_NULLS:
      raise InputError(
          f"nulls={text!r}: {name!r} is none; write 'all', 'none', or some of"
          f' {_NULLS} with commas.'
      )
  return tuple(name for name in ATTENTION_NULLS if name in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionParticipation(SharedSettings):
  """Everything that defines a run; all of it is written into its results.

  `layers` are those of the attention. `alpha` is the share of a null's
  directions that may participate in a head, and `examples` are heads.
  """

  CONFIG_ENTRY: ClassVar[str | None] = 'attention'

  first: str = setting(
      'auto',
      help="Dictionary at the input of layer 0: 'auto', 'none', or its name.",
  )
  offset: int = setting(
      0, help='Tokens from key to query; 0 leaves out RoPE.', least=0
  )
  stream: str = setting(
      'alone',
      help=(
          "What stands for the stream: a feature 'alone', or 'on_bias', on the"
          ' mean of the stream (the decoder bias, or where there is none an'
          ' estimate from a forward pass).'
      ),
      choices=STREAMS,
  )
  feature_length: float = setting(
      circuits.LENGTH,
      help='Of a feature on that mean, whose own length is 1.',
      between=(0.0, float('inf')),
  )
  partners: int = setting(
      5, help='Best partners of a feature to keep, in each head.', least=1
  )
  sink_share: float | None = setting(
      None,
      help=(
          'Keys that get more than this share of the weight in a head are left'
          ' out as its keys; None keeps all.'
      ),
      between=(0.0, 1.0),
  )
  participation: str = setting(
      'quantile:0.75',
      help=(
          "Threshold: 'quantile:0.75' of all features, heads and layers"
          f" together, or 'null:' and one of {_NULLS}, head by head."
      ),
      parse=parse_participation,
      source='paper',
  )
  at_least: int = setting(
      1, help='Heads in which a feature must participate.', least=1
  )
  nulls: str = setting(
      'all',
      help=f"'all', 'none', or some of {_NULLS}; the first is drawn.",
      parse=parse_nulls,
  )
  pairs: int = setting(
      64, help='Strongest pairs of a head to follow over distance.', least=1
  )
  context: int = setting(512, help='Distances of that, from 0.', least=1)
  write_tokens: int = setting(
      5, help='Top tokens of what a head writes; 0 for none.', least=0
  )

  def __post_init__(self):
    super().__post_init__()
    kind, value = parse_participation(self.participation)
    if kind == 'null' and value not in self.null_kinds:
      raise InputError(
          f'participation={self.participation!r} needs the null {value!r}, and'
          f' nulls={self.nulls!r} does not hold it; add it there.'
      )

  @property
  def null_kinds(self) -> tuple[str, ...]:
    """Those of `nulls`, in the order of `ATTENTION_NULLS`."""
    return parse_nulls(self.nulls)

  @property
  def length(self) -> float | None:
    """Of a feature on the mean of the stream; None where it is alone."""
    return self.feature_length if self.stream == 'on_bias' else None

  @property
  def parts(self) -> tuple[str, ...]:
    """Parts of the model that are read."""
    if self.stream == 'on_bias':
      # Whether a dictionary has a bias is known once it is read.
      return PARTS
    of_dictionaries = (*model_parts(self.dictionary), *model_parts(self.first))
    return tuple(
        dict.fromkeys(
            ('attention', 'norms', 'embedding', 'unembedding', *of_dictionaries)
        )
    )
