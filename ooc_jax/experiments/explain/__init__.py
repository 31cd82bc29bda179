"""One feature, and all that is known of it, on a screen.

`compute` reads the feature as experiment 1 reads it, beside random directions,
finds its partners in the attention that reads it and the heads that can write
it: from weights alone, in seconds. `known` adds what results folders say.
"""

from ooc_jax.experiments.explain._attention import HeadUse
from ooc_jax.experiments.explain._attention import Writer
from ooc_jax.experiments.explain._compute import Explanation
from ooc_jax.experiments.explain._compute import MeasureValue
from ooc_jax.experiments.explain._compute import Side
from ooc_jax.experiments.explain._compute import compute
from ooc_jax.experiments.explain._config import Explain
from ooc_jax.experiments.explain._config import FeatureName
from ooc_jax.experiments.explain._config import parse_feature
from ooc_jax.experiments.explain._known import Known
from ooc_jax.experiments.explain._known import known
from ooc_jax.experiments.explain._run import run
from ooc_jax.experiments.explain._text import text

__all__ = tuple(x for x in dir() if not x.startswith('_'))
