"""The list of what has a name, as text: by model, release and id."""

from collections.abc import Iterable, Sequence

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._registry import Named
from ooc_jax.dictionaries._registry import find_entry
from ooc_jax.dictionaries._registry import pasted_name
from ooc_jax.dictionaries._releases import releases
from ooc_jax.dictionaries.formats import Entry
from ooc_jax.dictionaries.formats import Format
from ooc_jax.dictionaries.formats import Release

_RELEASE_HEAD = ('RELEASE', 'SITE', 'LAYERS', 'WIDTH', 'L0', 'IDS', 'LOADS')
_ID_HEAD = ('ID', 'SITE', 'LAYER', 'WIDTH', 'L0', 'NEURONPEDIA', 'LOADS')
_UNKNOWN = '-'  # Only the files say it.


def listing(words: str = '', model: str | None = None) -> list[str]:
  """Releases of dictionaries by the model that they are of.

  Args:
    words: All of which a release, its model or its site holds; or an id, of a
      release or of Neuronpedia, or the address of its page.
    model: Hub repository, or the last part of its name; None is every one.

  Returns:
    Lines. Where a single release is left, its ids; where a single id was
    named, that one.
  """
  named = _named(words)
  if named is not None:
    lines = [named.release.model]
    return lines + _indented([_ID_HEAD, _id_row(named.name, named.entry)])
  chosen = [
      (f, release)
      for f, release in releases().values()
      if _is_of(release, model) and _holds(_release_row(f, release), words,
                                           release.model)
  ]  # fmt: skip
  lines: list[str] = []
  for name in dict.fromkeys(release.model for _, release in chosen):
    rows = [_release_row(f, r) for f, r in chosen if r.model == name]
    lines += [''] if lines else []
    lines += [name, *_indented([_RELEASE_HEAD, *rows])]
  if len(chosen) == 1 and (words or model):
    release = chosen[0][1]
    ids = [
        _id_row(f'{release.name}/{name}', entry)
        for name, entry in release.entries.items()
    ]
    lines += ['', *_indented([_ID_HEAD, *ids])]
  return lines


def _named(words: str) -> Named | None:
  """The dictionary that `words` is an id or an address of."""
  name = pasted_name(words.strip()) or words.strip()
  if '/' not in name or ' ' in name:
    return None
  try:
    return find_entry(name, None)
  except InputError:
    if pasted_name(words.strip()):
      raise
    return None


def _is_of(release: Release, model: str | None) -> bool:
  if model is None:
    return True
  asked, own = model.lower(), release.model.lower()
  return asked in (own, own.rpartition('/')[2])


def _holds(row: Sequence[str], words: str, model: str) -> bool:
  text = ' '.join((*row, model)).lower()
  return all(word in text for word in words.lower().split())


def _release_row(f: Format | None, release: Release) -> tuple[str, ...]:
  entries = release.entries.values()
  sites = [entry.site for entry in entries if entry.site is not None]
  hooks = dict.fromkeys(site.hook for site in sites)
  layers = sorted({site.layer for site in sites})
  refusals = {entry.refusal for entry in entries}
  loads = 'yes' if refusals == {None} else f'no: {_first(refusals)}'
  return (
      release.name,
      ','.join(hooks) or _UNKNOWN,
      _range(layers, str),
      _range([e.size for e in entries if e.size is not None], _width),
      _range([e.l0 for e in entries if e.l0 is not None], '{:g}'.format),
      str(len(entries)),
      loads if f is None or loads != 'yes' else f'yes ({f.name})',
  )


def _id_row(name: str, entry: Entry) -> tuple[str, ...]:
  site = entry.site
  return (
      name,
      _UNKNOWN if site is None else site.hook,
      _UNKNOWN if site is None else str(site.layer),
      _UNKNOWN if entry.size is None else _width(entry.size),
      _UNKNOWN if entry.l0 is None else f'{entry.l0:g}',
      entry.neuronpedia or _UNKNOWN,
      f'no: {entry.refusal}' if entry.refusal else 'yes',
  )


def _first(texts: Iterable[str | None]) -> str:
  return next(text for text in texts if text)


def _range(values, show) -> str:
  """'0-25', or the few that there are; all in one for none."""
  values = sorted(set(values))
  if not values:
    return _UNKNOWN
  if len(values) <= 4 and values != list(range(len(values))):
    return ','.join(map(show, values))
  if len(values) == 1:
    return show(values[0])
  return f'{show(values[0])}-{show(values[-1])}'


def _width(size: int) -> str:
  """4096 as '4k', as the releases write it, and 24576 as '24576'."""
  for unit, name in ((2**20, 'm'), (2**10, 'k')):
    if size % unit == 0 and size // unit in (1, 4, 8, 16, 32, 64, 80, 128, 256,
                                             512):  # fmt: skip
      # Releases count 65,536 as 65k.
      about = {64: 65, 128: 131, 256: 262, 512: 524}.get(
          size // unit, size // unit
      )
      return f'{about}{name}'
  return str(size)


def _indented(rows: Sequence[Sequence[str]]) -> list[str]:
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
      '  '
      + '  '.join(x.ljust(n) for x, n in zip(row, widths, strict=True)).rstrip()
      for row in rows
  ]
