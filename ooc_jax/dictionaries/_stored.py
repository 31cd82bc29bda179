"""A dictionary as a loader found it, before it is mapped to the stream."""

import dataclasses

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.model import ModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
  """Weights in the space of their site.

  Attributes:
    encoder: [F, R].
    decoder: [F, W], W the width of what the site writes.
    encoder_bias: [F] float32.
    decoder_bias: [W] float32.
    threshold: [F] float32.
    site: Layer and hook.
    top_k: See `Dictionary`.
    reads_gain: Whether the encoder expects its input times the gain of the
      norm before the MLP.
    files: Paths that were read.
  """

  encoder: np.ndarray
  decoder: np.ndarray
  encoder_bias: np.ndarray
  decoder_bias: np.ndarray
  threshold: np.ndarray
  site: DictionarySite
  top_k: int | None = None
  reads_gain: bool = False
  files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Asked:
  """What the caller knows of a dictionary that its files may not say.

  Attributes:
    path: Where the files are, as the caller or the hub names it.
    layer: Or None.
    hook: Or None.
    config: Of the model, or None without one.
  """

  path: str
  layer: int | None = None
  hook: str | None = None
  config: ModelConfig | None = None

  def site(
      self, layer: int | None, hook: str | None, where: str
  ) -> DictionarySite:
    """What the files and the caller say together.

    Args:
      layer: That the files name, or None.
      hook: That the files name, or None.
      where: The files, for errors.

    Raises:
      InputError: They contradict each other, or none says the layer.
    """
    layers = {x for x in (layer, self.layer) if x is not None}
    hooks = {x for x in (hook, self.hook) if x is not None}
    if len(layers) > 1:
      raise InputError(
          f'{where} is of layer {layer}, and layer {self.layer} was asked for;'
          ' give the layer of the file, or none.'
      )
    if len(hooks) > 1:
      raise InputError(
          f'{where} is of the hook {hook!r}, and {self.hook!r} was asked for;'
          ' give the hook of the file, or none.'
      )
    if not layers:
      raise InputError(
          f'Neither {where} nor its path says of which layer it is; give'
          ' layer=.'
      )
    found = hooks.pop() if hooks else 'resid_post'
    return DictionarySite(layers.pop(), found)
