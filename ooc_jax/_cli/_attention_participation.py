"""`attention_participation` from the command line."""

import time

from ooc_jax._cli._experiment import RunSettings
from ooc_jax._cli._experiment import config_of
from ooc_jax._cli._experiment import join
from ooc_jax._cli._experiment import out_folder
from ooc_jax._cli._experiment import say
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import attention_participation

_FILES = (
    'features/, heads.parquet, participation.parquet, sweep.parquet,'
    ' shapes.parquet, summary.json, figures/'
)


def _main(given: Given) -> None:
  start = time.monotonic()
  config = config_of(given, AttentionParticipation)
  weights = given['weights']
  if given['dry_run']:
    print('\n'.join(attention_participation.plan(config, model=weights)))
    return
  join(given)
  run = attention_participation.run(
      config,
      model=weights,
      out=out_folder(given, 'attention_participation', config.dictionary),
      mesh=given['mesh'],
      figures=given['figures'],
  )
  lines = attention_participation.text(run.summary, config)
  say(lines, run.folder, _FILES, start)


COMMAND = Command(
    doc=attention_participation.__doc__ or '',
    settings={
        'this run': RunSettings,
        'attention_participation': AttentionParticipation,
    },
    main=_main,
)
