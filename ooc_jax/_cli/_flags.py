"""Flags made of the dataclasses that hold the settings.

They are defined when a main runs, in a set of their own: a program that
imports `ooc_jax` has only its own flags.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import textwrap
from typing import Any

from absl import flags

from ooc_jax._errors import InputError
from ooc_jax._settings import Setting
from ooc_jax._settings import settings_of

# Of --weights, where a command reads a model.
WEIGHTS = (
    'A local copy of the model, instead of the hub: a .gguf or .safetensors'
    ' file, or a folder.'
)
_HELP = ('help', 'helpshort', 'helpfull')
_WORDS = {int: 'NUMBER', float: 'NUMBER', bool: 'true|false', str: 'TEXT'}
_LOGGING = 'absl.logging'


@dataclasses.dataclass(frozen=True)
class Given:
  """What a command line says.

  Attributes:
    settings: Name -> value, of those alone that it gives.
    defaults: Name -> default, of all.
    words: What is no flag.
    help: What was asked for instead, or None.
  """

  settings: Mapping[str, Any]
  defaults: Mapping[str, Any]
  words: Sequence[str]
  help: str | None = None

  def __getitem__(self, name: str) -> Any:
    return self.settings.get(name, self.defaults[name])

  def of(self, kind: type) -> dict[str, Any]:
    """Those given that are settings of a dataclass."""
    names = settings_of(kind)
    return {k: v for k, v in self.settings.items() if k in names}


class _NumberOrNone(flags.ArgumentParser):
  """'none', or what another parser takes."""

  def __init__(self, parser: flags.ArgumentParser):
    super().__init__()
    self._parser = parser

  def parse(self, argument: Any) -> Any:
    return None if argument == 'none' else self._parser.parse(argument)


class _BooleanOrList(flags.BooleanParser):
  """True or false, or some of a few words with commas between."""

  def __init__(self, words: Sequence[str]):
    super().__init__()
    self._words = words

  def parse(self, argument: Any) -> Any:
    given = str(argument).split(',')
    if set(given) <= set(self._words):
      return tuple(given)
    try:
      return super().parse(argument)
    except ValueError as error:
      known = ', '.join(self._words)
      raise ValueError(f'write true, false, or some of {known}') from error


def parse_flags(
    argv: Sequence[str],
    groups: Mapping[str, type],
    usage: str,
) -> Given:
  """Reads a command line.

  Args:
    argv: Its first word is the program.
    groups: Heading -> dataclass of settings; a name that several of them have
      is that of the first.
    usage: What `--help` begins with.

  Raises:
    InputError: A flag is unknown or not of its type.
  """
  settings = _by_name(groups)
  values = flags.FlagValues()
  for name, (_, (about, kind, optional, _)) in settings.items():
    for flag in (name, about.alias):
      if flag is not None:
        _define(values, flag, kind, optional, about)
  for name in _HELP:
    flags.DEFINE_boolean(name, False, 'Show this.', flag_values=values)
  # The level of the log and where it goes are settings of the whole process.
  for flag in flags.FLAGS.flags_by_module_dict().get(_LOGGING, ()):
    values[flag.name] = flag
  try:
    words = values(list(argv))[1:]
  except flags.Error as error:
    raise InputError(f'{error}; --help lists the settings.') from error
  given: dict[str, Any] = {}
  for name, (_, (about, *_)) in settings.items():
    present = [x for x in (name, about.alias) if x and values[x].present]
    if len(present) == 2:
      raise InputError(f'--{present[0]} and --{present[1]} are one setting.')
    if present:
      value = values[present[0]].value
      given[name] = tuple(value) if isinstance(value, list) else value
  wanted = None
  if any(values[name].value for name in _HELP):
    wanted = _help(usage, settings)
    if values['helpfull'].value:
      wanted += '\nlog:\n' + _logging_help()
  defaults = {name: default for name, (_, (*_, default)) in settings.items()}
  return Given(given, defaults, words, wanted)


def _by_name(groups: Mapping[str, type]) -> dict[str, tuple[str, Any]]:
  """Name -> heading, and what `settings_of` says."""
  found: dict[str, tuple[str, Any]] = {}
  for heading, kind in groups.items():
    for name, entry in settings_of(kind).items():
      found.setdefault(name, (entry[0].group or heading, entry))
  return found


def _define(
    values: flags.FlagValues,
    name: str,
    kind: Any,
    optional: bool,
    about: Setting,
) -> None:
  """One flag; what it may be is checked where the dataclass is made."""
  if kind is bool:
    flag = flags.BooleanFlag(name, None, about.help)
    if about.choices is not None:
      flag.parser = _BooleanOrList(about.choices)
    flags.DEFINE_flag(flag, flag_values=values)
  elif kind in (int, float):
    parser = flags.IntegerParser() if kind is int else flags.FloatParser()
    if optional:
      parser = _NumberOrNone(parser)
    flags.DEFINE(parser, name, None, about.help, flag_values=values)
  elif kind is str:
    flags.DEFINE_string(name, None, about.help, flag_values=values)
  else:
    flags.DEFINE_list(name, None, about.help, flag_values=values)


def _help(usage: str, settings: Mapping[str, tuple[str, Any]]) -> str:
  """All settings under their headings, with choices and defaults."""
  sections: dict[str, list[str]] = {}
  for name, (heading, (about, kind, _, default)) in settings.items():
    value = '|'.join(about.choices or ()) or _WORDS.get(kind, 'TEXT,TEXT')
    if kind is bool and about.choices:
      value = f'{_WORDS[bool]}|{",".join(about.choices)}'
    text = about.help
    if default is not None:
      shown = ','.join(default) if isinstance(default, tuple) else default
      source = '' if about.source == 'ours' else f' ({about.source})'
      text += f' Default: {str(shown).lower() if kind is bool else shown}'
      text += f'{source}.'
    if about.alias is not None:
      text += f' --{about.alias} is the same.'
    body = textwrap.fill(
        text, 80, initial_indent=' ' * 6, subsequent_indent=' ' * 6
    )
    sections.setdefault(heading, []).append(f'  --{name}={value}\n{body}\n')
  blocks = [f'{x}:\n{"".join(lines)}' for x, lines in sections.items()]
  return '\n'.join([f'{usage}\n', *blocks])


def _logging_help() -> str:
  return ''.join(
      f'  --{flag.name}\n'
      + textwrap.indent(textwrap.fill(flag.help, 74), ' ' * 6)
      + '\n'
      for flag in flags.FLAGS.flags_by_module_dict().get(_LOGGING, ())
  )
