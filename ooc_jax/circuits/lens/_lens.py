"""What a lens is asked for, and what it is made of."""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

from absl import logging
import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax._errors import InputError
from ooc_jax.circuits.lens._certificate import TopBottom
from ooc_jax.circuits.lens._prepare import AffineMap
from ooc_jax.circuits.lens._sums import Sums
from ooc_jax.circuits.lens._sums import softmax_logits
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import times_power

PRECISIONS = ('auto', 'screened', 'exact')
KERNELS = ('xla', 'pallas')
# On a CPU it is interpreted.
PALLAS_PLATFORMS = ('tpu', 'gpu', 'cpu')
# Of a direction: under this a product is cheap in either precision.
_WIDTH = 256
# Of products in bfloat16 over those in float32: what is left pays for adding.
_LEAST_GAIN = 1.5
# A100, H100 and H200, B200 and B300, whose data sheets give bfloat16 at least
# 14 times the rate of float32. Other cards have 2 to 4 times, as CPUs with
# avx512_bf16 do, which three products take up; AMX has 16, less what waits for
# memory. A TPU makes float32 of the same pieces by itself: its compiler gives
# float32 by bfloat16 the cycles of three products in bfloat16.
_TENSOR_CORES = frozenset({'8.0', '9.0', '10.0', '10.3'})
# Kinds of devices on which 'auto' is 'exact' whatever is faster.
_UNSCREENED: set[str] = set()


