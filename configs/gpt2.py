"""GPT-2 small and the SAEs of its residual stream by Joseph Bloom."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'gpt2',
      'dictionary': 'gpt2-small-res-jb/blocks.{layer}.hook_resid_pre',
  }
