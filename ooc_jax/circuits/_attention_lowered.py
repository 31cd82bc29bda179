"""Attention statistics traced for devices that need not be here.

What a mesh of other devices would hold is known before it is rented: compiled
for a topology, memory is counted without an array.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from ooc_jax.circuits._attention import attention_statistics
from ooc_jax.circuits._mesh import FEATURE
from ooc_jax.circuits._qk_statistics import feature_mesh
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import parameter_shapes


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
