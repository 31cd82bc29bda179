"""A model as a stream of small groups of parameters.

What is written to disk is read, written and freed one item after another, so
that memory is bounded by the largest item and not by the model.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
import dataclasses
import pathlib
from typing import Any

import flax
import jax
from jax.sharding import Mesh

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._convert import checked_rules
from ooc_jax.checkpoints._convert import read_parameter
from ooc_jax.checkpoints._find import FoundModel
from ooc_jax.checkpoints._manifest import Origin
from ooc_jax.checkpoints._manifest import origin_of
from ooc_jax.checkpoints._open import open_model
from ooc_jax.checkpoints._source import read_json
from ooc_jax.model import PARTS
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Tokenizer
from ooc_jax.model import parameter_shapes
from ooc_jax.model import part_of

_DTYPES = {'BF16': 'bfloat16', 'F16': 'float16', 'F64': 'float64'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterStream:
  """What a model holds, and how to read a part of it.

  Attributes:
    config: Of the model.
    arrays: Shape and dtype of every parameter.
    read: Gives the parameters of an item, from their names.
    write_tokenizer: Writes tokenizer.json; None without one.
    hf_config: The `config.json` it came with, or None.
    origin: Gives what was read; called when all is.
  """

  config: ModelConfig
  arrays: Mapping[str, jax.ShapeDtypeStruct]
  read: Callable[[Collection[str]], Mapping[str, jax.Array]]
  write_tokenizer: Callable[[pathlib.Path], Any] | None
  hf_config: Mapping[str, Any] | None
  origin: Callable[[], Origin | None]

  @property
  def size(self) -> int:
    """Bytes of all parameters."""
    return sum(x.size * x.dtype.itemsize for x in self.arrays.values())

  def items(self) -> dict[str, list[str]]:
    """Item -> names of its parameters."""
    return items_of(self.arrays)


def items_of(names: Iterable[str]) -> dict[str, list[str]]:
  """Parameters by item: a table, all norms, or a block of one layer."""
  items: dict[str, list[str]] = {}
  for name in names:
    items.setdefault(item_of(name), []).append(name)
  return items


def item_of(name: str) -> str:
  """The item of a parameter: 'embedding', 'norms', 'layer_3.mlp', ..."""
  path = name.split('/')
  part = part_of(path)
  # All norms of a model are smaller than one matrix.
  return f'{path[0]}.{part}' if part in ('attention', 'mlp') else part


def stream_of_model(model: Model) -> ParameterStream:
  """A model in memory.

  Raises:
    InputError: Its parameters are not what its config describes.
  """
  # Any: in flax's own types a flat tree may hold nodes without a shape.
  flat: Any = flax.traverse_util.flatten_dict(model.params, sep='/')
  shapes = parameter_shapes(model.config)
  if wrong := [k for k, x in flat.items() if x.shape != shapes.get(k)]:
    raise InputError(
        f'{wrong[:5]} are not what the config of the model describes; check its'
        ' params.'
    )
  return ParameterStream(
      config=model.config,
      arrays={
          k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in flat.items()
      },
      read=lambda names: {name: flat[name] for name in names},
      write_tokenizer=_writer(model.tokenizer),
      hf_config=None,
      origin=lambda: None,
  )


def stream_of_checkpoint(
    found: FoundModel, dtype: Any = None, mesh: Mesh | None = None
) -> ParameterStream:
  """A checkpoint that is not ours, opened and checked.

  Args:
    found: From `find_model`.
    dtype: Of the parameters; None keeps what is stored.
    mesh: Spreads them over devices.

  Raises:
    InputError: It is incomplete, damaged or not supported.
  """
  opened = open_model(found.path, PARTS)
  source = opened.source
  readable = {
      rule.ours: (rule, name)
      for rule, name in checked_rules(
          opened.config,
          opened.rules,
          source,
          parts=PARTS,
          ignored=opened.ignored,
          aliases=opened.aliases,
      )
  }
  infos, shapes = source.tensors(), parameter_shapes(opened.config)
  arrays = {}
  for ours, (_, name) in readable.items():
    stored = 'float32'
    if opened.config_file is not None:  # GGUF is read as float32.
      stored = _DTYPES.get(infos[name].dtype or '', stored)
    arrays[ours] = jax.ShapeDtypeStruct(
        shapes[ours], jax.dtypes.canonicalize_dtype(dtype or stored)
    )

  def read(names: Collection[str]) -> dict[str, jax.Array]:
    found = {}
    for ours in names:
      rule, name = readable[ours]
      found[ours] = read_parameter(
          rule, source, name, dtype, mesh, shapes[ours]
      )
    return found

  hf_config = None
  if opened.config_file is not None:
    hf_config = read_json(opened.config_file)
    if opened.notes:  # Its head is another table, whatever this file says.
      untied = {'tie_word_embeddings': False}
      hf_config |= untied
      if isinstance(hf_config.get('text_config'), dict):
        hf_config['text_config'] |= untied
  return ParameterStream(
      config=opened.config,
      arrays=arrays,
      read=read,
      write_tokenizer=_writer(opened.tokenizer()),
      hf_config=hf_config,
      origin=lambda: origin_of(opened.files, found.repo, found.commit),
  )


def _writer(
    tokenizer: Tokenizer | None,
) -> Callable[[pathlib.Path], Any] | None:
  return None if tokenizer is None else tokenizer.save
