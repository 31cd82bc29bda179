"""A function a page: what it shows, as the context of its template."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.explore import _attention
from ooc_jax.explore import _charts
from ooc_jax.explore import _feature
from ooc_jax.explore import _features
from ooc_jax.explore import _index
from ooc_jax.explore import _search
from ooc_jax.explore import _tables
from ooc_jax.explore import _words
from ooc_jax.explore._library import Study

Parameters = Mapping[str, str]
Context = dict[str, Any]


def integer(text: str | None) -> int | None:
  """A whole number of an address; None where it is none."""
  text = (text or '').strip()
  return (
      int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
  )


def _real(text: str | None) -> float | None:
  try:
    value = float(text or '')
  except ValueError:
    return None
  return value if np.isfinite(value) else None


def _examples(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  found = summary.get('examples')
  found = found if isinstance(found, list) else []
  return [x for x in found if isinstance(x, Mapping) and 'feature' in x]


def overview(study: Study, given: Parameters) -> Context:
  """The run, what it found, and its curves over depth."""
  del given
  output, attention = study.output, study.attention
  semantic = study.runs.get('semantic_attention')
  context: Context = {'runs': [], 'problems': list(study.problems)}
  for run in study.runs.values():
    files = run.layer_files()
    readable = _tables.whole(files)
    for layer in sorted(set(files) - set(readable)):
      context['problems'].append(
          f'{run.path.name}: the file of layer {layer} is empty or damaged, and'
          ' is left out. Delete it and run again.'
      )
    context['runs'].append({
        'run': run,
        'layers': len(readable),
        'settings': sorted(run.settings.items()),
        'provenance': sorted((run.config.get('provenance') or {}).items()),
    })
  if output is not None:
    summary = output.summary
    context |= {
        'output_findings': _words.output_findings(summary, output.settings),
        'depth': _charts.line_chart(
            _words.depth_series(summary),
            x_title='Layer',
            last=_last(summary),
        ),
        'examples': _examples(summary),
    }
  if attention is not None:
    context |= {
        'attention_findings': _words.attention_findings(attention.summary),
        'attention_depth': _charts.line_chart(
            _words.attention_series(attention.summary),
            x_title='Layer',
            last=_last(attention.summary),
        ),
    }
  if study.validation is not None:
    summary = study.validation.summary
    context |= {
        'validation_findings': _words.validation_findings(summary),
        'validation_depth': _charts.line_chart(
            _words.validation_series(summary),
            x_title='Layer',
            last=_last(summary),
        ),
    }
  if semantic is not None:
    context['statements'] = _words.statement_findings(semantic.summary)
  return context


def _last(summary: Mapping[str, Any]) -> int | None:
  number = summary.get('num_layers')
  return number - 1 if isinstance(number, int) and number > 0 else None


def features(study: Study, given: Parameters) -> Context:
  """The table of features."""
  side = given.get('side', 'output')
  query = _features.Query(
      layer=integer(given.get('layer')),
      side=side if side in ('output', 'input', 'embedding') else 'output',
      coherent=given.get('coherent', ''),
      sharp=given.get('sharp', ''),
      participates=given.get('participates', ''),
      q=_real(given.get('q')),
      end=given.get('end', ''),
      score=_real(given.get('score')),
      fires=given.get('fires', ''),
      sort=given.get('sort', 'id'),
      descending=given.get('way') == 'down',
      page=max(integer(given.get('page')) or 1, 1),
  )
  page = _features.page(study, query)
  sources = _features.Sources.of(study)
  kept = {
      k: v
      for k, v in given.items()
      if v and k not in ('page', 'sort', 'way') and k in _FILTERS
  }
  order = {'sort': query.sort, 'way': 'down' if query.descending else 'up'}

  def address(**changes: Any) -> str:
    return '?' + urlencode(kept | order | changes)

  last = max(-(-page.total // _features.PAGE), 1)
  keys = {x.key for x in page.fields}
  by_end = _features.ends(sources, query.prefix)
  return {
      'query': query,
      'page': page,
      'last_page': last,
      'address': address,
      'filters': {
          'coherent': 'coherent' in keys,
          'sharp': 'sharp' in keys,
          'q': 'q' in keys,
          'participates': bool(sources.columns['participation']),
          'end': bool(by_end['top'] and by_end['bottom']),
          'score': 'score' in keys,
          'fires': 'fires' in keys,
      },
      'readouts': [
          x
          for x in ('output', 'input', 'embedding')
          if ('' if x == 'output' else f'{x}_') + 'top_tokens'
          in sources.columns['features']
      ],
      'first_row': (query.page - 1) * _features.PAGE + 1,
      'problems': _damaged(study),
  }


_FILTERS = (
    'layer', 'side', 'coherent', 'sharp', 'participates', 'q', 'end', 'score',
    'fires',
)  # fmt: skip


def _damaged(study: Study) -> list[str]:
  """What keeps the tables of a study from being whole."""
  problems = list(study.problems)
  if study.output is None:
    return problems
  files = study.output.layer_files()
  lost = sorted(set(files) - set(_tables.whole(files)))
  if lost:
    problems.append(
        f'Layer {", ".join(map(str, lost))}: the file is empty or damaged, and'
        ' is left out. Delete it and run again.'
    )
  try:
    _tables.columns(study.output.file('labels'))
  except _tables.Damaged as error:
    problems.append(f'No labels: {error}')
  return problems


def search(study: Study, given: Parameters) -> Context:
  """Features and heads for a token or a piece of text."""
  query = given.get('q', '')[:200]
  match = given.get('match', 'exact')
  match = match if match in _search.MATCHES else 'exact'
  fold = given.get('case') != 'same'
  context: Context = {
      'text': query,
      'match': match,
      'fold': fold,
      'matches': _search.MATCHES,
      'list_titles': _index.LISTS,
      'found': None,
      'problems': _damaged(study),
  }
  if query.strip():
    context['goto'] = _search.feature_of(query)
    found = _search.search(study, query, match, fold)
    context['found'] = found
    try:
      context['heads'] = _search.writing_heads(
          _tables.heads(study, but=('profile',)), found.tokens
      )
    except _tables.Damaged as error:
      context['heads'] = []
      context['problems'].append(f'No heads: {error}')
    context['origin'] = _tables.attention_layers(study)
  return context


def feature(study: Study, given: Parameters) -> Context:
  """One feature."""
  layer, number = _place(given)
  view = _feature.feature_view(study, layer, number)
  page = _words.neuronpedia(
      study.model, str(study.first.settings.get('dictionary', '')), layer
  )
  last = number + 1 == view.size
  return {
      'view': view,
      'problems': [*study.problems, *view.problems],
      'previous': (layer, number - 1) if number else None,
      'following': None if last else (layer, number + 1),
      'neuronpedia': (
          None
          if page is None
          else f'https://www.neuronpedia.org/{page}/{number}'
      ),
      'validation': _words.validation(view.validation),
  }


def like(study: Study, given: Parameters) -> Context:
  """The features whose decoders are near to one's, and that share tokens."""
  layer, number = _place(given)
  stem = given.get('list', 'top')
  stem = stem if stem in _index.LISTS else 'top'
  total, hits = _search.alike(study, layer, number, stem)
  nearest = _feature.nearest(study, layer, number)
  features = [number, *(x for x, _ in nearest or ())]
  tokens = _feature.top_tokens(study, layer, features, 12)
  if number not in tokens:
    raise InputError(f'There is no feature {number} in layer {layer} here.')
  return {
      'layer': layer,
      'feature': number,
      'nearest': nearest,
      'list': stem,
      'lists': _index.LISTS,
      'total': total,
      'hits': hits,
      'tokens': tokens,
  }


