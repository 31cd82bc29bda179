r"""Experiment 1: which features of a dictionary predict output tokens.

Example:
  python experiments/output_prediction.py --model=smollm2 \
      --weights=SmolLM2-135M-Instruct.Q4_1.gguf --out=results/smollm2

Leaves a folder with one table a layer, labels, a summary and figures. Stopped
at any moment, the same command continues. The experiment itself is
`ooc_jax.experiments.output_prediction`; `ooc-jax output_prediction` is the same
command.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('output_prediction')
