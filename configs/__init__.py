"""The studied models, a file each; installed as `ooc_jax.experiments.configs`.

`--model=NAME` reads NAME.py, whose `get_config()` returns settings by name.
"""
