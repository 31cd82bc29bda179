"""The sides from which experiment 1 reads a dictionary.

`output` is the method's decoder-unembedding phase, `input` its
encoder-embedding phase. `embedding` contracts the decoder with the embedding;
only in an untied model is that another table.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

import ooc_jax

SIDES = ('output', 'input', 'embedding')


def parse_sides(text: str, tied: bool) -> tuple[str, ...]:
  """'all' or 'output,input' as names, in the order of `SIDES`.

  Raises:
    InputError: A name is unknown, `output` is missing, or the model is tied
      and `embedding` would repeat `output`.
  """
  if text == 'all':
    return SIDES[:2] if tied else SIDES
  names = [name.strip() for name in text.split(',')]
  unknown = [name for name in names if name not in SIDES]
  if unknown or 'output' not in names:
    raise ooc_jax.InputError(
        f"sides={text!r} is not understood; write 'all', or 'output' with any"
        f' of {", ".join(SIDES[1:])} after a comma.'
    )
  if tied and 'embedding' in names:
    raise ooc_jax.InputError(
        f'sides={text!r}: the model is tied, so its embedding is its'
        " unembedding, and 'embedding' would repeat 'output'; leave it out."
    )
  return tuple(name for name in SIDES if name in names)


def readable(
    sides: Sequence[str], dictionary: ooc_jax.Dictionary
) -> tuple[str, ...]:
  """The sides that this dictionary has: not every one reads the stream."""
  return tuple(
      side for side in sides if side != 'input' or dictionary.reads_stream
  )


def parts(sides: Sequence[str]) -> tuple[str, ...]:
  """Parts of the model that these sides read."""
  return (
      ('unembedding',) if sides == ('output',) else ('embedding', 'unembedding')
  )


def lens_of(
    side: str,
    model: ooc_jax.Model,
    dictionary: ooc_jax.Dictionary,
    **settings: Any,
) -> ooc_jax.Lens:
  """The dictionary from one side; `settings` as of `output_lens`."""
  if side == 'output':
    return ooc_jax.output_lens(model, dictionary, **settings)
  if side == 'embedding':
    dictionary = _read_by_decoder(dictionary)
  return ooc_jax.input_lens(model, dictionary, **settings)


def _read_by_decoder(dictionary: ooc_jax.Dictionary) -> ooc_jax.Dictionary:
  """Features that read what they write, at a site of the raw stream."""
  return dataclasses.replace(
      dictionary,
      encoder=dictionary.decoder,
      site=dataclasses.replace(dictionary.site, hook='resid_post'),
  )


def of_directions(
    directions: Float[np.ndarray, 'F D'],
) -> ooc_jax.Dictionary:
  """A dictionary of these directions, from every side."""
  rows = jnp.asarray(directions, jnp.float32)
  zero = jnp.zeros(rows.shape[0], jnp.float32)
  return ooc_jax.Dictionary(
      encoder=rows,
      decoder=rows,
      encoder_bias=zero,
      decoder_bias=jnp.zeros(rows.shape[1], jnp.float32),
      threshold=zero,
      site=ooc_jax.dictionaries.DictionarySite(0, 'resid_post'),
      name='null',
  )
