"""The untied model that comes with ooc_jax, and its SAEs: needs no network."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'tiny-llama3',
      'dictionary': 'tiny-llama3-res/layer_{layer}',
      'layers': 'all',
  }
