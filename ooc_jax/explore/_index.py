"""The tokens of a study and the lists that have them, in memory.

A search goes over all lists, so their ids are kept as arrays, up to a bound.
They are read a file at a time: in the background once the server runs, and by
a search that comes before that is done, for a moment. It answers from the
files that were read.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import operator
import pathlib
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax._text import printable
from ooc_jax.explore import _tables
from ooc_jax.explore._library import Study

# List of a feature -> what it means that a token is in it.
LISTS = {
    'top': 'Promote it',
    'bottom': 'Suppress it',
    'input_top': 'Read it',
    'input_bottom': 'Read against it',
}
_LAST = '\U0010ffff'  # Comes after every character.
_MOST_BYTES = 160 << 20  # Of the arrays of ids.
_MOST_INDEXES = 4
# A search reads so many features whatever it takes, then for so many seconds.
_AT_ONCE, _PATIENCE = 20_000, 0.1
_NONE = np.zeros((0, 1), np.int32)
_folded = operator.itemgetter(0)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """The tokens that are in some list.

  Attributes:
    words: Text without the spaces it begins with and in one case, id, text;
      rising.
  """

  words: Sequence[tuple[str, int, str]]

  def matching(self, text: str, match: str, fold: bool) -> list[int]:
    """Ids of the tokens that are, or begin with, a text."""
    wanted = text.lstrip(' ')
    key = wanted.casefold()
    first = bisect.bisect_left(self.words, key, key=_folded)
    last = bisect.bisect_right(
        self.words, key if match == 'exact' else key + _LAST, key=_folded
    )
    found = self.words[first:last]
    if not fold:
      found = [x for x in found if _is(x[2].lstrip(' '), wanted, match)]
    return [i for _, i, _ in found]

  @functools.cached_property
  def _places(self) -> np.ndarray:
    ids = np.array([i for _, i, _ in self.words], np.int64)
    places = np.full(ids.max(initial=-1) + 1, -1, np.int32)
    places[ids] = np.arange(len(ids))
    return places

  @property
  def size(self) -> int:
    """One more than the largest id."""
    return len(self._places)

  def text(self, token: int) -> str:
    """Of an id; '' where it is in no list."""
    if not 0 <= token < self.size or self._places[token] < 0:
      return ''
    return self.words[self._places[token]][2]

  def pieces(self, word: str) -> list[str]:
    """A word as the longest tokens that it can be read as."""
    found = []
    while word:
      sizes = range(len(word), 0, -1)
      size = next(
          (n for n in sizes if self.matching(word[:n], 'exact', True)), None
      )
      if size is None:
        return found
      found.append(word[:size])
      word = word[size:]
    return found


def _is(token: str, wanted: str, match: str) -> bool:
  return token == wanted if match == 'exact' else token.startswith(wanted)


@dataclasses.dataclass(frozen=True)
class Ready:
  """What can be searched.

  Attributes:
    words: The tokens of the files that were read.
    files: Layer -> file that was read; layers rise.
    missing: Layers whose files are still to be read.
  """

  words: Vocabulary
  files: Mapping[int, pathlib.Path]
  missing: Sequence[int]

  def lists(self, stem: str) -> Iterator[tuple[int, np.ndarray]]:
    """Layer, and the [F, k] ids of a list of its features."""
    for layer, path in self.files.items():
      if f'{stem}_ids' in _tables.columns(path):
        yield layer, _ids(path, stem)


def ready(
    study: Study,
    first: int | None = None,
    patience: float | None = _PATIENCE,
) -> Ready:
  """The tokens and lists of a study, as far as they were read in time.

  Args:
    study: Any; one without lists has none.
    first: Layer to read before the others.
    patience: Seconds to read on where not all is read; None reads all.

  Raises:
    Damaged: A file cannot be read.
  """
  if study.output is None:
    return Ready(Vocabulary(()), {}, ())
  files = _tables.whole(study.output.layer_files())
  index = _index(study.output.path)
  end = np.inf if patience is None else time.monotonic() + patience
  features = 0
  for layer in sorted(files, key=lambda x: (x != first, x)):
    if features < _AT_ONCE or time.monotonic() < end:
      features += index.read(files[layer])
  # In this order: a file that is read meanwhile has tokens of its own.
  there = {x: path for x, path in files.items() if index.has(path)}
  return Ready(index.vocabulary(), there, sorted(set(files) - set(there)))


def warm(study: Study) -> None:
  """Reads all that a search goes over."""
  if study.output is None:
    return
  index = _index(study.output.path)
  for path in _tables.whole(study.output.layer_files()).values():
    index.read(path)
    time.sleep(0.002)  # Whoever waits for the index comes first.
  index.vocabulary()


class _Index:
  """The tokens of the files of a run that were read."""

  def __init__(self):
    self._lock = threading.Lock()
    self._read: dict[pathlib.Path, tuple[int, int]] = {}
    self._known = np.zeros(0, bool)
    self._new: list[tuple[str, int, str]] = []
    self._vocabulary = Vocabulary(())

  def is_current(self) -> bool:
    """Whether the files are as they were when they were read."""
    return all(_state(x) == own for x, own in list(self._read.items()))

  def has(self, path: pathlib.Path) -> bool:
    """Whether a file was read."""
    return path in self._read

  def read(self, path: pathlib.Path) -> int:
    """Reads a file that was not; the number of its features that were read."""
    if path in self._read:
      return 0
    with self._lock:
      if path in self._read:
        return 0
      state, features = _state(path), 0
      names = set(_tables.columns(path))
      for stem in LISTS:
        if {f'{stem}_ids', f'{stem}_tokens'} <= names:
          features = self._add(path, stem)
      self._read[path] = state or (0, 0)
      pa.default_memory_pool().release_unused()
      return features

  def _add(self, path: pathlib.Path, stem: str) -> int:
    parts = []
    for table in _groups(path, f'{stem}_ids', f'{stem}_tokens'):
      ids = _rows(table.column(0))
      parts.append(ids)
      if ids.max(initial=-1) >= len(self._known):
        more = int(ids.max()) + 1 - len(self._known)
        self._known = np.pad(self._known, (0, more))
      at = np.flatnonzero(~self._known[ids.ravel()])
      new, first = np.unique(ids.ravel()[at], return_index=True)
      self._known[new] = True
      texts = pa.concat_arrays([x.flatten() for x in table.column(1).chunks])
      for i, text in zip(
          new.tolist(), texts.take(pa.array(at[first])).to_pylist(), strict=True
      ):
        text = text or ''
        folded = text.lstrip(' ').casefold()
        # One string where both are the same saves a third of the memory.
        self._new.append((text if folded == text else folded, i, text))
    return len(_keep(path, stem, parts))

  def vocabulary(self) -> Vocabulary:
    """The tokens that were read until now."""
    with self._lock:
      if self._new:
        # Most of it is in order already, which sorting makes use of.
        words = sorted([*self._vocabulary.words, *sorted(self._new)])
        self._vocabulary, self._new = Vocabulary(words), []
      return self._vocabulary


_lock = threading.Lock()
_indexes: dict[pathlib.Path, _Index] = {}
_arrays: dict[tuple[Any, ...], np.ndarray] = {}


def _index(run: pathlib.Path) -> _Index:
  with _lock:
    index = _indexes.pop(run, None)
    if index is None or not index.is_current():
      index = _Index()
    _indexes[run] = index  # The last used come last.
    while len(_indexes) > _MOST_INDEXES:
      _indexes.pop(next(iter(_indexes)))
    return index


def _state(path: pathlib.Path) -> tuple[int, int] | None:
  try:
    about = path.stat()
  except OSError:
    return None
  return about.st_mtime_ns, about.st_size


def _groups(path: pathlib.Path, *names: str) -> Iterator[pa.Table]:
  """Columns of a file, a group of rows at a time.

  Texts come as numbers of those that differ, which is fast; Arrow does that
  for lists within one group only.
  """
  try:
    with pq.ParquetFile(path) as file:
      schema = file.metadata.schema
      paths = [schema.column(i).path for i in range(len(schema))]
    texts = [x for x in paths if x.split('.')[0].endswith('_tokens')]
    with pq.ParquetFile(
        path, read_dictionary=texts, page_checksum_verification=True
    ) as file:
      for group in range(file.num_row_groups):
        yield file.read_row_group(group, list(names), use_threads=False)
  except (pa.ArrowException, OSError) as error:
    reason = printable(str(error).splitlines()[0], 300)
    raise _tables.Damaged(
        f'{printable(path.name)} is damaged ({reason}): delete it and run'
        ' again.'
    ) from error


def _rows(column: pa.ChunkedArray) -> np.ndarray:
  """[F, k] numbers of a column of lists."""
  # A copy: a view would keep the memory of the whole table.
  flat = np.concatenate(
      [np.zeros(0, np.int32), *(x.flatten().to_numpy() for x in column.chunks)]
  )
  return flat.reshape(len(column), -1 if len(column) else 0)


def _keep(
    path: pathlib.Path, stem: str, parts: Sequence[np.ndarray]
) -> np.ndarray:
  ids = parts[0] if len(parts) == 1 else np.concatenate(parts or [_NONE])
  with _lock:
    _arrays[path, _state(path), stem] = ids
    while sum(x.nbytes for x in _arrays.values()) > _MOST_BYTES:
      _arrays.pop(next(iter(_arrays)))
  return ids


def _ids(path: pathlib.Path, stem: str) -> np.ndarray:
  """[F, k] ids of a list of the features of a file."""
  key = (path, _state(path), stem)
  with _lock:
    if key in _arrays:
      _arrays[key] = _arrays.pop(key)  # The last used come last.
      return _arrays[key]
  names = f'{stem}_ids'
  return _keep(path, stem, [_rows(x.column(0)) for x in _groups(path, names)])
