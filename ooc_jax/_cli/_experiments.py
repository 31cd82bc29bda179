"""The experiments from the command line."""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import time
import types
from typing import Any, TypeVar

from absl import logging
import jax

from ooc_jax import experiments
from ooc_jax._cli._flags import WEIGHTS
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax._errors import InputError
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import SemanticAttention
from ooc_jax.experiments import Validation
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import output_prediction
from ooc_jax.experiments import semantic_attention
from ooc_jax.experiments import setting
from ooc_jax.experiments import settings_of
from ooc_jax.experiments import validation

_C = TypeVar('_C')
# Else libtpu asks a server for the TPU of this machine, for minutes, complains
# that there is none, and refuses to be loaded by two programs at a time.
_NO_TPU_HERE = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RunSettings:
  """Where and on what a run is, which is not written into its results."""

  model: str = setting(
      experiments.DEFAULT_MODEL,
      help=(
          'What is studied: a file of configs/, in which other settings may'
          ' have other defaults than here.'
      ),
  )
  weights: str | None = setting(None, help=WEIGHTS)
  out: str | None = setting(
      None,
      help=(
          'Folder to write; by default one in results/ that is named after'
          ' experiment, model and dictionary.'
      ),
  )
  figures: bool = setting(
      True,
      help='Draw them, as PNG; or the formats in which they are drawn.',
      choices=('png', 'pdf'),
  )
  quiet: bool = setting(False, help='Say nothing on the way but warnings.')
  mesh: str = setting(
      'auto',
      help=(
          "Devices to spread over, 'feature:4,vocab:2'; auto is features over"
          ' all accelerators, and over all devices of several processes.'
      ),
  )
  coordinator: str | None = setting(
      None,
      help=(
          'Compute together with other processes, whose first one listens at'
          " 'host:port' (with --processes and --process); 'auto' where the"
          ' machine knows them: a TPU pod, Slurm, Open MPI, Kubernetes.'
      ),
  )
  processes: int | None = setting(None, help='How many they are.')
  process: int | None = setting(None, help='Which this one is, from 0.')
  dry_run: bool = setting(
      False, help='Say what would be downloaded, computed, held and written.'
  )


def _config_of(given: Given, kind: type[_C]) -> _C:
  """The settings of one experiment: of its config file, and of flags."""
  name = given['model']
  if given['weights'] is None and pathlib.Path(name).exists():
    logging.log_first_n(
        logging.WARNING,
        '--model=%s is a file of configs/, and not what is here under that'
        ' name; --weights=%s reads that.',
        1,
        name,
        name,
    )
  overrides = given.of(kind)
  overrides.pop('model', None)  # As a flag, the name of a file of configs/.
  return experiments.load_config(name, overrides, kind)


def _out_folder(given: Given, experiment: str, dictionary: str) -> pathlib.Path:
  """`--out`, or a folder named after the experiment and what is studied."""
  if given['out'] is not None:
    return pathlib.Path(given['out']).expanduser()
  # 'release/layer_{layer}' names the release: all its layers are read.
  shown = '/'.join(x for x in dictionary.split('/') if '{layer}' not in x)
  names = [experiment, given['model'], shown or 'dictionary']
  return pathlib.Path('results') / '-'.join(
      name.replace('/', '_').strip('.') for name in names
  )


def _where(given: Given, experiment: str, dictionary: str) -> dict[str, Any]:
  """Of `run`: where it writes, on which devices; joins other processes."""
  experiments.join(given['coordinator'], given['processes'], given['process'])
  experiments.check_devices()
  return {
      'out': _out_folder(given, experiment, dictionary),
      'model': given['weights'],
      'mesh': given['mesh'],
      'figures': given['figures'],
  }


def trusted(options: Mapping[str, Any]) -> Mapping[str, Any]:
  """Options of a `run` without a kernel that this device computes wrong."""
  fused = {
      name: dataclasses.replace(x, kernel='xla')
      for name, x in options.items()
      if isinstance(x, OutputPrediction) and x.kernel != 'xla'
  }
  failed = experiments.check_arithmetic('pallas' if fused else 'xla')
  return {**options, **fused} if 'pallas' in failed else options


