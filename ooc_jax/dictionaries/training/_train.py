"""SAEs of many sites, trained at once into a folder that resumes to the bit."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import time
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
from rich import console
from rich import progress as rich_progress

from ooc_jax import _files
from ooc_jax._errors import InputError
from ooc_jax.checkpoints import TrainingCheckpoints
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._load import load_dictionary
from ooc_jax.dictionaries.training import _corpus
from ooc_jax.dictionaries.training._activations import folder_name
from ooc_jax.dictionaries.training._activations import make_activations
from ooc_jax.dictionaries.training._activations import stream_sites
from ooc_jax.dictionaries.training._evaluate import Metrics
from ooc_jax.dictionaries.training._evaluate import evaluate
from ooc_jax.dictionaries.training._recipe import TrainingRecipe
from ooc_jax.dictionaries.training._save import to_dictionary
from ooc_jax.dictionaries.training._save import write_sae_lens
from ooc_jax.dictionaries.training._step import SaeState
from ooc_jax.dictionaries.training._step import init_sae_state
from ooc_jax.dictionaries.training._step import make_sae_step
from ooc_jax.model import Model

DTYPES = ('float32', 'bfloat16')
_CALIBRATION_TOKENS = 4096


def train_saes(
    model: Model,
    corpus: Sequence[str | os.PathLike[str]],
    recipe: TrainingRecipe,
    out: str | os.PathLike[str],
    *,
    name: str,
    sites: Sequence[DictionarySite] | None = None,
    context: int = 256,
    batch_tokens: int = 2048,
    dtype: str = 'float32',
    bos: int | None = None,
    every: int = 200,
    held_out_windows: int = 512,
    spliced_windows: int = 64,
) -> dict[str, Metrics]:
  """Trains, writes and measures the SAEs of a model.

  `out` gets a folder a site in SAELens's format ('layer_3'), `metrics.json`
  and `losses.jsonl`. Stopped at any moment, the same call continues, and ends
  with the same bits on the same machine and number of threads: batches are a
  function of seed and step.

  Args:
    model: With all its parts and a tokenizer.
    corpus: Text files, UTF-8.
    recipe: Of the training.
    out: Folder, new or of the same run.
    name: Of the model, for what is written.
    sites: See `stream_sites`; None is the embedding and every layer.
    context: T, tokens of a window after BOS.
    batch_tokens: Of a step, a multiple of `context`.
    dtype: Of the matrices that are written.
    bos: Id before each window, where the tokenizer adds none of its own.
    every: Steps between two checkpoints.
    held_out_windows: That are reconstructed at the end.
    spliced_windows: That the cross-entropies are of.

  Returns:
    What each SAE, as it was written, is worth, by the name of its folder.

  Raises:
    InputError: A setting is wrong, the text is too little or cannot be read,
      or `out` is of another run.
  """
  if dtype not in DTYPES:
    raise InputError(f'dtype={dtype!r} is none of {", ".join(DTYPES)}.')
  if not 2 <= context <= batch_tokens or batch_tokens % context:
    raise InputError(
        f'batch_tokens={batch_tokens} must be a multiple of context={context},'
        ' which is at least 2.'
    )
  if model.tokenizer is None:
    raise InputError(
        'The model has no tokenizer.json, and text cannot be read without it;'
        ' put it beside the weights.'
    )
  if sites is None:
    sites = stream_sites(model.config.num_layers)
  bos = _bos(model, bos)
  hashes = file_hashes(corpus)
  settings = {
      **dataclasses.asdict(recipe),
      'model': file_hashes(model.files) or {'arrays': _sha256(model.params)},
      'corpus': hashes,
      'sites': ','.join(map(folder_name, sites)),
      'context': context,
      'batch_tokens': batch_tokens,
      'dtype': dtype,
      'bos': bos,
  }
  out = pathlib.Path(out)
  check_same_run(out, settings)
  texts = _corpus.read_corpus(corpus)
  ids = _corpus.encode(texts.train, model.tokenizer)
  windows = _corpus.Windows(ids, context, bos, recipe.seed)
  state = _train(
      model,
      tuple(sites),
      windows,
      recipe,
      out,
      batch_tokens=batch_tokens,
      every=every,
  )

  metadata = {
      'model_name': name,
      'context_size': context,
      'dataset_path': ', '.join(hashes),
      'training': dataclasses.asdict(recipe) | {'package': 'ooc_jax'},
  }
  written = []
  for i, site in enumerate(sites):
    folder = out / folder_name(site)
    if not folder.exists():
      dictionary = to_dictionary(
          state, i, site=site, name=folder.name, dtype=dtype
      )
      write_sae_lens(dictionary, folder, metadata)
    written.append(load_dictionary(folder, model=model))
  held_out = _corpus.held_out_windows(
      _corpus.encode(texts.held_out, model.tokenizer), context, bos
  )
  logging.info('measuring on %d held-out windows', held_out_windows)
  found = evaluate(
      model, written, held_out[:held_out_windows], spliced_rows=spliced_windows
  )
  metrics = dict(zip(map(folder_name, sites), found, strict=True))
  _files.write_json(
      out / 'metrics.json',
      {
          'model': name,
          'definitions': Metrics.__doc__,
          'sites': {k: dataclasses.asdict(m) for k, m in metrics.items()},
      },
  )
  return metrics


def check_same_run(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
  """Makes the folder of a training, or checks that it has the same settings.

  Args:
    folder: Keeps them as `settings.json`.
    settings: All that the weights depend on.

  Raises:
    InputError: The folder is of a run with other settings.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(_files.refusal('use', folder, error)) from None
  path = folder / 'settings.json'
  settings = _files.plain(settings)
  if not path.exists():
    _files.write_json(path, settings)
  elif (found := _files.read_json(path)) != settings:
    names = sorted(
        name
        for name in found.keys() | settings.keys()
        if found.get(name) != settings.get(name)
    )
    raise InputError(
        f'{folder} holds a run with other settings ({", ".join(names)}); give'
        ' a new folder, or the command that it was started with.'
    )


