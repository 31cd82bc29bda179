"""What is known of one dictionary while it is read, and what that gives."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._arrays import Archive
from ooc_jax.dictionaries.formats._arrays import axis_sizes
from ooc_jax.dictionaries.formats._arrays import not_finite
from ooc_jax.dictionaries.formats._arrays import read_array
from ooc_jax.dictionaries.formats._settings import Settings
from ooc_jax.model import ModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawDictionary:
  """A dictionary as its files have it, in the space of its site.

  Attributes:
    encoder: [F, R], or None where there is none.
    decoder: [F, W], W the width of what the site writes.
    encoder_bias: [F] float32.
    decoder_bias: [W] float32.
    threshold: [F] float32.
    site: Layer and hook.
    top_k: See `Dictionary`.
    reads_gain: Whether the encoder expects its input times the gain of the
      norm before the MLP.
    in_stream: Whether it has been mapped to the residual stream already.
    no_encoder: Why there is no encoder, where there is none.
    name: That it was saved under; None takes the name it is loaded by.
    files: Paths that were read.
  """

  encoder: Any
  decoder: Any
  encoder_bias: Any
  decoder_bias: Any
  threshold: Any
  site: DictionarySite
  top_k: int | None = None
  reads_gain: bool = False
  in_stream: bool = False
  no_encoder: str | None = None
  name: str | None = None
  files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LoadHints:
  """What the caller knows of a dictionary that its files may not say.

  Attributes:
    path: Where the files are, as the caller or the hub names it.
    layer: Or None.
    hook: Or None.
    model_config: Of the model, or None without one.
    scale: What activations were multiplied by in training, where the list of
      releases says it; or None.
    normalize: How else they were normed, where the list says it; or None.
    nan_rows: 'dead' goes on without the latents that are not finite.
  """

  path: str
  layer: int | None = None
  hook: str | None = None
  model_config: ModelConfig | None = None
  scale: float | None = None
  normalize: str | None = None
  nan_rows: str | None = None

  def site(
      self, layer: int | None, hook: str | None, where: str
  ) -> DictionarySite:
    """What the files and the caller say together.

    Args:
      layer: That the files name, or None.
      hook: That the files name, or None.
      where: The files, for errors.

    Raises:
      InputError: They contradict each other, or none says the layer.
    """
    layers = {x for x in (layer, self.layer) if x is not None}
    hooks = {x for x in (hook, self.hook) if x is not None}
    if len(layers) > 1:
      raise InputError(
          f'{where} is of layer {layer}, and layer {self.layer} was asked for;'
          ' give the layer of the file, or none.'
      )
    if len(hooks) > 1:
      raise InputError(
          f'{where} is of the hook {hook!r}, and {self.hook!r} was asked for;'
          ' give the hook of the file, or none.'
      )
    if not layers:
      raise InputError(
          f'Neither {where} nor its path says of which layer it is; give'
          ' layer=.'
      )
    return DictionarySite(layers.pop(), hooks.pop() if hooks else 'resid_post')


@dataclasses.dataclass(frozen=True)
class Option:
  """A choice between readings of a file, a keyword of `load_dictionary`.

  Attributes:
    name: The keyword.
    kind: Type of its value; None does what the file says.
    help: What it chooses.
  """

  name: str
  kind: type
  help: str


NORM_SCALE = Option(
    'norm_scale',
    float,
    'What activations were multiplied by in training, where the files do not'
    ' say it (SAELens: norm_scaling_factor).',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """The files of one dictionary, opened, with what is known beside them.

  Attributes:
    archive: Its weights.
    config: Its settings; empty where the format has none.
    hints: What the caller knows.
    options: Values of the format's `Option`s that were given.
    beside: Its other weights, where it has two files.
    dead: Latents that are not finite, as they are met.
    axes: Name of an array -> its axes, once `sizes` was asked.
  """

  archive: Archive
  config: Settings
  hints: LoadHints
  options: Mapping[str, Any]
  beside: Archive | None = None
  dead: set[int] = dataclasses.field(default_factory=set)
  axes: dict[str, str] = dataclasses.field(default_factory=dict)

  @property
  def where(self) -> str:
    """The file that describes the dictionary, for errors."""
    return self.config.where or self.archive.where

  def sizes(
      self,
      axes: Mapping[str, str],
      optional: Mapping[str, str] | None = None,
      *,
      config_sizes: Mapping[str, str] | None = None,
  ) -> dict[str, int]:
    """`axis_sizes` of the weights, compared with what the config says.

    Args:
      axes: See `axis_sizes`.
      optional: See `axis_sizes`.
      config_sizes: Key of the config that holds a size -> the axis it is of.

    Raises:
      InputError: The arrays do not fit each other, or the config.
    """
    sizes = axis_sizes(self.archive, axes, optional)
    self.axes.update({**axes, **(optional or {})})
    for key, axis in (config_sizes or {}).items():
      size = self.config.get(key, int, sizes[axis])
      if size != sizes[axis]:
        raise InputError(
            f'{self.where}: {key} is {size}, and the weights have'
            f' {sizes[axis]}; download both again.'
        )
    return sizes

  def read(
      self, name: str, *, transposed: bool = False, wide: bool = False
  ) -> np.ndarray:
    """One array of the weights, finite; see `read_array`.

    Raises:
      InputError: It holds NaN or infinity, and not only in latents that are
        to be taken as dead.
    """
    x = read_array(self.archive, name, transposed=transposed, wide=wide)
    letters = self.axes.get(name, '')[:: -1 if transposed else 1]
    rows = not_finite(x, letters)
    if rows is None:
      return x
    where = f'{self.archive.where}: tensor {name!r} holds NaN or infinity'
    if not rows or len(rows) == x.shape[letters.index('F')]:
      raise InputError(f'{where}; download it again.')
    if self.hints.nan_rows != 'dead':
      shown = ', '.join(map(str, rows[:5])) + (', ...' if rows[5:] else '')
      raise InputError(
          f'{where} in {len(rows)} of {x.shape[letters.index("F")]} latents'
          f" ({shown}); where these died in training, nan_rows='dead'"
          ' (--nan_rows=dead) goes on without them; otherwise download it'
          ' again.'
      )
    x[(slice(None),) * letters.index('F') + (rows,)] = 0
    self.dead.update(rows)
    return x

  def without_dead(self, raw: RawDictionary) -> RawDictionary:
    """The dictionary whose dead latents neither read, write nor fire."""
    if not self.dead:
      return raw
    rows = sorted(self.dead)
    changes: dict[str, Any] = {}
    for field, value in (
        ('encoder', 0), ('decoder', 0), ('encoder_bias', 0),
        ('threshold', np.inf),
    ):  # fmt: skip
      if (x := getattr(raw, field)) is not None:
        changes[field] = np.array(x)
        changes[field][rows] = value
    return dataclasses.replace(raw, **changes)

  def scale(self) -> float | None:
    """What activations were multiplied by, as the caller or the list says.

    Raises:
      InputError: It is not above zero.
    """
    given = self.options.get(NORM_SCALE.name)
    scale = self.hints.scale if given is None else given
    if scale is not None and not 1e-9 < scale < 1e9:
      raise InputError(f'norm_scale={scale} must be a number above zero.')
    return scale

  def refuse_scaling_factor(self) -> None:
    """Refuses a factor of each feature that is not 1.

    Raises:
      InputError: There is such an array in the weights.
    """
    if 'scaling_factor' in self.archive.shapes:
      if (self.read('scaling_factor') != 1).any():
        raise InputError(
            f'{self.archive.where} has a scaling_factor that is not 1, left by'
            ' a fine-tuning whose meaning differs between programs; take an'
            ' SAE without one.'
        )
