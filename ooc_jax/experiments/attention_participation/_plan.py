"""What a run of experiment 2 would need, found from headers alone."""

import os

from ooc_jax.experiments._plan import gigabytes
from ooc_jax.experiments._plan import plan_dictionaries
from ooc_jax.experiments._plan import plan_lines
from ooc_jax.experiments._plan import plan_model
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.experiments.attention_participation._inputs import layer_inputs

# Measured: two tiles of scores above what is kept, and less where all features
# fit into one.
_TILES, _SMALL_TILES, _ONE_TILE = 0.7e9, 0.3e9, 4096


def plan(
    config: AttentionParticipation,
    model: str | os.PathLike[str] | None = None,
) -> list[str]:
  """Lines that say what `run` would do; computes nothing.

  Args:
    config: The settings.
    model: A copy of the model, instead of what the settings name.

  Raises:
    InputError: As the run itself does.
  """
  planned = plan_model(config, config.parts, model)
  c = planned.config
  layers = list(layer_inputs(config, None, c.num_layers))
  # What layer 0 reads has another name, and is no larger.
  files, F, shown = plan_dictionaries(config, [x - 1 for x in layers if x], c)
  heads, H, D = c.num_heads * len(layers), c.head_dim, c.embed_dim
  # Scores of features and nulls, the dictionary on itself, and W_U W_O.
  flops = 2.0 * heads * F * F * H * (2 + len(config.null_kinds))
  flops += 2.0 * heads * c.vocab_size * D * H * bool(config.write_tokens)
  tiles = _TILES if F > _ONE_TILE else _SMALL_TILES
  device = planned.parameter_bytes + 8.0 * F * D + tiles
  numbers = 2 * (3 + 2 * config.partners) + 5 + 4 * len(config.null_kinds)
  return plan_lines(
      config,
      config.parts,
      (*planned.files, *files),
      shown,
      {'L': c.num_layers, 'N': c.num_heads, 'H': H, 'D': D},
      {
          'compute': f'{flops / 1e12:.1f} TFLOP',
          'device': (
              f'{gigabytes(device)} (parameters'
              f' {gigabytes(planned.parameter_bytes)})'
          ),
          'write': f'about {gigabytes(4.0 * numbers * F * heads)}',
      },
  )
