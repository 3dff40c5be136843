"""Threads for the tests, whatever the machine has."""
import functools

import pytest

from minicv.backend import workers


@pytest.fixture
def four_threads(monkeypatch):
    """Four threads, whatever the machine has."""
    set_threads(monkeypatch, 4)


def set_threads(monkeypatch, n):
    monkeypatch.setattr(workers, "num_threads", lambda: n)
    monkeypatch.setattr(workers, "_calls", functools.cache(workers._calls.__wrapped__))  # threads of its own
