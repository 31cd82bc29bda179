"""The tokenizer a GGUF file describes, rebuilt for the `tokenizers` library.

GGUF keeps a vocabulary in llama.cpp's terms: pieces, a kind for each, and the
merges (byte-level BPE, model 'gpt2') or a score for each piece (SentencePiece
BPE, model 'llama'). Rules and defaults follow llama.cpp's `llama-vocab.cpp`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import enum
import numbers
from typing import Any, NoReturn

from absl import logging
import numpy as np
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors

from ooc_jax._errors import InputError
from ooc_jax.model import _token_strings


class Kind(enum.IntEnum):
  """llama.cpp's token types."""

  NORMAL = 1
  UNKNOWN = 2
  CONTROL = 3
  USER_DEFINED = 4
  UNUSED = 5
  BYTE = 6


_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_QWEN2 = _LLAMA3.replace(r'\p{N}{1,3}', r'\p{N}')


@dataclasses.dataclass(frozen=True)
class _Split:
  """How text is cut into words before byte-level merges."""

  regex: str | None = None  # None: GPT-2's, which `ByteLevel` holds.
  digits: bool = False  # Every digit a word of its own, before the regex.
  nfc: bool = False
  ignore_merges: bool = False  # A whole word in the vocabulary is one token.
  add_bos: bool = False  # Where the file does not say.

  def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=self.regex is None
    )
    if self.regex is not None:
      split = pre_tokenizers.Split(tokenizers.Regex(self.regex), 'isolated')
      return pre_tokenizers.Sequence([split, byte_level])
    if self.digits:
      digits = pre_tokenizers.Digits(individual_digits=True)
      return pre_tokenizers.Sequence([digits, byte_level])
    return byte_level


_GPT2_SPLIT = _Split()
_DIGITS_SPLIT = _Split(digits=True)
_LLAMA3_SPLIT = _Split(regex=_LLAMA3, ignore_merges=True, add_bos=True)
_QWEN2_SPLIT = _Split(regex=_QWEN2, nfc=True)
_SPLITS = {
    # As transformers reads it; llama.cpp also cuts punctuation off spaces.
    'default': _GPT2_SPLIT,
    'gpt-2': _GPT2_SPLIT,
    'phi-2': _GPT2_SPLIT,
    'smollm': _DIGITS_SPLIT,
    'starcoder': _DIGITS_SPLIT,
    'llama-bpe': _LLAMA3_SPLIT,
    'llama-v3': _LLAMA3_SPLIT,
    'llama3': _LLAMA3_SPLIT,
    'dbrx': _Split(regex=_LLAMA3),
    'smaug-bpe': _Split(regex=_LLAMA3),
    'qwen2': _QWEN2_SPLIT,
    'deepseek-r1-qwen': _QWEN2_SPLIT,
    'stablelm2': _QWEN2_SPLIT,
}


