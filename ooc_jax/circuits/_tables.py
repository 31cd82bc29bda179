"""The model's vocabulary tables, and which of their rows count."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax.circuits._mesh import to_host
from ooc_jax.circuits._undertrained import undertrained_tokens
from ooc_jax.model import Model
from ooc_jax.model import norm_gain
from ooc_jax.model import parameter

UNDERTRAINED_COSINE = 0.6


def embedding_table(model: Model) -> Float[Array, 'V D']:
  """W_E, one row a token, without Gemma's scale √D.

  Raises:
    InputError: It was not loaded.
  """
  return parameter(model, 'embedding')


def unembedding_table(model: Model) -> Float[Array, 'V D']:
  """W_U, one row a token; the embedding where the model is tied.

  Raises:
    InputError: It was not loaded.
  """
  return parameter(model, 'embedding' if model.config.tied else 'unembedding')


def final_gain(model: Model) -> Float[Array, 'D']:
  """True gain of the final norm: 1 + weight in Gemma, weight in Llama.

  Raises:
    InputError: It was not loaded.
  """
  return norm_gain(model, 'final_norm')


def readable_mask(
    model: Model, *, undertrained_cosine: float | None = UNDERTRAINED_COSINE
) -> Bool[Array, 'V']:
  """True where a token counts: readable alone, and touched by training.

  Args:
    model: With its unembedding. Without a tokenizer every token counts.
    undertrained_cosine: The level of `undertrained_tokens`; None keeps
      under-trained tokens.

  Raises:
    InputError: The unembedding was not loaded.
  """
  if model.tokenizer is None:
    return jnp.ones(model.config.vocab_size, bool)
  readable = np.asarray(model.tokenizer.mask())
  if undertrained_cosine is None:
    return jnp.asarray(readable)
  flagged = undertrained_tokens(
      unembedding_table(model),
      jnp.asarray(model.tokenizer.unheld()),
      cosine=undertrained_cosine,
  )
  return jnp.asarray(readable & ~to_host(flagged))
