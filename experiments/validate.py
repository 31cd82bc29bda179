r"""Does it hold: predictions from weights beside forward passes and text.

Example:
  python experiments/validate.py --model=smollm2 --layers=0,5,11,17,22,29 \
      --features=100 --out=results/validation-smollm2

Leaves a folder with one table a layer, a summary and figures. Stopped at any
moment, the same command continues. The study itself is
`ooc_jax.experiments.validation`; `ooc-jax validate` is the same command.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('validate')
