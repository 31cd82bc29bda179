"""The tokenizer of a model: text to ids and back, and what each id says."""

from collections.abc import Callable, Iterable, Mapping
import functools
import json
import os
import pathlib
from typing import Any, SupportsInt

from jaxtyping import Bool
import numpy as np
import tokenizers

from ooc_jax import _cache
from ooc_jax._errors import InputError
from ooc_jax.model import _token_strings
from ooc_jax.model import _tokenizer_gguf
from ooc_jax.model import _vocabulary

_Halves = tuple[
    Callable[[], tokenizers.Tokenizer], Callable[[], tokenizers.Tokenizer]
]


class Tokenizer:
  """A tokenizer and the V rows of a model's embedding it names.

  Built by `from_file` or `from_gguf`. Immutable; equal only to itself, so it
  may be a static field of a pytree. All arrays it returns are read-only.

  V may exceed the tokenizer's own size: the further rows are padding. Special
  tokens past the last row are let go (Gemma 3's tokenizer.json names an image
  token at 262144, the text models have 262144 rows); a text that holds one is
  refused by `encode`.
  """

  def __init__(
      self,
      decoder: Callable[[], tokenizers.Tokenizer],
      encoder: Callable[[], tokenizers.Tokenizer],
      vocab_size: int | None = None,
      *,
      vocabulary: _vocabulary.Vocabulary | None = None,
  ):
    """Checks that it belongs to the model.

    Args:
      decoder: Gives a tokenizer that decodes, once it is needed.
      encoder: Gives a whole one, once that is needed.
      vocab_size: V; the tokenizer's own size if None.
      vocabulary: Of a tokenizer that was checked before.
    """
    self._make_decoder, self._make_encoder = decoder, encoder
    if vocabulary is not None:
      self.size = len(vocabulary.strings)
      self.vocabulary_size = min(vocabulary.own, self.size)
      self._vocabulary = vocabulary
      return
    added = self._decoder.get_added_tokens_decoder()
    ids = self._decoder.get_vocab(with_added_tokens=True).values()
    self._own = max(ids, default=-1) + 1
    self.size = self._own if vocab_size is None else int(vocab_size)
    self.vocabulary_size = min(self._own, self.size)
    if len(set(ids)) < len(ids):
      raise InputError(
          'The tokenizer gives one id to two tokens; download its file again.'
      )
    special = {i for i, token in added.items() if token.special}
    if not self.size or any(i >= self.size and i not in special for i in ids):
      raise InputError(
          f'The tokenizer has {self._own} tokens but the model only'
          f' {self.size} rows of embedding; give the tokenizer that belongs to'
          ' the model.'
      )

  @classmethod
  def from_file(
      cls, path: str | os.PathLike[str], *, vocab_size: int | None = None
  ) -> 'Tokenizer':
    """Reads a tokenizer.json of the `tokenizers` library.

    Args:
      path: The file.
      vocab_size: V, rows of the model's embedding; the tokenizer's own size if
        None.

    Returns:
      The tokenizer; truncation and padding that the file asks for are off.

    Raises:
      InputError: The file is missing or not a tokenizer.json, or has tokens
        for which the model has no row.
    """
    try:
      content = pathlib.Path(path).read_bytes()
    except OSError as e:
      raise InputError(_unreadable(path, e)) from e

    # On the content and not the path: what is there may be another file once
    # a text is to be encoded.
    def parse() -> _Halves:
      whole = _parse(path, content)
      return lambda: whole, lambda: whole

    return cls._of(lambda: content, parse, vocab_size)

  @classmethod
  def from_gguf(
      cls, metadata: Mapping[str, Any], *, vocab_size: int | None = None
  ) -> 'Tokenizer':
    """Rebuilds the tokenizer from the metadata of a GGUF file.

    Models 'gpt2' (byte-level BPE) and 'llama' (SentencePiece BPE: Gemma,
    Llama-2). BOS is added as 'add_bos_token' says; where the file does not
    say, as llama.cpp does. Merges are rebuilt at the first `encode`.

    Args:
      metadata: 'tokenizer.ggml.model', '.tokens', ... to Python values.
      vocab_size: V, rows of the model's embedding; the tokenizer's own size if
        None.

    Returns:
      The tokenizer.

    Raises:
      InputError: A key is missing, malformed or not supported, or there are
        tokens for which the model has no row.
    """

    def content() -> bytes:
      own = {k: v for k, v in metadata.items() if k.startswith('tokenizer.')}
      return json.dumps(
          own, sort_keys=True, default=lambda x: x.tolist()
      ).encode()

    def parse() -> _Halves:
      read = _tokenizer_gguf.read_vocabulary(metadata)
      return read.decoder, read.encoder

    return cls._of(content, parse, vocab_size)

  @classmethod
  def _of(
      cls,
      content: Callable[[], bytes],
      parse: Callable[[], '_Halves'],
      vocab_size: int | None,
  ) -> 'Tokenizer':
    """Parsed, but where an earlier run has done so and kept what it found.

    Args:
      content: All that it is made of.
      parse: Decoder and encoder for `__init__`.
      vocab_size: V, or None.
    """
    if vocab_size is not None:
      vocab_size = int(vocab_size)  # It may be NumPy's, unknown to JSON.
    if not _cache.is_kept():
      return cls(*parse(), vocab_size)
    made: list[Tokenizer] = []

    def make() -> _vocabulary.Vocabulary:
      made.append(cls(*parse(), vocab_size))
      return made[0]._vocabulary

    found = _vocabulary.recall_vocabulary(content(), vocab_size, make)
    if made:
      return made[0]
    halves = functools.cache(parse)
    return cls(lambda: halves()[0](), lambda: halves()[1](), vocabulary=found)

  def __repr__(self) -> str:
    return f'Tokenizer(size={self.size}, own={self.vocabulary_size})'

  def encode(self, text: str) -> list[int]:
    """Ids of a text, with BOS and the like as the tokenizer itself adds them.

    Special tokens written out in the text ('<start_of_turn>') are read as such.
    """
    ids = self._encoder.encode(text).ids
    if max(ids, default=0) >= self.size:
      raise InputError(
          f'The text holds {self._encoder.id_to_token(max(ids))!r}, a token for'
          f' which the model with {self.size} rows has no embedding; take it'
          ' out.'
      )
    return ids

  def decode(
      self, ids: Iterable[SupportsInt], *, skip_special_tokens: bool = False
  ) -> str:
    """The text of `ids`; special tokens (BOS) stay where not left out.

    Args:
      ids: Ids below `vocabulary_size`.
      skip_special_tokens: Leave out special tokens.

    Returns:
      The text, by the tokenizer's own decoder.

    Raises:
      InputError: An id has no token.
    """
    numbers = [int(i) for i in ids]
    for i in numbers:
      if not 0 <= i < self.size or self._decoder.id_to_token(i) is None:
        raise InputError(
            f'Id {i} has no text: the tokenizer has {self.vocabulary_size}'
            ' tokens; give ids of this model.'
        )
    return self._decoder.decode(
        numbers, skip_special_tokens=skip_special_tokens
    )

  def token_strings(self) -> tuple[str, ...]:
    """[V] what each token says, by the tokenizer's own decoder.

    The leading space is kept. Special tokens give their literal content, rows
    without a token '<padding 49152>'.
    """
    return self._vocabulary.strings

  def canonical_strings(self) -> tuple[str, ...]:
    """[V] `token_strings` without one leading space, NFKC, casefolded."""
    return self._canonical

  def mask(self) -> Bool[np.ndarray, 'V']:
    """[V] True for a token that can be read alone.

    False: special, reserved and unused tokens; byte fallback; tokens that are
    incomplete UTF-8 alone, or U+FFFD; tokens with a control character in them;
    tokens of zero-width and direction marks only; empty ones; padding rows.
    True, on purpose: tokens of only spaces, tabs and line breaks, which models
    predict like words, and HTML tags that a vocabulary holds as text.
    """
    return self._vocabulary.readable

  def unreachable(self) -> Bool[np.ndarray, 'V']:
    """[V] True for a token that no text holds, so that no text trained it.

    The seeds of the search for under-trained tokens (Land and Bartolo 2024,
    arXiv 2405.05417): special, reserved and unused tokens, C0 control
    characters, bytes that UTF-8 never contains, byte-fallback tokens of
    characters with a token of their own, and padding rows. No text holds a
    special token as text; some, such as BOS, are trained all the same.
    """
    return self._vocabulary.unreachable

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes a tokenizer.json, from which `from_file` reads the same again.

    V is the model's, not the tokenizer's: give `vocab_size` again on reading.
    """
    text = self._encoder.to_str(pretty=False)
    pathlib.Path(path).write_text(text, encoding='utf-8')

  @functools.cached_property
  def _decoder(self) -> tokenizers.Tokenizer:
    return self._make_decoder()

  @functools.cached_property
  def _encoder(self) -> tokenizers.Tokenizer:
    # It decodes as well, so the other one need not stay in memory.
    self._decoder = self._make_encoder()
    return self._decoder

  @functools.cached_property
  def _vocabulary(self) -> _vocabulary.Vocabulary:
    return _vocabulary.find_vocabulary(self._decoder, self._own, self.size)

  @functools.cached_property
  def _canonical(self) -> tuple[str, ...]:
    return tuple(map(_token_strings.canonical, self._vocabulary.strings))


def _parse(
    path: str | os.PathLike[str], content: bytes
) -> tokenizers.Tokenizer:
  """The tokenizer of a file, without truncation and padding."""
  try:
    text = content.decode()
  except UnicodeDecodeError as e:
    raise InputError(_unreadable(path, e)) from e
  try:
    stored = json.loads(text)
    tokenizer = tokenizers.Tokenizer.from_str(text)
  except Exception as e:  # The library raises bare `Exception`.
    raise InputError(
        f'{path} is not a tokenizer.json: {_what_is(text, e)}; download the'
        ' file again.'
    ) from e
  for token in stored.get('added_tokens') or ():
    # The library numbers added tokens anew, and only logs the difference.
    if tokenizer.token_to_id(token['content']) != token['id']:
      raise InputError(
          f'{path} gives the added token {token["content"]!r} the id'
          f' {token["id"]}, which does not follow the vocabulary; download'
          ' the file again.'
      )
  tokenizer.no_truncation()
  tokenizer.no_padding()
  return tokenizer


def _unreadable(path: str | os.PathLike[str], error: Exception) -> str:
  reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
  return (
      f'{path} cannot be read as a tokenizer.json ({reason}); give the path of'
      ' that file.'
  )


def _what_is(text: str, error: Exception) -> str:
  """Says in a few words what a file is that is no tokenizer.json."""
  if text.lstrip()[:1] == '<':
    return 'it is an HTML page'
  if text.startswith('version https://git-lfs'):
    return 'it is a Git LFS pointer'
  if isinstance(error, ValueError):
    return 'it is not JSON'
  return f'the tokenizers library says {str(error)!r}'
