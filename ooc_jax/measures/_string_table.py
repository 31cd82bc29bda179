"""The letters of a vocabulary as an array, made once for all its features."""

from collections.abc import Sequence
from typing import Any

from flax import struct
import jax.numpy as jnp
from jaxtyping import Array, UInt
import numpy as np


@struct.dataclass
class StringTable:
  """The strings of a vocabulary, one after the other.

  Attributes:
    codes: Every letter of every string, as its place in the alphabet.
    starts: Where in `codes` the string of a token starts.
    lengths: How many letters it has.
    longest: The largest of `lengths`.
    code_bits: How many bits the largest code has, at least 1.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  codes: UInt[Array, 'C'] | Any
  starts: UInt[Array, 'V'] | Any
  lengths: UInt[Array, 'V'] | Any
  longest: int = struct.field(pytree_node=False)
  code_bits: int = struct.field(pytree_node=False)

  @property
  def size(self) -> int:
    """V, how many strings there are."""
    return self.starts.shape[0]


def string_table(strings: Sequence[str]) -> StringTable:
  """Puts the code points of strings on the device.

  A letter is one code point. The alphabet is that of the strings themselves,
  so that a code takes few bits (15 for the 18,646 letters of Gemma 2), and no
  string is padded: the longest of a vocabulary is often twenty times the mean.

  Args:
    strings: The canonical string of every token, by id.
  """
  lengths = np.fromiter(map(len, strings), np.int64, len(strings))
  # A byte-level token can be half a character: a lone surrogate here.
  text = ''.join(strings).encode('utf-32-le', 'surrogatepass')
  points = np.frombuffer(text, np.uint32)
  alphabet = np.zeros(0x110000, bool)
  alphabet[points] = True
  codes = (np.cumsum(alphabet) - 1)[points]
  code_bits = max(1, int(codes.max(initial=0)).bit_length())
  # One more letter, so that there is one to read where all strings are empty.
  codes = np.append(codes, 0)
  return StringTable(
      codes=jnp.asarray(codes, jnp.uint16 if code_bits <= 16 else jnp.uint32),
      starts=jnp.asarray(np.cumsum(lengths) - lengths, jnp.uint32),
      lengths=jnp.asarray(lengths, jnp.uint32),
      longest=int(lengths.max(initial=0)),
      code_bits=code_bits,
  )
