r"""Compares the results folders of several runs of one experiment.

Example:
  python experiments/compare.py results/output_prediction-smollm2-mlp \
      results/output_prediction-gemma3_270m-mlp --out=results/smollm2-gemma3

Leaves a folder with the figure of all runs, and the table of them as CSV and
Markdown; prints the table, and every reason not to compare like with like.
The comparison itself is `ooc_jax.experiments.compare`.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('compare')