@flax.struct.dataclass
class Lens:
  """What each feature does to (or reads from) the vocabulary.

  Logits are before any final softcap; statistics are over the kept tokens.

  Attributes:
    top_ids: [F, k] token ids of the largest logits, largest first; equal
      products by rising id.
    top_logits: [F, k] their logits, rounded to float32 once they are ordered.
    bottom_ids: [F, k] token ids of the smallest logits, smallest first; None
      where they were not asked for.
    bottom_logits: [F, k] their logits, likewise.
    mean: [F] of the logits.
    std: [F] population standard deviation.
    skewness: [F] third standardised moment; 0 where std is 0.
    kurtosis: [F] fourth standardised moment less 3; 0 where std is 0.
    entropy: [F] nats, of the softmax over the kept tokens: with the final
      softcap where the model has one, or at a fixed spread without it.
    top_mass: [F] probability of the top k in that softmax.
    top_entropy: [F] nats, of the top k renormalised.
    bottom_entropy: [F] nats, of the softmax of minus the logits; None where
      it was not asked for.
    active_share: [F] share of kept tokens over the feature's threshold, or
      None where that has no meaning.
    mask: [V] the tokens that count.
    recomputed: [F] whether the certificate of the first pass failed, so that
      the feature was computed again; the answer is the same.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  top_ids: Int[Array, 'F k'] | Any
  top_logits: Float[Array, 'F k'] | Any
  bottom_ids: Int[Array, 'F k'] | Any
  bottom_logits: Float[Array, 'F k'] | Any
  mean: Float[Array, 'F'] | Any
  std: Float[Array, 'F'] | Any
  skewness: Float[Array, 'F'] | Any
  kurtosis: Float[Array, 'F'] | Any
  entropy: Float[Array, 'F'] | Any
  top_mass: Float[Array, 'F'] | Any
  top_entropy: Float[Array, 'F'] | Any
  active_share: Float[Array, 'F'] | Any
  mask: Bool[Array, 'V'] | Any
  recomputed: Bool[Array, 'F'] | Any
  bottom_entropy: Float[Array, 'F'] | None | Any = None

  def cut(self, k: int) -> 'Lens':
    """The same with fewer tokens; what is known of the top k is as it was."""
    names = ('top_ids', 'top_logits')
    if self.bottom_ids is not None:
      names += ('bottom_ids', 'bottom_logits')
    return dataclasses.replace(
        self, **{name: getattr(self, name)[:, :k] for name in names}
    )

  def first(self, k: int, spread: float) -> 'Lens':
    """The same of fewer tokens at either end.

    Args:
      k: How many.
      spread: That this lens was made with.
    """
    top_mass, top_entropy = _of_first(
        self.top_logits, self.std, self.top_mass, k, spread
    )
    return dataclasses.replace(
        self.cut(k), top_mass=top_mass, top_entropy=top_entropy
    )

  def turned(self) -> 'Lens':
    """The ends changed about, as -d has them: ids, logits, entropy.

    What is known of the top alone (`top_mass`, `top_entropy`, `active_share`)
    becomes None.
    """
    return dataclasses.replace(
        self,
        top_ids=self.bottom_ids,
        top_logits=-self.bottom_logits,
        bottom_ids=self.top_ids,
        bottom_logits=-self.top_logits,
        mean=-self.mean,
        skewness=-self.skewness,
        entropy=self.bottom_entropy,
        bottom_entropy=self.entropy,
        top_mass=None,
        top_entropy=None,
        active_share=None,
    )


@functools.partial(jax.jit, static_argnames=('k', 'spread'))
def _of_first(top_logits, std, top_mass, k: int, spread: float):
  """Mass and entropy of the first k of some top tokens."""
  scale = divide(spread, std)[:, None]
  weights = jnp.exp((top_logits - top_logits[:, :1]) * scale)
  p = weights[:, :k] / weights[:, :k].sum(axis=1, keepdims=True)
  share = weights[:, :k].sum(axis=1) / weights.sum(axis=1)
  return share * top_mass, -jax.scipy.special.xlogy(p, p).sum(axis=1)


class LensSpec(NamedTuple):
  """What is asked of a lens; static under jit.

  Attributes:
    k: How many tokens at either end.
    screened: Whether logits are made in bfloat16.
    softcap: Bound on the logits in the softmax, or None.
    spread: Standard deviation that each feature's logits have in the softmax,
      or None, where they are what they are.
    both_ends: Whether there is a softmax of minus the logits, too.
    bottom: Whether the smallest logits are found, too.
    unit_rows: Whether rows of the table are divided by their norms.
    centered: Whether the mean kept row is subtracted from the table.
    platform: Where it runs: 'cpu', 'gpu', 'tpu'.
    kernel: How the table is walked over: one of `KERNELS`.
    feature_axis: The mesh axis of features under `shard_map`, or None.
    vocab_axis: The mesh axis of the vocabulary under `shard_map`, or None.
  """

  k: int
  screened: bool
  softcap: float | None = None
  spread: float | None = None
  both_ends: bool = False
  bottom: bool = True
  unit_rows: bool = False
  centered: bool = False
  platform: str = 'cpu'
  kernel: str = 'xla'
  feature_axis: str | None = None
  vocab_axis: str | None = None


def leave_screen(device_kind: str) -> None:
  """From now on 'auto' is 'exact' on devices of a kind, in this process."""
  _UNSCREENED.add(device_kind)


def use_screen(precision: str, device: Any, dtype: Any, width: int) -> bool:
  """Whether logits are made of bfloat16 pieces, for the answers of float32.

  Args:
    precision: One of `PRECISIONS`; 'auto' is 'screened' where the products of
      all pieces together take well under the time of one in float32.
    device: Where it runs; of JAX, or what describes one as JAX does.
    dtype: Of the table.
    width: D; a product over few columns is cheap in either precision.

  Raises:
    InputError: It is none of them.
  """
  if precision not in PRECISIONS:
    raise InputError(
        f'precision {precision!r} is unknown; choose from {PRECISIONS}.'
    )
  if precision == 'auto':
    if getattr(device, 'device_kind', None) in _UNSCREENED:
      return False
    terms = 3 if dtype == jnp.bfloat16 else 6
    return width >= _WIDTH and _bfloat16_gain(device) >= _LEAST_GAIN * terms
  return precision == 'screened'


def _bfloat16_gain(device: Any) -> float:
  """By how much a product in bfloat16 is known to be the faster one."""
  if device.platform == 'gpu':
    capability = getattr(device, 'compute_capability', None)
    return 14.0 if capability in _TENSOR_CORES else 1.0
  amx = device.platform == 'cpu' and 'amx_bf16' in _cpu_flags()
  return 8.0 if amx else 1.0


def check_kernel(kernel: str, platform: str) -> str:
  """The kernel, if there is one of this name for the platform.

  Raises:
    InputError: There is none.
  """
  if kernel not in KERNELS:
    raise InputError(f'kernel {kernel!r} is unknown; choose from {KERNELS}.')
  if kernel == 'pallas' and platform not in PALLAS_PLATFORMS:
    raise InputError(
        "kernel='pallas' is written for TPU and GPU, and this device is of the"
        f" platform {platform!r}: use kernel='xla'."
    )
  if kernel == 'pallas' and platform == 'cpu':
    logging.log_first_n(
        logging.WARNING,
        "kernel='pallas' is interpreted on a CPU, for tests, and takes several"
        " times as long as 'xla'.",
        1,
    )
  return kernel


def assemble(
    extremes: TopBottom,
    sums: Sums,
    affine: AffineMap,
    exponent: Int[Array, 'F'],
    count: Float[Array, ''],
    recomputed: Bool[Array, 'F'],
    spec: LensSpec,
) -> Lens:
  """The lens of some features, without the mask.

  Args:
    extremes: Of the whole vocabulary.
    sums: Of the whole vocabulary.
    affine: From products to logits.
    exponent: Of the power of two that goes back on the exact products.
    count: How many tokens count.
    recomputed: Passed on.
    spec: What is asked for.
  """
  logits = times_power(extremes.value, exponent[None, :, None])
  shift = affine.shift[:, None]
  top = logits[0] - shift
  m1, m2, m3, m4 = (sums.power_sums / count).T
  variance = jnp.maximum(m2 - m1**2, 0.0)
  third = m3 - 3 * m1 * m2 + 2 * m1**3
  fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
  capped = softmax_logits(top, spec.softcap, affine.temperature)
  below = capped - capped[:, :1]
  terms = jnp.exp(below)
  top_sum = terms.sum(axis=1)
  return Lens(
      top_ids=extremes.row[0],
      top_logits=top,
      bottom_ids=extremes.row[1] if spec.bottom else None,
      bottom_logits=-logits[1] - shift if spec.bottom else None,
      mean=affine.mean,
      std=jnp.sqrt(variance) * affine.scale
      if affine.std is None
      else affine.std,
      skewness=divide(third, variance**1.5),
      kurtosis=jnp.where(variance > 0, divide(fourth, variance**2) - 3, 0.0),
      entropy=sums.top.entropy,
      # Each about its own peak, which rounding moves a little.
      top_mass=jnp.minimum(top_sum / sums.top.partition, 1.0),
      top_entropy=jnp.log(top_sum) - (terms * below).sum(axis=1) / top_sum,
      active_share=sums.active.astype(jnp.float32) / count,
      mask=None,
      recomputed=recomputed,
      bottom_entropy=None if sums.bottom is None else sums.bottom.entropy,
  )


@functools.cache
def _cpu_flags() -> Sequence[str]:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return ()  # Not Linux: unknown, so taken for absent.
  return next((x.split() for x in lines if x.startswith('flags')), ())
