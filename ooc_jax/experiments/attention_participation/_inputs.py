"""Which dictionary is at the input of which layer's attention."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

from jax.sharding import Mesh
from jaxtyping import Float
import numpy as np

from ooc_jax import circuits
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import _first
from ooc_jax.experiments import _runtime
from ooc_jax.experiments._settings import parse_layers
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.model import Model
from ooc_jax.model import Site


@dataclasses.dataclass(frozen=True)
class LayerInput:
  """A dictionary at the input of a layer's attention.

  Attributes:
    dictionary: It.
    origin: The layer by which experiment 1 knows it; None for one that only
      stands before layer 0.
  """

  dictionary: Dictionary
  origin: int | None


@dataclasses.dataclass(frozen=True)
class StreamMean:
  """The mean of the stream at the input of a layer.

  Attributes:
    bias: [D], or None where it is not known.
    origin: 'dictionary', 'estimate', or None.
    length: Of a feature on it; None where features are alone.
  """

  bias: Float[np.ndarray, 'D'] | None = None
  origin: str | None = None
  length: float | None = None

  @property
  def arguments(self) -> dict[str, Any]:
    """Of `circuits.attention_statistics`."""
    return {'bias': self.bias, 'length': self.length}


def own_mean(dictionary: Dictionary) -> Float[np.ndarray, 'D'] | None:
  """The decoder bias, where that is the mean of the stream.

  What decomposes an MLP's or an attention's output has the mean of that, and a
  bias of zeros says nothing of the stream.
  """
  if dictionary.site.reads != dictionary.site.writes:
    return None
  if dictionary.site.hook not in (
      Site.RESID_PRE, Site.RESID_POST, Site.EMBEDDING
  ):  # fmt: skip
    return None
  bias = circuits.to_host(dictionary.decoder_bias).astype(np.float32)
  return bias if bias.any() else None


Load = Callable[[Model, Mesh | None], LayerInput]


def layer_inputs(
    config: AttentionParticipation,
    given: Mapping[int, Dictionary] | None,
    num_layers: int,
) -> dict[int, Load]:
  """The attention layers of a run, each with what loads its dictionary.

  A dictionary of `resid_pre` of layer l is at the input of l, one of the
  embedding of layer 0, all others (`resid_post`, or what MLP or attention
  wrote) of l + 1; token embeddings and 'random' are at every layer.

  Args:
    config: The settings.
    given: Layer, as `load_dictionary` counts -> a dictionary; one of the
      embedding may stand under -1, beside that of layer 0. None loads the one
      that `config` names.
    num_layers: Of the model.

  Raises:
    InputError: A layer is named that has no dictionary at its input, there is
      none at all, or two are at the input of one layer.
  """
  if given is None:
    inputs = {
        layer: functools.partial(_load, config, layer)
        for layer in range(num_layers)
        if _has_dictionary(config, layer)
    }
  else:
    inputs = _given(given, num_layers)
  if config.layers != 'all':
    chosen = parse_layers(config.layers, num_layers)
    hint = '' if given else ', or name a dictionary for layer 0 with --first'
    for layer in chosen:
      if layer not in inputs:
        raise InputError(
            f'layers={config.layers!r}: {_name(config, given)} has nothing at'
            f' the input of layer {layer}; leave the layer out{hint}.'
        )
    inputs = {layer: inputs[layer] for layer in chosen}
  if not inputs:
    raise InputError(
        f'{_name(config, given)} has nothing at the input of any layer of'
        f' {config.model or "the model"}; give another dictionary.'
    )
  return inputs


def _name(
    config: AttentionParticipation, given: Mapping[int, Dictionary] | None
) -> str:
  if given is None:
    return config.dictionary
  return f'dictionaries= (layers {", ".join(map(str, given))})'


def _given(given: Mapping[int, Dictionary], num_layers: int) -> dict[int, Load]:
  inputs: dict[int, Load] = {}
  for number, dictionary in sorted(given.items()):
    site = dictionary.site
    layer = (
        max(number, 0)
        if site.hook == _first.EMBEDDING
        else circuits.attention_layer(site)
    )
    if layer is None:
      raise InputError(
          f'{dictionary.name} is at {site.hook} of layer {site.layer}, which'
          ' no attention reads; leave it out.'
      )
    if layer in inputs:
      raise InputError(
          f'{dictionary.name} is at the input of layer {layer}, as another of'
          ' dictionaries= is; leave one of them out.'
      )
    if layer < num_layers:  # What the last layer writes, no attention reads.
      found = LayerInput(
          _first.before_first(dictionary, layer),
          number if number >= 0 else None,
      )
      inputs[layer] = lambda model, mesh, found=found: found
  return dict(sorted(inputs.items()))


def _load(
    config: AttentionParticipation, layer: int, model: Model, mesh: Mesh | None
) -> LayerInput:
  """Loads the dictionary that the settings name for a layer's input.

  That of the layer before, or of the layer itself where it is of `resid_pre`.
  At layer 0 it is `first`: with 'auto' the id 'embedding' of a release whose
  ids are 'layer_{layer}'.
  """
  source, number = _source(config, layer)

  def load(number: int) -> Dictionary:
    return _runtime.stored_dictionary(config, source, number, model, mesh)

  dictionary = load(number)
  site = dictionary.site
  if site.hook == 'resid_pre' and site.layer == layer - 1:
    return LayerInput(load(layer), layer)
  if source == config.dictionary and (
      site.hook != _first.EMBEDDING or source == _first.TOKENS
  ):
    return LayerInput(dictionary, number)
  return LayerInput(_first.before_first(dictionary, layer), None)


def _source(config: AttentionParticipation, layer: int) -> tuple[str, int]:
  """Name and layer for `load_dictionary`."""
  if config.dictionary in _first.EVERYWHERE:
    return config.dictionary, layer
  if _first.is_resid_pre(config.dictionary, layer):
    return config.dictionary, layer
  if layer:
    return config.dictionary, layer - 1
  first = _first.first_name(config.dictionary, config.first)
  return first or config.dictionary, 0


def _has_dictionary(config: AttentionParticipation, layer: int) -> bool:
  name, before = _source(config, layer)
  if _first.is_resid_pre(config.dictionary, layer):
    return True
  if layer == 0 and config.dictionary not in _first.EVERYWHERE:
    return _first.first_name(config.dictionary, config.first) is not None
  if '{layer}' not in name:
    return True
  if _first.is_resid_pre(name, before) and before != layer:
    return False  # It is at the input of the layer before.
  # A release need not have every layer; what is no release says it later.
  return _first.exists(name.replace('{layer}', str(before))) is not False