class TrainingLog:
  """A line of JSON for each checkpoint of a training.

  Attributes:
    lines: As they are in the file.
  """

  def __init__(self, path: pathlib.Path, last: int):
    """Opens a log; what it has past step `last` was never checkpointed."""
    self._path = path
    text = path.read_text().splitlines() if path.exists() else []
    lines: list[dict[str, Any]] = [json.loads(line) for line in text]
    self.lines = [line for line in lines if line['step'] <= last]

  def append(self, **line: Any) -> None:
    """Writes one more, before its checkpoint is written."""
    self.lines.append(_files.plain(line))
    text = ''.join(f'{json.dumps(line)}\n' for line in self.lines)
    _files.atomic_write(self._path, text.encode())


def file_hashes(files: Sequence[str | os.PathLike[str]]) -> dict[str, str]:
  """SHA-256 by name; two files of one name are told apart by their folder."""
  paths = [pathlib.Path(file) for file in files]
  names = [path.name for path in paths]
  return {
      path.name
      if names.count(path.name) == 1
      else '/'.join(path.parts[-2:]): _files.sha256_file(path)
      for path in paths
  }


def _sha256(params: Any) -> str:
  digest = hashlib.sha256()
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    digest.update(f'{path} {x.dtype} {x.shape}'.encode())
    digest.update(np.ascontiguousarray(x).tobytes())
  return digest.hexdigest()


def _bos(model: Model, given: int | None) -> int:
  if given is not None:
    if not 0 <= given < model.config.vocab_size:
      raise InputError(
          f'bos={given} is no id of the model, which has'
          f' {model.config.vocab_size}.'
      )
    return given
  assert model.tokenizer is not None  # Asked by `train_saes`.
  added = model.tokenizer.encode('')
  if len(added) != 1:
    raise InputError(
        f'The tokenizer puts {len(added)} tokens before a text, and one is'
        ' needed; give its id as bos.'
    )
  return added[0]


def _train(
    model: Model,
    sites: tuple[DictionarySite, ...],
    windows: _corpus.Windows,
    recipe: TrainingRecipe,
    out: pathlib.Path,
    *,
    batch_tokens: int,
    every: int,
) -> SaeState:
  """All steps that are left, with a checkpoint and a line every so often."""
  rows = batch_tokens // windows.length
  activations = make_activations(model.config, sites)

  def batch(index: int) -> Float[Array, 'sites n D']:
    return activations(model.params, jnp.asarray(windows.batch(index, rows)))

  # Of batches that no step sees.
  count = -(-_CALIBRATION_TOKENS // batch_tokens)
  sample = [batch(recipe.steps + i) for i in range(count)]
  state = init_sae_state(recipe, jnp.concatenate(sample, axis=1))
  step = make_sae_step(recipe)
  with TrainingCheckpoints(out / 'checkpoints') as checkpoints:
    first = checkpoints.newest() or 0
    if first:
      state = checkpoints.load(first, state)
      logging.info('continuing after step %d', first)
    log = TrainingLog(out / 'losses.jsonl', first)
    start = time.monotonic()
    seen = []
    # A bar on a terminal, and nowhere else.
    for i in rich_progress.track(
        range(first, recipe.steps),
        'steps',
        console=console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ):
      state, losses = step(state, batch(i))
      seen.append((losses.fvu, losses.l0))
      if (i + 1) % every and i + 1 < recipe.steps:
        continue
      fvu, l0 = np.mean(jax.device_get(seen), axis=0)
      silent = np.asarray(state.silent >= recipe.silent_steps).mean(axis=1)
      seen = []
      log.append(step=i + 1, fvu=fvu, l0=l0, silent=silent)
      checkpoints.save(i + 1, state)
      speed = (i + 1 - first) * batch_tokens / (time.monotonic() - start)
      logging.info(
          'step %d of %d: FVU %.3f to %.3f, L0 %.1f to %.1f, silent at most'
          ' %.1f %%; %.0f tokens/s, %.0f s left',
          i + 1,
          recipe.steps,
          fvu.min(),
          fvu.max(),
          l0.min(),
          l0.max(),
          100 * silent.max(),
          speed,
          (recipe.steps - i - 1) * batch_tokens / speed,
      )
  return state
