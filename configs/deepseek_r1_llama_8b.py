"""DeepSeek-R1-Distill-Llama-8B and the Llama Scope SAEs trained on it."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'deepseek-r1-llama-8b',
      'dictionary': 'llama_scope_r1_distill/l{layer}r_800m_openr1_math',
  }
