"""Names of dictionaries: built in, of a release, or of somebody's id for one.

Any hub id, folder or file works without an entry here.
"""

from collections.abc import Mapping
import dataclasses
import difflib
import math
import os
import pathlib
import re
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.checkpoints import MissingFile
from ooc_jax.checkpoints import PlannedFile
from ooc_jax.checkpoints import fetch_file
from ooc_jax.checkpoints import plan_file
from ooc_jax.checkpoints import plan_shapes
from ooc_jax.dictionaries import formats
from ooc_jax.dictionaries._builtin import RANDOM_SIZE
from ooc_jax.dictionaries._releases import neuronpedia_ids
from ooc_jax.dictionaries._releases import releases
from ooc_jax.model import ModelConfig

# Name of a dictionary that is made of a model -> the parts it is made of.
BUILTIN = {'mlp': ('mlp', 'norms'), 'tokens': ('embedding',), 'random': ()}
# Hook -> parts that map a dictionary of it to the stream: outputs of heads are
# written through W_O, and transcoders may read through a norm.
_PARTS = {'attn_z': ('attention', 'norms'), 'mlp_in': ('norms',)}

_ENCODER = re.compile(r'(W_enc|encoder)(_\d{1,4}|\.weight)?')


@dataclasses.dataclass(frozen=True)
class Named:
  """A dictionary that has a name in a release.

  Attributes:
    name: 'release/id'.
    format: Of its files; None where they are of none here.
    release: That it is in.
    entry: Where it is.
  """

  name: str
  format: formats.Format | None
  release: formats.Release
  entry: formats.Entry


@dataclasses.dataclass(frozen=True)
class DictionaryPlan:
  """What `load_dictionary` would read.

  Attributes:
    files: Of its weights, on the hub; none if they come with ooc_jax.
    size: F, how many features.
    exact: Whether that is known; else it follows from the bytes of the file.
  """

  files: tuple[PlannedFile, ...]
  size: int
  exact: bool = True


def list_dictionaries() -> tuple[formats.Release, ...]:
  """Every release that has a name here, with the ids in it.

  `load_dictionary(f'{release.name}/{id}')` loads one of them; any other hub
  id, folder or file works too.
  """
  return tuple(release for _, release in releases().values())


def is_release(source: str) -> bool:
  """Whether a name begins with that of a release, as `find_entry` reads it."""
  return _resolved(source).partition('/')[0] in releases()


def find_entry(source: str, layer: int | None) -> Named | None:
  """The dictionary that a name means, or None if it is no such name.

  Args:
    source: 'release/id', a release (with `layer`), or an id of Neuronpedia
      ('gemma-2-2b/12-gemmascope-res-16k').
    layer: Chooses among the ids of a release.

  Raises:
    InputError: The release or the id is unknown; the nearest is suggested.
  """
  first, _, rest = _resolved(source).partition('/')
  known = releases()
  if first not in known:
    close = difflib.get_close_matches(first, known, n=1, cutoff=0.8)
    if close:
      raise InputError(
          f'Unknown release {printable(first, 200)!r} of dictionaries; did you'
          f' mean {close[0]!r}?'
      )
    return None
  found, release = known[first]
  if not rest:
    rest = _of_layer(release, layer)
  if rest not in release.entries:
    raise InputError(
        f'Release {first} has no {printable(rest, 200)!r}; did you mean'
        f' {_nearest(rest, release)!r}?'
    )
  return Named(f'{first}/{rest}', found, release, release.entries[rest])


def model_parts(source: str | os.PathLike[str]) -> tuple[str, ...]:
  """Parts of the model that `load_dictionary` reads to make or map `source`.

  A folder or file says its hook when it is read, which is after the model: it
  may be one that needs most.

  Args:
    source: As of `load_dictionary`.
  """
  name = os.fspath(source)
  if name in BUILTIN:
    return BUILTIN[name]
  if _is_own(name):
    return ()
  release = releases().get(_resolved(name).partition('/')[0])
  if release is None:
    return _PARTS['attn_z']
  sites = {entry.site for entry in release[1].entries.values()}
  if None in sites:
    return _PARTS['attn_z']
  hooks = {site.hook for site in sites if site is not None}
  return tuple({p: 0 for hook in sorted(hooks) for p in _PARTS.get(hook, ())})


