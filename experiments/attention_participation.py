r"""Experiment 2: which features of a dictionary take part in attention.

Example:
  python experiments/attention_participation.py --model=smollm2 \
      --weights=SmolLM2-135M-Instruct.Q4_1.gguf --out=results/smollm2-attention

Leaves a folder with one table a layer, a table of heads, a sweep over
thresholds, a summary and figures. Stopped at any moment, the same command
continues.
The experiment itself is `ooc_jax.experiments.attention_participation`.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('attention_participation')
