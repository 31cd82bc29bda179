"""Finished runs, each made once for all tests that read it.

In a folder that all processes of a test run share. A test that changes a
folder copies it first.
"""

import hashlib
import json
import pathlib
from typing import Any

import filelock

from ooc_jax import experiments
from tests.tiny import make_checkpoint

ROOT: pathlib.Path | None = None  # Set by conftest.py.
# The default is many times what tests of a path through the code need.
SMALL = {'output_prediction': {'null_size': 1000, 'layer_null_size': 200}}
_KINDS = {
    'output_prediction': 'OutputPrediction',
    'attention_participation': 'AttentionParticipation',
}


def checkpoint(family: str = 'llama', **config: Any) -> pathlib.Path:
  """The folder of a tiny model."""
  folder = _place('model', family, config)
  with filelock.FileLock(f'{folder}.lock'):
    if not folder.exists():
      part = folder.with_name(folder.name + '.part')
      make_checkpoint(part, family, **config)
      part.rename(folder)
  return folder


def run(
    experiment: str,
    family: str = 'llama',
    *,
    mesh: str | None = None,
    figures: bool = False,
    **settings: Any,
) -> pathlib.Path:
  """The folder of a finished run on a tiny model.

  Args:
    experiment: A module of `ooc_jax.experiments`.
    family: Of the model.
    mesh: To spread it over.
    figures: Whether to draw them.
    **settings: Of the experiment.
  """
  about = {'mesh': mesh, 'figures': figures, **settings}
  folder = _place(experiment, family, about)
  with filelock.FileLock(f'{folder}.lock'):
    if not (folder / 'done').exists():
      kind = getattr(experiments, _KINDS[experiment])
      getattr(experiments, experiment).run(
          kind(**({'model': 'tiny'} | SMALL.get(experiment, {}) | settings)),
          model=checkpoint(family),
          out=folder / 'out',
          mesh=mesh,
          figures=figures,
      )
      (folder / 'done').touch()
  return folder / 'out'


def _place(what: str, family: str, about: Any) -> pathlib.Path:
  assert ROOT is not None  # By the fixture in conftest.py.
  text = json.dumps(about, sort_keys=True)
  key = hashlib.sha256(text.encode()).hexdigest()[:12]
  return ROOT / f'{what}-{family}-{key}'
