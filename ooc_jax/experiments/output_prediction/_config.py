"""The settings of experiment 1.

Readouts are the ways in which a dictionary is read: `output` is the method's
decoder-unembedding phase, `input` its encoder-embedding phase, and `embedding`
contracts the decoder with the embedding, which only in an untied model is
another table.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from jax.sharding import Mesh

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax._settings import setting
from ooc_jax.dictionaries import model_parts
from ooc_jax.experiments._settings import LensSettings
from ooc_jax.model import Model
from ooc_jax.results.tables import READOUTS


def parse_readouts(text: str, tied: bool = False) -> tuple[str, ...]:
  """'all' or 'output,input' as names, in the order of `READOUTS`.

  Raises:
    InputError: A name is unknown, `output` is missing, or the model is tied
      and `embedding` would repeat `output`.
  """
  if text == 'all':
    return READOUTS[:2] if tied else READOUTS
  names = [name.strip() for name in text.split(',')]
  unknown = [name for name in names if name not in READOUTS]
  if unknown or 'output' not in names:
    raise InputError(
        f"readouts={text!r} is not understood; write 'all', or 'output' with"
        f' any of {", ".join(READOUTS[1:])} after a comma.'
    )
  if tied and 'embedding' in names:
    raise InputError(
        f'readouts={text!r}: the model is tied, so its embedding is its'
        " unembedding, and 'embedding' would repeat 'output'; leave it out."
    )
  return tuple(name for name in READOUTS if name in names)


def parse_thresholds(text: str) -> tuple[str, Any]:
  """('null', None), ('quantile', q) or ('fixed', Thresholds).

  Raises:
    InputError: The text is of neither form.
  """
  kind, _, rest = text.partition(':')
  try:
    if text == 'null':
      return kind, None
    if kind == 'quantile':
      quantile = float(rest or '0.75')
      if 0 < quantile < 1:
        return kind, quantile
    elif kind == 'fixed':
      pairs = [item.split('=') for item in rest.split(',')]
      values = {name.strip(): float(number) for name, number in pairs}
      return kind, measures.fixed_thresholds(values)
  except InputError:
    raise
  except ValueError:
    pass
  raise InputError(
      f"thresholds={text!r} is not understood; write 'null', 'quantile',"
      " 'quantile:0.9' (between 0 and 1) or"
      " 'fixed:levenshtein=0.6,cosine=0.2,entropy=3'."
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputPrediction(LensSettings):
  """Everything that defines a run; all of it is written into its results."""

  k: int = setting(20, help='Top tokens a feature.', least=2)
  centered: bool = setting(
      False, help='Subtract the mean row of the unembedding.'
  )
  precision: str = setting(
      'auto',
      help=(
          'Products in float32 (exact), or of bfloat16 pieces that are as exact'
          ' (screened); auto takes what is the faster one on the device.'
      ),
      choices=circuits.PRECISIONS,
  )
  kernel: str = setting(
      'xla',
      help=(
          "How the lens goes over the vocabulary: 'pallas' keeps logits on the"
          ' chip of a TPU or GPU, and was never timed on one.'
      ),
      choices=circuits.KERNELS,
  )
  spread: float = setting(
      1.5,
      help=(
          'Standard deviation of the logits of a feature over the tokens that'
          ' count, to which they are scaled before the softmax; nats.'
      ),
      between=(0.0, 100.0),
  )
  thresholds: str = setting(
      'null',
      help=(
          "Of the measures: 'null', 'quantile', 'quantile:0.9' or"
          " 'fixed:levenshtein=0.6,cosine=0.2,entropy=3'."
      ),
      parse=parse_thresholds,
  )
  ends: str = setting(
      'auto',
      help=(
          'Of the vocabulary at which a feature may be semantic; auto is both'
          ' for MLP neurons, which write with either sign, else the top.'
      ),
      choices=('auto', *measures.ENDS),
  )
  null_size: int = setting(
      measures.NULL_SIZE,
      help='Isotropic random directions: one null for all layers.',
      least=100,
  )
  layer_null_size: int = setting(
      4096,
      help=(
          'Matched random directions of each layer; an eighth of them where'
          ' they are reported and do not decide.'
      ),
      least=100,
  )
  neighbours: int = setting(
      10,
      help=(
          'Of each feature, others of its layer with the nearest decoders; 0'
          ' leaves them out. Takes F/V of the time of a readout; left out where'
          ' there are as many features as tokens, or more.'
      ),
      least=0,
  )
  readouts: str = setting(
      'all',
      help="'all', or 'output' with any of 'input' and 'embedding'.",
      parse=parse_readouts,
      source='paper',
      alias='sides',
  )

  def settled(self, loaded: Model, mesh: Mesh | None) -> Mapping[str, Any]:
    """The precision: what 'auto' is here."""
    return {'precision': circuits.lens_precision(self.precision, loaded, mesh)}

  @property
  def parts(self) -> tuple[str, ...]:
    """Parts of the model that are read."""
    # Whether it is tied is not known yet; the embedding is then the same.
    tables = ('embedding', 'unembedding')
    if parse_readouts(self.readouts) == ('output',):
      tables = ('unembedding',)
    return tuple(dict.fromkeys((*tables, *model_parts(self.dictionary))))
