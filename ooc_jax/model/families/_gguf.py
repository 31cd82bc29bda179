"""What the families' GGUF headers share.

Facts about keys and defaults: the GGUF specification and llama.cpp's
conversion scripts.
"""

from ooc_jax.model._config import shown
from ooc_jax.model.families._reader import Reader

PATTERN = 'attention.sliding_window_pattern'


def linear_factor(header: Reader) -> float:
  """By what all rotary frequencies are divided."""
  # As llama.cpp has it: a factor without a type is linear, and 0 is no factor.
  factor = header.number('rope.scaling.factor', 0.0)
  kind = header.get('rope.scaling.type', 'linear')
  if kind not in ('none', 'linear'):
    raise header.fail(
        f'RoPE scaling of type {shown(kind)} is not supported; supported are'
        " 'linear' and the tensor 'rope_freqs.weight'"
    )
  return 1.0 if kind == 'none' or factor == 0.0 else factor


def sliding_windows(
    header: Reader, *, period: int, window: int | None = None
) -> tuple[int | None, ...]:
  """Per layer its window; the last of each period is global.

  Some files say for each layer whether it slides.

  Args:
    header: Of the file.
    period: Taken where the file does not say.
    window: Taken where the file does not say; None where every file does.
  """
  window = header.whole('attention.sliding_window', window)
  key = PATTERN
  num_layers = header.layers('block_count')
  if isinstance(slides := header.get(key), list):
    if len(slides) != num_layers or not all(type(x) is bool for x in slides):
      raise header.fail(
          f'{header.prefix}{key} is not true or false for each of'
          f' {num_layers} layers'
      )
    return tuple(window if x else None for x in slides)
  period = header.whole(key, period)
  if period < 1:
    raise header.fail(f'{header.prefix}{key} is {period}, not above zero')
  return tuple(window if (i + 1) % period else None for i in range(num_layers))
