"""`semantic_attention` from the command line."""

import dataclasses
import time
from typing import Any

from ooc_jax._cli._experiment import RunSettings
from ooc_jax._cli._experiment import config_of
from ooc_jax._cli._experiment import join
from ooc_jax._cli._experiment import out_folder
from ooc_jax._cli._experiment import say
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax._errors import InputError
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import SemanticAttention
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import output_prediction
from ooc_jax.experiments import semantic_attention
from ooc_jax.experiments import setting
from ooc_jax.experiments import settings_of

_FILES = (
    'populations.parquet, effects.parquet, populations_*.csv, summary.json,'
    ' figures/'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRuns:
  """Runs of the other experiments that are there already."""

  labels: str | None = setting(
      None, help='Folder of a finished run of output_prediction.'
  )
  attention: str | None = setting(
      None, help='Folder of a finished run of attention_participation.'
  )


def _refuse_unread(given: Given, flag: str, kind: type, other: type) -> None:
  """Refuses settings of a run that is finished."""
  own = [x for x in given.of(kind) if x not in settings_of(other)]
  if given[flag] is not None and own:
    raise InputError(
        f'--{own[0]} is a setting of the run in --{flag}, which is finished;'
        ' leave one of them out.'
    )


def _main(given: Given) -> None:
  start = time.monotonic()
  _refuse_unread(given, 'labels', OutputPrediction, AttentionParticipation)
  _refuse_unread(given, 'attention', AttentionParticipation, OutputPrediction)
  labels = config_of(given, OutputPrediction)
  attention = config_of(given, AttentionParticipation)
  weights = given['weights']
  if given['dry_run']:
    lines = []
    if given['attention'] is None:
      lines += attention_participation.plan(attention, model=weights)
    if given['labels'] is None:
      lines += output_prediction.plan(labels, model=weights)
    print('\n'.join(lines))
    return
  join(given)
  settings: dict[str, Any] = {'seed': labels.seed}
  config = SemanticAttention(**(settings | given.of(SemanticAttention)))
  run = semantic_attention.run(
      config,
      labels=given['labels'] or labels,
      attention=given['attention'] or attention,
      out=out_folder(given, 'semantic_attention', labels.dictionary),
      model=weights,
      mesh=given['mesh'],
      figures=given['figures'],
  )
  lines = semantic_attention.text(run.summary, config)
  say(lines, run.folder, _FILES, start)


COMMAND = Command(
    doc=semantic_attention.__doc__ or '',
    settings={
        'this run': RunSettings,
        'finished runs': FinishedRuns,
        'output_prediction': OutputPrediction,
        'attention_participation': AttentionParticipation,
        'semantic_attention': SemanticAttention,
    },
    main=_main,
)
