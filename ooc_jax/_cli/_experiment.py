"""What the command lines of all experiments share."""

from collections.abc import Sequence
import dataclasses
import pathlib
import time
from typing import TypeVar

from ooc_jax import experiments
from ooc_jax._cli._flags import Given
from ooc_jax.experiments import setting

_C = TypeVar('_C')


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
  """Where and on what a run is, which is not written into its results."""

  model: str = setting(
      experiments.DEFAULT_MODEL,
      help=(
          'What is studied: a file of configs/, in which other settings may'
          ' have other defaults than here.'
      ),
  )
  weights: str | None = setting(
      None,
      help=(
          'A local copy of the model, instead of the hub: a .gguf or'
          ' .safetensors file, or a folder.'
      ),
  )
  out: str | None = setting(
      None,
      help=(
          'Folder to write; by default one in results/ that is named after'
          ' experiment, model and dictionary.'
      ),
  )
  figures: bool = setting(True, help='Draw them.')
  mesh: str | None = setting(
      None, help="Devices to spread over: 'feature:4,vocab:2'."
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


def config_of(given: Given, kind: type[_C]) -> _C:
  """The settings of one experiment: of its config file, and of flags."""
  overrides = given.of(kind)
  overrides.pop('model', None)  # As a flag, the name of a file of configs/.
  return experiments.load_config(given['model'], overrides, kind)


def out_folder(given: Given, experiment: str, dictionary: str) -> pathlib.Path:
  """`--out`, or a folder named after the experiment and what is studied."""
  if given['out'] is not None:
    return pathlib.Path(given['out']).expanduser()
  # 'release/layer_{layer}' names the release: all its layers are read.
  shown = '/'.join(x for x in dictionary.split('/') if '{layer}' not in x)
  names = [experiment, given['model'], shown or 'dictionary']
  return pathlib.Path('results') / '-'.join(
      name.replace('/', '_').strip('.') for name in names
  )


def join(given: Given) -> None:
  """Joins the other processes that the flags name."""
  experiments.join(given['coordinator'], given['processes'], given['process'])


def say(
    lines: Sequence[str], folder: pathlib.Path, files: str, start: float
) -> None:
  """Prints what a run found and left, in the first process.

  Args:
    lines: What it found.
    folder: Of its results.
    files: What is in there.
    start: `time.monotonic()` of the beginning.
  """
  if experiments.is_first_process():
    print('\n'.join(lines))
    print(f'\n{folder}: {files} ({time.monotonic() - start:.0f} s)')
