"""The figure of a training run."""

from collections.abc import Sequence

from matplotlib.figure import Figure


def loss_figure(
    name: str,
    train: Sequence[tuple[float, float]],
    held_out: Sequence[tuple[float, float]],
    reference: tuple[str, float] | None = None,
) -> Figure:
  """Losses against tokens seen.

  Args:
    name: Of the model.
    train: (tokens, nats a token) of the batches, averaged.
    held_out: The same on held-out text.
    reference: Label and loss of something to compare with.
  """
  figure = Figure(figsize=(4.8, 3.2), layout='constrained', dpi=200)
  axes = figure.subplots()
  for label, points, color, width in (
      ('training text', train, '0.6', 1.0),
      ('held-out text', held_out, 'black', 1.5),
  ):
    if points:
      x, y = zip(*points, strict=True)
      millions = [tokens / 1e6 for tokens in x]
      axes.plot(millions, y, label=label, color=color, linewidth=width)
  if reference is not None:
    label, loss = reference
    axes.axhline(loss, color='black', linewidth=1, linestyle=':', label=label)
  losses = [y for _, y in held_out] or [y for _, y in train]
  if losses:
    axes.set_ylim(min(losses) - 0.2, min(max(losses), min(losses) + 3.5))
  axes.set(
      title=name,
      xlabel='tokens seen (millions)',
      ylabel='cross-entropy (nats per token)',
  )
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(frameon=False)
  return figure
