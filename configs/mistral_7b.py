"""Mistral 7B and the SAEs of three layers of its residual stream."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'mistral-7b',
      'dictionary': 'mistral-7b-res-wg/blocks.{layer}.hook_resid_pre',
      # The layers of this release.
      'layers': '8,16,24',
  }
