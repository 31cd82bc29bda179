"""Gemma 3 270M and the Gemma Scope 2 SAEs of its residual stream."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'gemma3-270m',
      'dictionary': (
          'gemma-scope-2-270m-pt-res/layer_{layer}_width_16k_l0_medium'
      ),
      # The layers of this release; `...-res-all` has every layer.
      'layers': '5,9,12,15',
      # Attention reads what the layer before left.
      'attention': {'layers': '6,10,13,16'},
  }
