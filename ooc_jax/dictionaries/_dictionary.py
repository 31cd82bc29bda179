"""A dictionary: a set of directions in one model's activation space."""

import dataclasses

import flax
from jaxtyping import Array, Float

HOOKS = ('resid_pre', 'resid_post', 'mlp_neuron', 'embedding')


@dataclasses.dataclass(frozen=True)
class DictionarySite:
  """Where a dictionary's directions were taken.

  Attributes:
    layer: Of the model, from 0.
    hook: One of `HOOKS`. `resid_post` of layer l feeds the attention of layer
      l + 1; 'mlp_neuron' reads before the MLP of its layer and writes after.
  """

  layer: int
  hook: str


@flax.struct.dataclass
class Dictionary:
  """F directions to explain, mapped to the residual stream.

  A feature fires at x with a = pre · 1[pre > threshold], where
  pre = x · encoder + encoder_bias.

  Attributes:
    encoder: [F, D] what each feature reads.
    decoder: [F, D] what each feature writes.
    encoder_bias: [F].
    decoder_bias: [D].
    threshold: [F].
    site: Layer and hook.
    name: For results and figures.
  """

  encoder: Float[Array, 'F D']
  decoder: Float[Array, 'F D']
  encoder_bias: Float[Array, 'F']
  decoder_bias: Float[Array, 'D']
  threshold: Float[Array, 'F']
  site: DictionarySite = flax.struct.field(pytree_node=False)
  name: str = flax.struct.field(pytree_node=False)

  @property
  def size(self) -> int:
    """F, how many features."""
    return self.decoder.shape[0]
