"""Llama-3.1 70B and its MLP neurons; --dry_run says how large it is."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'llama3.1-70b',
      'dictionary': 'mlp',
      'layers': '0,40,79',
  }
