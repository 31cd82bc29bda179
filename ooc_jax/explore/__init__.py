"""A results folder as pages in a browser, served on this machine only.

`serve` starts the server; `make_app` is the same as an ASGI application. A page
is made when it is asked for, from the files as they are at that moment: no
import step and no state. What takes part:

  _library   which folders there are, and which runs belong to one dictionary
  _tables    SQL over their Parquet files, by DuckDB
  _search    tokens of the vocabulary, and the features that have them
  _features  the table of features: sorted, filtered, a page at a time
  _charts    the geometry of every chart
  _words     what a run found, in sentences
  _feature   everything that is known of one feature
  _pages     a function a page; `_compare` has that of two runs
  _server    routes, headers, errors as pages

Nothing here needs weights or JAX. Tokens are data: templates escape all text,
and the Content-Security-Policy allows no script but the file in `static/`.
Needs the extra `web`.
"""

from ooc_jax.explore._library import Library
from ooc_jax.explore._server import make_app
from ooc_jax.explore._server import serve

__all__ = ('Library', 'make_app', 'serve')
