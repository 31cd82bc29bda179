"""A results folder as pages in a browser, served on this machine only.

`serve` starts the server; `make_app` is the same as an ASGI application. A page
is made when it is asked for, from the files as they are at that moment: no
import step and no state. What takes part:

  _library   which folders there are, and which runs belong to one dictionary
  _tables    SQL over their Parquet files, by DuckDB
  _index     the tokens of the vocabulary and the lists that have them
  _search    features by a token, a text, or what another has
  _features  the table of features: sorted, filtered, a page at a time
  _charts    the geometry of every chart
  _words     what a run found, in sentences
  _feature   everything that is known of one feature
  _attention features in heads, and the pairs of a head
  _pages     a function a page; `_compare` has that of two runs
  _server    routes, headers, errors as pages
  _still     the pages of some features as files, for `ooc_jax.export`

Nothing here needs weights or JAX. Tokens are data: templates escape all text,
and the Content-Security-Policy allows no script but the file in `static/`.
Needs the extra `web`.
"""

from ooc_jax.explore._feature import layer_column
from ooc_jax.explore._feature import top_tokens
from ooc_jax.explore._library import Library
from ooc_jax.explore._library import Run
from ooc_jax.explore._library import Study
from ooc_jax.explore._server import make_app
from ooc_jax.explore._server import serve
from ooc_jax.explore._still import still_site
from ooc_jax.explore._tables import Damaged
from ooc_jax.explore._tables import attention_layers
from ooc_jax.explore._tables import counts
from ooc_jax.explore._tables import whole
from ooc_jax.explore._words import neuronpedia

__all__ = tuple(x for x in dir() if not x.startswith('_'))
