"""The settings of an export."""

import dataclasses

from ooc_jax._settings import check
from ooc_jax._settings import setting

FORMATS = ('html', 'neuronpedia', 'csv', 'jsonl', 'vectors')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
  """What is written, of which features, and where to."""

  to: str = setting(
      'html',
      help=(
          'html: a site that opens from a file; neuronpedia: files of its'
          ' importer; csv, jsonl: the tables; vectors: decoder rows as'
          ' safetensors.'
      ),
      choices=FORMATS,
  )
  features: tuple[str, ...] | None = setting(
      None,
      help=(
          "Which, as 'LAYER/NUMBER,LAYER/NUMBER'; without this and --best all,"
          ' where the format takes all.'
      ),
  )
  best: int | None = setting(
      None,
      help=(
          'So many of each layer: coherent ones first, then by p-value and mean'
          ' rank in the measures of coherence.'
      ),
      least=1,
  )
  out: str | None = setting(
      None,
      help=(
          'Folder to write, new, empty, or of an earlier export, which is'
          ' replaced; by default results/export-FORMAT-NAME.'
      ),
  )
  weights: str | None = setting(
      None,
      help=(
          'A local copy of the model of the run, where vectors need it, instead'
          ' of the hub.'
      ),
  )
  model_id: str | None = setting(
      None,
      help='Of the model there; by default as its name is here.',
      group='neuronpedia',
  )
  source_set: str | None = setting(
      None,
      help=(
          "Of the dictionary there, 'gemmascope-res-16k'; by default as its"
          ' name is here.'
      ),
      group='neuronpedia',
  )
  release: str = setting(
      'ooc-jax', help='Id of the release.', group='neuronpedia'
  )
  creator: str = setting(
      'ooc_jax', help='Who is named as creator.', group='neuronpedia'
  )
  creator_id: str = setting(
      'clkht01d40000jv08hvalcvly',
      help=(
          'Id of a user of that installation; the default is the one that a new'
          ' installation has.'
      ),
      group='neuronpedia',
  )

  def __post_init__(self):
    check(self)
