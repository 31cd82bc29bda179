"""Text from a file, a folder or the hub, as windows of token ids."""

from collections.abc import Iterator
import gzip
import io
import json
import lzma
import os
import pathlib
from typing import Any
import zlib

from jaxtyping import Int
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax import _text
from ooc_jax._errors import InputError
from ooc_jax.checkpoints import MissingFile
from ooc_jax.checkpoints import fetch_file
from ooc_jax.model import Tokenizer

DEFAULT_CORPUS = 'default'
_BUNDLED = pathlib.Path(__file__).parent / 'default_corpus' / 'prose.txt.xz'
_HUB = 'hub:'
_SUFFIXES = ('.txt', '.jsonl', '.jsonl.gz', '.parquet')
# Encoded at a time: memory stays small, and the seams few.
_BLOCK_CHARACTERS = 2**18
_ROWS = 256


def read_windows(
    corpus: str | os.PathLike[str],
    tokenizer: Tokenizer,
    *,
    length: int = 128,
    limit: int | None = None,
    field: str = 'text',
) -> Int[np.ndarray, 'W T']:
  """Windows of a corpus in its order, each after BOS.

  The texts follow each other, a line break between them, and are cut without
  overlap; what does not fill the last window is left out. A tokenizer that
  adds no BOS gives windows without one. No more is read than `limit` asks for.

  Args:
    corpus: 'default' for the bundled prose; the path of a .txt (one text), a
      .jsonl or .jsonl.gz (a JSON object a line), a .parquet, or a folder of
      such files; or 'hub:OWNER/NAME/FILE' for a file of a hub dataset.
    tokenizer: The model's.
    length: T, BOS included.
    limit: Most windows; None is all.
    field: Of the text in a row of JSON or Parquet.

  Returns:
    Token ids, int32.

  Raises:
    InputError: The corpus cannot be read, is no UTF-8, has no such field, is
      empty, or is shorter than one window.
  """
  bos = tokenizer.encode('')
  size = length - len(bos)
  if size < 1 or (limit is not None and limit < 1):
    raise InputError(
        f'Windows of length {length} and a limit of {limit} hold no text; give'
        f' a length over {len(bos)} and a limit over 0.'
    )
  # Raw ids, until there are enough.
  parts, count, is_empty = [], 0, True
  for text in _blocks(_texts(corpus, field)):
    is_empty = is_empty and not text.strip()
    ids = np.asarray(tokenizer.encode(text)[len(bos) :], np.int32)
    parts.append(ids)
    count += len(ids)
    if limit is not None and count >= limit * size:
      break
  if is_empty:
    raise InputError(f'{_shown(corpus)} holds no text; give another corpus.')
  windows = min(count // size, count if limit is None else limit)
  if not windows:
    raise InputError(
        f'{_shown(corpus)} has {count} tokens, fewer than one window of'
        f' {length}; give a longer corpus or shorter windows.'
    )
  body = np.concatenate(parts)[: windows * size].reshape(windows, size)
  first = np.broadcast_to(np.asarray(bos, np.int32), (windows, len(bos)))
  return np.concatenate([first, body], axis=1)


def _shown(corpus: object) -> str:
  return f'The corpus {_text.printable(str(corpus), 200)}'


def _blocks(texts: Iterator[str]) -> Iterator[str]:
  """The texts in pieces that are short enough to encode, cut at line breaks."""
  for text in texts:
    lines, size = [], 0
    # Not `splitlines`: it also cuts at form feeds and the like.
    for line in io.StringIO(text.rstrip('\n') + '\n', newline='\n'):
      lines.append(line)
      size += len(line)
      if size >= _BLOCK_CHARACTERS:
        yield ''.join(lines)
        lines, size = [], 0
    if lines:
      yield ''.join(lines)


def _texts(corpus: str | os.PathLike[str], field: str) -> Iterator[str]:
  """The texts of a corpus, one after the other."""
  name = str(corpus)
  if name == DEFAULT_CORPUS:
    yield lzma.decompress(_BUNDLED.read_bytes()).decode()
    return
  if name.startswith(_HUB):
    owner, _, rest = name.removeprefix(_HUB).partition('/')
    repo, _, inside = rest.partition('/')
    if not (owner and repo and inside):
      raise InputError(
          f'{_shown(name)} names no file of a hub dataset; write'
          f' {_HUB}OWNER/NAME/FILE.'
      )
    try:
      path = fetch_file(f'{owner}/{repo}', inside, None, kind='dataset')
    except MissingFile as error:
      raise InputError(f'{error}; check the name on its page.') from None
    yield from _read(path, field)
    return
  path = pathlib.Path(corpus)
  if not path.is_dir():
    yield from _read(path, field)
    return
  files = [p for p in sorted(path.rglob('*')) if p.name.endswith(_SUFFIXES)]
  if not files:
    raise InputError(
        f'{_shown(path)} is a folder without {", ".join(_SUFFIXES)} files;'
        ' give another one.'
    )
  for file in files:
    yield from _read(file, field)


def _read(path: pathlib.Path, field: str) -> Iterator[str]:
  """The texts of one file.

  Raises:
    InputError: It is no text, or not as its name says.
  """
  try:
    if path.name.endswith('.parquet'):
      yield from _parquet_texts(path, field)
    elif path.name.endswith(('.jsonl', '.jsonl.gz')):
      yield from _json_texts(path, field)
    elif path.name.endswith('.txt'):
      yield path.read_text(encoding='utf-8-sig')
    else:
      raise InputError(
          f'{_shown(path)} is of no known kind; give {DEFAULT_CORPUS!r}, a'
          f' folder, or a file that ends in {", ".join(_SUFFIXES)}.'
      )
  except UnicodeDecodeError as error:
    raise InputError(
        f'{_shown(path)} is not UTF-8 (byte {error.start} of a part of it);'
        ' convert it, for example with iconv -t UTF-8.'
    ) from None
  except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
    reason = getattr(error, 'strerror', None) or 'it is damaged'
    raise InputError(
        f'{_shown(path)} cannot be read ({reason}); check the path and the'
        ' file.'
    ) from None


def _json_texts(path: pathlib.Path, field: str) -> Iterator[str]:
  opened = gzip.open if path.name.endswith('.gz') else open
  with opened(path, 'rt', encoding='utf-8-sig') as lines:
    for number, line in enumerate(lines, 1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except (ValueError, RecursionError):
        row = None
      if not isinstance(row, dict):
        raise InputError(
            f'{_shown(path)} has no JSON object in line {number}; give one row'
            ' a line.'
        )
      where = f'line {number} of {_shown(path)[4:]}'
      yield _field_of(row, field, where)


def _field_of(row: dict[str, Any], field: str, where: str) -> str:
  if field not in row:
    raise _no_field(field, where, list(row))
  if not isinstance(row[field], str):
    raise InputError(
        f'The field {_text.printable(field, 80)!r} of {where} is no text; name'
        ' another field.'
    )
  return row[field]


def _no_field(field: str, where: str, names: list[str]) -> InputError:
  shown = ', '.join(_text.printable(name, 40) for name in names[:10])
  return InputError(
      f'There is no field {_text.printable(field, 80)!r} in {where}, which has'
      f' {shown or "none"}; name the field of the text.'
  )


def _parquet_texts(path: pathlib.Path, field: str) -> Iterator[str]:
  with pq.ParquetFile(path) as file:
    where = _shown(path)[4:]
    if field not in file.schema_arrow.names:
      raise _no_field(field, where, file.schema_arrow.names)
    for batch in file.iter_batches(_ROWS, columns=[field]):
      for row in batch.to_pylist():
        yield _field_of(row, field, where)
