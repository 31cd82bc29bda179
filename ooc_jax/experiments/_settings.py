"""Settings of the experiments: each is described once, in its field.

The description makes the check of its value, its flag, and its line in
`--help`.
"""

from collections.abc import Callable, Mapping
import dataclasses
import re
import types
import typing
from typing import Any, ClassVar

from ooc_jax._errors import InputError
from ooc_jax._text import nearest
from ooc_jax.dictionaries import OPTIONS

NULLS = ('isotropic', 'matched')
CONTROLS = ('none', 'random_weights')
SOURCES = ('paper', 'inferred', 'ours')
_KEY = 'setting'
_LAYERS = re.compile(r'(\d{1,6})(?:-(\d{1,6}))?')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """What is known of a setting.

  Attributes:
    help: What it is, in a sentence.
    choices: All values of a text, or None.
    least: The smallest whole number.
    between: Bounds of a number, themselves excluded.
    parse: Understands a text, or raises `InputError`.
    source: 'paper', 'inferred' where the paper leaves it open and one value is
      likely, or 'ours'.
    group: Heading in `--help`; None is the experiment.
    alias: Older name of its flag.
  """

  help: str
  choices: tuple[str, ...] | None = None
  least: int | None = None
  between: tuple[float, float] | None = None
  parse: Callable[[str], Any] | None = None
  source: str = 'ours'
  group: str | None = None
  alias: str | None = None


def setting(default: Any, **about: Any) -> Any:
  """A field of a frozen dataclass; `about` as of `Setting`, `help` at least."""
  return dataclasses.field(
      default=default, metadata={_KEY: Setting(**about)}, kw_only=True
  )


def _option(name: str) -> Any:
  """A choice between readings of a format, described where the format is."""
  return setting(None, help=OPTIONS[name].help, group='dictionary')


def settings_of(
    kind: type,
) -> Mapping[str, tuple[Setting, type, bool, Any]]:
  """Name -> description, type, whether None is allowed, and default."""
  hints = typing.get_type_hints(kind)
  found = {}
  for field in dataclasses.fields(kind):
    if _KEY in field.metadata:
      own, optional = _without_none(hints[field.name])
      about = field.metadata[_KEY]
      found[field.name] = about, own, optional, field.default
  return found


def _without_none(hint: Any) -> tuple[Any, bool]:
  """`int | None` as (int, True), int as (int, False)."""
  if typing.get_origin(hint) not in (types.UnionType, typing.Union):
    return hint, False
  (own,) = (x for x in typing.get_args(hint) if x is not type(None))
  return own, True


def check(config: Any) -> None:
  """Refuses a dataclass of settings of which one cannot be.

  Raises:
    InputError: Names the setting, its value, and what may be there.
  """
  for name, (about, kind, optional, _) in settings_of(type(config)).items():
    value = getattr(config, name)
    if value is None and optional:
      continue
    problem = _problem(value, kind, about)
    if problem:
      raise InputError(f'{name}={value!r} {problem}')
    if about.parse is not None:
      about.parse(value)


def _problem(value: Any, kind: Any, about: Setting) -> str:
  """What is wrong with a value, or ''."""
  if about.choices is not None:
    if value in about.choices:
      return ''
    return f'is unknown{nearest(str(value), about.choices)}'
  if kind is int:
    least = about.least
    if type(value) is int and (least is None or value >= least):
      return ''
    least_text = '' if least is None else f', at least {least}'
    return f'must be a whole number{least_text}.'
  if kind is float:
    low, high = about.between or (float('-inf'), float('inf'))
    if type(value) in (int, float) and low < value < high:
      return ''
    return f'must be a number between {low:g} and {high:g}.'
  if kind in (bool, str) and type(value) is not kind:
    return f'must be {"true or false" if kind is bool else "a text"}.'
  return ''


def parse_layers(text: str, num_layers: int) -> list[int]:
  """'all' or '0,5,10-20' as rising layer numbers without repeats.

  Raises:
    InputError: The text is not of that form, or names a layer that is not
      there.
  """
  if text == 'all':
    return list(range(num_layers))
  layers: set[int] = set()
  for item in text.split(','):
    match = _LAYERS.fullmatch(item.strip())
    if not match:
      raise InputError(
          f"layers={text!r}: {item!r} is no layer; write 'all' or '0,5,10-20'."
      )
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if not first <= last < num_layers:
      raise InputError(
          f'layers={text!r}: the model has layers 0 to {num_layers - 1}, and'
          f' {item!r} is not among them.'
      )
    layers |= set(range(first, last + 1))
  return sorted(layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DictionarySettings:
  """How the files of a dictionary are read, where they leave it open."""

  nan_rows: str | None = setting(
      None,
      help=(
          "'dead' goes on where latents are not finite, as some are that died"
          ' in training: they neither read nor write. By default they are'
          ' refused.'
      ),
      choices=('dead',),
      group='dictionary',
  )
  norm_scale: float | None = _option('norm_scale')
  sparsity_include_decoder_norm: bool | None = _option(
      'sparsity_include_decoder_norm'
  )
  to_layer: int | None = _option('to_layer')
  top_k: int | None = _option('top_k')

  @property
  def dictionary_options(self) -> dict[str, Any]:
    """What `load_dictionary` is given with `dictionary`: choices of formats."""
    return {name: getattr(self, name) for name in OPTIONS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedSettings(DictionarySettings):
  """What every experiment on a model and a dictionary sets."""

  # Key of a file of `configs/` under which this class has its own values.
  CONFIG_ENTRY: ClassVar[str | None] = None

  model: str | None = setting(
      None,
      help=(
          'Name of the registry, hub id, folder or file; None is the'
          ' tiny-gemma2 that comes along.'
      ),
      group='every experiment',
  )
  revision: str | None = setting(
      None,
      help='Branch, tag or commit of the hub repository.',
      group='every experiment',
  )
  dictionary: str = setting(
      'mlp',
      help=(
          "The directions: 'mlp', 'tokens', 'random', an id of"
          " convert_weights.py --list, a hub id, a folder or a file; '{layer}'"
          ' in it is the layer.'
      ),
      source='paper',
      group='every experiment',
  )
  layers: str = setting(
      'all',
      help="'all', or numbers and ranges: 0,5,10-20.",
      source='paper',
      group='every experiment',
  )
  null: str = setting(
      'isotropic',
      help=(
          "Random directions, 'matched' to mean and covariance of each"
          ' dictionary or not.'
      ),
      choices=NULLS,
      group='every experiment',
  )
  alpha: float = setting(
      0.01,
      help='Share of chance directions that a null lets pass.',
      between=(0.0, 1.0),
      group='every experiment',
  )
  control: str = setting(
      'none',
      help="'random_weights': the model's weights drawn anew.",
      choices=CONTROLS,
      group='every experiment',
  )
  examples: int = setting(
      12,
      help='How many examples to show at the end.',
      least=0,
      group='every experiment',
  )
  seed: int = setting(
      0,
      help='Of random directions, bootstrap and control.',
      least=0,
      group='every experiment',
  )

  def __post_init__(self):
    check(self)
