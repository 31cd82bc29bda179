"""The settings of experiment 2, and where its dictionaries are."""

from collections.abc import Sequence
import dataclasses
import pathlib

from _study import CONTROLS
from _study import NULLS
from _study import check_alpha
from _study import check_known
from _study import check_least
from _study import parse_layers
from jax.sharding import Mesh

import ooc_jax
from ooc_jax import measures
from ooc_jax.dictionaries import DictionarySite

# What stands for chance: random directions, a dictionary whose keys are
# permuted, and the mean-centred token embeddings.
NULL_KINDS = ('random', 'permuted', 'tokens')
_LEAST = {
    'offset': 0,
    'partners': 1,
    'at_least': 1,
    'pairs': 1,
    'context': 1,
    'write_tokens': 0,
    'examples': 0,
    'seed': 0,
}
# Of a release, the id of layer 0 is called so, where there is one.
_LAYER, _EMBEDDING = 'layer_{layer}', 'embedding'


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionStudy:
  """Everything that defines a run; all of it is written into its results.

  Attributes:
    model: Name of the registry, hub id, folder or file.
    revision: Of a hub repository.
    dictionary: What `load_dictionary` takes; see `dictionary_of`.
    first: Dictionary at the input of layer 0: 'auto', 'none', or its name.
    layers: Of the attention: 'all' that have a dictionary, or '1,5,10-20'.
    offset: Tokens from key to query.
    partners: Best partners kept of every feature, in each head and role.
    sink_share: A key that gets more than this share of all weight, on mean
      over the heads, is a sink, and is left out as a key; None keeps all.
    participation: 'quantile:0.75' of all features, heads and layers together,
      or 'null:random' and the like, head by head.
    alpha: Share of a null's directions that may participate in a head.
    at_least: Heads in which a feature must participate to be counted.
    nulls: 'all', 'none', or some of `NULL_KINDS`; the first is drawn.
    null: Random directions 'isotropic', or 'matched' to mean and covariance.
    pairs: Strongest pairs of a head whose score is followed over distance.
    context: Distances 0 to context - 1.
    write_tokens: Top tokens of what a head writes; 0 leaves that out.
    control: 'none', or 'random_weights': the model's weights drawn anew.
    examples: How many heads are shown at the end.
    seed: Of nulls, the bootstrap and the control.
  """

  model: str
  revision: str | None = None
  dictionary: str = 'mlp'
  first: str = 'auto'
  layers: str = 'all'
  offset: int = 0
  partners: int = 5
  sink_share: float | None = None
  participation: str = 'quantile:0.75'
  alpha: float = 0.01
  at_least: int = 1
  nulls: str = 'all'
  null: str = 'isotropic'
  pairs: int = 64
  context: int = 512
  write_tokens: int = 5
  control: str = 'none'
  examples: int = 12
  seed: int = 0

  def __post_init__(self):
    check_known('null', self.null, NULLS)
    check_known('control', self.control, CONTROLS)
    check_alpha(self.alpha)
    check_least(self, _LEAST)
    if self.sink_share is not None and not 0 < self.sink_share < 1:
      raise ooc_jax.InputError(
          f'sink_share={self.sink_share!r} must be a share between 0 and 1.'
      )
    kinds = self.null_kinds
    kind, value = parse_participation(self.participation)
    if kind == 'null' and value not in kinds:
      raise ooc_jax.InputError(
          f'participation={self.participation!r} needs the null {value!r}, and'
          f' nulls={self.nulls!r} does not hold it; add it there.'
      )

  @property
  def null_kinds(self) -> tuple[str, ...]:
    """Those of `nulls`, in the order of `NULL_KINDS`."""
    if self.nulls in ('all', 'none'):
      return NULL_KINDS if self.nulls == 'all' else ()
    names = [name.strip() for name in self.nulls.split(',')]
    for name in names:
      if name not in NULL_KINDS:
        raise ooc_jax.InputError(
            f"nulls={self.nulls!r}: {name!r} is none; write 'all', 'none', or"
            f' some of {", ".join(NULL_KINDS)} with commas.'
        )
    return tuple(name for name in NULL_KINDS if name in names)


