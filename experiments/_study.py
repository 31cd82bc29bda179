"""The settings of a study: a file of `configs/`, overridden by flags."""

from collections.abc import Mapping
import dataclasses
import difflib
import pathlib
import re
import runpy
from typing import Any, TypeVar

import _sides

import ooc_jax

_CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'
_ALIASES = {'gemma2': 'gemma2_2b', 'llama3': 'llama3_1_8b'}
NULLS = ('isotropic', 'matched')
CONTROLS = ('none', 'random_weights')
_LEAST = {'k': 2, 'examples': 0, 'seed': 0, 'null_size': 100}
_LAYERS = re.compile(r'(\d{1,6})(?:-(\d{1,6}))?')
_S = TypeVar('_S')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """Everything that defines a run; all of it is written into its results.

  Attributes:
    model: Name of the registry, hub id, folder or file.
    revision: Of a hub repository.
    dictionary: What `load_dictionary` takes.
    layers: 'all', or numbers and ranges: '0,5,10-20'.
    k: Top tokens a feature.
    convention: How a direction is read; see `output_lens`.
    centered: Whether the mean unembedding row is subtracted.
    precision: See `output_lens`.
    undertrained_cosine: Level of `undertrained_tokens`; None keeps them.
    token_space: Of the cosine measure; see `token_space`.
    rule: How many of the three measures must pass; see `is_semantic`.
    thresholds: 'null', 'quantile', 'quantile:0.9', or
      'fixed:levenshtein=0.6,cosine=0.2,entropy=3'.
    alpha: Share of random directions that `null` thresholds let pass.
    null: Random directions 'isotropic', or 'matched' to mean and covariance
      of each dictionary.
    null_size: How many of them.
    sides: 'all', or 'output' with any of 'input', 'embedding'; see `_sides`.
    control: 'none', or 'random_weights': the model's weights drawn anew.
    examples: How many features are shown at the end.
    seed: Of the random directions, the bootstrap and the control.
  """

  model: str
  revision: str | None = None
  dictionary: str = 'mlp'
  layers: str = 'all'
  k: int = 20
  convention: str = 'normed'
  centered: bool = False
  precision: str = 'exact'
  undertrained_cosine: float | None = ooc_jax.circuits.UNDERTRAINED_COSINE
  token_space: str = 'whitened'
  rule: str = 'any'
  thresholds: str = 'null'
  alpha: float = 0.01
  null: str = 'isotropic'
  null_size: int = 4096
  sides: str = 'all'
  control: str = 'none'
  examples: int = 12
  seed: int = 0

  def __post_init__(self):
    check_known('convention', self.convention, ooc_jax.circuits.CONVENTIONS)
    check_known('precision', self.precision, ooc_jax.circuits.PRECISIONS)
    check_known('token_space', self.token_space, ooc_jax.measures.TOKEN_SPACES)
    check_known('rule', self.rule, ooc_jax.measures.RULES)
    check_known('null', self.null, NULLS)
    check_known('control', self.control, CONTROLS)
    _sides.parse_sides(self.sides, tied=False)
    check_alpha(self.alpha)
    check_least(self, _LEAST)
    parse_thresholds(self.thresholds)


def check_known(name: str, value: str, known: tuple[str, ...]) -> None:
  """Refuses a setting that is not one of `known`, and suggests the nearest."""
  if value not in known:
    raise ooc_jax.InputError(
        f'{name}={value!r} is unknown{_nearest(str(value), known)}'
    )


def check_alpha(alpha: float) -> None:
  """Refuses a share that is none."""
  if not 0 < alpha < 1:
    raise ooc_jax.InputError(
        f'alpha={alpha!r} must be a share between 0 and 1.'
    )


def check_least(study: Any, least: Mapping[str, int]) -> None:
  """Refuses settings that are no whole numbers, or too small."""
  for name, smallest in least.items():
    value = getattr(study, name)
    if type(value) is not int or value < smallest:
      raise ooc_jax.InputError(
          f'{name}={value!r} must be a whole number, at least {smallest}.'
      )


def load_study(
    name: str, overrides: Mapping[str, Any], kind: type[_S] = Study
) -> _S:
  """Reads `configs/NAME.py` and applies what the command line gave.

  A config is of experiment 1; its entry 'attention', if it has one, holds what
  is set otherwise where attention is studied.

  Args:
    name: 'smollm2'; 'gemma2' and 'llama3' are short for their smallest.
    overrides: Field of `kind` -> value; None means not given.
    kind: What to build: `Study`, or `AttentionStudy`.

  Raises:
    InputError: There is no such file, or a setting is unknown or wrong.
  """
  known = tuple(sorted(p.stem for p in _CONFIGS.glob('[a-z]*.py')))
  stem = _ALIASES.get(name, name)
  if stem not in known:
    raise ooc_jax.InputError(
        f'There is no config {name!r} in'
        f' {_CONFIGS.name}/{_nearest(name, known)}'
    )
  settings = runpy.run_path(str(_CONFIGS / f'{stem}.py'))['get_config']()
  attention = settings.pop('attention', {})
  _check_fields(f'configs/{stem}.py', settings, Study)
  if kind is not Study:
    fields = _fields(kind)
    settings = {k: v for k, v in settings.items() if k in fields}
    _check_fields(f"'attention' of configs/{stem}.py", attention, kind)
    settings |= attention
  given = {k: v for k, v in overrides.items() if v is not None}
  return kind(**{**settings, **given})


def _check_fields(where: str, settings: Mapping[str, Any], kind: type) -> None:
  fields = _fields(kind)
  for key in settings:
    if key not in fields:
      raise ooc_jax.InputError(
          f'{where}: unknown setting {key!r}{_nearest(key, fields)}'
      )


def _fields(kind: Any) -> tuple[str, ...]:
  return tuple(f.name for f in dataclasses.fields(kind))


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
      raise ooc_jax.InputError(
          f"layers={text!r}: {item!r} is no layer; write 'all' or '0,5,10-20'."
      )
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if not first <= last < num_layers:
      raise ooc_jax.InputError(
          f'layers={text!r}: the model has layers 0 to {num_layers - 1}, and'
          f' {item!r} is not among them.'
      )
    layers |= set(range(first, last + 1))
  return sorted(layers)


def parse_thresholds(text: str) -> tuple[str, Any]:
  """('null', None), ('quantile', q) or ('fixed', Thresholds).

  Raises:
    InputError: The text is of neither form.
  """
  kind, _, rest = text.partition(':')
  try:
    if text == 'null':
      return kind, None
    if kind == 'quantile':
      quantile = float(rest or '0.75')
      if 0 < quantile < 1:
        return kind, quantile
    elif kind == 'fixed':
      pairs = [item.split('=') for item in rest.split(',')]
      values = {name.strip(): float(number) for name, number in pairs}
      return kind, ooc_jax.measures.fixed_thresholds(values)
  except ooc_jax.InputError:
    raise
  except ValueError:
    pass
  raise ooc_jax.InputError(
      f"thresholds={text!r} is not understood; write 'null', 'quantile',"
      " 'quantile:0.9' (between 0 and 1) or"
      " 'fixed:levenshtein=0.6,cosine=0.2,entropy=3'."
  )


def _nearest(name: str, known: tuple[str, ...]) -> str:
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  if close:
    return f'; did you mean {close[0]!r}?'
  return f'; known are {", ".join(known)}.'
