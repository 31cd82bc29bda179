"""What is found once a tokenizer: its tokens as texts, and which are readable.

At Gemma's 256,000 tokens this takes as long as to parse the file. Where a
program keeps what it finds between runs, both are done once a file: a run that
only shows tokens reads a few megabytes instead.
"""

from collections.abc import Callable, Mapping
import hashlib
import itertools
from typing import Any, NamedTuple
import unicodedata

from jaxtyping import Bool
import numpy as np
import tokenizers

from ooc_jax import _cache
from ooc_jax.model import _token_strings

# Of what is kept, and of how `_token_strings` finds it: another one, and what
# was kept before is not read.
_VERSION = 1


class Vocabulary(NamedTuple):
  """Of the V rows of a model.

  Attributes:
    own: Tokens of the tokenizer, with those past the last row.
    strings: See `Tokenizer.token_strings`.
    readable: See `Tokenizer.mask`.
    unreachable: See `Tokenizer.unreachable`.
  """

  own: int
  strings: tuple[str, ...]
  readable: Bool[np.ndarray, 'V']
  unreachable: Bool[np.ndarray, 'V']


def find_vocabulary(
    decoder: tokenizers.Tokenizer, own: int, size: int
) -> Vocabulary:
  """Finds it.

  Args:
    decoder: A tokenizer that decodes.
    own: Its tokens.
    size: V.
  """
  pieces = tuple(map(decoder.id_to_token, range(size)))
  strings = tuple(_token_strings.decode_each(decoder, pieces))
  added = decoder.get_added_tokens_decoder()
  special = frozenset(i for i, token in added.items() if token.special)
  rows = tuple(zip(pieces, strings, strict=True))
  others = frozenset(
      text
      for piece, text in rows
      if piece is not None and _token_strings.byte_of(piece) is None
  )
  readable = (
      piece is not None
      and i not in special
      and not _token_strings.is_reserved(piece)
      and (piece == text or _token_strings.byte_of(piece) is None)
      and _token_strings.is_readable(text)
      for i, (piece, text) in enumerate(rows)
  )
  unreachable = (
      piece is None
      or i in special
      or _token_strings.is_unreachable(piece, text, others)
      for i, (piece, text) in enumerate(rows)
  )
  return Vocabulary(
      own,
      strings,
      _read_only(np.fromiter(readable, bool)),
      _read_only(np.fromiter(unreachable, bool)),
  )


def recall_vocabulary(
    content: bytes, size: int | None, make: Callable[[], Vocabulary]
) -> Vocabulary:
  """That of an earlier run, or one that is made now, and kept.

  Args:
    content: A tokenizer.json.
    size: V, or None for what is in the file.
    make: Makes it; raises where the file is none, which then is not kept.
  """
  about = {
      'version': _VERSION,
      'file': hashlib.sha256(content).hexdigest(),
      'size': size,
      # They decide too.
      'tokenizers': tokenizers.__version__,
      'unicode': unicodedata.unidata_version,
  }
  like = {
      'own': ((1,), np.int64),
      'text': ((None,), np.uint8),
      'lengths': ((size,), np.uint32),
      'readable': ((size,), np.bool_),
      'unreachable': ((size,), np.bool_),
  }
  arrays = _cache.recall(
      'vocabulary', about, like, lambda: _to_arrays(make()), _is_whole
  )
  text = arrays['text'].tobytes().decode()
  ends = np.cumsum(arrays['lengths'], dtype=np.int64).tolist()
  return Vocabulary(
      int(arrays['own'][0]),
      tuple(text[a:b] for a, b in itertools.pairwise([0, *ends])),
      _read_only(arrays['readable']),
      _read_only(arrays['unreachable']),
  )


def _to_arrays(found: Vocabulary) -> dict[str, Any]:
  """All strings as one, in UTF-8, and how many characters each has."""
  text = ''.join(found.strings).encode()
  return {
      'own': np.array([found.own], np.int64),
      'text': np.frombuffer(text, np.uint8),
      'lengths': np.fromiter(map(len, found.strings), np.uint32),
      'readable': found.readable,
      'unreachable': found.unreachable,
  }


def _is_whole(arrays: Mapping[str, np.ndarray]) -> bool:
  """Whether texts and lengths belong together, and all are of as many rows."""
  try:
    text = arrays['text'].tobytes().decode()
  except UnicodeDecodeError:
    return False
  rows = {len(arrays[x]) for x in ('lengths', 'readable', 'unreachable')}
  total = int(arrays['lengths'].sum(dtype=np.int64))
  return len(rows) == 1 and len(text) == total


def _read_only(array: np.ndarray) -> np.ndarray:
  array.flags.writeable = False
  return array
