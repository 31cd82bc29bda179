"""Settings of the experiments: each is described once, in its field.

The description makes the check of its value, its flag, and its line in
`--help`.
"""

from collections.abc import Collection, Mapping
import dataclasses
import re
from typing import Any, ClassVar

from jax.sharding import Mesh

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax import model
from ooc_jax._errors import InputError
from ooc_jax._settings import check
from ooc_jax._settings import setting
from ooc_jax.dictionaries import OPTIONS

NULLS = ('isotropic', 'matched')
CONTROLS = ('none', 'random_weights')
_LAYERS = re.compile(r'(\d{1,6})(?:-(\d{1,6}))?')


def _option(name: str) -> Any:
  """A choice between readings of a format, described where the format is."""
  return setting(None, help=OPTIONS[name].help, group='dictionary')


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


def chosen_layers(
    text: str, dictionaries: Collection[int], num_layers: int
) -> list[int]:
  """The layers of a run whose dictionaries are given.

  Args:
    text: As of `parse_layers`; 'all' is every layer that has a dictionary.
    dictionaries: The layers that have one.
    num_layers: Of the model.

  Raises:
    InputError: One has no dictionary, or none is left.
  """
  if text == 'all':
    layers = sorted(dictionaries)
  else:
    layers = parse_layers(text, num_layers)
  missing = [x for x in layers if x not in dictionaries]
  if missing or not layers:
    raise InputError(
        f'layers={text!r}: there is no dictionary of layer'
        f' {missing[0] if missing else "any"}; there are those of'
        f' {sorted(dictionaries)}.'
    )
  return layers


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class LensSettings(SharedSettings):
  """How directions are read, and which of their top tokens go together."""

  convention: str = setting(
      'normed',
      help='How a direction is read; see `ooc_jax.output_lens`.',
      choices=circuits.CONVENTIONS,
  )
  undertrained_cosine: float | None = setting(
      circuits.UNDERTRAINED_COSINE,
      help=(
          'Tokens that are as close to the mean of those that were never'
          ' trained are left out; none keeps them.'
      ),
  )
  token_space: str = setting(
      'whitened',
      help='In which the cosine of two tokens is taken.',
      choices=measures.TOKEN_SPACES,
  )
  rule: str = setting(
      'any',
      help='How many of the measures a semantic feature must pass.',
      choices=measures.RULES,
      source='inferred',
  )

  def settled(
      self, loaded: model.Model, mesh: Mesh | None
  ) -> Mapping[str, Any]:
    """Settings that the model and the devices of a run decide."""
    del loaded, mesh
    return {}

  @property
  def parts(self) -> tuple[str, ...]:
    """Parts of the model that are read: all."""
    return model.PARTS
