r"""Experiment 3: do semantic features take part in attention as others do.

Example:
  python experiments/semantic_attention.py --model=smollm2 \
      --labels=results/smollm2 --attention=results/smollm2-attention

Leaves a folder with the populations, the tests, a table and a figure for each
labelling, and a verdict on each of the paper's two statements.
The experiment itself is `ooc_jax.experiments.semantic_attention`.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('semantic_attention')
