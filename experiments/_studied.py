"""The model that an experiment studies, and what a run of it gives back."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import _memory
import _mesh
from jax.sharding import Mesh

import ooc_jax


@dataclasses.dataclass(frozen=True)
class Results:
  """Where a run left its folder, and its `summary.json`."""

  folder: pathlib.Path
  summary: Mapping[str, Any]


def load_studied(
    source: str, parts: Sequence[str], revision: str | None, mesh: str | None
) -> tuple[ooc_jax.Model, Mesh | None]:
  """A model whose tokens can be read, and the devices it is spread over.

  Args:
    source: See `load_model`.
    parts: Of the model.
    revision: Of a hub repository.
    mesh: 'feature:4,vocab:2', or None.

  Raises:
    InputError: It cannot be read, or has no tokenizer.
  """
  _memory.hold_little()
  devices = _mesh.make_mesh(mesh)
  model = ooc_jax.load_model(
      source, parts=tuple(parts), mesh=devices, revision=revision
  )
  if model.tokenizer is None:
    raise ooc_jax.InputError(
        f'{source} has no tokenizer.json, and top tokens cannot be read'
        ' without it; put it beside the weights.'
    )
  return model, devices
