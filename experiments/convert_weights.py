r"""Converts a model or a dictionary to Orbax, or back to safetensors.

Every bit is kept unless --dtype says otherwise. A small group of parameters is
in memory at a time, never the model.

Example:
  python experiments/convert_weights.py --model=gemma2-2b
  python experiments/convert_weights.py --model=model.gguf --out=converted
  python experiments/convert_weights.py --model=converted --to=safetensors \
      --out=hugging_face
  python experiments/convert_weights.py --list gemma-scope-2b

Without --out, a model of the hub goes where later runs of every experiment
find it: $OOC_JAX_CACHE/models, ~/.cache/ooc_jax/models by default.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('convert_weights')
