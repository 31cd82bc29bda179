"""What a training of SAEs keeps, and what it tells."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int
import optax


class SaeParams(NamedTuple):
  """What is trained. A leading axis of sites may stand before all of it.

  Both matrices are [D, F]: products and gradients are then plain row-major
  products, which a CPU does at twice the speed in bfloat16.

  Attributes:
    encoder: [D, F].
    decoder: [D, F], columns of norm 1.
    encoder_bias: [F].
    decoder_bias: [D].
    log_threshold: [F]; the threshold is positive by its form.
  """

  encoder: Float[Array, '*S D F']
  decoder: Float[Array, '*S D F']
  encoder_bias: Float[Array, '*S F']
  decoder_bias: Float[Array, '*S D']
  log_threshold: Float[Array, '*S F']


class SaeLosses(NamedTuple):
  """How well a batch was explained.

  Attributes:
    fvu: Squared error a component; the activations have variance 1, so it is
      the fraction of variance unexplained, up to the batch.
    l0: Features that fired, a token.
    fired: [F] share of the tokens on which each did.
  """

  fvu: Float[Array, '*S']
  l0: Float[Array, '*S']
  fired: Float[Array, '*S F']


class SaeState(NamedTuple):
  """All that a step reads and writes, for S sites.

  Attributes:
    params: In units in which activations are centred, of variance 1.
    adam: Moments.
    mean: [S, D] of the activations.
    scale: [S] root mean square of a centred component.
    silent: [S, F] steps since a feature fired.
    step: How many were done.
  """

  params: SaeParams
  adam: optax.ScaleByAdamState
  mean: Float[Array, 'S D']
  scale: Float[Array, 'S']
  silent: Int[Array, 'S F']
  step: Int[Array, '']
