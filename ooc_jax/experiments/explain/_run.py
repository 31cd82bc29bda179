"""From settings to an explanation: what is loaded, and in which order."""

import os

from ooc_jax import checkpoints
from ooc_jax import dictionaries
from ooc_jax._errors import InputError
from ooc_jax.experiments.explain._compute import Explanation
from ooc_jax.experiments.explain._compute import compute
from ooc_jax.experiments.explain._config import Explain
from ooc_jax.experiments.explain._config import FeatureName
from ooc_jax.experiments.explain._config import parse_feature
from ooc_jax.experiments.explain._known import Known
from ooc_jax.experiments.explain._known import known
from ooc_jax.experiments.output_prediction import OutputPrediction


def run(
    explain: Explain,
    config: OutputPrediction,
    *,
    model: str | os.PathLike[str] | None = None,
) -> tuple[FeatureName, Explanation, Known]:
  """Loads model and dictionary, and looks for results.

  Args:
    explain: Which feature.
    config: Model and dictionary, as far as the name of the feature does not
      say them, and how they are read.
    model: What `load_model` takes, instead of what the settings name.

  Raises:
    InputError: For anything that a user can cause.
  """
  name = parse_feature(explain.feature)
  if config.control != 'none':
    raise InputError(
        f'control={config.control!r}: a feature is explained in the model'
        ' itself; leave it out.'
    )
  # Results first: a wrong folder is known before weights are read.
  found = known(config, name.layer, name.feature, explain.results)
  source = config.dictionary
  loaded = checkpoints.load_model(
      model or config.model or 'tiny-gemma2',
      parts=tuple(
          dict.fromkeys((*config.parts, 'embedding', 'attention', 'norms'))
      ),
      revision=config.revision,
  )
  dictionary = dictionaries.load_dictionary(
      source,
      model=loaded,
      layer=name.layer,
      nan_rows=config.nan_rows,
      **config.dictionary_options,
  )
  explanation = compute(
      loaded,
      dictionary,
      name.feature,
      config,
      directions=explain.directions,
      heads=explain.heads,
  )
  return name, explanation, found