def plan_dictionary(
    source: str,
    layer: int,
    config: ModelConfig,
    *,
    revision: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> DictionaryPlan:
  """What `load_dictionary` would read, found without reading it.

  Args:
    source: A built-in name or one of a release; '{layer}' in it stands for
      `layer`.
    layer: Of the model.
    config: Of the model.
    revision: Of the dictionary's repository.
    options: Choices between readings of its format; see `load_dictionary`.

  Raises:
    InputError: The dictionary is not known before it is read, or not there, or
      has no such option.
  """
  sizes = {
      'mlp': config.mlp_dim,
      'tokens': config.vocab_size,
      'random': RANDOM_SIZE,
  }
  if source in sizes:
    check_nothing_given(source, options or {})
    return DictionaryPlan((), sizes[source])
  named = find_entry(source.replace('{layer}', str(layer)), layer)
  if named is None:
    raise InputError(
        f'dictionary={source!r} is no release that is listed, so its size is'
        ' not known before it is read; leave --dry_run out.'
    )
  entry, f = named.entry, check_loads(named)
  formats.options_of(f, options or {}, named.name)
  repo = named.release.repo
  if repo is None:
    assert entry.size is not None  # Of those that come with ooc_jax.
    return DictionaryPlan((), entry.size)
  weights = entry.file or f.weights[0]
  names = [weights]
  if f.beside is not None:
    names.append(f.beside.replace('{layer}', str(f.layer_of(weights))))
  inside = f'{entry.folder}/' if entry.folder else ''
  try:
    files = tuple(plan_file(repo, inside + x, revision) for x in names)
  except MissingFile:
    raise InputError(f'{repo} has no weights in {entry.folder}.') from None
  if entry.size is not None:
    return DictionaryPlan(files, entry.size)
  return _measured(repo, files, revision, config.embed_dim, named.name)


def _measured(
    repo: str,
    files: tuple[PlannedFile, ...],
    revision: str | None,
    embed_dim: int,
    name: str,
) -> DictionaryPlan:
  """The plan of a dictionary whose size only its first file says."""
  weights = files[0]
  if weights.cached:
    path = fetch_file(repo, weights.name, revision)
    shapes = formats.open_archive(path).shapes
  elif weights.name.endswith('.safetensors'):
    shapes = plan_shapes(repo, weights.name, revision)
  else:  # Encoder, decoder and a bias, in float32 as all that are listed so.
    size = weights.size // (4 * (2 * embed_dim + 1))
    return DictionaryPlan(files, size, exact=False)
  encoder = next((x for n, x in shapes.items() if _ENCODER.fullmatch(n)), ())
  if len(encoder) != 2 or embed_dim not in encoder:
    raise InputError(
        f'{name} has the encoder {list(encoder)}, and the model a residual'
        f' stream of {embed_dim}; take a dictionary of this model.'
    )
  return DictionaryPlan(files, math.prod(encoder) // embed_dim)


def check_loads(named: Named) -> formats.Format:
  """The format of a dictionary of the list.

  Raises:
    InputError: It does not load; why not.
  """
  if named.format is None or named.entry.refusal:
    raise InputError(
        f'{named.name} does not load: {named.entry.refusal}; take another'
        ' release of the model (convert_weights.py --list).'
    )
  return named.format


def check_nothing_given(name: str, given: Mapping[str, Any]) -> None:
  """Refuses what is of files, for a dictionary that is made of a model.

  Raises:
    InputError: Something in `given` is not None.
  """
  for setting, value in given.items():
    if value is not None:
      raise InputError(f'Dictionary {name!r} has no {setting}; leave it out.')


def pasted_name(source: str) -> str | None:
  """What to give in place of a web address, or None if it is none.

  A page of Neuronpedia says the dictionary by its first two parts; one of the
  hub a repository and a path in it, behind a word and a revision.
  """
  match = re.fullmatch(
      r'(?:https?://)?(?:www\.)?(neuronpedia\.org|huggingface\.co|hf\.co)/(.*)',
      source.strip(),
  )
  if match is None:
    return '' if '://' in source else None
  parts = [x for x in re.split(r'[?#]', match[2])[0].split('/') if x]
  if match[1] == 'neuronpedia.org':
    return '/'.join(parts[:2])
  if parts[2:3] and parts[2] in ('tree', 'blob', 'resolve'):
    parts[2:4] = []
  return '/'.join(parts)


def _is_own(path: str) -> bool:
  """Whether `path` is a folder that `save_dictionary` wrote."""
  try:
    return (pathlib.Path(path).expanduser() / formats.OWN.weights[0]).is_file()
  except (OSError, RuntimeError, ValueError):
    return False


def _resolved(source: str) -> str:
  """`source`, or 'release/id' if it is somebody else's name of that."""
  parts = source.strip('/').split('/')
  if len(parts) == 3 and parts[2].isdigit():  # A feature of Neuronpedia.
    parts.pop()
  short = '/'.join(parts)
  if (name := neuronpedia_ids().get(short)) is not None:
    return name
  aliases = (f.alias(short) for f in formats.FORMATS)
  return next((name for name in aliases if name), source).strip('/')


def _nearest(name: str, release: formats.Release) -> str:
  """The id that looks most alike, of the same layer and width if it can."""
  start, number = _split_number(name)
  close = [i for i in release.entries if _split_number(i)[0] == start]
  if close:  # 'average_l0_100' means the one whose number is the nearest.
    return min(close, key=lambda i: abs(_split_number(i)[1] - number))
  start = name.rpartition('/')[0] + '/'
  ids = [i for i in release.entries if i.startswith(start)] or release.entries
  return difflib.get_close_matches(name, ids, n=1, cutoff=0)[0]


def _split_number(name: str) -> tuple[str, int]:
  """'layer_3/width_16k/average_l0_' and its number, or the name and -1."""
  match = re.fullmatch(r'(.*_l0_)(\d{1,6})', name)
  return (match[1], int(match[2])) if match else (name, -1)


def _of_layer(release: formats.Release, layer: int | None) -> str:
  """The id of a layer, where the release alone says which."""
  if layer is None:
    raise InputError(
        f'{release.name} is a release of many dictionaries; give layer=, or one'
        f' of its ids, {next(iter(release.entries))!r} for instance.'
    )
  found = release.at_layer(layer)
  if not found:
    layers = sorted(
        {e.site.layer for e in release.entries.values() if e.site is not None}
    )
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
