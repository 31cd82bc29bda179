"""What SAEs are trained on: the residual stream, after BOS, of many windows."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.model import ModelConfig
from ooc_jax.model import Transformer
from ooc_jax.model import run_with_taps

EMBEDDING = 'embedding'


def stream_sites(
    num_layers: int, layers: Sequence[int] | None = None, embedding: bool = True
) -> tuple[DictionarySite, ...]:
  """Sites of the residual stream: before layer 0 and after each of `layers`.

  Args:
    num_layers: Of the model.
    layers: None is all.
    embedding: Whether the stream before layer 0 is one of them.

  Raises:
    InputError: The model has no such layer, or there is no site.
  """
  layers = range(num_layers) if layers is None else layers
  if wrong := [layer for layer in layers if not 0 <= layer < num_layers]:
    raise InputError(
        f'layers={list(layers)}: the model has layers 0 to {num_layers - 1},'
        f' and {wrong[0]} is not among them.'
    )
  first = (DictionarySite(0, EMBEDDING),) if embedding else ()
  sites = first + tuple(DictionarySite(i, 'resid_post') for i in layers)
  if not sites:
    raise InputError('There is no site to train on; give layers or embedding.')
  return sites


def folder_name(site: DictionarySite) -> str:
  """'embedding' or 'layer_3'."""
  return EMBEDDING if site.hook == EMBEDDING else f'layer_{site.layer}'


# One program for the same question, whoever asks.
@functools.lru_cache(maxsize=8)
def make_activations(
    config: ModelConfig,
    sites: tuple[DictionarySite, ...],
    dtype: Any = jnp.float32,
) -> Callable[[Any, Array], Array]:
  """A compiled function (params, rows [B, T + 1]) -> [sites, B·T, D].

  A row is BOS and T tokens; the activations at BOS, whose norm is an outlier,
  are left out. Layers and logits that no site needs are not computed. Bfloat16
  is no faster here on a CPU.
  """
  keys = tuple(site.tap for site in sites)

  @jax.jit
  def activations(
      params: Any, rows: Int[Array, 'B T1']
  ) -> Float[Array, 'sites n D']:
    net = Transformer(config, dtype=dtype)
    forward = functools.partial(net.apply, {'params': params})
    _, saved = run_with_taps(forward, rows, save=keys)
    D = config.embed_dim
    return jnp.stack([saved[key][:, 1:].reshape(-1, D) for key in keys])

  return activations
