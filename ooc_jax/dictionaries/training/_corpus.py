"""Text files as a stream of tokens, with a part held out."""

from collections.abc import Iterable, Sequence
import dataclasses
import functools
import os
import pathlib
import re

from jaxtyping import Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.model import Tokenizer

# A held-out block is long enough to be a text, and there are many of them.
_BLOCK_CHARACTERS = 20_000
_HELD_OUT_EVERY = 64
# Runs of words of this length hardly recur by chance in a few million words.
_SHINGLE_WORDS = 8


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Blocks of text: one in 64 is held out, what repeats it is dropped.

  Attributes:
    train: Texts to train on.
    held_out: Texts to measure on.
    dropped: How many blocks repeated a held-out one (two of the books stand
      in two of the collections).
  """

  train: tuple[str, ...]
  held_out: tuple[str, ...]
  dropped: int


def read_corpus(paths: Iterable[str | os.PathLike[str]]) -> Corpus:
  """Reads UTF-8 text, one paragraph a line whatever the files' line breaks.

  Raises:
    InputError: A file cannot be read, or there is too little text.
  """
  blocks = []
  for path in paths:
    try:
      text = pathlib.Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
      raise InputError(
          f'{path} cannot be read as UTF-8 text ({error}); give the files of'
          ' the corpus, separated by commas.'
      ) from None
    blocks += _blocks(text)
  held_out = blocks[_HELD_OUT_EVERY // 2 :: _HELD_OUT_EVERY]
  if not held_out:
    raise InputError(
        f'The corpus has {len(blocks)} blocks of {_BLOCK_CHARACTERS}'
        f' characters; at least {_HELD_OUT_EVERY // 2 + 1} are needed, give'
        ' more files.'
    )
  known = set().union(*map(_shingles, held_out))
  chosen = set(range(_HELD_OUT_EVERY // 2, len(blocks), _HELD_OUT_EVERY))
  rest = [text for i, text in enumerate(blocks) if i not in chosen]
  train = [text for text in rest if not _repeats(_shingles(text), known)]
  return Corpus(tuple(train), tuple(held_out), len(rest) - len(train))


def _blocks(text: str) -> list[str]:
  text = text.replace('\r\n', '\n').replace('\ufeff', '')
  paragraphs = [' '.join(p.split()) for p in re.split(r'\n\s*\n', text)]
  # One of the collections has a book a line, of one paragraph.
  pieces = []
  for paragraph in filter(None, paragraphs):
    pieces += _pieces(paragraph)
  blocks, size = [[]], 0
  for piece in pieces:
    if size > _BLOCK_CHARACTERS:
      blocks.append([])
      size = 0
    blocks[-1].append(piece)
    size += len(piece)
  return ['\n'.join(block) for block in blocks if block]


def _pieces(paragraph: str) -> list[str]:
  """The paragraph, cut between sentences where it is longer than a block."""
  out = []
  while len(paragraph) > _BLOCK_CHARACTERS:
    cut = paragraph.rfind('. ', 0, _BLOCK_CHARACTERS) + 1
    cut = cut or _BLOCK_CHARACTERS
    out.append(paragraph[:cut])
    paragraph = paragraph[cut:].lstrip()
  return [*out, paragraph] if paragraph else out


def _shingles(text: str) -> set[int]:
  words = re.findall(r'\w+', text.casefold())
  starts = range(len(words) - _SHINGLE_WORDS + 1)
  return {hash(tuple(words[i : i + _SHINGLE_WORDS])) for i in starts}


def _repeats(shingles: set[int], known: set[int]) -> bool:
  # Presidents repeat formulas of eight words; only copies share this many.
  return len(shingles & known) > 0.02 * len(shingles)


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> Int[np.ndarray, 'n']:
  """Ids of the texts in a row, without BOS, int32."""
  bos = len(tokenizer.encode(''))
  ids = [tokenizer.encode(f'{text}\n')[bos:] for text in texts]
  return np.concatenate([np.asarray(i, np.int32) for i in ids])


@dataclasses.dataclass(frozen=True)
class Windows:
  """Windows of `length` tokens after BOS, in a new order every epoch.

  A pure function of its fields: a run that resumes sees the same batches.

  Attributes:
    tokens: The stream.
    length: T; a row has T + 1 ids, BOS and T of the stream.
    bos: Id before each window.
    seed: Of the order.
  """

  tokens: Int[np.ndarray, 'n']
  length: int
  bos: int
  seed: int

  def batch(self, index: int, size: int) -> Int[np.ndarray, 'B T1']:
    """Batch number `index`, of `size` rows."""
    count = len(self.tokens) // self.length - 1
    rows = []
    for i in range(index * size, (index + 1) * size):
      epoch, place = divmod(i, count)
      start = _starts(self.seed, self.length, count, epoch)[place]
      window = self.tokens[start : start + self.length]
      rows.append(np.concatenate([[self.bos], window]).astype(np.int32))
    return np.stack(rows)


@functools.lru_cache(maxsize=4)
def _starts(
    seed: int, length: int, count: int, epoch: int
) -> Int[np.ndarray, 'n']:
  """Where the windows of an epoch start; each epoch cuts elsewhere."""
  order = np.random.default_rng([seed, length, epoch])
  return order.integers(length) + order.permutation(count) * length


def held_out_windows(
    tokens: Int[np.ndarray, 'n'], length: int, bos: int
) -> Int[np.ndarray, 'W T1']:
  """All whole windows of the stream in order, each after BOS."""
  count = len(tokens) // length
  windows = tokens[: count * length].reshape(count, length)
  first = np.full((count, 1), bos, np.int32)
  return np.concatenate([first, windows], axis=1)
