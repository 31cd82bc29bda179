"""What each key of a Hugging Face `config.json` is to us.

Every key is read, required to have one value, or ignored because it changes no
logit. A key in none of these groups is refused by name.
"""

FAMILY = {
    'llama': 'llama',
    'gemma2': 'gemma2',
    'gemma3_text': 'gemma3',
    'gemma3': 'gemma3',
}

# Bookkeeping, training and generation settings: none changes a logit.
IGNORED = frozenset({
    '_name_or_path', 'architectures', 'attention_dropout', 'auto_map',
    'bad_words_ids', 'boi_token_index', 'bos_token_id', 'cache_implementation',
    'chunk_size_feed_forward', 'decoder_start_token_id', 'dtype',
    'eoi_token_index', 'eos_token_id', 'finetuning_task', 'id2label',
    'image_token_index', 'initializer_range', 'is_decoder',
    'is_encoder_decoder', 'is_llama_config', 'label2id',
    'max_position_embeddings', 'mm_tokens_per_image', 'model_type',
    'output_attentions',
    'output_hidden_states', 'pad_token_id', 'prefix', 'pretraining_tp',
    'problem_type', 'return_dict', 'sep_token_id',
    'task_specific_params', 'tokenizer_class', 'torch_dtype',
    'transformers.js_config', 'transformers_version', 'unsloth_fixed',
    'use_cache', 'vision_config',
})  # fmt: skip

# Accepted with this value (or null) only; anything else is not implemented.
REQUIRED = {
    'attention_bias': False,
    'mlp_bias': False,
    'use_bidirectional_attention': False,
    'quantization_config': None,
    'cross_attention_hidden_size': None,
    'rope_interleaved': False,
}
_READ = frozenset({
    'vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
    'num_attention_heads', 'num_key_value_heads', 'head_dim', 'rms_norm_eps',
    'hidden_act', 'hidden_activation', 'tie_word_embeddings', 'rope_theta',
    'rope_scaling', 'rope_parameters',
})  # fmt: skip
_READ_GEMMA = _READ | {
    'query_pre_attn_scalar', 'sliding_window', 'sliding_window_size',
    'layer_types',
    'attn_logit_softcapping', 'final_logit_softcapping',
}  # fmt: skip
READ_BY = {
    'llama': _READ,
    'gemma2': _READ_GEMMA,
    'gemma3': (
        _READ_GEMMA
        | {
            'rope_local_base_freq',
            'sliding_window_pattern',
            '_sliding_window_pattern',
        }
    ),
}
# What transformers takes for a key that is left out. Files of Gemma 3 4B and up
# do leave out what equals these; other files hold all their sizes.
_SHARED_BY_GEMMA = {
    'num_key_value_heads': 4,
    'head_dim': 256,
    'query_pre_attn_scalar': 256,
    'rms_norm_eps': 1e-6,
    'sliding_window': 4096,
}
DEFAULTS = {
    'llama': {'rms_norm_eps': 1e-6},
    'gemma2': _SHARED_BY_GEMMA,
    'gemma3': (
        _SHARED_BY_GEMMA
        | {
            'vocab_size': 262_208,
            'hidden_size': 2304,
            'intermediate_size': 9216,
            'num_hidden_layers': 26,
            'num_attention_heads': 8,
        }
    ),
}
GEMMA2_SOFTCAPS = {
    'attn_logit_softcapping': 50.0,
    'final_logit_softcapping': 30.0,
}
