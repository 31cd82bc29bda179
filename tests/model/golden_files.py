"""The golden files: tiny models, and what transformers computed with them.

`tests/make_golden.py` wrote them, and says how.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax.checkpoints import load_model
from ooc_jax.model import Model
from ooc_jax.model import Site

FOLDER = pathlib.Path(__file__).parent / 'golden'
NAMES = tuple(sorted(p.name for p in FOLDER.iterdir()))


@dataclasses.dataclass(frozen=True)
class Golden:
  """One model with the logits and activations of the reference.

  Attributes:
    model: As `load_model` reads it.
    tokens: [B, T].
    positions: [P], where `logits` [B, P, V] were kept.
    site_positions: [S], where `sites[name]` [L, B, S, D] were kept.
  """

  model: Model
  tokens: jax.Array
  positions: np.ndarray
  logits: np.ndarray
  site_positions: np.ndarray
  sites: dict[Site, np.ndarray]

  def short(self, length: int) -> 'Golden':
    """The first `length` positions: a causal model computes the same."""
    keep = self.positions < length
    return dataclasses.replace(
        self,
        tokens=jnp.asarray(np.asarray(self.tokens)[:, :length]),
        positions=self.positions[keep],
        logits=self.logits[:, keep],
    )


@functools.cache
def load(name: str) -> Golden:
  """The golden files of one of `NAMES`."""
  with np.load(FOLDER / name / 'expected.npz') as file:
    arrays = dict(file)
  return Golden(
      model=load_model(FOLDER / name),
      tokens=jnp.asarray(arrays.pop('tokens'), jnp.int32),
      positions=arrays.pop('positions'),
      logits=arrays.pop('logits'),
      site_positions=arrays.pop('site_positions'),
      sites={Site(name): x for name, x in arrays.items()},
  )


def config_json(name: str) -> dict[str, Any]:
  """The config.json that transformers 5 saved."""
  return json.loads((FOLDER / name / 'config.json').read_text())


def in_hub_dialect(config: dict[str, Any]) -> dict[str, Any]:
  """The same settings as files on the hub, older than transformers 5, say it.

  Args:
    config: As transformers 5 saves it.

  Returns:
    A new config.
  """
  old = json.loads(json.dumps(config))
  old['torch_dtype'] = old.pop('dtype', 'float16')
  old['transformers_version'] = '4.51.0'
  text = old.get('text_config', old)
  if text['model_type'] == 'gpt2':  # Has no rotary embedding.
    return old
  rope = text.pop('rope_parameters')
  if text['model_type'] == 'gpt_neox':
    text['rotary_pct'] = rope['partial_rotary_factor']
    text['rotary_emb_base'] = rope['rope_theta']
    return old
  if 'gemma3' in text['model_type']:
    text['rope_local_base_freq'] = rope['sliding_attention']['rope_theta']
    rope = rope['full_attention']
  text['rope_theta'] = rope.pop('rope_theta')
  text['rope_scaling'] = None if rope['rope_type'] == 'default' else rope
  if 'layer_types' in text:
    types = text.pop('layer_types')
    if 'gemma3' in text['model_type']:
      text.pop('_sliding_window_pattern')
      text['sliding_window_pattern'] = types.index('full_attention') + 1
      text['cache_implementation'] = 'hybrid'
  text.pop('use_bidirectional_attention', None)
  if text['model_type'] == 'llama':
    if text['head_dim'] * text['num_attention_heads'] == text['hidden_size']:
      text.pop('head_dim')
  elif 'gemma' in text['model_type']:
    # Gemma is tied and its files do not say so.
    text.pop('tie_word_embeddings')
    old.pop('tie_word_embeddings', None)
    text['hidden_act'] = text['hidden_activation']
  return old
