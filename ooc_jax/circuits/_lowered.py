"""Lens and attention statistics traced for devices that need not be here.

What a mesh of other devices would hold, and send, is known before it is
rented: compiled for a topology, memory is counted without an array.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from ooc_jax.circuits.lens import Lens
from ooc_jax.circuits.lens import unembedding_lens
from ooc_jax.circuits.numerics import FEATURE
from ooc_jax.circuits.numerics import VOCAB
from ooc_jax.circuits.numerics import axis_of
from ooc_jax.circuits.numerics import check_mesh
from ooc_jax.circuits.numerics import feature_mesh
from ooc_jax.circuits.qk import attention_statistics
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import parameter_shapes


def lower_lens(
    config: ModelConfig,
    features: int,
    mesh: Mesh,
    *,
    k: int = 20,
    precision: str = 'auto',
    kernel: str = 'xla',
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
    kernel: See `unembedding_lens`.
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
        kernel=kernel,
        softcap=config.final_softcap,
        mesh=mesh,
    )

  return lens.lower(
      shape((features, D), jnp.float32, FEATURE),
      shape((D,), jnp.float32, ''),
      shape((V, D), dtype, VOCAB),
      shape((V,), jnp.bool_, VOCAB),
  )


def lower_attention(
    config: ModelConfig,
    features: int,
    mesh: Mesh,
    *,
    layer: int = 0,
    offset: int = 0,
    k: int = 10,
    dtype: Any = jnp.float32,
) -> jax.stages.Lowered:
  """`attention_statistics` of one head of a layer, for a mesh of any devices.

  The heads of a layer are run one after the other, so their blocks do not add
  up. `lower_attention(...).compile().memory_analysis()` gives the bytes of
  each device: arguments (the layer's weights and this device's share of the
  dictionary), temporaries, and the statistics of one head.

  Args:
    config: Of the model.
    features: F; a multiple of the devices along the mesh axis 'feature'.
    mesh: With an axis 'feature', for instance of the devices of
      `jax.experimental.topologies.get_topology_desc`.
    layer: From 0.
    offset: Tokens from key to query.
    k: Partners to keep.
    dtype: Of weights and dictionary.

  Raises:
    InputError: The mesh has no axis 'feature', or the layer is not there.
  """
  feature_mesh(mesh)
  prefix = f'layer_{layer}'
  whole = NamedSharding(mesh, PartitionSpec())
  params = {
      path: jax.ShapeDtypeStruct(shape, dtype, sharding=whole)
      for path, shape in parameter_shapes(config).items()
      if path.startswith((f'{prefix}/attention/', f'{prefix}/attention_norm'))
  }
  model = Model(config, flax.traverse_util.unflatten_dict(params, sep='/'))
  spread = NamedSharding(mesh, PartitionSpec(FEATURE))
  rows, each, bias = (
      jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
      for shape, sharding in (
          ((features, config.embed_dim), spread),
          ((features,), spread),
          ((config.embed_dim,), whole),
      )
  )
  dictionary = Dictionary(
      encoder=rows,
      decoder=rows,
      encoder_bias=each,
      decoder_bias=bias,
      threshold=each,
      site=DictionarySite(layer, 'resid_pre'),
      name='shapes',
  )

  @jax.jit
  def one_head(model, dictionary):
    return attention_statistics(
        model, dictionary, layer, offset=offset, heads=(0,), k=k, mesh=mesh
    )

  return one_head.lower(model, dictionary)
