"""Tiny SAEs on disk, and what they compute, written from the formats' words.

Nothing of the code under test is used: files are written with their own
libraries, and `Reading` holds float64 numbers in the space of the file, one
formula a format. D, F and the heads' width differ from each other.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from safetensors.numpy import save_file

D, F, HEADS = 20, 33, 48


@dataclasses.dataclass(frozen=True)
class Reading:
  """An SAE in float64: a = pre · 1[pre > threshold], x̂ = a·W_dec + b_dec."""

  W_enc: np.ndarray  # [D, F]
  W_dec: np.ndarray  # [F, D]
  b_enc: np.ndarray
  b_dec: np.ndarray
  threshold: np.ndarray

  def encode(self, x):
    out = np.zeros((len(x), len(self.b_enc)))
    for i, f in np.ndindex(out.shape):
      pre = x[i] @ self.W_enc[:, f] + self.b_enc[f]
      out[i, f] = pre if pre > self.threshold[f] else 0.0
    return out

  def decode(self, a):
    return a @ self.W_dec + self.b_dec


def draw(seed: int = 0, width: int = D, size: int = F) -> dict[str, np.ndarray]:
  """float32 tensors under SAELens's names; about half of the features fire."""
  rng = np.random.default_rng(seed)
  return {
      'W_enc': rng.normal(size=(width, size)).astype(np.float32),
      # Rows of unequal norm, as Llama Scope's are.
      'W_dec': (
          (
              rng.normal(size=(size, width)) * rng.uniform(0.5, 2.0, (size, 1))
          ).astype(np.float32)
      ),
      'b_enc': rng.normal(size=size).astype(np.float32),
      'b_dec': rng.normal(size=width).astype(np.float32),
      'threshold': rng.uniform(0.1, 2.0, size).astype(np.float32),
  }


def reading(tensors: Mapping[str, np.ndarray], **changes: Any) -> Reading:
  """The same numbers in float64, with some of them replaced."""
  names = [field.name for field in dataclasses.fields(Reading)]
  wide = {n: tensors[n].astype(np.float64) for n in names if n in tensors}
  return Reading(**(wide | changes))


def inputs(width: int = D, rows: int = 50, seed: int = 7) -> np.ndarray:
  x = np.random.default_rng(seed).normal(size=(rows, width))
  return x.astype(np.float32).astype(np.float64)


def write_npz(folder: pathlib.Path, tensors, *, compressed=False):
  """A `params.npz` in `folder`, which is made."""
  folder.mkdir(parents=True, exist_ok=True)
  save = np.savez_compressed if compressed else np.savez
  save(folder / 'params.npz', **tensors)
  return folder


def write_gemma_scope_2(folder: pathlib.Path, tensors, config=None):
  """`params.safetensors`, and `config.json` where there is a config."""
  folder.mkdir(parents=True, exist_ok=True)
  renamed = {n.replace('W_', 'w_'): x for n, x in tensors.items()}
  save_file(renamed, folder / 'params.safetensors')
  if config is not None:
    (folder / 'config.json').write_text(json.dumps(config))
  return folder


def write_sae_lens(folder: pathlib.Path, tensors, config):
  """`cfg.json` and `sae_weights.safetensors`."""
  folder.mkdir(parents=True, exist_ok=True)
  save_file(dict(tensors), folder / 'sae_weights.safetensors')
  (folder / 'cfg.json').write_text(json.dumps(config))
  return folder


def llama_hyperparams(**changes: Any) -> dict[str, Any]:
  """As `Llama3_1-8B-Base-L8R-8x` has them, for a width of D."""
  config = {
      'act_fn': 'jumprelu',
      'apply_decoder_bias_to_pre_encoder': False,
      'd_model': D,
      'd_sae': F,
      'dataset_average_activation_norm': {'in': 6.3125, 'out': 6.3125},
      'dtype': 'torch.bfloat16',
      'hook_point_in': 'blocks.2.hook_resid_post',
      'hook_point_out': 'blocks.2.hook_resid_post',
      'jump_relu_threshold': 0.2021484375,
      'norm_activation': 'dataset-wise',
      'sparsity_include_decoder_norm': True,
      'top_k': 50,
      'use_decoder_bias': True,
      'use_glu_encoder': False,
  }
  return {k: v for k, v in (config | changes).items() if v is not None}


def write_llama_scope(folder: pathlib.Path, tensors, config):
  """`hyperparams.json` and `checkpoints/final.safetensors`."""
  (folder / 'checkpoints').mkdir(parents=True, exist_ok=True)
  renamed = {
      'encoder.weight': np.ascontiguousarray(tensors['W_enc'].T),
      'decoder.weight': np.ascontiguousarray(tensors['W_dec'].T),
      'encoder.bias': tensors['b_enc'],
  }
  if 'b_dec' in tensors:
    renamed['decoder.bias'] = tensors['b_dec']
  save_file(renamed, folder / 'checkpoints' / 'final.safetensors')
  (folder / 'hyperparams.json').write_text(json.dumps(config))
  return folder


def write_sparsify(folder: pathlib.Path, tensors, config, extra=None):
  """`cfg.json` and `sae.safetensors`."""
  folder.mkdir(parents=True, exist_ok=True)
  renamed = {
      'encoder.weight': np.ascontiguousarray(tensors['W_enc'].T),
      'encoder.bias': tensors['b_enc'],
      'W_dec': tensors['W_dec'],
      'b_dec': tensors['b_dec'],
  }
  save_file(renamed | (extra or {}), folder / 'sae.safetensors')
  (folder / 'cfg.json').write_text(json.dumps(config))
  return folder


def assert_same(actual, expected, rtol=1e-6):
  """Equal to `rtol` of the largest number: float32 sums of some 50 terms."""
  expected = np.asarray(expected)
  assert np.abs(expected).max() > 1e-3  # Not 0 == 0.
  atol = rtol * np.abs(expected).max()
  np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


def assert_computes(test, dictionary, sae, x):
  """encode and decode are those of the reading, and decide the same."""
  expected = sae.encode(x)
  active = (expected != 0).mean()
  test.assertBetween(active, 0.1, 0.9)
  actual = np.asarray(dictionary.encode(x.astype(np.float32)))
  np.testing.assert_array_equal(actual != 0, expected != 0)
  assert_same(actual, expected)
  assert_same(dictionary.decode(actual), sae.decode(expected))
