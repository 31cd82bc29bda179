"""Named places in the forward pass, to read or edit activations at."""

from collections.abc import Callable, Collection, Mapping
import enum
from typing import Any

from jaxtyping import Array

from ooc_jax._errors import InputError


class Site(enum.StrEnum):
  """A place in a model: where activations are, and where dictionaries are of.

  `RESID_PRE` is the residual stream before a layer, `RESID_MID` the stream
  between attention and MLP, `RESID_POST` the stream after the layer (which
  feeds the attention of the next one). `ATTN_OUT` and `MLP_OUT` are what is
  added to the stream: in Gemma after the post-norm. `ATTN_Z` is what the heads
  give before W_O, [N·H], and `MLP_IN` the stream before the MLP divided by its
  RMS, before the norm's gain. `MLP_NEURON` are the neurons of the MLP, [M], as
  W_down reads them. `EMBEDDING` is what the stream receives of a token, its
  scale included: only dictionaries are of it, and a forward pass has no tap
  there.
  """

  RESID_PRE = enum.auto()
  ATTN_Z = enum.auto()
  ATTN_OUT = enum.auto()
  RESID_MID = enum.auto()
  MLP_IN = enum.auto()
  MLP_NEURON = enum.auto()
  MLP_OUT = enum.auto()
  RESID_POST = enum.auto()
  EMBEDDING = enum.auto()


# The places that a forward pass reaches, once a layer and in this order.
TAPPED = tuple(Site)[:8]


Key = tuple[Site, int]  # Site and layer.
Tap = Callable[[Site, int, Array], Array]
Edit = Callable[[Array], Array]


def no_tap(site: Site, layer: int, x: Array) -> Array:
  """The tap of a plain forward pass."""
  del site, layer  # Part of the Tap signature.
  return x


def run_with_taps(
    fn: Callable[..., Any],
    *args: Any,
    save: Collection[Key] = (),
    edits: Mapping[Key, Edit] | None = None,
) -> tuple[Any, dict[Key, Array]]:
  """Runs `fn(*args, tap=...)`, editing some activations and saving some.

  Pure: it may be jitted, differentiated or vmapped as a whole. An edit is
  applied before the value is saved.

  Args:
    fn: A forward pass that calls `x = tap(site, layer, x)` at each site.
    *args: Passed to `fn`.
    save: Which activations to return.
    edits: Replacement functions.

  Returns:
    What `fn` returned, and the saved activations.

  Raises:
    InputError: `fn` never reached a requested site, or reached it twice.
  """
  edits = edits or {}
  requested = set(save) | set(edits)
  seen: set[Key] = set()
  saved: dict[Key, Array] = {}

  def tap(site: Site, layer: int, x: Array) -> Array:
    key = (site, layer)
    if key not in requested:
      return x
    if key in seen:
      raise InputError(
          f'The forward pass reached {site} of layer {layer} twice; run one'
          ' pass at a time.'
      )
    seen.add(key)
    if key in edits:
      x = edits[key](x)
    if key in save:
      saved[key] = x
    return x

  out = fn(*args, tap=tap)
  if missing := requested - seen:
    names = sorted(f'{site} of layer {layer}' for site, layer in missing)
    raise InputError(
        f'The forward pass never reached {", ".join(names)}; check the site and'
        ' the layer.'
    )
  return out, saved
