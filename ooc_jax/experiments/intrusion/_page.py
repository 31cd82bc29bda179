"""The page of a rater: one file that loads nothing, and runs only its script.

Tokens are data of a model: they go into a block of JSON, in which no character
can end the block, and onto the page as text nodes. The policy in the page's
head lets the one script and the one style run whose hashes it names, and
nothing else: no image, no request, no frame.
"""

import base64
from collections.abc import Sequence
import hashlib
import json
import pathlib
import re

from ooc_jax.experiments.intrusion._items import Item
from ooc_jax.experiments.intrusion._items import to_json

_TEMPLATE = pathlib.Path(__file__).with_name('page.html')
_SCRIPT = re.compile(r'<script>(.*?)</script>', re.DOTALL)
_STYLE = re.compile(r'<style>(.*?)</style>', re.DOTALL)
# Of HTML in a script, and line ends that JavaScript once did not allow.
_ESCAPED = {ord(c): f'\\u{ord(c):04x}' for c in '<>&\u2028\u2029'}


def page_name(items: Sequence[Item]) -> str:
  """What ties answers to the items that they are of."""
  text = json.dumps(to_json(items), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def page(items: Sequence[Item]) -> str:
  """The HTML of the items, without their answers."""
  template = _TEMPLATE.read_text(encoding='utf-8')
  data = {
      'page': page_name(items),
      'items': [{'id': i, 'tokens': x.tokens} for i, x in enumerate(items)],
  }
  values = {
      'script_hash': _hash(_SCRIPT, template),
      'style_hash': _hash(_STYLE, template),
      'items': json.dumps(data).translate(_ESCAPED),
  }
  # In one go: what is put in is never read for more to put in.
  return re.sub(r'\{\{(\w+)\}\}', lambda match: values[match[1]], template)


def _hash(pattern: re.Pattern[str], text: str) -> str:
  (own,) = pattern.findall(text)
  digest = hashlib.sha256(own.encode()).digest()
  return f'sha256-{base64.b64encode(digest).decode()}'