@dataclasses.dataclass(frozen=True, eq=False)
class GgufVocabulary:
  """A checked vocabulary; `decoder` is cheap, `encoder` rebuilds the merges.

  Attributes:
    pieces: [V] raw pieces, as the `tokenizers` library shall spell them.
    kinds: [V] a `Kind` for each.
    scores: [V] for SentencePiece BPE; None for byte-level BPE.
    merges: pairs of pieces in order, for byte-level BPE; else None.
    split: how byte-level BPE cuts text into words; else None.
    unknown: the piece that stands for what has no piece, or None.
    bos: the id put in front of every text, or None.
    eos: the id put behind every text, or None.
    add_space_prefix: SentencePiece BPE puts a space in front of a text.
  """

  pieces: tuple[str, ...]
  kinds: np.ndarray
  scores: np.ndarray | None
  merges: tuple[tuple[str, str], ...] | None
  split: _Split | None
  unknown: str | None
  bos: int | None
  eos: int | None
  add_space_prefix: bool

  def decoder(self) -> tokenizers.Tokenizer:
    """The tokenizer without merges: it decodes but must not encode."""
    return self._tokenizer(())

  def encoder(self) -> tokenizers.Tokenizer:
    """The whole tokenizer."""
    merges = self.merges
    if self.scores is not None:
      normal = self.kinds == Kind.NORMAL
      merges = rebuild_merges(self.pieces, self.scores, normal)
    return self._tokenizer(merges or ())

  def _tokenizer(
      self, merges: Sequence[tuple[str, str]]
  ) -> tokenizers.Tokenizer:
    """Assembles model, normalizer, pre-tokenizer, decoder and added tokens."""
    vocabulary = {piece: i for i, piece in enumerate(self.pieces)}
    if self.split is not None:
      tokenizer = tokenizers.Tokenizer(
          models.BPE(vocabulary, merges, ignore_merges=self.split.ignore_merges)
      )
      if self.split.nfc:
        tokenizer.normalizer = normalizers.NFC()
      tokenizer.pre_tokenizer = self.split.pre_tokenizer()
      tokenizer.decoder = decoders.ByteLevel()
    else:
      tokenizer = tokenizers.Tokenizer(
          models.BPE(
              vocabulary,
              merges,
              unk_token=self.unknown,
              fuse_unk=True,
              byte_fallback=True,
          )
      )
      spaces: list[normalizers.Normalizer] = [normalizers.Replace(' ', '▁')]
      parts: list[decoders.Decoder] = [
          decoders.Replace('▁', ' '),
          decoders.ByteFallback(),
          decoders.Fuse(),
      ]
      if self.add_space_prefix:
        spaces.insert(0, normalizers.Prepend('▁'))
        parts.append(decoders.Strip(' ', left=1))
      tokenizer.normalizer = normalizers.Sequence(spaces)
      tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.post_processor = self._template()
    tokenizer.add_special_tokens(
        self._added(Kind.CONTROL, Kind.UNKNOWN, special=True)
    )
    tokenizer.add_tokens(self._added(Kind.USER_DEFINED, special=False))
    return tokenizer

  def _added(self, *kinds: Kind, special: bool) -> list[tokenizers.AddedToken]:
    return [
        tokenizers.AddedToken(self.pieces[i], normalized=False, special=special)
        for i in np.flatnonzero(np.isin(self.kinds, kinds))
    ]

  def _template(self) -> processors.PostProcessor | None:
    """Puts BOS and EOS around a text."""
    # Names of our own: a piece may hold the template's separators.
    around = {'bos': self.bos, 'eos': self.eos}
    special = [
        {'id': name, 'ids': [i], 'tokens': [self.pieces[i]]}
        for name, i in around.items()
        if i is not None
    ]
    if not special:
      return None
    parts = ['bos', '$A', 'eos']
    return processors.TemplateProcessing(
        single=[x for x in parts if around.get(x, 0) is not None],
        special_tokens=special,
    )


def rebuild_merges(
    pieces: Sequence[str], scores: np.ndarray, mergeable: np.ndarray
) -> list[tuple[str, str]]:
  """Recovers BPE merges from the pieces and scores of SentencePiece BPE.

  SentencePiece merges any two neighbours whose concatenation is a piece, best
  score first. So every split of a piece into two pieces is a merge, ordered as
  Hugging Face's converter does (`generate_merges`): by score, then by the
  length of the left part, then of the right, each from high to low.

  Args:
    pieces: [V].
    scores: [V] higher merges earlier. If those of the mergeable pieces are all
      equal they say nothing (some converters write -1000 throughout), and the
      order of the ids is used: BPE gives ids in the order of learning.
    mergeable: [V] bool, the pieces merges may read and make. SentencePiece
      never merges control, byte, unused or user-defined pieces.

  Returns:
    The merges, first applied first.
  """
  scores = np.asarray(scores, np.float64)
  if np.unique(scores[mergeable]).size == 1:
    scores = -np.arange(len(pieces), dtype=np.float64)
  ids = np.flatnonzero(mergeable).tolist()
  known = {pieces[i] for i in ids}
  pairs, owner = [], []
  for i in ids:
    piece = pieces[i]
    for cut in range(1, len(piece)):
      left, right = piece[:cut], piece[cut:]
      if left in known and right in known:
        pairs.append((left, right))
        owner.append(i)
  left = np.array([len(pair[0]) for pair in pairs], np.int64)
  right = np.array([len(pair[1]) for pair in pairs], np.int64)
  order = np.lexsort((-right, -left, -scores[np.array(owner, np.int64)]))
  return [pairs[i] for i in order]


