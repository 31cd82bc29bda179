r"""Writes the golden files of the parity tests: tiny models and their logits.

Each folder under tests/model/golden/ holds one random model in the layout that
transformers saves (float16, so that it is small and reads back exactly) and
`expected.npz`: what transformers computed with it in float32. The tests read
these files; neither torch nor transformers is needed to run them.

Made with torch 2.13.0 (CPU) and transformers 5.23.0, in their own environment:
  pip install torch==2.13.0 transformers==5.23.0
  python tests/make_golden.py
"""

import pathlib

import numpy as np
import torch
import transformers

_FOLDER = pathlib.Path(__file__).parent / 'model' / 'golden'
_LENGTH = 600
_BATCH = 2
# Sites are compared at few positions: the ends, and around the window of 64.
_SITE_POSITIONS = (0, 1, 63, 64, 65, 301, 598, 599)

LLAMA3 = {
    'rope_type': 'llama3',
    'rope_theta': 10_000.0,
    'factor': 8.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    # Of the 9 wavelengths 2 are kept, 1 is interpolated and 6 are divided.
    'original_max_position_embeddings': 128,
}
# Size of query and key weights: attention logits that matter, but no softmax
# so sharp that float32 rounding grows from layer to layer. Gemma 2 has a cap
# against that, and Gemma 3 norms them anyway.
_SHARP = {
    'llama': 1.0,
    'gemma2': 1.8,
    'gemma3_text': 1.1,
    'gemma3': 1.1,
}
_LINEAR_ON_GLOBAL = {
    'full_attention': {
        'rope_type': 'linear',
        'rope_theta': 1_000_000.0,
        'factor': 8.0,
    },
    'sliding_attention': {'rope_type': 'default', 'rope_theta': 10_000.0},
}


def _models() -> dict[str, transformers.PreTrainedModel]:
  """One model per golden folder. Within a model, all sizes differ."""
  llama = transformers.LlamaConfig(
      vocab_size=131,
      hidden_size=40,
      intermediate_size=56,
      num_hidden_layers=3,
      num_attention_heads=8,
      num_key_value_heads=2,
      head_dim=18,
      rms_norm_eps=1e-5,
      rope_parameters=LLAMA3,
      attn_implementation='eager',
  )
  llama_tied = transformers.LlamaConfig(
      vocab_size=139,
      hidden_size=48,
      intermediate_size=52,
      num_hidden_layers=5,
      num_attention_heads=6,
      num_key_value_heads=3,
      rms_norm_eps=1e-5,
      rope_parameters={'rope_type': 'default', 'rope_theta': 100_000.0},
      tie_word_embeddings=True,
      attn_implementation='eager',
  )
  gemma2 = transformers.Gemma2Config(
      vocab_size=127,
      hidden_size=30,
      intermediate_size=44,
      num_hidden_layers=4,
      num_attention_heads=6,
      num_key_value_heads=3,
      head_dim=16,
      query_pre_attn_scalar=10,
      sliding_window=64,
      # Small, so that the tanh bends attention and final logits without a
      # softmax so sharp that rounding errors grow.
      attn_logit_softcapping=4.0,
      final_logit_softcapping=3.0,
      attn_implementation='eager',
  )
  gemma3 = transformers.Gemma3TextConfig(
      vocab_size=113,
      hidden_size=24,
      intermediate_size=34,
      num_hidden_layers=7,
      num_attention_heads=6,
      num_key_value_heads=2,
      head_dim=10,
      query_pre_attn_scalar=33,
      sliding_window=64,
      attn_implementation='eager',
  )
  gemma3_nested = transformers.Gemma3Config(
      text_config={
          'vocab_size': 149,
          'hidden_size': 24,
          'intermediate_size': 38,
          'num_hidden_layers': 6,
          'num_attention_heads': 8,
          'num_key_value_heads': 2,
          'head_dim': 12,
          'query_pre_attn_scalar': 51,
          'sliding_window': 64,
          'sliding_window_pattern': 3,
          'rope_parameters': _LINEAR_ON_GLOBAL,
      },
      vision_config={
          'hidden_size': 8,
          'intermediate_size': 10,
          'num_hidden_layers': 1,
          'num_attention_heads': 2,
          'image_size': 28,
          'patch_size': 14,
      },
      mm_tokens_per_image=4,
      boi_token_index=146,
      eoi_token_index=147,
      image_token_index=148,
      attn_implementation='eager',
  )
  return {
      'llama': transformers.LlamaForCausalLM(llama),
      'llama_tied': transformers.LlamaForCausalLM(llama_tied),
      'gemma2': transformers.Gemma2ForCausalLM(gemma2),
      'gemma3': transformers.Gemma3ForCausalLM(gemma3),
      'gemma3_nested': transformers.Gemma3ForConditionalGeneration(
          gemma3_nested
      ),
  }


def randomise(model: transformers.PreTrainedModel, seed: int) -> None:
  """Random weights of sizes at which every part of the model matters.

  Norm weights too: at their initial 0 or 1 the offset 1 + weight and a norm
  left out would hardly show. All values are float16 numbers.

  Args:
    model: Changed in place.
    seed: Of the weights.
  """
  rng = np.random.default_rng(seed)
  kind = model.config.model_type
  is_gemma = 'gemma' in kind
  for name, parameter in sorted(model.named_parameters()):
    values = rng.standard_normal(tuple(parameter.shape))
    if 'norm' in name:
      values = 0.4 * values + (0.3 if is_gemma else 1.0)
    elif 'embed_tokens' in name:
      values *= 0.2
    elif parameter.ndim == 2:
      sharp = 'q_proj' in name or 'k_proj' in name
      values *= (_SHARP[kind] if sharp else 1.1) / np.sqrt(parameter.shape[1])
    else:
      values *= 0.1
    rounded = values.astype(np.float16).astype(np.float32)
    parameter.data.copy_(torch.from_numpy(rounded))


def run(
    model: transformers.PreTrainedModel, tokens: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Logits [B, T, V], and the activation [L, B, T, D] of every site."""
  text = getattr(model.model, 'language_model', model.model)
  is_gemma = 'gemma' in model.config.model_type
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

  for layer in text.layers:
    before(layer, 'resid_pre')
    output(layer, 'resid_post')
    if is_gemma:
      # What is added to the stream is the output of the post-norms.
      output(layer.post_attention_layernorm, 'attn_out')
      before(layer.pre_feedforward_layernorm, 'resid_mid')
      output(layer.post_feedforward_layernorm, 'mlp_out')
    else:
      output(layer.self_attn, 'attn_out')
      before(layer.post_attention_layernorm, 'resid_mid')
      output(layer.mlp, 'mlp_out')
  with torch.no_grad():
    logits = model(torch.tensor(tokens).long()).logits.float().numpy()
  for handle in handles:
    handle.remove()
  return logits, {site: np.stack(xs) for site, xs in sites.items()}


def main() -> None:
  transformers.logging.set_verbosity_error()
  for seed, (name, model) in enumerate(_models().items()):
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
