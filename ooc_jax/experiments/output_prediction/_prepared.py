"""What experiment 1 finds once a model: tokens and their geometry."""

from collections.abc import Mapping
from typing import NamedTuple

from jax.sharding import Mesh
from jaxtyping import Array, Bool
import numpy as np

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax.experiments._preparation import Preparation
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_readouts
from ooc_jax.model import Model
from ooc_jax.model import random_weights


class Prepared(NamedTuple):
  """Of a model.

  Attributes:
    model: That is read: of other weights where the settings say so.
    mask: The tokens that count.
    suspects: Those that look under-trained, at a level below that of the mask.
    moments: Of the table of each readout; none where rows have norm 1.
    space: The token space.
  """

  model: Model
  mask: Bool[Array, 'V']
  suspects: Bool[np.ndarray, 'V']
  moments: Mapping[str, circuits.TableMoments]
  space: measures.TokenSpace


def prepare(
    model: Model, config: OutputPrediction, mesh: Mesh | None = None
) -> Prepared:
  """Finds it, or reads what an earlier run found.

  Args:
    model: With the parts `config.parts`, and a tokenizer.
    config: The settings.
    mesh: That the model is spread over.
  """
  found = Preparation(mesh)
  assert model.tokenizer is not None  # Who reads one refuses it without.
  # Of the trained model, also where the control draws other weights: the same
  # tokens are compared.
  trained = circuits.unembedding_table(model)
  mask, suspects = found.tokens(
      model.tokenizer, trained, config.undertrained_cosine
  )
  if config.control == 'random_weights':
    model = random_weights(model, config.seed)
  moments = {}
  if config.convention != 'cosine':  # Divides rows by their norms.
    for readout in parse_readouts(config.readouts, model.config.tied):
      table = circuits.unembedding_table(model)
      if readout != 'output':
        table = circuits.embedding_table(model)
      moments[readout] = found.moments(table, mask)
  unembedding = circuits.unembedding_table(model)
  space = found.space(unembedding, mask, config.token_space)
  return Prepared(model, mask, suspects, moments, space)
