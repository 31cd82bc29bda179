r"""Do people see what the tokens of a feature share? A page for raters.

Example:
  python experiments/intrusion.py results/output_prediction-tiny_gemma2 \
      --out=results/intrusion
  python experiments/intrusion.py --score answers-A.json answers-B.json \
      --out=results/intrusion

The first leaves intrusion.html, one file that needs no network, and key.json,
which raters should not have; the second scores what the page saved. The study
itself is `ooc_jax.experiments.intrusion`.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('intrusion')
