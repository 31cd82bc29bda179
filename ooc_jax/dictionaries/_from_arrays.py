"""A dictionary of directions that are in memory already."""

from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._dictionary import checked_hook
from ooc_jax.dictionaries._dictionary import checked_layer
from ooc_jax.dictionaries._to_device import check_finite

_DTYPES = ('float32', 'bfloat16', 'float16')


def from_arrays(
    decoder: Any,
    encoder: Any = None,
    *,
    layer: SupportsIndex,
    hook: str = 'resid_post',
    encoder_bias: Any = None,
    decoder_bias: Any = None,
    threshold: Any = None,
    name: str = 'arrays',
) -> Dictionary:
  """A dictionary of one's own directions, checked.

  Args:
    decoder: [F, D] what each feature writes to the residual stream, of NumPy,
      JAX or anything that either takes. float32, bfloat16 and float16 are
      kept, and so is the sharding of a JAX array; other numbers become
      float32.
    encoder: [F, D] what each feature reads ([F, N·H] at the hook 'attn_z').
      None: not known. It is not taken to be the decoder: readouts of the
      encoder and `encode` then refuse the dictionary.
    layer: Of the model, from 0.
    hook: One of `HOOKS`; see `DictionarySite` for what each reads and writes.
    encoder_bias: [F]; None is 0.
    decoder_bias: [D]; None is 0.
    threshold: [F]; a feature fires strictly above it. None is 0, a ReLU, and
      infinity a feature that never fires.
    name: For results and figures.

  Raises:
    InputError: A shape does not fit the decoder's, or a number is not finite.
  """
  number, checked = checked_layer(layer), checked_hook(hook)
  if number is None or checked is None:
    raise InputError(f'{name}: layer= and hook= must be given.')
  rows = _array(decoder, 'decoder', name)
  if rows.ndim != 2 or 0 in rows.shape:
    raise InputError(
        f'{name}: decoder is of shape {rows.shape}, and must be [F, D]: one row'
        ' of the residual width for each feature.'
    )
  F, D = rows.shape
  if encoder is None and not (encoder_bias is None and threshold is None):
    raise InputError(
        f'{name}: encoder_bias and threshold belong to an encoder; give'
        ' encoder= too, or leave them out.'
    )
  reads = None
  if encoder is not None:
    reads = rows if encoder is decoder else _array(encoder, 'encoder', name)
    width = reads.shape[1] if checked == 'attn_z' and reads.ndim == 2 else D
    _check_shape(reads, (F, width), 'encoder', name)
  vectors = {
      'encoder_bias': (encoder_bias, F),
      'decoder_bias': (decoder_bias, D),
      'threshold': (threshold, F),
  }
  filled: dict[str, Any] = {}
  for key, (x, size) in vectors.items():
    x = jnp.zeros(size, jnp.float32) if x is None else _array(x, key, name)
    _check_shape(x, (size,), key, name)
    filled[key] = x.astype(jnp.float32)
  dictionary = Dictionary(
      encoder=reads,
      decoder=rows,
      site=DictionarySite(number, checked),
      name=name,
      **filled,
  )
  check_finite(dictionary)
  return dictionary


def _array(x: Any, key: str, name: str) -> jax.Array:
  """`x` as a JAX array of floats."""
  try:
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    real = jnp.issubdtype(x.dtype, np.floating) or jnp.issubdtype(
        x.dtype, np.integer
    )
  except (TypeError, ValueError):  # Rows of unequal length.
    real = False
  if not real:
    raise InputError(
        f'{name}: {key} is no array of real numbers; give one of NumPy or JAX.'
    )
  with np.errstate(over='ignore'):  # Refused as infinite by the caller.
    kept = x.dtype if x.dtype.name in _DTYPES else np.float32
    return jnp.asarray(x.astype(kept))


def _check_shape(
    x: jax.Array, shape: tuple[int, ...], key: str, name: str
) -> None:
  if x.shape != shape:
    raise InputError(
        f'{name}: {key} is of shape {x.shape}, and must be {shape} beside this'
        ' decoder.'
    )
