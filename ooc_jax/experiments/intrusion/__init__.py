"""Word intrusion: do people see what the tokens of a feature share?

Makes one page, which a rater opens as a file and without a network: four top
tokens of a feature and one of another of its layer, and the question which one
does not belong (Chang et al. 2009). Lists by weights, by activations and of
random directions look alike, in random order; the answers to the items are in
key.json beside the page, which raters should not have. The page saves what a
rater chose as a file, and --score reads such files.
"""

from ooc_jax.experiments.intrusion._items import Item
from ooc_jax.experiments.intrusion._items import TokenList
from ooc_jax.experiments.intrusion._items import draw_items
from ooc_jax.experiments.intrusion._page import page
from ooc_jax.experiments.intrusion._run import KINDS
from ooc_jax.experiments.intrusion._run import make
from ooc_jax.experiments.intrusion._run import score_files
from ooc_jax.experiments.intrusion._run import text
from ooc_jax.experiments.intrusion._score import Answers
from ooc_jax.experiments.intrusion._score import ScoreRow
from ooc_jax.experiments.intrusion._score import accuracy
from ooc_jax.experiments.intrusion._score import krippendorff_alpha
from ooc_jax.experiments.intrusion._score import read_answers
from ooc_jax.experiments.intrusion._score import score
from ooc_jax.experiments.intrusion._score import score_text

__all__ = tuple(x for x in dir() if not x.startswith('_'))
