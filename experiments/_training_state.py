"""Checkpoints of a training run: whole or absent, the newest one is taken."""

from collections.abc import Mapping
import pathlib
import shutil
from typing import Any, TypeVar

import jax

import ooc_jax
from ooc_jax import results

_T = TypeVar('_T')
_KEPT = 2


class Checkpoints:
  """The checkpoints of one run, in a folder that belongs to its settings."""

  def __init__(self, folder: pathlib.Path, settings: Mapping[str, Any]):
    """Opens the folder, or makes it.

    Args:
      folder: Of the run.
      settings: What the weights depend on.

    Raises:
      InputError: The folder is of a run with other settings.
    """
    self._folder = folder / 'checkpoints'
    self._folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'settings.json'
    settings = results.plain(settings)
    if not path.exists():
      results.write_json(path, settings)
    elif (found := results.read_json(path)) != settings:
      names = sorted(
          name
          for name in found.keys() | settings.keys()
          if found.get(name) != settings.get(name)
      )
      raise ooc_jax.InputError(
          f'{folder} holds a run with other settings ({", ".join(names)}); give'
          ' a new folder, or the command that it was started with.'
      )

  def newest(self) -> int | None:
    """The last step that was saved, or None."""
    return max((self._step(p) for p in self._all()), default=None)

  def save(self, step: int, state: Any) -> None:
    """Writes the state after `step` steps; older ones are deleted."""
    target = self._folder / f'step={step:06d}'
    if target.exists():
      return
    with ooc_jax.checkpoints.new_folder(target) as temporary:
      ooc_jax.checkpoints.save_arrays(temporary / 'arrays', _named(state))
    for old in sorted(self._all(), key=self._step)[:-_KEPT]:
      shutil.rmtree(old)

  def load(self, step: int, like: _T) -> _T:
    """Reads the state after `step` steps.

    Args:
      step: Of `newest`.
      like: A state of the same structure.

    Raises:
      InputError: The checkpoint is damaged.
    """
    path = self._folder / f'step={step:06d}'
    shapes = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        for name, x in _named(like).items()
    }
    try:
      arrays = ooc_jax.checkpoints.load_arrays(path / 'arrays', shapes)
    except ValueError as error:
      raise ooc_jax.InputError(
          f'{path} is damaged ({error}); delete it, and the same command'
          ' continues from the checkpoint before.'
      ) from None
    return jax.tree.unflatten(jax.tree.structure(like), list(arrays.values()))

  def _all(self) -> list[pathlib.Path]:
    return list(self._folder.glob('step=[0-9]*'))

  def _step(self, path: pathlib.Path) -> int:
    return int(path.name.removeprefix('step='))


def _named(state: Any) -> dict[str, jax.Array]:
  return {f'{i:05d}': x for i, x in enumerate(jax.tree.leaves(state))}
