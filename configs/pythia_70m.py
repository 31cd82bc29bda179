"""Pythia 70M (deduped) and the SAEs of its residual stream by Sam Marks."""


def get_config() -> dict[str, object]:
  """Settings of the study; what is left out has its default."""
  return {
      'model': 'pythia-70m-deduped',
      'dictionary': 'pythia-70m-deduped-res-sm/blocks.{layer}.hook_resid_post',
  }