def read_vocabulary(metadata: Mapping[str, Any]) -> GgufVocabulary:
  """Reads and checks the `tokenizer.ggml.*` keys of a GGUF file.

  Args:
    metadata: GGUF keys to Python values: str, bool, int, or a sequence.

  Returns:
    The vocabulary. User-defined and control tokens are matched whole in a
    text, before anything else, as Hugging Face does. Unused pieces are
    respelled '<unused 17>', so that no text holds them. 'add_space_prefix'
    of a byte-level vocabulary is ignored, as llama.cpp does.

  Raises:
    InputError: A key is missing, malformed, or names what is not supported.
  """
  model = _get(metadata, 'model')
  if model not in ('gpt2', 'llama'):
    raise InputError(
        f"The GGUF tokenizer model {model!r} is not supported; 'gpt2' and"
        " 'llama' are."
    )
  kinds = _kinds(metadata)
  if wrong := sorted(set(kinds.tolist()) - set(Kind)):
    _refuse('token_type', f'holds {wrong[0]}, which is no token type (1 to 6)')
  pieces = _pieces(_array(metadata, 'tokens', str), kinds, model)
  split = scores = merges = unknown = None
  if model == 'gpt2':
    split = _split(metadata.get('tokenizer.ggml.pre'))
    merges = _merges(_array(metadata, 'merges', str), pieces)
  else:
    scores = np.array(_array(metadata, 'scores', numbers.Real), np.float64)
    if len(scores) != len(pieces) or not np.isfinite(scores).all():
      _refuse('scores', f'is not {len(pieces)} finite numbers, one a token')
    unknown = _unknown(metadata, pieces, kinds)
  add_bos = model == 'llama' if split is None else split.add_bos
  return GgufVocabulary(
      pieces=pieces,
      kinds=kinds,
      scores=scores,
      merges=merges,
      split=split,
      unknown=unknown,
      bos=_added_id(metadata, 'bos', add_bos, len(pieces)),
      eos=_added_id(metadata, 'eos', False, len(pieces)),
      add_space_prefix=_flag(metadata, 'add_space_prefix', True),
  )


def _refuse(name: str, what: str) -> NoReturn:
  raise InputError(
      f"The GGUF key 'tokenizer.ggml.{name}' {what}; convert the file again."
  )


def _get(metadata: Mapping[str, Any], name: str) -> Any:
  if f'tokenizer.ggml.{name}' not in metadata:
    _refuse(name, 'is missing')
  return metadata[f'tokenizer.ggml.{name}']


def _array(metadata: Mapping[str, Any], name: str, kind: type) -> list[Any]:
  value = _get(metadata, name)
  value = value.tolist() if isinstance(value, np.ndarray) else value
  if (
      isinstance(value, str)
      or not isinstance(value, Sequence)
      or not all(isinstance(x, kind) for x in value)
  ):
    _refuse(name, f'is not an array of {"str" if kind is str else "numbers"}')
  return list(value)


def _flag(metadata: Mapping[str, Any], name: str, default: bool) -> bool:
  value = metadata.get(f'tokenizer.ggml.{name}', default)
  if not isinstance(value, bool | np.bool_):
    _refuse(name, f'is {value!r}, neither true nor false')
  return bool(value)


