"""Llama-3.1 8B and the 8x Llama Scope SAEs of its residual stream."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'llama3.1-8b',
      'dictionary': 'llama_scope_lxr_8x/l{layer}r_8x',
  }
