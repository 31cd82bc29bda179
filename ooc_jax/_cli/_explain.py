"""`explain` from the command line."""

import dataclasses
from typing import Any

from ooc_jax import experiments
from ooc_jax._cli._experiments import trusted
from ooc_jax._cli._flags import WEIGHTS
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import explain
from ooc_jax.experiments import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
  """Whose feature it is."""

  model: str | None = setting(
      None,
      help=(
          'A file of configs/; by default what the address says, and'
          f' {experiments.DEFAULT_MODEL} where it says nothing.'
      ),
  )
  weights: str | None = setting(None, help=WEIGHTS)


def _config(given: Given) -> OutputPrediction:
  """Of the config file, of the address of the feature, and of flags."""
  name = explain.parse_feature(given['feature'])
  overrides: dict[str, Any] = {}
  if name.dictionary is not None:
    overrides['dictionary'] = name.dictionary
  overrides |= given.of(OutputPrediction)
  overrides.pop('model', None)  # As a flag, the name of a file of configs/.
  if given['model'] is None and name.model is not None:
    return OutputPrediction(model=name.model, **overrides)
  return experiments.load_config(
      given['model'] or experiments.DEFAULT_MODEL, overrides, OutputPrediction
  )


def _main(given: Given) -> None:
  experiments.check_devices()
  own = explain.Explain(**given.of(explain.Explain))
  config = trusted({'config': _config(given)})['config']
  found = explain.run(own, config, model=given['weights'])
  print('\n'.join(explain.text(*found)))


COMMANDS = {
    'explain': Command(
        doc=(
            'Says what is known of one feature: from weights alone, and from'
            ' results of the\nsame dictionary where there are some.'
        ),
        settings={
            'explain': explain.Explain,
            'model': _Source,
            'output_prediction': OutputPrediction,
        },
        main=_main,
        interrupted='nothing was changed.',
    )
}