def _index(metadata: Mapping[str, Any], name: str, size: int) -> int:
  value = _get(metadata, name)
  if not isinstance(value, int | np.integer) or not 0 <= value < size:
    _refuse(name, f'is {value!r}, which is not the id of one of {size} tokens')
  return int(value)


def _added_id(
    metadata: Mapping[str, Any], name: str, default: bool, size: int
) -> int | None:
  if not _flag(metadata, f'add_{name}_token', default):
    return None
  return _index(metadata, f'{name}_token_id', size)


def _pieces(
    tokens: list[str], kinds: np.ndarray, model: str
) -> tuple[str, ...]:
  """Checks the pieces and respells those the library needs otherwise."""
  if not tokens or len(tokens) != len(kinds):
    _refuse('tokens', f'has {len(tokens)} tokens but {len(kinds)} token types')
  pieces, first = [], {}
  for i, (piece, kind) in enumerate(zip(tokens, kinds.tolist(), strict=True)):
    if kind == Kind.BYTE and _token_strings.byte_of(piece) is None:
      _refuse('tokens', f'has {piece!r} of type byte at {i}')
    if not piece or kind == Kind.UNUSED:
      if not _token_strings.is_reserved(piece):
        piece = f'<unused {i}>'
    elif kind == Kind.USER_DEFINED and model == 'llama':
      # Matched in the text itself; older converters wrote ▁ for its spaces.
      piece = piece.replace('▁', ' ')
    if first.setdefault(piece, i) != i:
      _refuse('tokens', f'has {piece!r} twice, at {first[piece]} and {i}')
    pieces.append(piece)
  return tuple(pieces)


def _kinds(metadata: Mapping[str, Any]) -> np.ndarray:
  """A kind for each token; where the file has none, what its pieces say."""
  if 'tokenizer.ggml.token_type' in metadata:
    return np.array(_array(metadata, 'token_type', numbers.Integral), np.int64)
  tokens = _array(metadata, 'tokens', str)
  byte = [_token_strings.byte_of(piece) is not None for piece in tokens]
  kinds = np.where(byte, np.int64(Kind.BYTE), np.int64(Kind.NORMAL))
  for name in ('bos', 'eos', 'eot', 'eom', 'padding', 'seperator', 'unknown'):
    if f'tokenizer.ggml.{name}_token_id' in metadata:
      i = _index(metadata, f'{name}_token_id', len(tokens))
      kinds[i] = Kind.UNKNOWN if name == 'unknown' else Kind.CONTROL
  return kinds


def _split(pre: Any) -> _Split:
  """How words are cut: GPT-2's way for a name that is not known."""
  if isinstance(pre, str) and pre in _SPLITS:
    return _SPLITS[pre]
  logging.warning(
      "The GGUF key 'tokenizer.ggml.pre' is %.60r: texts are cut into words as"
      " GPT-2 does; put the model's tokenizer.json beside the file for the true"
      ' way.',
      pre,
  )
  return _GPT2_SPLIT


def _merges(
    lines: list[str], pieces: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
  known = frozenset(pieces)
  merges = []
  for line in lines:
    left, _, right = line.partition(' ')
    if not known.issuperset((left, right, left + right)):
      _refuse('merges', f'has {line!r}, a token of which the vocabulary lacks')
    merges.append((left, right))
  return tuple(merges)


def _unknown(
    metadata: Mapping[str, Any], pieces: tuple[str, ...], kinds: np.ndarray
) -> str | None:
  """The unknown piece, without which a vocabulary must hold all 256 bytes."""
  if 'tokenizer.ggml.unknown_token_id' in metadata:
    return pieces[_index(metadata, 'unknown_token_id', len(pieces))]
  if (at := np.flatnonzero(kinds == Kind.UNKNOWN)).size:
    return pieces[at[0]]
  if np.count_nonzero(kinds == Kind.BYTE) < 256:
    _refuse('unknown_token_id', 'is missing, and so are some of the 256 bytes')
  return None
