"""What each token of a vocabulary says, and whether it can be read alone.

Everything here is a function of the tokenizer itself, so a vocabulary that came
from GGUF and was saved as tokenizer.json keeps every answer.
"""

from collections.abc import Sequence
import itertools
import re
import string
import unicodedata

import tokenizers

# Rows no text has ever reached, in the spellings model families use:
# <unused12>, [unused12], <|reserved_special_token_3|>, <extra_id_0>, [PAD7],
# <|placeholder1|>, [multimodal], <2mass>, [@BOS@], <start_of_image>.
# Not <s> or <b>: Gemma holds HTML tags as ordinary tokens.
_RESERVED = re.compile(
    r'[<\[]\|?(?:'
    r'[\w@ -]*(?:unused|reserved|placeholder|dummy|multimodal)[\w@ -]*'
    r'|extra(?:_id)?_\d+|SPECIAL_\d+|PAD ?\d*'
    r'|(?:start|end)_of_(?:turn|image|audio)'
    r'|@?(?:bos|eos|unk|cls|sep|mask|2mass)@?'
    r')\|?[>\]]',
    re.IGNORECASE,
)
_BYTE = re.compile(r'<0x([0-9A-F]{2})>')
# C0, DEL and C1 without tab, newline and carriage return.
_CONTROL = re.compile(r'[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]')
# C1 is left out: mis-decoded Windows-1252 puts it into real text.
_ONLY_CONTROL = re.compile(r'[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+')
# Bytes UTF-8 never contains; byte-level vocabularies spell them as themselves.
_IMPOSSIBLE = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])


def is_reserved(piece: str) -> bool:
  """Whether a piece is spelled as a reserved or unused row."""
  return _RESERVED.fullmatch(piece) is not None


def byte_of(piece: str) -> int | None:
  """The byte a byte-fallback piece such as '<0xE2>' stands for, or None."""
  match = _BYTE.fullmatch(piece)
  return int(match.group(1), 16) if match else None


def decode_each(
    tokenizer: tokenizers.Tokenizer, pieces: Sequence[str | None]
) -> list[str]:
  """Decodes every token alone, by the tokenizer's own decoder.

  A decoder may drop the space in front of the first token of a text, so each
  token is decoded behind an anchor token and the anchor's text is cut off.

  Args:
    tokenizer: Any tokenizer.
    pieces: [V] the raw piece of each id; None where an id has no token.

  Returns:
    [V] texts, leading space kept. Special tokens give their literal content,
    ids without a token '<padding ID>'.
  """
  anchor = _anchor(tokenizer, pieces)
  ids = [i for i, piece in enumerate(pieces) if piece is not None]
  texts = [f'<padding {i}>' for i in range(len(pieces))]
  decoded = tokenizer.decode_batch(
      [anchor + [i] for i in ids], skip_special_tokens=False
  )
  prefix = tokenizer.decode(anchor, skip_special_tokens=False)
  for i, text in zip(ids, decoded, strict=True):
    texts[i] = text.removeprefix(prefix)
  for i, added in tokenizer.get_added_tokens_decoder().items():
    if added.special and i < len(texts):
      texts[i] = added.content
  return texts


def _anchor(
    tokenizer: tokenizers.Tokenizer, pieces: Sequence[str | None]
) -> list[int]:
  """A token whose text survives, unchanged, in front of any other token."""
  if tokenizer.decoder is None:
    return []  # Tokens would be joined by spaces that belong to neither.
  letters = map(tokenizer.token_to_id, string.ascii_letters)
  for i in itertools.chain(letters, range(len(pieces))):
    if i is None or i >= len(pieces):
      continue
    text = tokenizer.decode([i], skip_special_tokens=False)
    # The same text as the piece: not a byte, which would fuse with the next.
    if text and text == pieces[i] and text.isascii() and text == text.strip():
      if tokenizer.decode([i, i], skip_special_tokens=False).startswith(text):
        return [i]
  return []


def is_readable(text: str) -> bool:
  """Whether a decoded token can be read alone; see `Tokenizer.mask`."""
  if not text or '\ufffd' in text or _CONTROL.search(text):
    return False
  if text.isprintable():
    return True
  visible = [c for c in text if not c.isspace()]
  # Zero-width and direction marks leave nothing to see.
  return not visible or any(unicodedata.category(c) != 'Cf' for c in visible)


def is_unreachable(piece: str, text: str, others: frozenset[str]) -> bool:
  """Whether no text, or only a control character, encodes to this token.

  Args:
    piece: The raw piece.
    text: Its decoding.
    others: What the tokens other than bytes decode to; a character among them
      never falls back to its byte.

  Returns:
    True for reserved rows, control characters, bytes that UTF-8 never
    contains, and byte-fallback tokens of a character that has its own token.
  """
  if is_reserved(piece) or _ONLY_CONTROL.fullmatch(text):
    return True
  byte = byte_of(piece)
  if byte is not None and text != piece:
    return byte in _IMPOSSIBLE or (byte < 0x80 and chr(byte) in others)
  return len(piece) == 1 and text == '\ufffd' and ord(piece) in _IMPOSSIBLE


def canonical(text: str) -> str:
  """One leading space dropped, NFKC, casefolded (Unicode's caseless match)."""
  return unicodedata.normalize('NFKC', text.removeprefix(' ')).casefold()
