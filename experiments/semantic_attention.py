r"""Experiment 3: do semantic features take part in attention as others do.

Joins experiment 1, which says which features are semantic (by decoder and
unembedding, and by encoder and embedding), with experiment 2, which says how
strongly each takes part in attention, and compares the two populations layer
by layer. Runs both, or reads the folders of finished runs.

Example:
  python experiments/semantic_attention.py --model=smollm2 \
      --labels=results/smollm2 --attention=results/smollm2-attention

Leaves a folder with the populations, the tests, a table and a figure for each
labelling, and a verdict on each of the paper's two statements.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
import time
from typing import Any

import _app
import _attention_flags
from _attention_study import AttentionStudy
import _command
import _output_flags
import _output_prediction as output_prediction
import _plan
import _processes
import _semantic_finish
from _semantic_populations import OVER_HEADS
import _semantic_text
import _shared_folder
from _studied import Results
from _study import Study
from _study import check_known
from _study import check_least
from absl import flags
import attention_participation

import ooc_jax
from ooc_jax import results

_EXPERIMENT = 'semantic_attention'
_LABELS = flags.DEFINE_string(
    'labels', None, 'Folder of a finished run of output_prediction.'
)
_ATTENTION = flags.DEFINE_string(
    'attention', None, 'Folder of a finished run of attention_participation.'
)
_OVER_HEADS = flags.DEFINE_string(
    'over_heads',
    'mean',
    "How a feature's numbers of the heads become one: 'mean' or 'largest'.",
)
_LEAST = flags.DEFINE_integer(
    'least', 10, 'Features that both populations of a layer must have.'
)
_DRAWS = flags.DEFINE_integer('draws', 1000, 'Of the bootstrap.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What experiment 3 adds to the other two.

  Attributes:
    over_heads: How a feature's numbers of the heads become one.
    least: Features that both populations of a layer must have.
    draws: Of the bootstrap.
    seed: Of the bootstrap.
  """

  over_heads: str = 'mean'
  least: int = 10
  draws: int = 1000
  seed: int = 0

  def __post_init__(self):
    check_known('over_heads', self.over_heads, tuple(OVER_HEADS))
    check_least(self, {'least': 2, 'draws': 1, 'seed': 0})


def run(
    labels: Study | str | pathlib.Path,
    attention: AttentionStudy | str | pathlib.Path,
    out: pathlib.Path,
    settings: Settings,
    weights: str | None = None,
    mesh: str | None = None,
) -> Results:
  """The experiment. Touches no flag, so a test or a notebook may call it.

  Args:
    labels: Settings of experiment 1 (its layers become those that attention
      reads), or the folder of a finished run.
    attention: Settings of experiment 2, or the folder of a finished run.
    out: Results folder, new or of the same run. What is run is left in it. Of
      several processes only the first one writes.
    settings: Of this experiment.
    weights: A local copy of the model, where something is run.
    mesh: As of the other experiments.

  Returns:
    The folder and the summary.

  Raises:
    InputError: For anything that a user can cause.
  """
  recorded = _processes.told(lambda: _recorded(labels, attention, settings))
  with _shared_folder.open_folder(
      out, recorded, provenance=_command.provenance()
  ) as folder:
    if isinstance(attention, AttentionStudy):
      place = out / 'attention_participation'
      attention_participation.run(attention, place, weights, mesh)
      attention = place
    if isinstance(labels, Study):
      origins = _processes.told(
          lambda: _semantic_finish.dictionary_layers(
              results.ResultsFolder.view(attention)
          )
      )
      labels = dataclasses.replace(labels, layers=','.join(map(str, origins)))
      place = out / 'output_prediction'
      output_prediction.run(labels, place, weights, mesh)
      labels = place

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      summary = results.ResultsFolder.view(attention).read_summary()
      return _semantic_finish.finish(
          mine,
          _semantic_finish.read_layers(labels, attention, settings.over_heads),
          tied=bool(summary['tied']),
          num_layers=int(summary['num_layers']),
          least=settings.least,
          draws=settings.draws,
          seed=settings.seed,
      )

    return Results(out, folder.ask(finish))


def _recorded(
    labels: Study | str | pathlib.Path,
    attention: AttentionStudy | str | pathlib.Path,
    settings: Settings,
) -> dict[str, Any]:
  """What makes this run the one it is."""
  return {
      'experiment': _EXPERIMENT,
      **dataclasses.asdict(settings),
      'labels': _identity(labels, 'output_prediction', 'labels'),
      'attention': _identity(attention, 'attention_participation', 'attention'),
      **_name(attention),
  }


def _identity(
    part: Study | AttentionStudy | str | pathlib.Path,
    experiment: str,
    flag: str,
) -> Any:
  """What makes a run of another experiment that run, and no other."""
  if isinstance(part, Study | AttentionStudy):
    return dataclasses.asdict(part)
  path = _semantic_finish.view(part, experiment, flag).path
  names = ('config.json', 'summary.json')
  return [results.sha256_file(path / name) for name in names]


def _name(attention: AttentionStudy | str | pathlib.Path) -> dict[str, Any]:
  """Model and dictionary, by which figures call the run."""
  if isinstance(attention, AttentionStudy):
    settings: Mapping[str, Any] = dataclasses.asdict(attention)
  else:
    settings = results.ResultsFolder.view(attention).config['settings']
  return {name: settings.get(name) for name in ('model', 'dictionary')}


def _refuse_unread(
    folder: str | None, flag: str, own: Mapping[str, flags.FlagHolder[Any]]
) -> None:
  """Refuses settings of a run that is finished."""
  given = [name for name, holder in own.items() if holder.value is not None]
  if folder is not None and given:
    raise ooc_jax.InputError(
        f'--{given[0]} is a setting of the run in --{flag}, which is finished;'
        ' leave one of them out.'
    )


def main() -> None:
  start = time.monotonic()
  if _output_flags.PLAN.value is not None:
    raise ooc_jax.InputError(
        '--plan is of output_prediction.py; run that with it.'
    )
  _refuse_unread(_LABELS.value, 'labels', _output_flags.FLAGS)
  _refuse_unread(_ATTENTION.value, 'attention', _attention_flags.FLAGS)
  study, weights = _command.study_from_flags(_output_flags.FLAGS)
  attention, _ = _command.study_from_flags(
      _attention_flags.FLAGS, AttentionStudy
  )
  settings = Settings(
      over_heads=_OVER_HEADS.value,
      least=_LEAST.value,
      draws=_DRAWS.value,
      seed=study.seed,
  )
  if _command.DRY_RUN.value:
    if _ATTENTION.value is None:
      parts = attention_participation.parts_of(attention)
      print('\n'.join(_plan.attention_plan(attention, parts, weights)))
    if _LABELS.value is None:
      parts = output_prediction.parts_of(study)
      print('\n'.join(_plan.plan(study, parts, weights)))
    return
  _processes.join()
  outcome = run(
      _LABELS.value or study,
      _ATTENTION.value or attention,
      _command.out_folder(_EXPERIMENT, study.dictionary),
      settings,
      weights,
      _app.MESH.value,
  )
  if not _processes.leads():
    return
  print('\n'.join(_semantic_text.report_lines(outcome.summary)))
  seconds = time.monotonic() - start
  print(
      f'\n{outcome.folder}: populations.parquet, effects.parquet,'
      f' populations_*.csv, summary.json, figures/ ({seconds:.0f} s)'
  )


if __name__ == '__main__':
  _app.start(main)
