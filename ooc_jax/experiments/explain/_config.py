"""Which feature, and beside how much chance."""

import dataclasses
import re

from ooc_jax import dictionaries
from ooc_jax._errors import InputError
from ooc_jax._settings import check
from ooc_jax._settings import setting
from ooc_jax._text import printable

_PLACE = re.compile(r'(\d{1,6})/(\d{1,9})')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explain:
  """What is explained; how it is read is of `OutputPrediction`."""

  feature: str | None = setting(
      None,
      help=(
          "'LAYER/NUMBER', or the address of its page at Neuronpedia, which"
          ' says model and dictionary too.'
      ),
  )
  results: str | None = setting(
      None,
      help=(
          'A results folder of the same dictionary, or one that holds some; by'
          ' default results/, as far as it is of the same.'
      ),
  )
  directions: int = setting(
      256,
      help='Rows that are read at once: the feature, and random directions.',
      least=64,
  )
  heads: int = setting(4, help='Heads of attention to show.', least=0)

  def __post_init__(self):
    check(self)


@dataclasses.dataclass(frozen=True)
class FeatureName:
  """A feature, and what its name says of where it is.

  Attributes:
    layer: By which `load_dictionary` loads the dictionary.
    feature: Its row.
    model: Hub repository; None where the name does not say it.
    dictionary: 'release/id'; None where the name does not say it.
    page: Its address at Neuronpedia, or None.
  """

  layer: int
  feature: int
  model: str | None = None
  dictionary: str | None = None
  page: str | None = None


def parse_feature(text: str | None) -> FeatureName:
  """'5/17', 'gemma-2-2b/0-gemmascope-res-16k/123', or the address of a page.

  Raises:
    InputError: It is none of them, or of a dictionary that is not known here.
  """
  if text is None:
    raise InputError(
        'Say which feature: --feature=LAYER/NUMBER, or the address of its page'
        ' at Neuronpedia.'
    )
  if match := _PLACE.fullmatch(text.strip()):
    return FeatureName(int(match[1]), int(match[2]))
  path = re.sub(
      r'^(https?://)?(www\.)?neuronpedia\.org/', '', text.strip()
  ).split('?')[0]
  parts = [x for x in path.split('#')[0].split('/') if x]
  if len(parts) != 3 or not parts[2].isdigit():
    raise InputError(
        f'--feature={printable(text, 100)} is no feature; write LAYER/NUMBER,'
        ' or https://www.neuronpedia.org/MODEL/SOURCE/NUMBER.'
    )
  page = '/'.join(parts[:2])
  named = dictionaries.find_entry(page, None)
  if named is None or named.entry.site is None:
    raise InputError(
        f'No dictionary here is {printable(page, 100)} at Neuronpedia; give'
        ' --model, --dictionary and --feature=LAYER/NUMBER instead'
        ' (convert_weights.py --list has what is known).'
    )
  return FeatureName(
      named.entry.site.layer,
      int(parts[2]),
      named.release.model,
      named.name,
      f'https://www.neuronpedia.org/{page}/{parts[2]}',
  )
