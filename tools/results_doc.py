"""Writes the tables of `docs/results.md` from the schemas themselves.

Example:
  python -m tools.results_doc

What stands between the two marks is replaced; a test refuses a page that is not
what this would write.
"""

from collections.abc import Iterator
import dataclasses
import pathlib
import re

import pyarrow as pa

from ooc_jax.results import tables

PAGE = pathlib.Path(__file__).parent.parent / 'docs' / 'results.md'
_BEGIN, _END = '<!-- tables: begin -->\n', '<!-- tables: end -->\n'
_SHAPES = {
    'F k': ' list of k',
    'N F': ' list of N',
    'N F k': ' list of N·k',
}
# Of columns that say no more than their names.
_NAMED = (
    (r'feature', 'row of the dictionary, from 0'),
    (r'selectivity_(\w+)_null', r'`selectivity` of the null `\1`'),
    (
        r'(\w+?_p\w+)_share',
        r'share of features that take part in the head, in context `\1`',
    ),
    (
        r'(\w+?_p\w+)_share_(\w+)_null',
        r'the same of the directions of the null `\2`',
    ),
)


@dataclasses.dataclass(frozen=True)
class Documented:
  """A kind of table.

  Attributes:
    experiment: Whose folder it is in.
    files: Their names, without `.parquet`; NN is a layer.
    about: A row is that.
    schema: Its columns.
    pattern: Of the names.
  """

  experiment: str
  files: str
  about: str
  schema: tables.TableSchema
  pattern: str


TABLES = (
    Documented(
        'output_prediction', 'features/layer=NN', 'A feature of the layer. The'
        ' columns are those of the output side; the other sides have the same'
        ' with `input_` and `embedding_` before the name.',
        tables.output_features(('output',)), r'features/layer=\d{2,}',
    ),
    Documented(
        'output_prediction', 'labels', 'A feature of any layer. The other sides'
        ' have the same columns with `input_` and `embedding_` before the'
        ' name.', tables.labels(('output',)), r'labels',
    ),
    Documented(
        'output_prediction', 'directions, directions_NN, null, null_SIDE',
        'A random direction of a side, with its measures: `directions` of all'
        ' layers, `directions_NN` those matched to a dictionary, `null` those'
        ' that decide.', tables.DIRECTIONS,
        r'directions(_\d{2,})?|null(_input|_embedding)?',
    ),
    Documented(
        'output_prediction', 'sweep, sweep_SIDE', 'A rule and a layer.',
        tables.OUTPUT_SWEEP, r'sweep(_input|_embedding)?',
    ),
    Documented(
        'attention_participation', 'features/layer=NN', 'A feature that the'
        ' attention of the layer reads.', tables.ATTENTION_FEATURES,
        r'features/layer=\d{2,}',
    ),
    Documented(
        'attention_participation', 'heads, heads_NN', 'A head; `heads` is all'
        ' of `heads_NN` once the run has finished.', tables.HEADS,
        r'heads(_\d{2,})?',
    ),
    Documented(
        'attention_participation', 'participation', 'A feature of any layer.',
        tables.PARTICIPATION, r'participation',
    ),
    Documented(
        'attention_participation', 'nulls_NN', 'A direction of a null.',
        tables.NULLS, r'nulls_\d{2,}',
    ),
    Documented(
        'attention_participation', 'sweep', 'A threshold and a layer.',
        tables.ATTENTION_SWEEP, r'sweep',
    ),
    Documented(
        'attention_participation', 'shapes', 'A threshold and a context.',
        tables.SHAPES, r'shapes',
    ),
    Documented(
        'semantic_attention', 'populations', 'A context, a layer and one of its'
        ' populations.', tables.POPULATIONS, r'populations',
    ),
    Documented(
        'semantic_attention', 'effects', 'A context and a layer.',
        tables.EFFECTS, r'effects',
    ),
    Documented(
        'validation', 'features/layer=NN', 'A feature of the layer.',
        tables.VALIDATION_FEATURES, r'features/layer=\d{2,}',
    ),
    Documented(
        'validation', 'validation_windows_NN', 'A feature and a window of'
        ' text; a feature that fires nowhere has no row.',
        tables.VALIDATION_WINDOWS, r'validation_windows_\d{2,}',
    ),
    Documented(
        'validation', 'validation_null_NN', 'A random direction.',
        tables.VALIDATION_NULL, r'validation_null_\d{2,}',
    ),
    Documented(
        'validation', 'validation_map_NN', 'A cell of the map of what a lens'
        ' says and what steering does; edges are `tables.LENS_EDGES` and'
        ' `RISE_EDGES`.', tables.VALIDATION_MAP, r'validation_map_\d{2,}',
    ),
    Documented(
        'validation', 'validation_heads, validation_heads_NN', 'A predictor of'
        ' attention and a head.', tables.VALIDATION_HEADS,
        r'validation_heads(_\d{2,})?',
    ),
)  # fmt: skip


def documented(experiment: str, name: str) -> Documented:
  """What a file is, by its path in its folder without the suffix.

  Raises:
    KeyError: No table is called so.
  """
  for table in TABLES:
    if table.experiment == experiment and re.fullmatch(table.pattern, name):
      return table
  raise KeyError(f'{experiment}/{name}')


def section() -> str:
  """The tables as Markdown."""
  return '\n'.join(_lines()) + '\n'


def _lines() -> Iterator[str]:
  before = None
  for table in TABLES:
    if table.experiment != before:
      before = table.experiment
      yield f'\n### {before}'
    yield f'\n`{table.files}`: {table.about}\n'
    yield '| Column | Type | What it is |'
    yield '| --- | --- | --- |'
    for column in table.schema.columns:
      text = column.text.replace('{k}', 'k') or _named(column.name)
      if column.optional:
        text += ' *(not in every file)*'
      cells = (f'`{column.name}`', _type(column), text.replace('|', '\\|'))
      yield f'| {" | ".join(cells)} |'
  yield ''


def _type(column: tables.Column) -> str:
  kind = str(column.kind)
  for old, new in (('float', 'float32'), ('double', 'float64')):
    kind = re.sub(rf'\b{old}\b', new, kind)
  kind = re.sub(r'list<(?:item|element): (.*)>', r'list of \1', kind)
  kind = re.sub(r'list<(?:item|element): (.*)>', r'list of \1', kind)
  assert isinstance(column.kind, pa.DataType)
  return kind + _SHAPES.get(column.shape, '')


def _named(name: str) -> str:
  for pattern, text in _NAMED:
    if match := re.fullmatch(pattern, name):
      return match.expand(text)
  raise KeyError(f'{name} is not described')


def page(text: str) -> str:
  """A text of the page with the tables as they are now."""
  start, rest = text.split(_BEGIN)
  return f'{start}{_BEGIN}{section()}{_END}{rest.split(_END)[1]}'


if __name__ == '__main__':
  PAGE.write_text(page(PAGE.read_text()))
