"""Gemma-2 9B and the canonical 16k Gemma Scope SAEs of its residual stream."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'gemma2-9b',
      'dictionary': (
          'gemma-scope-9b-pt-res-canonical/layer_{layer}/width_16k/canonical'
      ),
  }
