r"""Writes what others can import of results folders of one dictionary.

Example:
  python experiments/export.py results/output_prediction-tiny_gemma2-tiny \
      --best=20 --out=site
  python experiments/export.py results/output_prediction-smollm2-mlp \
      --to=neuronpedia
  python experiments/export.py results/output_prediction-smollm2-mlp \
      --to=vectors --features=11/47,29/1024

--to is html (pages that open from a file), neuronpedia (the batch files that
its importer reads), csv, jsonl or vectors (safetensors); docs/results.md says
what is in each. Needs `pip install -e '.[web]'`; the exports themselves are
`ooc_jax.export`, and `ooc-jax export` is the same command.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('export')