def _run(
    given: Given,
    study: types.ModuleType,
    config: Any,
    files: str,
    dictionary: str | None = None,
    **options: Any,
) -> None:
  """Runs a study; prints what it found and left.

  Args:
    given: On the command line.
    study: With `run` and `text`.
    config: Its settings.
    files: What is in its folder.
    dictionary: That it reads; by default that of its settings.
    **options: Further ones of its `run`.
  """
  start = time.monotonic()
  experiment = study.__name__.rpartition('.')[2]
  where = _where(given, experiment, dictionary or config.dictionary)
  run = study.run(**trusted({'config': config, **options}), **where)
  if experiments.is_first_process():
    seconds = time.monotonic() - start
    print('\n'.join(study.text(run.summary, config)))
    print(f'\n{run.folder}: {files} ({seconds:.0f} s)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CheckSettings:
  """What the predictions are set beside."""

  validation: str | None = setting(
      None,
      help=(
          'Folder of a validation (validate.py) of the same model and'
          ' dictionary; by default one beside the results.'
      ),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PlanSettings:
  """Where a run would be."""

  plan: str | None = setting(
      None,
      help=(
          "TPUs that need not be here, 'v5e:2x4': say whether it would fit,"
          ' and what they would send to each other.'
      ),
  )


def _output_prediction(given: Given) -> None:
  config = _config_of(given, OutputPrediction)
  if given['dry_run']:
    lines = output_prediction.plan(config, model=given['weights'])
    print('\n'.join(lines))
    return
  if given['plan'] is not None:
    for name, value in _NO_TPU_HERE.items():
      os.environ.setdefault(name, value)
    # A program for chips that are not here cannot be read back.
    jax.config.update('jax_enable_compilation_cache', False)
    lines = output_prediction.topology_plan(
        config, given['plan'], model=given['weights'], mesh=given['mesh']
    )
    print('\n'.join(lines))
    return
  files = 'features/, labels.parquet, summary.json, figures/'
  check = given['validation']
  _run(given, output_prediction, config, files, validation=check)


def _attention_participation(given: Given) -> None:
  config = _config_of(given, AttentionParticipation)
  if given['dry_run']:
    lines = attention_participation.plan(config, model=given['weights'])
    print('\n'.join(lines))
    return
  files = (
      'features/, heads.parquet, participation.parquet, sweep.parquet,'
      ' shapes.parquet, summary.json, figures/'
  )
  check = given['validation']
  _run(given, attention_participation, config, files, validation=check)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FinishedRuns:
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


def _semantic_attention(given: Given) -> None:
  _refuse_unread(given, 'labels', OutputPrediction, AttentionParticipation)
  _refuse_unread(given, 'attention', AttentionParticipation, OutputPrediction)
  labels = _config_of(given, OutputPrediction)
  attention = _config_of(given, AttentionParticipation)
  if given['dry_run']:
    lines, weights = [], given['weights']
    if given['attention'] is None:
      lines += attention_participation.plan(attention, model=weights)
    if given['labels'] is None:
      lines += output_prediction.plan(labels, model=weights)
    print('\n'.join(lines))
    return
  _run(
      given,
      semantic_attention,
      SemanticAttention(**given.of(SemanticAttention)),
      'populations.parquet, effects.parquet, populations_*.csv, summary.json,'
      ' figures/',
      labels.dictionary,
      labels=given['labels'] or labels,
      attention=given['attention'] or attention,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CostSettings:
  """What needs no model."""

  cost: bool = setting(
      False,
      help=(
          'Only say what either side costs by formula, of eight models; no'
          ' weights are read.'
      ),
  )


def _validate(given: Given) -> None:
  if given['cost']:
    from ooc_jax.experiments import cost  # Matplotlib is slow to import.

    out = pathlib.Path(given['out'] or 'results/cost').expanduser()
    costs = cost.run(out, figures=bool(given['figures']))
    print('\n'.join([*cost.text(costs), f'\n{out}: cost.csv, cost.md']))
    return
  config = _config_of(given, Validation)
  if given['dry_run']:
    raise InputError(
        '--dry_run is of the other experiments; leave it out, or ask for'
        ' --cost.'
    )
  files = 'features/, validation_*.parquet, summary.json, figures/'
  _run(given, validation, config, files)


COMMANDS = {
    'output_prediction': Command(
        doc=output_prediction.__doc__ or '',
        settings={
            'this run': _RunSettings,
            'validation': _CheckSettings,
            'plan': _PlanSettings,
            'output_prediction': OutputPrediction,
        },
        main=_output_prediction,
    ),
    'attention_participation': Command(
        doc=attention_participation.__doc__ or '',
        settings={
            'this run': _RunSettings,
            'validation': _CheckSettings,
            'attention_participation': AttentionParticipation,
        },
        main=_attention_participation,
    ),
    'semantic_attention': Command(
        doc=semantic_attention.__doc__ or '',
        settings={
            'this run': _RunSettings,
            'finished runs': _FinishedRuns,
            'output_prediction': OutputPrediction,
            'attention_participation': AttentionParticipation,
            'semantic_attention': SemanticAttention,
        },
        main=_semantic_attention,
    ),
    'validate': Command(
        doc=validation.__doc__ or '',
        settings={
            'this run': _RunSettings,
            'cost': _CostSettings,
            'validation': Validation,
        },
        main=_validate,
    ),
}
