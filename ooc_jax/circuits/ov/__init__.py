"""What a head writes where it attends to a feature, and who reads it.

The algorithm is the low-rank order: a direction becomes a value of width H (the
pre-norm's gain and W_V), and the rest of the path is folded into one table of
width H. For tokens that is W_O times the gains of the norms after it, times the
unembedding; for another dictionary, W_O times its encoder. Then a lens of the
values over that table streams top and bottom k, as any lens does: F·V·H
products where writes of width D would cost F·V·D, and no array [F, D] of
writes. Gemma's RMS of the post-attention norm depends on the text and is left
out; its gain is not. The eigenvalues of reading and writing the same dictionary
are those of an [H, H] matrix.
"""

from ooc_jax.circuits.ov._ov_lens import head_output
from ooc_jax.circuits.ov._ov_lens import ov_lens
from ooc_jax.circuits.ov._ov_writes import OvCopying
from ooc_jax.circuits.ov._ov_writes import OvWrites
from ooc_jax.circuits.ov._ov_writes import ov_copying
from ooc_jax.circuits.ov._ov_writes import ov_writes

__all__ = tuple(x for x in dir() if not x.startswith('_'))
