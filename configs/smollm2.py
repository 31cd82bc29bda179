"""SmolLM2-135M-Instruct (Llama architecture): its MLP neurons, all layers."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'smollm2',
      'dictionary': 'mlp',
      'layers': 'all',
  }
