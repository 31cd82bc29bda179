"""The three measures of how well the top tokens of a feature go together."""

from collections.abc import Sequence
from typing import Any

from flax import struct
from jaxtyping import Array, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits import Lens
from ooc_jax.circuits import readable_mask
from ooc_jax.circuits import to_host
from ooc_jax.circuits import unembedding_table
from ooc_jax.measures import _checks
from ooc_jax.measures._cosine import mean_pairwise_cosine
from ooc_jax.measures._edit_distance import mean_pairwise_edit_distance
from ooc_jax.measures._string_table import StringTable
from ooc_jax.measures._string_table import string_table
from ooc_jax.measures._token_space import TokenSpace
from ooc_jax.measures._token_space import token_space
from ooc_jax.model import Model


@struct.dataclass
class Coherence:
  """Three numbers a feature, each with its own direction of coherent.

  Attributes:
    levenshtein: Mean pairwise edit distance of the top tokens over the longer
      length, in [0, 1]. Low is coherent: the forms of one word.
    cosine: Mean pairwise cosine of the top tokens in a token space, in [-1, 1].
      High is coherent: one meaning.
    entropy: Of the softmax over the vocabulary, in nats. Low is coherent: a
      sharp prediction.
  """

  # Any: JAX also fills its pytrees with shapes, flags and batches.
  levenshtein: Float[Array | np.ndarray, 'F'] | Any
  cosine: Float[Array | np.ndarray, 'F'] | Any
  entropy: Float[Array | np.ndarray, 'F'] | Any


def _on_host(measure: Array | np.ndarray) -> np.ndarray:
  return to_host(measure).astype(np.float32, copy=False)


def lens_coherence(
    lens: Any, strings: Sequence[str] | StringTable, space: TokenSpace
) -> Coherence:
  """The core of `coherence`, for code that has no `Model`.

  Everything is computed where the lens and the space are; the host is given
  three numbers a feature. Sharded features are measured each on its device.

  Args:
    lens: Anything with `top_ids` [F, k] and `entropy` [F].
    strings: The canonical string of every token, by id; as a `string_table`
      where several lenses are measured.
    space: The token space, with a row for every token.

  Returns:
    The measures as float32 arrays on the host.

  Raises:
    InputError: There is no pair (k < 2), or an id without a string or a row.
  """
  _checks.check_top_ids(lens.top_ids, space.table.shape[0], 'rows in the space')
  return Coherence(
      levenshtein=_on_host(mean_pairwise_edit_distance(lens.top_ids, strings)),
      cosine=_on_host(mean_pairwise_cosine(lens.top_ids, space.table)),
      entropy=_on_host(lens.entropy),
  )


def model_token_space(model: Model, kind: str = 'whitened') -> TokenSpace:
  """The token space of a model over its readable tokens; see `token_space`."""
  return token_space(unembedding_table(model), readable_mask(model), kind)


def model_string_table(model: Model) -> StringTable:
  """The canonical strings of a model's tokens, on the device.

  Raises:
    InputError: The model has no tokenizer.
  """
  if model.tokenizer is None:
    raise InputError(
        'The model has no tokenizer and its top tokens no strings: load it from'
        ' a checkpoint with one, or use measures.lens_coherence.'
    )
  return string_table(model.tokenizer.canonical_strings())


def coherence(
    model: Model,
    lens: Lens,
    *,
    space: TokenSpace | None = None,
    strings: StringTable | None = None,
) -> Coherence:
  """Measures how well the top tokens of each feature go together.

  For several lenses of one model, make `space` and `strings` once and pass
  them: without, they are made anew at every call.

  Args:
    model: The model that the lens was computed with.
    lens: What `output_lens` or `input_lens` returned.
    space: The space of the cosine, see `model_token_space`; the whitened one
      if None.
    strings: See `model_string_table`.

  Returns:
    The measures as float32 arrays on the host.

  Raises:
    InputError: There is no pair (k < 2), the lens is of another model, or the
      model has no tokenizer.
  """
  if strings is None:
    strings = model_string_table(model)
  if space is None:
    space = model_token_space(model)
  return lens_coherence(lens, strings, space)
