"""What the benchmark of attention statistics runs."""

from collections.abc import Callable
import functools
import os

import _lens_cases
import jax
from jax.experimental import topologies
import jax.numpy as jnp
import numpy as np

from ooc_jax import circuits
from ooc_jax.dictionaries import random_dictionary
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope

SOFTCAP = 50.0
# Queries at a time of the bare product; the fastest one counts.
_BARE_BLOCKS = (128, 512, 2048)


def vectors(features: int, width: int) -> tuple[jax.Array, jax.Array]:
  """Queries and keys whose scores are of the size that real ones have."""
  shape = (features, width)
  return tuple(
      _lens_cases.random_rows(seed, shape, jnp.float32, 2.0) for seed in (0, 1)
  )


def statistics(
    queries: jax.Array, keys: jax.Array, k: int, softcap: float | None
) -> Callable[[], circuits.HeadStatistics]:
  """All statistics of one head, both roles, before and after the softmax."""
  return functools.partial(
      circuits.qk_statistics,
      queries,
      keys,
      scale=queries.shape[1] ** -0.5,
      softcap=softcap,
      k=k,
  )


def row_maxima(queries: jax.Array, keys: jax.Array) -> Callable[[], jax.Array]:
  """The same product reduced to the maximum of each row, and nothing else.

  A block of queries at a time, as fast as it goes here.
  """

  @functools.partial(jax.jit, static_argnums=2)
  def run(queries, keys, rows):
    def block(q):
      scores = jnp.einsum('fh,kh->fk', q, keys, precision='highest')
      return scores.max(axis=1)

    return jax.lax.map(block, queries.reshape(-1, rows, queries.shape[1]))

  runs = [
      functools.partial(run, queries, keys, rows)
      for rows in _BARE_BLOCKS
      if not len(queries) % rows
  ]
  return min(
      runs, key=lambda run: _lens_cases.measure({'': run}, 2)['']['seconds']
  )


def layer(features: int, heads: int, k: int) -> Callable[[], object]:
  """A layer of Gemma-2-2B's shape with random weights; `heads` of 8."""
  config = gemma(8, 4, 2304)
  draw = lambda seed, heads: _lens_cases.random_rows(  # noqa: E731
      seed, (2304, heads * 256), jnp.float32, 2304**-0.5
  ).reshape(2304, heads, 256)
  params = {
      'layer_0': {
          'attention_norm': {'weight': jnp.zeros(2304)},
          'attention': {'query': draw(2, 8), 'key': draw(3, 4)},
      }
  }
  model = Model(config, params)
  dictionary = random_dictionary(model, 0, size=features)
  return functools.partial(
      circuits.attention_statistics,
      model,
      dictionary,
      0,
      offset=1,
      heads=range(heads),
      k=k,
  )


def held(topology: str, k: int) -> dict[str, dict[str, float]]:
  """GB of one chip of a TPU topology, compiled ahead of time.

  Args:
    topology: As libtpu names it, 'v5e:2x4'.
    k: Partners to keep.
  """
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  devices = topologies.get_topology_desc(
      platform='tpu', topology_name=topology
  ).devices
  mesh = jax.sharding.Mesh(
      np.asarray(devices),
      ('feature',),
      axis_types=(jax.sharding.AxisType.Auto,),
  )
  found = {}
  for name, config, features in (
      ('Gemma-2-9B 16k', gemma(16, 8, 3584), 16_384),
      ('Llama-3.1-8B 32x', _llama_8b(), 131_072),
  ):
    lowered = circuits.lower_attention(config, features, mesh, offset=1, k=k)
    memory = lowered.compile().memory_analysis()
    found[name] = {
        part: round(getattr(memory, f'{part}_size_in_bytes') / 1e9, 3)
        for part in ('argument', 'output', 'temp', 'generated_code')
    }
  return found


def gemma(
    heads: int, kv_heads: int, embed_dim: int, vocab_size: int = 256_000
) -> ModelConfig:
  """One layer; 2B and 9B differ in these."""
  return ModelConfig(
      family='gemma2',
      vocab_size=vocab_size,
      embed_dim=embed_dim,
      mlp_dim=4 * embed_dim,
      num_layers=1,
      num_heads=heads,
      num_kv_heads=kv_heads,
      head_dim=256,
      norm_eps=1e-6,
      tied=True,
      activation='gelu_tanh',
      norm_offset=1.0,
      scale_embedding=True,
      post_norms=True,
      attention_scale=256**-0.5,
      attention_softcap=SOFTCAP,
      final_softcap=30.0,
      rope=Rope(base=10_000.0),
      windows=(None,),
  )


def _llama_8b() -> ModelConfig:
  return ModelConfig(
      family='llama',
      vocab_size=128_256,
      embed_dim=4096,
      mlp_dim=14_336,
      num_layers=1,
      num_heads=32,
      num_kv_heads=8,
      head_dim=128,
      norm_eps=1e-5,
      tied=False,
      activation='silu',
      norm_offset=0.0,
      scale_embedding=False,
      attention_scale=128**-0.5,
      rope=Rope(base=500_000.0),
      windows=(None,),
  )
