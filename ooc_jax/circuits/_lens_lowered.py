"""The lens traced for devices that need not be here.

What a mesh of other devices would hold, and send, is known before it is
rented: compiled for a topology, without an array.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from ooc_jax.circuits._mesh import FEATURE
from ooc_jax.circuits._mesh import VOCAB
from ooc_jax.circuits._mesh import axis_of
from ooc_jax.circuits._mesh import check_mesh
from ooc_jax.circuits._unembedding_lens import Lens
from ooc_jax.circuits._unembedding_lens import unembedding_lens
from ooc_jax.model import ModelConfig


def lower_lens(
    config: ModelConfig,
    features: int,
    mesh: Mesh,
    *,
    k: int = 20,
    precision: str = 'exact',
    dtype: Any = jnp.float32,
) -> jax.stages.Lowered:
  """`unembedding_lens` of a dictionary, for a mesh of any devices.

  `lower_lens(...).compile().memory_analysis()` gives the bytes of each device:
  arguments (its shares of dictionary and table), temporaries, and the lens.

  Args:
    config: Of the model.
    features: F.
    mesh: With an axis 'feature' or 'vocab', for instance of the devices of
      `jax.experimental.topologies.get_topology_desc`.
    k: How many tokens at either end.
    precision: See `unembedding_lens`.
    dtype: Of the table.

  Raises:
    InputError: The mesh has neither axis.
  """
  check_mesh(mesh)
  V, D = config.vocab_size, config.embed_dim

  def shape(sizes, dtype, name):
    axis = axis_of(mesh, name)
    divided = axis is not None and sizes[0] % mesh.shape[axis] == 0
    spec = PartitionSpec(axis) if divided else PartitionSpec()
    sharding = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=sharding)

  @jax.jit
  def lens(directions, gain, table, mask) -> Lens:
    return unembedding_lens(
        directions,
        gain,
        table,
        mask,
        k=k,
        precision=precision,
        softcap=config.final_softcap,
        mesh=mesh,
    )

  return lens.lower(
      shape((features, D), jnp.float32, FEATURE),
      shape((D,), jnp.float32, ''),
      shape((V, D), dtype, VOCAB),
      shape((V,), jnp.bool_, VOCAB),
  )
