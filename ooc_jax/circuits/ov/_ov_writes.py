"""What a head writes from features to features, and whether it copies."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.lens import final_gain
from ooc_jax.circuits.lens import unembedding_lens
from ooc_jax.circuits.lens import unembedding_table
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import to_host
from ooc_jax.circuits.ov._ov_lens import head_output
from ooc_jax.circuits.ov._ov_lens import less_mean
from ooc_jax.circuits.ov._ov_lens import read_output
from ooc_jax.circuits.qk import check_attention_input
from ooc_jax.circuits.qk import head_values
from ooc_jax.dictionaries import Dictionary
from ooc_jax.model import Model

_HIGHEST = jax.lax.Precision.HIGHEST


@flax.struct.dataclass
class OvWrites:
  """What a head adds to target features where it attends to a source feature.

  Numbers are changes of the target's pre-activation at attention weight 1.

  Attributes:
    top_ids: [source, k] targets raised most, most first; ties by rising id.
    top_values: [source, k] by how much.
    bottom_ids: [source, k] targets lowered most, most first.
    bottom_values: [source, k] by how much.
    mean: [source] over all targets.
    std: [source] population standard deviation over all targets.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  top_ids: Int[Array, 'source k'] | Any
  top_values: Float[Array, 'source k'] | Any
  bottom_ids: Int[Array, 'source k'] | Any
  bottom_values: Float[Array, 'source k'] | Any
  mean: Float[Array, 'source'] | Any
  std: Float[Array, 'source'] | Any


@flax.struct.dataclass
class OvCopying:
  """Whether a head that attends to a feature raises that feature.

  Attributes:
    self_write: [F] what the head adds to the feature's own reader.
    z_score: [F] the same, less the mean over all readers, divided by their
      standard deviation; 0 where that is 0.
    in_top: [F] whether the feature is among the k that its write raises most.
    positive_share: Share of features with self_write above zero.
    copy_score: Share of features with `in_top`, as Wang et al. 2022 (arXiv
      2211.00593) score name movers.
    eigenvalue_score: Σ Re λ / Σ |λ| over the eigenvalues of readers · W_OV ·
      directions, after Elhage et al. 2021 ("A Mathematical Framework for
      Transformer Circuits"); 1 where every eigenvalue is positive.
  """

  self_write: Float[Array, 'F'] | Any
  z_score: Float[Array, 'F'] | Any
  in_top: Any  # [F] bool
  positive_share: float | Any
  copy_score: float | Any
  eigenvalue_score: float | Any


def ov_writes(
    model: Model,
    source: Dictionary,
    target: Dictionary,
    layer: int,
    head: int,
    k: int = 10,
    *,
    mesh: Mesh | None = None,
) -> OvWrites:
  """The targets that a head raises and lowers most, for every source feature.

  The head reads v = (√D d/‖d‖ ⊙ g) W_V[n // G] and writes w = v W_O[n], in
  Gemma ⊙ the post-attention gain (its RMS is left out); a target with encoder
  row e receives w·e. The write keeps its size. Streamed: no array of
  source x target is held.

  Args:
    model: With its attention and norms.
    source: At the layer's input, see `attention_statistics`.
    target: Its encoder must read the residual stream.
    layer: From 0.
    head: Query head, from 0.
    k: How many targets to keep at either end.
    mesh: See `unembedding_lens`; targets lie over its axis 'vocab'.

  Raises:
    InputError: Model and dictionaries do not fit, or `k` is out of range.
  """
  check_attention_input(model, source, layer)
  target.check_reads_stream()
  return _writes(
      head_values(model, source.decoder, layer, head),
      read_output(target.encoder, head_output(model, layer, head)),
      k,
      mesh,
  )


def ov_copying(
    model: Model,
    dictionary: Dictionary,
    layer: int,
    head: int,
    k: int = 5,
    *,
    mesh: Mesh | None = None,
) -> OvCopying:
  """Whether a head writes what it reads.

  A feature's reader is its encoder row; of token embeddings it is the
  unembedding row times the final gain, so that a copied token is predicted.
  Writes are as in `ov_writes`. Not under `jit`: eigenvalues are found on the
  host.

  Args:
    model: With its attention and norms; for tokens with its unembedding.
    dictionary: At the layer's input, with an encoder that reads the stream.
    layer: From 0.
    head: Query head, from 0.
    k: How many of the most raised features `in_top` looks at.
    mesh: See `ov_writes`.

  Raises:
    InputError: Model and dictionary do not fit, or `k` is out of range.
  """
  check_attention_input(model, dictionary, layer)
  dictionary.check_reads_stream()
  readers, output = dictionary.encoder, head_output(model, layer, head)
  if dictionary.site.hook == 'embedding':
    readers = unembedding_table(model)
    if model.config.layer_norm:
      output = less_mean(output)
    output = output * final_gain(model)[None, :]
  if readers.shape[0] != dictionary.size:
    raise InputError(
        f'{dictionary.name} has {dictionary.size} features and the unembedding'
        f' {readers.shape[0]} rows; a token copies itself only where they are'
        ' the same tokens.'
    )
  values = head_values(model, dictionary.decoder, layer, head)
  table = read_output(readers, output)
  writes = _writes(values, table, k, mesh)
  own = jnp.einsum('fh,fh->f', values, table, precision=_HIGHEST)
  ids = jnp.arange(dictionary.size, dtype=jnp.int32)
  in_top = (writes.top_ids == ids[:, None]).any(axis=1)
  # The eigenvalues of [F, F] that are not zero are those of this [H, H].
  small = jnp.einsum('fh,fi->hi', values, table, precision=_HIGHEST)
  eigenvalues = np.linalg.eigvals(to_host(small).astype(np.float64))
  total = np.abs(eigenvalues).sum()
  return OvCopying(
      self_write=own,
      z_score=divide(own - writes.mean, writes.std),
      in_top=in_top,
      positive_share=float((own > 0).mean()),
      copy_score=float(in_top.mean()),
      eigenvalue_score=float(eigenvalues.real.sum() / total) if total else 0.0,
  )


def _writes(
    values: Float[Array, 'source H'],
    table: Float[Array, 'target H'],
    k: int,
    mesh: Mesh | None,
) -> OvWrites:
  # A lens over targets instead of tokens; its softmax is not used.
  lens = unembedding_lens(
      values,
      jnp.ones(values.shape[1], jnp.float32),
      table,
      jnp.ones(table.shape[0], bool),
      k=k,
      precision='exact',
      mesh=mesh,
  )
  return OvWrites(
      top_ids=lens.top_ids,
      top_values=lens.top_logits,
      bottom_ids=lens.bottom_ids,
      bottom_values=lens.bottom_logits,
      mean=lens.mean,
      std=lens.std,
  )
