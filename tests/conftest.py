"""Fixtures that all tests share."""

import os
import pathlib

import hypothesis
import pytest

os.environ["MPLBACKEND"] = "agg"  # whatever the shell or notebook says from which the tests were started

# The same drawn examples in every run; `pytest --hypothesis-profile=default` looks for new ones
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder with real images: MINICV_TEST_DATA, or shared/data beside the repository."""
    beside = pathlib.Path(__file__).parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("MINICV_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is not a folder (set MINICV_TEST_DATA)")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``pytest -m gpu`` without CuPy says so once per test, instead of failing."""
    if item.get_closest_marker("gpu"):
        pytest.importorskip("cupy", reason="no CuPy: pip install -e '.[cuda]' on a machine with an NVIDIA GPU")
