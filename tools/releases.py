"""Packs SAELens's list of releases: `ooc_jax/dictionaries/releases.json.xz`.

Example:
  pip download --no-deps sae-lens==6.54.12
  unzip sae_lens-6.54.12-py3-none-any.whl sae_lens/pretrained_saes.yaml
  python -m tools.releases sae_lens/pretrained_saes.yaml

The list is data of facts, MIT, © the SAELens authors. Nothing is left out: a
test of the extra `parity` compares it whole. `l0: null` and a missing `l0` are
kept apart, as are 50 and 50.0.
"""

import json
import lzma
import pathlib
import sys
from typing import Any

import yaml

TARGET = (
    pathlib.Path(__file__).parent.parent
    / 'ooc_jax' / 'dictionaries' / 'releases.json.xz'
)  # fmt: skip
_FILTERS = [{'id': lzma.FILTER_LZMA2, 'preset': 9 | lzma.PRESET_EXTREME}]


def pack(releases: dict[str, Any]) -> bytes:
  """The bytes of the file: key by key, as columns of like things."""
  packed = {}
  for name, release in releases.items():
    keys = sorted({key for row in release['saes'] for key in row})
    columns = {
        key: [row.get(key, '') for row in release['saes']] for key in keys
    }
    packed[name] = release | {'saes': columns}
  text = json.dumps(packed, separators=(',', ':'), ensure_ascii=False)
  return lzma.compress(text.encode(), lzma.FORMAT_XZ, filters=_FILTERS)


def main(path: str) -> None:
  releases = yaml.safe_load(pathlib.Path(path).read_text())
  TARGET.write_bytes(pack(releases))
  ids = sum(len(release['saes']) for release in releases.values())
  print(f'{TARGET}: {len(releases)} releases, {ids} ids,'
        f' {TARGET.stat().st_size} bytes')  # fmt: skip


if __name__ == '__main__':
  main(sys.argv[1])
