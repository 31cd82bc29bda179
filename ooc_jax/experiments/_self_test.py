"""Whether a kind of device computes what float64 on the host does.

Precisions, compilers and devices are many, and this package was run on few of
them. So the first use of a kind of device under a version of JAX runs lens and
attention of small random arrays on it, by every path that a run may take, and
a pass is remembered in the cache folder. CPUs are what the tests run on: they
are taken for tested.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import hashlib
import json
import operator
import pathlib
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax import _cache
from ooc_jax import circuits
from ooc_jax._errors import InputError
from ooc_jax._files import read_json
from ooc_jax._files import write_json
from ooc_jax._folders import cache_root
from ooc_jax.experiments._processes import on_first_process
from ooc_jax.experiments._stages import stage

# Several blocks of the vocabulary, the last of them not whole, and of queries.
_F, _V, _D, _K = 24, 20_000, 256, 10
_QUERIES, _H = 600, 64
_SPREAD, _SOFTCAP = 6.0, 20.0
# Of the largest number of its kind. Here CPUs are off by at most 2e-5, and
# products in TF32 by 1e-3 in an entropy and 4e-4 in a weight of attention.
_TOLERANCE = 1e-4


def check_arithmetic(
    kernel: str = 'xla', device: jax.Device | None = None
) -> Mapping[str, str]:
  """Tests a device that was not tested before, and says what it gets wrong.

  Of several processes the first one tests. Where the screened lens fails,
  `precision='auto'` is 'exact' for the rest of the process.

  Args:
    kernel: That the lens will use; see `unembedding_lens`.
    device: None is the first of this process; nothing is done on a CPU.

  Returns:
    As `self_test`; {} where the kind of device is known to be right.
  """
  chosen = jax.local_devices()[0] if device is None else device
  if device is None and chosen.platform == 'cpu':
    return {}
  failed = on_first_process(lambda: _remembered(chosen, kernel))
  if 'screened' in failed:
    circuits.leave_screen(chosen.device_kind)
  return failed


def self_test(device: jax.Device, kernel: str = 'xla') -> Mapping[str, str]:
  """Compares what a device computes with float64 on this host.

  Args:
    device: To test.
    kernel: Of the lens: 'pallas' is tested beside 'xla'.

  Returns:
    Path -> what differs, of those that fail: 'exact' and 'screened' of the
    lens, 'pallas' of both, and 'attention'.
  """
  cases = [x for x in _CASES if kernel == 'pallas' or x[0] != 'pallas']

  def differences(case: tuple[str, Callable[..., Iterator[str]], Any]) -> str:
    _, test, argument = case
    try:
      with jax.default_device(device):
        return '; '.join(test(argument))
    # It does not even compile; what a compiler of kernels raises is any class.
    except Exception as error:
      return ' '.join(f'{type(error).__name__}: {error}'.split())[:200]

  # To compile takes most of the time, and one thread each.
  with futures.ThreadPoolExecutor(len(cases)) as pool:
    found = list(pool.map(differences, cases))
  failed: dict[str, str] = {}
  for (path, *_), text in zip(cases, found, strict=True):
    if text:
      failed[path] = '; '.join(filter(None, (failed.get(path), text)))
  return failed


def _remembered(device: jax.Device, kernel: str) -> Mapping[str, str]:
  about = {
      'kernel': kernel,
      'device': device.device_kind,
      'platform': device.client.platform_version,
      **_cache.versions(),
  }
  record = _record(about)
  if record is not None and _read(record) == about:
    return {}
  with stage(f'testing {device.device_kind} against float64 on this host'):
    failed = self_test(device, kernel)
  for path, differences in failed.items():
    logging.warning(
        '%s gets %s wrong under JAX %s (%s): %s.',
        device.device_kind,
        _NAMES[path],
        about['jax'],
        differences,
        _REMEDIES.get(path, _NO_REMEDY),
    )
  if record is not None and not failed:
    try:
      record.parent.mkdir(parents=True, exist_ok=True)
      write_json(record, about)
    except (InputError, OSError):
      pass  # Where nothing can be kept, the next run tests again.
  return failed


def _record(about: Mapping[str, str]) -> pathlib.Path | None:
  root = cache_root()
  if root is None:
    return None
  text = json.dumps(about, sort_keys=True).encode()
  return root / 'devices' / f'{hashlib.sha256(text).hexdigest()[:16]}.json'


def _read(path: pathlib.Path) -> Any:
  try:
    return read_json(path)
  except InputError:  # It is not there, or damaged.
    return None


def _lens(case: tuple[str, str, Any]) -> Iterator[str]:
  precision, kernel, dtype = case
  rng = np.random.default_rng(0)
  table = rng.normal(size=(_V, _D)) + 0.2
  table *= np.sqrt(_D) / np.linalg.norm(table, axis=1, keepdims=True)
  # Two tokens share the softmax of a row, unequally: an entropy hangs on the
  # last digits of their logits, which no average over others hides.
  rows = table[: 2 * _F : 2] + 0.98 * table[1 : 2 * _F : 2]
  rows = rows.astype(np.float32)
  keep = (rng.random(_V) > 0.1) | (np.arange(_V) < 2 * _F)
  table = jnp.asarray(table, dtype)
  lens = circuits.unembedding_lens(
      rows,
      np.ones(_D, np.float32),
      table,
      keep,
      k=_K,
      precision=precision,
      kernel=kernel,
      spread=_SPREAD,
  )
  ids = np.flatnonzero(keep)
  logits = rows.astype(np.float64) @ np.asarray(table, np.float64)[ids].T
  order = np.argsort(logits, axis=1, kind='stable')
  top, bottom = order[:, : -_K - 1 : -1], order[:, :_K]
  std = logits.std(axis=1)
  z = (logits - logits.mean(axis=1, keepdims=True)) / std[:, None]
  p = _softmax(_SPREAD * z)
  expected = {
      'top_ids': ids[top],
      'top_logits': np.take_along_axis(logits, top, axis=1),
      'bottom_ids': ids[bottom],
      'bottom_logits': np.take_along_axis(logits, bottom, axis=1),
      'mean': logits.mean(axis=1),
      'std': std,
      'skewness': (z**3).mean(axis=1),
      'kurtosis': (z**4).mean(axis=1) - 3,
      'entropy': -(p * np.log(p)).sum(axis=1),
      'top_mass': np.take_along_axis(p, top, axis=1).sum(axis=1),
  }
  # What may be near zero is as exact as what it is made of.
  scales = {
      'mean': np.abs(logits).max(),
      'skewness': (np.abs(z) ** 3).mean(),
      'kurtosis': (z**4).mean(),
  }
  yield from _differences(f'table {np.dtype(dtype)}', lens, expected, scales)


def _attention(softcap: float | None) -> Iterator[str]:
  rng = np.random.default_rng(1)
  q, k = rng.normal(size=(2, _QUERIES, _H)).astype(np.float32)
  scale = _H**-0.5
  found = circuits.qk_statistics(q, k, scale=scale, softcap=softcap, k=_K)
  scores = scale * q.astype(np.float64) @ k.astype(np.float64).T
  if softcap is not None:
    scores = softcap * np.tanh(scores / softcap)
  weights = _softmax(scores)
  expected = {
      'entropy': -(weights * np.log(weights)).sum(axis=1),
      'largest_weight': weights.max(axis=1),
      'received': weights.sum(axis=0),
  }
  scales = {}
  for role, own in (('query', scores), ('key', scores.T)):
    scales[f'{role}.mean'] = np.abs(scores).max()
    expected |= {
        f'{role}.mean': own.mean(axis=1),
        f'{role}.std': own.std(axis=1),
        # Ids among equal scores are free, so it is these that are compared.
        f'{role}.top_scores': -np.sort(-own, axis=1)[:, :_K],
    }
  yield from _differences(f'softcap {softcap}', found, expected, scales)


def _softmax(x: np.ndarray) -> np.ndarray:
  y = np.exp(x - x.max(axis=1, keepdims=True))
  return y / y.sum(axis=1, keepdims=True)


def _differences(
    which: str,
    found: Any,
    expected: Mapping[str, np.ndarray],
    scales: Mapping[str, float],
) -> Iterator[str]:
  """What differs, in words; NaN does."""
  parts = []
  for name, value in expected.items():
    own = circuits.to_host(operator.attrgetter(name)(found))
    if name.endswith('_ids'):
      if wrong := int((own != value).sum()):
        parts.append(f'{wrong} of {own.size} {name}')
      continue
    off = np.abs(own - value).max() / scales.get(name, np.abs(value).max())
    if not off <= _TOLERANCE:
      parts.append(f'{name} off by {off:.1e}')
  if parts:
    yield f'{which}: {", ".join(parts)}'


# Path, its test, what that takes.
_CASES: Sequence[tuple[str, Callable[..., Iterator[str]], Any]] = (
    ('exact', _lens, ('exact', 'xla', jnp.float32)),
    ('screened', _lens, ('screened', 'xla', jnp.bfloat16)),
    ('screened', _lens, ('screened', 'xla', jnp.float32)),
    ('pallas', _lens, ('exact', 'pallas', jnp.float32)),
    ('pallas', _lens, ('screened', 'pallas', jnp.bfloat16)),
    ('attention', _attention, None),
    ('attention', _attention, _SOFTCAP),
)
_NAMES = {
    'exact': 'the lens (precision=exact)',
    'screened': 'the lens (precision=screened)',
    'pallas': 'the lens (kernel=pallas)',
    'attention': 'attention',
}
_REMEDIES = {
    'screened': 'precision=auto is exact here',
    'pallas': 'use kernel=xla, as the scripts now do',
}
_NO_REMEDY = 'run it with JAX_PLATFORMS=cpu, and trust no number of this device'
