r"""Writes the golden files of the parity tests: tiny models and their logits.

Each folder under tests/model/golden/ holds one random model in the layout that
transformers saves (float16, so that it is small and reads back exactly) and
`expected.npz`: what transformers computed with it in float32. The tests read
these files; neither torch nor transformers is needed to run them.

Made with torch 2.13.0 (CPU) and transformers 5.23.0 (from mistral on 5.24.0),
in their own environment:
  pip install torch==2.13.0 transformers==5.24.0
  python -m tests.make_golden [FOLDER ...]
"""

import pathlib
import sys

import numpy as np
import torch
import transformers

from ooc_jax.model import families
from tests.checkpoints import tiny

_FOLDER = pathlib.Path(__file__).parent / 'model' / 'golden'
_LENGTH = 600
_BATCH = 2
_TABLES = ('embed_tokens', 'wte', 'wpe', 'embed_in')
_SHARP = ('q_proj', 'k_proj', 'c_attn', 'query_key_value')
# Sites are compared at few positions: the ends, and around the window of 64.
_SITE_POSITIONS = (0, 1, 63, 64, 65, 301, 598, 599)


def _models() -> dict[str, transformers.PreTrainedModel]:
  """One model per golden folder."""
  return {
      folder: getattr(transformers, facts.model_class(folder))(config)
      for facts in (tiny.facts_of(f.name) for f in families.FAMILIES)
      for folder, config in facts.golden(transformers).items()
  }


def _facts_of(model: transformers.PreTrainedModel):
  """What the tests know of the family of `model`."""
  kind = model.config.model_type
  for family in families.FAMILIES:
    if kind in family.hf.model_types:
      return tiny.facts_of(family.name)
  raise ValueError(f'No family has the model_type {kind!r}.')


def randomise(model: transformers.PreTrainedModel, seed: int) -> None:
  """Random weights of sizes at which every part of the model matters.

  Norm weights too: at their initial 0 or 1 the offset 1 + weight and a norm
  left out would hardly show. All values are float16 numbers.

  Args:
    model: Changed in place.
    seed: Of the weights.
  """
  rng = np.random.default_rng(seed)
  facts = _facts_of(model)
  for name, parameter in sorted(model.named_parameters()):
    values = rng.standard_normal(tuple(parameter.shape))
    if name.endswith('.bias'):
      values *= 0.4
    elif 'norm' in name or '.ln_' in name:
      values = 0.4 * values + (0.3 if facts.gguf_offset else 1.0)
    elif any(x in name for x in _TABLES):
      values *= 0.2
    elif parameter.ndim == 2:
      sharp = any(x in name for x in _SHARP)
      # GPT-2 stores [in, out].
      fan_in = parameter.shape[0 if '.c_' in name else 1]
      values *= (facts.sharp if sharp else 1.1) / np.sqrt(fan_in)
    else:
      values *= 0.1
    rounded = values.astype(np.float16).astype(np.float32)
    parameter.data.copy_(torch.from_numpy(rounded))


def run(
    model: transformers.PreTrainedModel, tokens: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Logits [B, T, V], and the activation [L, B, T, D] of every site."""
  text = getattr(model, model.base_model_prefix)
  text = getattr(text, 'language_model', text)
  sites, handles = {}, []

  def keep(site: str, x: torch.Tensor) -> None:
    sites.setdefault(site, []).append(x.detach().numpy().copy())

  def output(module: torch.nn.Module, site: str) -> None:
    handles.append(
        module.register_forward_hook(
            lambda _, __, y: keep(site, y[0] if isinstance(y, tuple) else y)
        )
    )

  def before(module: torch.nn.Module, site: str) -> None:
    handles.append(
        module.register_forward_pre_hook(lambda _, args: keep(site, args[0]))
    )

  for layer in text.h if hasattr(text, 'h') else text.layers:
    before(layer, 'resid_pre')
    output(layer, 'resid_post')
    for site, (when, name) in _facts_of(model).sites.items():
      hook = {'before': before, 'after': output}[when]
      hook(layer.get_submodule(name), site)
  with torch.no_grad():
    logits = model(torch.tensor(tokens).long()).logits.float().numpy()
  for handle in handles:
    handle.remove()
  return logits, {site: np.stack(xs) for site, xs in sites.items()}


def main() -> None:
  transformers.logging.set_verbosity_error()
  chosen = sys.argv[1:]
  for seed, (name, model) in enumerate(_models().items()):
    if chosen and name not in chosen:
      continue
    model.eval()
    randomise(model, seed)
    config = model.config.get_text_config()
    rng = np.random.default_rng(100 + seed)
    tokens = rng.integers(config.vocab_size, size=(_BATCH, _LENGTH))
    if name == 'gemma3_nested':
      tokens %= 146  # The last three ids stand for an image.
    logits, sites = run(model, tokens)
    positions = sorted({*range(0, _LENGTH, 7), *range(_LENGTH - 20, _LENGTH)})
    folder = _FOLDER / name
    model.to(torch.float16).save_pretrained(folder)
    (folder / 'generation_config.json').unlink(missing_ok=True)
    np.savez_compressed(
        folder / 'expected.npz',
        tokens=tokens.astype(np.uint8),
        positions=np.asarray(positions, np.int32),
        logits=logits[:, positions],
        site_positions=np.asarray(_SITE_POSITIONS, np.int32),
        **{site: x[:, :, _SITE_POSITIONS] for site, x in sites.items()},
    )
    print(f'{name}: largest |logit| {np.abs(logits).max():.2f}')


if __name__ == '__main__':
  main()
