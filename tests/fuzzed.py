"""Fuzz tests that are short by default and long under the marker `slow`."""

from collections.abc import Callable
from typing import Any

import hypothesis


def fuzzed(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
  """Calls a test method with drawn arguments, `self.examples` times.

  The same inputs every time. A subclass with more examples, marked slow, is
  the long version of all tests of a class.

  Args:
    **strategies: Of Hypothesis, by argument.
  """

  def decorate(test: Callable[..., None]) -> Callable[..., None]:

    def run(self, *args: Any) -> None:
      @hypothesis.settings(
          max_examples=self.examples,
          deadline=None,
          derandomize=True,
          database=None,
          suppress_health_check=list(hypothesis.HealthCheck),
      )
      @hypothesis.given(**strategies)
      def check(**drawn: Any) -> None:
        test(self, *args, **drawn)

      check()

    # Not `functools.wraps`: pytest would take the arguments for fixtures.
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run

  return decorate
