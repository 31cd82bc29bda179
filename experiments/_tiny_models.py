"""The two tiny models: what they are, in Hugging Face's words.

Every size differs from every other one where the architecture lets it, and
each trap of the real models is in one of them: a query scale that is not the
head width, post-norms, softcaps, alternating windows, scaled frequencies.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
from typing import Any

import _tiny_tokenizers
import tokenizers

VOCABULARY = 4096
CONTEXT = 512
_COMMON = {
    'vocab_size': VOCABULARY,
    'hidden_size': 128,
    'intermediate_size': 384,
    'num_hidden_layers': 8,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'max_position_embeddings': CONTEXT,
    'attention_bias': False,
}


@dataclasses.dataclass(frozen=True)
class TinyModel:
  """What is trained.

  Attributes:
    name: As `load_model` will know it.
    config: A config.json.
    bos: The token before every text.
    train_tokenizer: From texts and a vocabulary size.
  """

  name: str
  config: Mapping[str, Any]
  bos: str
  train_tokenizer: Callable[[Iterable[str], int], tokenizers.Tokenizer]


TINY_MODELS = {
    'tiny_gemma2': TinyModel(
        'tiny-gemma2',
        _COMMON
        | {
            'model_type': 'gemma2',
            'head_dim': 40,
            # D / N, as in Gemma-2 27B, and not the head width.
            'query_pre_attn_scalar': 32,
            'hidden_activation': 'gelu_pytorch_tanh',
            'rms_norm_eps': 1e-6,
            'rope_theta': 10_000.0,
            'sliding_window': 128,
            'attn_logit_softcapping': 50.0,
            'final_logit_softcapping': 30.0,
            'tie_word_embeddings': True,
        },
        '<bos>',
        _tiny_tokenizers.train_gemma,
    ),
    'tiny_llama3': TinyModel(
        'tiny-llama3',
        _COMMON
        | {
            'model_type': 'llama',
            'head_dim': 32,
            'hidden_act': 'silu',
            'mlp_bias': False,
            'rms_norm_eps': 1e-5,
            'rope_theta': 500_000.0,
            # Of Llama 3.1, with an original context that fits this one.
            'rope_scaling': {
                'rope_type': 'llama3',
                'factor': 8.0,
                'low_freq_factor': 1.0,
                'high_freq_factor': 4.0,
                'original_max_position_embeddings': 256,
            },
            'tie_word_embeddings': False,
        },
        '<|begin_of_text|>',
        _tiny_tokenizers.train_llama,
    ),
}
