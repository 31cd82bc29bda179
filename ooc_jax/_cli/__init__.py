"""The command line: `python -m ooc_jax NAME ...` and the script `ooc-jax`."""
