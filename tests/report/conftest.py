"""The numbers of these tests are of three measures, however many there are."""

import pytest

from ooc_jax import measures


@pytest.fixture(autouse=True)
def _three_measures(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(measures, 'MEASURES', measures.MEASURES[:3])
