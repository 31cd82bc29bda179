"""`python -m ooc_jax NAME ...`, the same as `ooc-jax NAME ...`."""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.main()
