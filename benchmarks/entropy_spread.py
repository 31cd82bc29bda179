r"""What the entropy finds at every spread of the logits, by itself.

Example:
  python benchmarks/entropy_spread.py --model=tiny-gemma2 \
    --dictionary='tiny-gemma2-res/layer_{layer}' --layers=0,3,6 \
    --figure=spread.png

Prints one JSON object: for each readout and spread the threshold that 1 % of
random directions pass, the share of features of each layer under it, the least
entropy, and the share of planted features: half random, half the direction of
one token. The default of `OutputPrediction.spread` was chosen from it. With
--figure, shares and thresholds as curves too.
"""

import json

from absl import app
from absl import flags
from matplotlib.figure import Figure
import numpy as np

import ooc_jax
from ooc_jax import circuits
from ooc_jax import dictionaries
from ooc_jax import experiments
from ooc_jax import measures

_MODEL = flags.DEFINE_string('model', 'tiny-gemma2', 'As of the experiments.')
_DICTIONARY = flags.DEFINE_string(
    'dictionary', 'mlp', "With '{layer}' where files differ by layer."
)
_LAYERS = flags.DEFINE_list('layers', ['0'], 'Of the dictionary.')
_NULL = flags.DEFINE_integer('null', 8192, 'Random directions.')
_FIGURE = flags.DEFINE_string('figure', None, 'A PNG to draw.')
_SPREADS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
_ALPHA = 0.01


def _planted(model, table, gain, keep) -> np.ndarray:
  """Directions half random and half that of one token each, [F, D]."""
  rng = np.random.default_rng(0)
  rows = np.asarray(table, np.float32)[np.asarray(keep)]
  token = (rows - rows.mean(axis=0))[rng.integers(0, len(rows), 1024)] * gain
  noise = rng.normal(size=token.shape)
  token /= np.linalg.norm(token, axis=1, keepdims=True)
  noise /= np.linalg.norm(noise, axis=1, keepdims=True)
  return np.float32(token / 2 + noise * 0.75**0.5)


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  model = ooc_jax.load_model(_MODEL.value)
  keep = circuits.readable_mask(model)
  groups = {
      f'layer {x}': dictionaries.load_dictionary(
          _DICTIONARY.value, model=model, layer=int(x)
      )
      for x in _LAYERS.value
  }
  null = measures.isotropic_directions(
      _NULL.value, model.config.embed_dim, seed=0
  )
  found = {}
  for side, lens in (
      ('output', circuits.output_lens),
      ('input', circuits.input_lens),
  ):
    output = side == 'output'
    table = (
        circuits.unembedding_table if output else circuits.embedding_table
    )(model)
    gain = np.asarray(circuits.final_gain(model)) if output else 1.0
    moments = circuits.table_moments(table, keep)
    rows = {
        'null': null,
        'planted': _planted(model, table, gain, keep),
    }
    own = groups | {
        name: dictionaries.from_arrays(x, x, layer=0, name=name)
        for name, x in rows.items()
    }
    found[side] = []
    for spread in _SPREADS:
      entropy = {
          name: np.asarray(
              lens(
                  model, x, k=2, spread=spread, mask=keep, moments=moments
              ).entropy
          )
          for name, x in own.items()
      }
      cut = np.quantile(entropy.pop('null'), _ALPHA)
      found[side].append({
          'spread': spread,
          'threshold': float(cut),
          'share': {k: float((x < cut).mean()) for k, x in entropy.items()},
          'least': float(min(x.min() for x in entropy.values())),
      })
  most = float(np.log(np.asarray(keep).sum()))
  print(json.dumps({'model': _MODEL.value, 'most': most} | found, indent=2))
  if _FIGURE.value:
    _draw(found, most).savefig(_FIGURE.value)


def _draw(found, most: float) -> Figure:
  """Shares above, thresholds below; `most` is the entropy of all alike."""
  figure = Figure(figsize=(7.2, 4.6), dpi=200, layout='constrained')
  panels = figure.subplots(
      2, 2, sharex=True, sharey='row', height_ratios=(3, 2)
  )
  default = experiments.OutputPrediction().spread
  lines = []
  for i, (side, rows) in enumerate(found.items()):
    share, nats = panels[:, i]
    spreads = [row['spread'] for row in rows]
    look = {'marker': 'o', 'markersize': 3, 'linewidth': 1.2}
    lines = []
    for name in rows[0]['share']:
      percent = [100 * row['share'][name] for row in rows]
      dash = '--' if name == 'planted' else '-'
      lines += share.plot(spreads, percent, linestyle=dash, label=name, **look)
    lines.append(
        share.axhline(
            100 * _ALPHA, color='#262626', lw=0.9, ls=':',
            label='random directions',
        )
    )  # fmt: skip
    for name, color in (('threshold', '#262626'), ('least', '#8A8A8A')):
      values = [row[name] for row in rows]
      label = {'threshold': 'threshold', 'least': 'least of a feature'}[name]
      nats.plot(spreads, values, color=color, label=label, **look)
    nats.axhline(
        most, color='#262626', lw=0.9, ls=':', label='all tokens alike'
    )
    nats.set_yscale('symlog', linthresh=0.1)
    nats.set_yticks([0, 0.1, 1, 10], ['0', '0.1', '1', '10'])
    nats.set_ylim(-0.02, 20)
    share.set_title(f'{_MODEL.value}, {side} side', fontsize=9, loc='left')
    nats.set_xlabel('Spread of the logits (nats; log scale)', fontsize=8)
    nats.set_xscale('log')
    nats.set_xticks(_SPREADS, [f'{x:g}' for x in _SPREADS])
    nats.minorticks_off()
    for axes in (share, nats):
      lines_of = axes.axvline(default, color='#D55E00', lw=0.8)
      axes.tick_params(labelsize=7)
      axes.spines[['top', 'right']].set_visible(False)
    lines_of.set_label('default')
    lines.append(lines_of)
  panels[0, 0].set_ylabel('Sharp features (%)', fontsize=8)
  panels[1, 0].set_ylabel('Entropy (nats)', fontsize=8)
  panels[0, 0].set_ylim(bottom=0)
  handles, _ = panels[1, 0].get_legend_handles_labels()
  handles = [*lines, *(x for x in handles if x.get_label() != 'default')]
  figure.legend(
      handles=handles, loc='outside lower center', ncols=5, fontsize=7,
      frameon=False,
  )  # fmt: skip
  return figure


if __name__ == '__main__':
  app.run(main)
