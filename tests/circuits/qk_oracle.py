"""Attention between features in float64 NumPy, with the whole [F, F] held."""

import operator

import jaxtyping
import numpy as np
import scipy.special
import scipy.stats


def head_statistics(scores, k, *, softcap=None, counts=None):
  """All of a head's statistics from float64 scores [Q, F] before a softcap."""
  y = scores if softcap is None else softcap * np.tanh(scores / softcap)
  ids = np.arange(y.shape[1]) if counts is None else np.flatnonzero(counts)
  seen = y[:, ids]
  weights = np.zeros_like(y)
  weights[:, ids] = scipy.special.softmax(seen, axis=1)
  out = {
      **_role('query', scores[:, ids], seen, k, ids),
      **_role('key', scores.T, y.T, k, np.arange(len(y))),
      'entropy': scipy.stats.entropy(weights, axis=1),
      'largest_weight': weights.max(axis=1),
      'largest_partner': weights.argmax(axis=1),
      'log_partition': scipy.special.logsumexp(seen, axis=1),
      'received': weights.sum(axis=0),
      'largest_received': weights.max(axis=0),
  }
  if y.shape[0] == y.shape[1]:
    out['self_weight'] = np.diag(weights)
  return out


def _role(role, scores, y, k, ids):
  """Statistics over the partners of each row; ties by rising id."""
  top = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  return {
      f'{role}.maximum': y.max(axis=1),
      f'{role}.mean': y.mean(axis=1),
      f'{role}.std': y.std(axis=1),
      f'{role}.top_ids': ids[top],
      f'{role}.top_scores': np.take_along_axis(y, top, axis=1),
  }


def without_shape_checks(test):
  """Lets arrays of a wrong shape through to the function, in one test."""
  jaxtyping.config.update('jaxtyping_disable', True)
  test.addCleanup(jaxtyping.config.update, 'jaxtyping_disable', False)


def differences(statistics, expected):
  """Per statistic, the largest difference as a share of its scale.

  For ids, how many differ.
  """
  out = {}
  for name, value in expected.items():
    actual = np.asarray(operator.attrgetter(name)(statistics))
    assert actual.shape == value.shape, (name, actual.shape, value.shape)
    if name.endswith(('_ids', '_partner')):
      out[name] = int((actual != value).sum())
    else:
      # A mean may be near zero: its scale is that of the scores.
      like = name.replace('.mean', '.std')
      scale = np.abs(expected[like]).max()
      out[name] = float(np.abs(actual - value).max() / scale)
  return out


def assert_agrees(statistics, expected, tolerance=1e-5):
  worst = differences(statistics, expected)
  wrong = {
      name: x
      for name, x in worst.items()
      if x > (0 if isinstance(x, int) else tolerance)
  }
  assert not wrong, f'differ from the oracle: {wrong}'


def assert_close(statistics, expected, tolerance, scores):
  """Each number by itself to `tolerance`, and all ids equal.

  What is near zero beside the largest of its kind is rounded away: such
  numbers to a hundredth of `tolerance` of the largest. Ids may differ where
  their float64 `scores` are one float32 number, which is counted.
  """
  for name, value in expected.items():
    actual = np.asarray(operator.attrgetter(name)(statistics))
    if name.endswith(('_ids', '_partner')):
      _assert_ids(name, actual, value, scores)
    else:
      like = np.abs(expected[name.replace('.mean', '.std')]).max()
      np.testing.assert_allclose(
          actual,
          value,
          rtol=tolerance,
          atol=0.01 * tolerance * like,
          err_msg=name,
      )


def _assert_ids(name, actual, expected, scores):
  x = scores.T if name.startswith('key') else scores
  shape = len(x), -1
  one, two = (
      np.take_along_axis(x, ids.reshape(shape), axis=1)
      for ids in (actual, expected)
  )
  wrong = actual.reshape(shape) != expected.reshape(shape)
  # Queries and keys are float32, and so are their scores.
  rounding = 4 * np.finfo(np.float32).eps * np.abs(x).max()
  np.testing.assert_array_less(np.abs(one - two)[wrong], rounding, err_msg=name)
  assert wrong.sum() <= 4, f'{name}: {wrong.sum()} ids differ'


def head_vectors(model, directions, layer, head, offset=0):
  """Queries, keys and values [F, H] of one head, from the definition."""
  c = model.config
  get = lambda path: _array(model.params, path)  # noqa: E731
  gain = get(f'layer_{layer}/attention_norm/weight') + c.norm_offset
  d = np.asarray(directions, np.float64)
  x = d / np.linalg.norm(d, axis=1, keepdims=True)
  x = x * np.sqrt(c.embed_dim) * gain
  kv_head = head // (c.num_heads // c.num_kv_heads)
  at = f'layer_{layer}/attention'
  q = x @ get(f'{at}/query')[:, head]
  k = x @ get(f'{at}/key')[:, kv_head]
  v = x @ get(f'{at}/value')[:, kv_head]
  if c.family == 'gemma3':
    q = _rms(q, c.norm_eps) * (1 + get(f'{at}/query_norm/weight'))
    k = _rms(k, c.norm_eps) * (1 + get(f'{at}/key_norm/weight'))
  return turned(q, angles(c, layer) * offset), k, v


def scores(model, directions, layer, head, offset=0):
  """Scores [F, F] before the softcap."""
  q, k, _ = head_vectors(model, directions, layer, head, offset)
  return model.config.attention_scale * q @ k.T


def writes(model, directions, layer, head):
  """What a head writes of each direction, [F, D]; Gemma's RMS left out."""
  _, _, values = head_vectors(model, directions, layer, head)
  out = values @ _array(model.params, f'layer_{layer}/attention/output')[head]
  if model.config.post_norms:
    path = f'layer_{layer}/post_attention_norm/weight'
    out = out * (1 + _array(model.params, path))
  return out


def angles(config, layer):
  """Radians a position of the pairs (i, i + H/2)."""
  rope = config.rope
  if config.windows[layer] is not None and config.local_rope is not None:
    rope = config.local_rope
  half = config.head_dim // 2
  out = np.array([rope.base ** (-2 * i / config.head_dim) for i in range(half)])
  out /= rope.linear_factor
  scaling = rope.llama3
  if scaling is not None:
    long = scaling.original_context / scaling.low_frequency_factor
    short = scaling.original_context / scaling.high_frequency_factor
    for i, angle in enumerate(out):
      wavelength = 2 * np.pi / angle
      if wavelength > long:
        out[i] = angle / scaling.factor
      elif wavelength > short:
        smooth = (
            scaling.original_context / wavelength - scaling.low_frequency_factor
        ) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
        out[i] = (1 - smooth) * angle / scaling.factor + smooth * angle
  return out


def turned(x, by):
  """Pairs (i, i + H/2) of each row as complex numbers, turned by radians."""
  half = x.shape[1] // 2
  z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * by)
  return np.concatenate([z.real, z.imag], axis=1)


def _rms(x, eps):
  return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)


def _array(params, path):
  for name in path.split('/'):
    params = params[name]
  return np.asarray(params, np.float64)
