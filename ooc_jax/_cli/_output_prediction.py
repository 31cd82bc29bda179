"""`output_prediction` from the command line."""

import dataclasses
import os
import time

from ooc_jax._cli._experiment import RunSettings
from ooc_jax._cli._experiment import config_of
from ooc_jax._cli._experiment import join
from ooc_jax._cli._experiment import out_folder
from ooc_jax._cli._experiment import say
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import output_prediction
from ooc_jax.experiments import setting

# Else libtpu asks a server for the TPU of this machine, for minutes, complains
# that there is none, and refuses to be loaded by two programs at a time.
_NO_TPU_HERE = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanSettings:
  """Where a run would be."""

  plan: str | None = setting(
      None,
      help=(
          "TPUs that need not be here, 'v5e:2x4': say whether it would fit,"
          ' and what they would send to each other.'
      ),
  )


def _main(given: Given) -> None:
  start = time.monotonic()
  config = config_of(given, OutputPrediction)
  weights = given['weights']
  if given['dry_run']:
    print('\n'.join(output_prediction.plan(config, model=weights)))
    return
  if given['plan'] is not None:
    for name, value in _NO_TPU_HERE.items():
      os.environ.setdefault(name, value)
    lines = output_prediction.topology_plan(
        config, given['plan'], model=weights, mesh=given['mesh']
    )
    print('\n'.join(lines))
    return
  join(given)
  run = output_prediction.run(
      config,
      model=weights,
      out=out_folder(given, 'output_prediction', config.dictionary),
      mesh=given['mesh'],
      figures=given['figures'],
  )
  files = 'features/, labels.parquet, summary.json, figures/'
  say(output_prediction.text(run.summary, config), run.folder, files, start)


COMMAND = Command(
    doc=output_prediction.__doc__ or '',
    settings={
        'this run': RunSettings,
        'plan': PlanSettings,
        'output_prediction': OutputPrediction,
    },
    main=_main,
)
