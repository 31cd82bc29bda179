"""A lens in float64 NumPy, from whole logits [F, V] and the definition."""

import numpy as np
import scipy.special
import scipy.stats


def _first(x, k):
  """Where the `k` least of each row are, of equal ones those of lower ids."""
  last = np.partition(x, k - 1, axis=1)[:, k - 1]
  some = [np.flatnonzero(row <= end) for row, end in zip(x, last, strict=True)]
  return np.stack([
      ids[np.argsort(row[ids], kind='stable')][:k]
      for row, ids in zip(x, some, strict=True)
  ])


def lens_of(logits, keep, k, cap=None):
  """All of a lens from whole float64 logits [F, V], from the definition."""
  ids = np.flatnonzero(keep)
  x = logits[:, keep]
  falling, rising = _first(-x, k), _first(x, k)
  y = x if cap is None else cap * np.tanh(x / cap)
  return {
      'top_ids': ids[falling],
      'top_logits': np.take_along_axis(x, falling, axis=1),
      'bottom_ids': ids[rising],
      'bottom_logits': np.take_along_axis(x, rising, axis=1),
  } | statistics_of(x, y, k)


def statistics_of(x, y, k):
  """Of logits [F, kept], and of the softmax of y, what a cap makes of them."""
  p = scipy.special.softmax(y, axis=1)
  top = -np.sort(np.partition(-p, k - 1, axis=1)[:, :k], axis=1)
  return {
      'mean': x.mean(axis=1),
      'std': x.std(axis=1),
      'skewness': scipy.stats.skew(x, axis=1),
      'kurtosis': scipy.stats.kurtosis(x, axis=1),
      'entropy': scipy.stats.entropy(p, axis=1),
      'top_mass': top.sum(axis=1),
      'top_entropy': scipy.stats.entropy(top, axis=1),
  }


def assert_lens(lens, expected, rtol=1e-5):
  """Ids equal; numbers to `rtol` of the scale of their own kind."""
  for name, value in expected.items():
    actual = np.asarray(getattr(lens, name))
    if name.endswith('_ids'):
      np.testing.assert_array_equal(actual, value, err_msg=name)
    else:
      # A centred mean is zero: its scale is that of the logits.
      scale = np.abs(expected['std' if name == 'mean' else name]).max()
      np.testing.assert_allclose(
          actual, value, rtol=rtol, atol=rtol * scale, err_msg=name
      )