def _place(given: Parameters) -> tuple[int, int]:
  layer, number = integer(given.get('layer')), integer(given.get('feature'))
  if layer is None or number is None:
    raise InputError('A feature is LAYER/NUMBER, two whole numbers.')
  return layer, number


def heads(study: Study, given: Parameters) -> Context:
  """The map of layers and heads."""
  rows = _tables.heads(study, but=('profile',))
  known = [
      x for x in _words.HEAD_NUMBERS if any(r.get(x) is not None for r in rows)
  ]
  key = given.get('by', 'selectivity')
  key = key if key in known else (known[0] if known else 'selectivity')
  best = sorted(
      (x for x in rows if x.get(key) is not None), key=lambda x: -x[key]
  )
  return {
      'rows': rows,
      'by': key,
      'choices': {x: _words.HEAD_NUMBERS[x] for x in known},
      'map': _charts.head_map(rows, key, lambda x: shown(key, x)),
      'best': best[:15],
      'shown': shown,
  }


def shown(key: str, value: Any) -> str:
  """A number of a head, as it is read."""
  if key.endswith('_share'):
    return _words.percent(value)
  return _words.number(value, 3)


def head(study: Study, given: Parameters) -> Context:
  """One head."""
  layer, number = integer(given.get('layer')), integer(given.get('head'))
  rows = _tables.heads(study)
  own = next(
      (x for x in rows if (x['layer'], x['head']) == (layer, number)), None
  )
  if own is None or layer is None or number is None:
    raise InputError(f'There is no head {number} of layer {layer} here.')
  origin = _tables.attention_layers(study).get(layer)
  pairs = _attention.best_pairs(study, layer, number)
  named = {x for pair in pairs for x in (pair['query'], pair['key'])}
  named |= set(own.get('write_features') or ())
  tokens = (
      {}
      if origin is None
      else _feature.top_tokens(study, origin, sorted(named))
  )
  profile = own.get('profile') or []
  keys = [(x['layer'], x['head']) for x in rows]
  at = keys.index((layer, number))
  return {
      'head': own,
      'origin': origin,
      'pairs': pairs,
      'tokens': tokens,
      'numbers': [
          (title, shown(key, own[key]))
          for key, title in _words.HEAD_NUMBERS.items()
          if own.get(key) is not None
      ],
      'profile': _charts.line_chart(
          [{
              'name': 'Mean score of the strongest pairs',
              'x': list(range(len(profile))),
              'y': profile,
          }],
          x_title='Distance',
          percent=False,
          height=210,
      ),
      'writes': list(
          zip(
              own.get('write_features') or (),
              own.get('write_tokens') or (),
              strict=False,
          )
      ),
      'previous': keys[at - 1] if at else None,
      'following': keys[at + 1] if at + 1 < len(keys) else None,
  }