def parse_participation(text: str) -> tuple[str, float | str]:
  """('quantile', q) or ('null', name).

  Raises:
    InputError: The text is of neither form.
  """
  kind, _, rest = text.partition(':')
  if kind == 'null' and (rest or NULL_KINDS[0]) in NULL_KINDS:
    return kind, rest or NULL_KINDS[0]
  if kind == 'quantile':
    try:
      quantile = float(rest or measures.PARTICIPATION_QUANTILES[0])
    except ValueError:
      quantile = 0.0
    if 0 < quantile < 1:
      return kind, quantile
  raise ooc_jax.InputError(
      f"participation={text!r} is not understood; write 'quantile:0.75'"
      ' (between 0 and 1) or null: and one of'
      f' {", ".join(NULL_KINDS)}.'
  )


def attention_layers(study: AttentionStudy, num_layers: int) -> list[int]:
  """The layers of the run.

  Raises:
    InputError: One is named that has no dictionary at its input.
  """
  if study.layers == 'all':
    return [x for x in range(num_layers) if _has_dictionary(study, x)]
  layers = parse_layers(study.layers, num_layers)
  for layer in layers:
    if not _has_dictionary(study, layer):
      raise ooc_jax.InputError(
          f'layers={study.layers!r}: {study.dictionary} has nothing at the'
          f' input of layer {layer}; leave the layer out, or name a dictionary'
          ' for layer 0 with --first.'
      )
  return layers


def dictionary_of(
    study: AttentionStudy,
    layer: int,
    model: ooc_jax.Model,
    mesh: Mesh | None = None,
) -> tuple[ooc_jax.Dictionary, int | None]:
  """The dictionary at the input of a layer's attention.

  'tokens' and 'random' are at every layer. Of the others it is that of the
  layer before (`resid_post`, or what its MLP or attention wrote), or of the
  layer itself where it is of `resid_pre`. At layer 0 it is `first`: with
  'auto' the id 'embedding' of a release whose ids are 'layer_{layer}'.

  Args:
    study: The settings.
    layer: From 0.
    model: With what the dictionary needs.
    mesh: Spreads the features.

  Returns:
    The dictionary, and the layer by which experiment 1 loads it; None for
    `first`.

  Raises:
    InputError: As `load_dictionary`.
  """
  source, number = _source(study, layer)

  def load(number):
    return ooc_jax.load_dictionary(source, model=model, layer=number, mesh=mesh)

  dictionary = load(number)
  site = dictionary.site
  if site.hook == 'resid_pre' and site.layer == layer - 1:
    return load(layer), layer
  if site.hook == _EMBEDDING and source != 'tokens':
    # The stream before layer 0, under the name that says it is no table of
    # tokens: a feature is read by its encoder.
    here = DictionarySite(layer, 'resid_pre')
    return dataclasses.replace(dictionary, site=here), None
  return dictionary, number if source == study.dictionary else None


def _source(study: AttentionStudy, layer: int) -> tuple[str, int]:
  """Name and layer for `load_dictionary`."""
  if study.dictionary in ('tokens', 'random'):
    return study.dictionary, layer
  if layer:
    return study.dictionary, layer - 1
  if study.first == 'auto':
    return study.dictionary.replace(_LAYER, _EMBEDDING), 0
  return study.first, 0


def _has_dictionary(study: AttentionStudy, layer: int) -> bool:
  name, before = _source(study, layer)
  if layer == 0 and study.dictionary not in ('tokens', 'random'):
    if study.first == 'none':
      return False
    if study.first == 'auto' and name == study.dictionary:
      return False  # There is no id to replace.
    return study.first != 'auto' or bool(_exists(name))
  if '{layer}' not in name:
    return True
  # A release need not have every layer; what is no release says it later.
  return _exists(name.replace('{layer}', str(before))) is not False


def _exists(name: str) -> bool | None:
  """Whether a release has an id, or a path is there; None if unknown."""
  release, _, entry = name.partition('/')
  for known in ooc_jax.dictionaries.list_dictionaries():
    if known.name == release:
      return entry in known.entries
  if pathlib.Path(name).expanduser().exists():
    return True
  return False if name.startswith(('/', '.', '~')) else None


def dictionary_layers(layers: Sequence[int]) -> list[int]:
  """Layers of experiment 1 whose features the attention of these reads."""
  return [layer - 1 for layer in layers if layer]
