"""The one error type for what a user can cause."""


class InputError(ValueError):
  """An input was refused: one sentence with what, where and what to do.

  Experiment scripts print it without a traceback and exit with status 2.
  """
