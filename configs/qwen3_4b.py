"""Qwen3 4B and the transcoders of its MLPs (mwhanna)."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'qwen3-4b',
      'dictionary': 'mwhanna-qwen3-4b-transcoders/layer_{layer}',
  }
