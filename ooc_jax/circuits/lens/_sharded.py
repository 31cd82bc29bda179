"""Runs a lens on one device or over a mesh.

Features go over the mesh axis `feature` and rows of the vocabulary over
`vocab`; either may be missing. Nothing of size F x V, and no row of the table,
goes from device to device.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from ooc_jax.circuits.lens._kernel import PassResult
from ooc_jax.circuits.lens._kernel import certified_pass
from ooc_jax.circuits.lens._kernel import resolve_uncertain
from ooc_jax.circuits.lens._lens import Lens
from ooc_jax.circuits.lens._lens import LensSpec
from ooc_jax.circuits.lens._moments import TableMoments
from ooc_jax.circuits.lens._moments import row_moments
from ooc_jax.circuits.numerics import FEATURE
from ooc_jax.circuits.numerics import VOCAB
from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import axis_of
from ooc_jax.circuits.numerics import platform_of
from ooc_jax.circuits.numerics import shard_rows
from ooc_jax.circuits.numerics import side_by_side


def find_moments(
    table: Float[Array, 'V D'],
    mask: Bool[Array, 'V'],
    mesh: Mesh | None,
    *,
    unit_rows: bool,
    covariance: bool,
) -> TableMoments:
  """The moments of a table, wherever it lies."""
  run = moments_function(mesh, platform_of(mesh, table), unit_rows, covariance)
  if mesh is None:
    return run(table, mask)
  vocab, V = axis_of(mesh, VOCAB), table.shape[0]
  moments = run(shard_rows(table, mesh, vocab), shard_rows(mask, mesh, vocab))
  if moments.norms.shape[0] == V:
    return moments
  return dataclasses.replace(moments, norms=moments.norms[:V])


def find_lens(
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    mask: Bool[Array, 'V'],
    moments: TableMoments,
    threshold: Float[Array, 'F'],
    spec: LensSpec,
    mesh: Mesh | None,
) -> Lens:
  """The lens, wherever arrays lie; padded so that a mesh divides them.

  On one device and outside of `jit`, a block of features a call: whatever F
  is, the same program runs, and compilers take more memory than the lens.
  """
  F, V = directions.shape[0], table.shape[0]
  size = Blocks.choose(F, V, spec.platform).features
  traced = any(
      isinstance(x, jax.core.Tracer) for x in (directions, table, mask)
  )
  if mesh is not None or traced or size == F:
    return _find_lens(directions, table, mask, moments, threshold, spec, mesh)

  def part(first: int) -> Lens:
    rows, level = _some_rows((directions, threshold), first, size)
    return _find_lens(rows, table, mask, moments, level, spec, None)

  # Alone: compilers take more memory than the lens.
  parts = [jax.block_until_ready(part(0))]
  parts += side_by_side(
      (functools.partial(part, first) for first in range(size, F, size)),
      table,
      None,
  )
  return _joined(parts, F)


@functools.partial(jax.jit, static_argnames='size')
def _some_rows(arrays, first, size: int):
  """`size` rows of each from `first` on, zeros past the last."""

  def of(x):
    # Any F leaves the same rows to cut from.
    padded = jnp.pad(x, [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1))
    return jax.lax.dynamic_slice_in_dim(padded, first, size)

  return jax.tree.map(of, arrays)


@functools.partial(jax.jit, static_argnames='size')
def _joined(parts, size: int):
  """The first `size` rows of all parts together."""
  return jax.tree.map(lambda *x: jnp.concatenate(x)[:size], *parts)


def _find_lens(directions, table, mask, moments, threshold, spec, mesh) -> Lens:
  F = directions.shape[0]
  first, second = lens_functions(mesh, spec, moments.covariance is not None)
  if mesh is not None:
    feature, vocab = axis_of(mesh, FEATURE), axis_of(mesh, VOCAB)
    directions, threshold = (
        shard_rows(x, mesh, feature) for x in (directions, threshold)
    )
    table, mask = (shard_rows(x, mesh, vocab) for x in (table, mask))
    covariance = moments.covariance
    if covariance is not None:
      covariance = shard_rows(covariance, mesh, None)
    moments = TableMoments(
        mean=shard_rows(moments.mean, mesh, None),
        covariance=covariance,
        norms=shard_rows(moments.norms, mesh, vocab),
    )
  arrays = directions, table, mask, moments
  lens, result = first(*arrays, threshold)
  uncertain = lens.recomputed.any()
  # Compiled only where it is needed, if that can be known.
  if isinstance(uncertain, jax.core.Tracer) or bool(uncertain):
    lens = second(*arrays, result)
  if lens.mean.shape[0] == F:
    return lens
  return jax.tree.map(lambda x: x[:F], lens)


@functools.cache
def moments_function(
    mesh: Mesh | None,
    platform: str,
    unit_rows: bool,
    covariance: bool,
) -> Callable[..., TableMoments]:
  """Jitted (table, mask) -> TableMoments, over a mesh if there is one."""
  axis = axis_of(mesh, VOCAB)

  def run(table, mask):
    return row_moments(
        table,
        mask,
        Blocks.single_pass(table.shape[0], platform),
        unit_rows=unit_rows,
        covariance=covariance,
        axis=axis,
    )

  if mesh is None:
    return jax.jit(run)
  rows = PartitionSpec(axis)
  out = _moments_spec(axis, covariance)
  return jax.jit(_over(mesh, run, (rows, rows), out))


@functools.cache
def lens_functions(
    mesh: Mesh | None, spec: LensSpec, covariance: bool
) -> tuple[Callable[..., tuple[Lens, PassResult]], Callable[..., Lens]]:
  """Both passes of the kernel, jitted, over a mesh if there is one."""
  feature, vocab = axis_of(mesh, FEATURE), axis_of(mesh, VOCAB)
  spec = spec._replace(feature_axis=feature, vocab_axis=vocab)
  passes = [
      functools.partial(run, spec=spec)
      for run in (certified_pass, resolve_uncertain)
  ]
  if mesh is None:
    return jax.jit(passes[0]), jax.jit(passes[1])
  of_feature, rows = PartitionSpec(feature), PartitionSpec(vocab)
  # Any: a tree of specs in the place of a tree of arrays.
  extremes: Any = PartitionSpec(None, feature)
  prefix: Any = of_feature
  result = PassResult(extremes=extremes, sums=prefix, affine=prefix)
  moments = _moments_spec(vocab, covariance)
  arrays = of_feature, rows, rows, moments
  return (
      jax.jit(
          _over(mesh, passes[0], (*arrays, of_feature), (of_feature, result))
      ),
      jax.jit(_over(mesh, passes[1], (*arrays, result), of_feature)),
  )


def _over(mesh: Mesh, run, in_specs, out_specs):
  return jax.shard_map(
      run,
      mesh=mesh,
      in_specs=in_specs,
      out_specs=out_specs,
      # Loops here start from constants, which it takes for replicated.
      check_vma=False,
  )


def _moments_spec(axis: str | None, covariance: bool):
  return TableMoments(
      mean=PartitionSpec(),
      covariance=PartitionSpec() if covariance else None,
      norms=PartitionSpec(axis),
  )
