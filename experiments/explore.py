r"""Shows results folders as pages in a browser, on this machine only.

Example:
  python experiments/explore.py results/output_prediction-smollm2-mlp \
      results/attention_participation-smollm2-mlp
  python experiments/explore.py results --port=8000

Prints an address of 127.0.0.1 and serves until Ctrl-C: an overview, a table of
features, a search for tokens, a page for each feature and head, and a
comparison of runs. Runs of one dictionary are shown together. Needs
`pip install -e '.[web]'`; the pages themselves are `ooc_jax.explore`.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('explore')
