r"""Says what is known of one feature, on a screen, in seconds.

Example:
  python experiments/explain.py --model=tiny_gemma2 --feature=3/538
  python experiments/explain.py \
      --feature=https://www.neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/123

Top and bottom tokens of both sides, measures beside random directions, partners
in attention, heads that can write it; and what the results of experiments 1 and
2 and of a validation say, where results/ has some of the same dictionary. The
parts are `ooc_jax.experiments.explain`; `ooc-jax explain` is the same command.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('explain')
