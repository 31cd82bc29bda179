"""From a name to the place of a dictionary on the hub.

Any hub id, folder or file works without an entry here.
"""

import difflib
import re

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._archive import printable
from ooc_jax.dictionaries._releases import Release
from ooc_jax.dictionaries._releases import releases


def list_dictionaries() -> tuple[Release, ...]:
  """Every release that has a name here, with the ids in it.

  `load_dictionary(f'{release.name}/{id}')` loads one of them; any other hub
  id, folder or file works too.
  """
  return tuple(releases().values())


def find_entry(source: str, layer: int | None) -> tuple[Release, str] | None:
  """The release and the id that a name means, or None if it is no such name.

  Args:
    source: 'release/id', a release (with `layer`), or an id of Neuronpedia
      ('gemma-2-2b/12-gemmascope-res-16k').
    layer: Chooses among the ids of a release.

  Raises:
    InputError: The release or the id is unknown; the nearest is suggested.
  """
  name = _from_neuronpedia(source) or source
  first, _, rest = name.strip('/').partition('/')
  known = releases()
  if first not in known:
    close = difflib.get_close_matches(first, known, n=1, cutoff=0.8)
    if close:
      raise InputError(
          f'Unknown release {printable(first)!r} of dictionaries; did you mean'
          f' {close[0]!r}?'
      )
    return None
  release = known[first]
  if not rest:
    return release, _of_layer(release, layer)
  if rest not in release.entries:
    raise InputError(
        f'Release {first} has no {printable(rest)!r}; did you mean'
        f' {_nearest(rest, release)!r}?'
    )
  return release, rest


def _nearest(name: str, release: Release) -> str:
  """The id that looks most alike, of the same layer and width if it can."""
  start = name.rpartition('/')[0] + '/'
  ids = [i for i in release.entries if i.startswith(start)] or release.entries
  return difflib.get_close_matches(name, ids, n=1, cutoff=0)[0]


def _of_layer(release: Release, layer: int | None) -> str:
  """The id of a layer, where the release alone says which."""
  if layer is None:
    raise InputError(
        f'{release.name} is a release of many dictionaries; give layer=, or one'
        f' of its ids, {next(iter(release.entries))!r} for instance.'
    )
  found = release.at_layer(layer)
  if not found:
    layers = sorted({e.site.layer for e in release.entries.values()})
    raise InputError(
        f'{release.name} has nothing of layer {layer}; it has the layers'
        f' {", ".join(map(str, layers))}.'
    )
  if len(found) > 1:  # The width that every layer of most releases has.
    found = [name for name in found if 'width_16k' in name] or found
  if len(found) > 1:
    raise InputError(
        f'{release.name} has {len(found)} dictionaries of layer {layer}; give'
        f' one of {", ".join(found[:4])}'
        f'{", ..." if len(found) > 4 else ""} after the name and a slash.'
    )
  return found[0]


def _from_neuronpedia(source: str) -> str | None:
  """The name here of 'gemma-2-2b/12-gemmascope-res-16k', or None."""
  match = re.fullmatch(
      r'([\w.-]+)/(\d{1,3})-(gemmascope|gemmascope-2|llamascope)'
      r'-(res|mlp|att|transcoder)-(\d{1,3}[km])(?:__l0-(\d{1,4}))?',
      source,
  )
  if match is None:
    return None
  model, layer, suite, kind, width, sparsity = match.groups()
  if suite == 'llamascope':
    times = {'32k': 8, '131k': 32}.get(width, width)
    letter = kind[0]
    return f'llama_scope_lx{letter}_{times}x/l{layer}{letter}_{times}x'
  size, _, tuned = re.sub('^gemma-[23]-', '', model).partition('-')
  tuned = tuned or 'pt'
  place = f'layer_{layer}'
  if suite == 'gemmascope-2':
    inner = f'{place}_width_{width}'
    if kind == 'transcoder':  # Neuronpedia shows these of the many.
      kind, inner = 'transcoders-all', f'{inner}_l0_small_affine'
    else:
      inner = f'{inner}_l0_medium'
    return f'gemma-scope-2-{size}-{tuned}-{kind}/{inner}'
  if kind == 'transcoder':
    # One of a layer.
    name = f'gemma-scope-{size}-{tuned}-transcoders'
    known = releases().get(name)
    start = f'{place}/width_{width}/'
    found = [i for i in known.entries if i.startswith(start)] if known else []
    return f'{name}/{found[0] if found else start}'
  name = f'gemma-scope-{size}-{tuned}-{kind}'
  if sparsity is not None:
    return f'{name}/{place}/width_{width}/average_l0_{sparsity}'
  return f'{name}-canonical/{place}/width_{width}/canonical'
