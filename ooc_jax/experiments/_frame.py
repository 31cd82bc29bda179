"""The frame of a run that reads one dictionary after the other.

A model, the layers that are read, and the folder; what is read of a layer is
for the experiment, and what follows once all are there.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import os
from typing import Generic, TypeVar

from jax.sharding import Mesh

from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import _runtime
from ooc_jax.experiments._devices import make_mesh
from ooc_jax.experiments._settings import LensSettings
from ooc_jax.experiments._settings import chosen_layers
from ooc_jax.experiments._settings import parse_layers
from ooc_jax.model import Model

_C = TypeVar('_C', bound=LensSettings)


@dataclasses.dataclass(frozen=True)
class Frame(Generic[_C]):
  """An open folder, and what is read into it.

  Attributes:
    config: The settings, with the names of what was given.
    layers: Of the run, by which dictionaries are loaded.
    num_layers: Of the model.
    devices: To spread over.
    folder: Of the run.
    given: Dictionaries that the settings do not name.
  """

  config: _C
  layers: Sequence[int]
  num_layers: int
  devices: Mesh | None
  folder: _runtime.SharedFolder
  given: Mapping[int, Dictionary] | None

  def source(self, model: Model) -> Mapping[int, Dictionary]:
    """The dictionaries by layer; those of neurons are of this model."""
    if self.given is not None:
      return self.given
    return _runtime.StoredDictionaries(
        self.config, self.layers, model, self.devices
    )

  def missing(self) -> list[int]:
    """Layers that are not done yet."""
    return [x for x in self.layers if not self.folder.has_layer(x)]


@contextlib.contextmanager
def opened(
    experiment: str,
    config: _C,
    *,
    model: str | os.PathLike[str] | Model | None,
    dictionaries: Mapping[int, Dictionary] | None,
    out: str | os.PathLike[str],
    mesh: str | Mesh | None,
) -> Iterator[tuple[Frame[_C], Model]]:
  """Opens the folder of a run, new or of the same one.

  Args:
    experiment: Its name.
    config: The settings; all are written into the folder.
    model: A name, a path or a loaded model, instead of what the settings name.
    dictionaries: By layer, instead of those that the settings name; one below
      0 is of no layer of the run.
    out: Results folder. Of several processes only the first one writes.
    mesh: What `make_mesh` takes.

  Returns:
    The frame and the model, which is not kept.

  Raises:
    InputError: For anything that a user can cause.
  """
  devices = make_mesh(mesh)
  config = _runtime.named(config, model, dictionaries)
  loaded = [_runtime.open_model(model, config, config.parts, devices)]
  config = dataclasses.replace(config, **config.settled(loaded[0], devices))
  num_layers = loaded[0].config.num_layers
  if dictionaries is None:
    layers = parse_layers(config.layers, num_layers)
  else:
    own = [x for x in dictionaries if x >= 0]
    layers = chosen_layers(config.layers, own, num_layers)
  settings = {'experiment': experiment, **dataclasses.asdict(config)}
  weights = _runtime.weight_hashes(loaded[0], dictionaries)
  notes = loaded[0].notes
  with _runtime.open_folder(out, settings, weights, notes) as folder:
    frame = Frame(config, layers, num_layers, devices, folder, dictionaries)
    yield frame, loaded.pop()
