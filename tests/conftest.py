"""Fixtures that all tests share."""

import functools
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


@pytest.fixture
def run(capsys):
    """run(arguments...) -> (exit code, standard output, standard error) of the command, in this process."""
    from minicv import backend
    from minicv.cli import main as cli

    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        assert backend.current_device() == "numpy"
        return code, *capsys.readouterr()
    return call


@pytest.fixture
def fails(run):
    """fails(arguments...) -> the message: exit code 2, one line on standard error that names the command."""
    def call(*arguments):
        code, _, error = run(*arguments)
        assert code == 2
        assert error.startswith(f"minicv {arguments[0]}: ") and error.count("\n") == 1 and error.endswith("\n"), error
        return error[len(f"minicv {arguments[0]}: "):-1]
    return call


@pytest.fixture
def few_images(monkeypatch):
    """``--data cells`` and ``--data shape-boxes``: two small images instead of thirty or a hundred large ones."""
    from minicv import data
    small = {"cells": {"count": 2, "size": 36}, "shape-boxes": {"count": 2, "size": 48}}

    def few(spec, split="train", original=data.open_dataset):
        return original(spec, split, **small.get(spec, {}))
    monkeypatch.setattr(data, "open_dataset", few)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``pytest -m gpu`` without CuPy or a GPU says what is missing, once per test, instead of failing."""
    if item.get_closest_marker("gpu") and (reason := without_cupy()):
        pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hostcupy", action="store_true",
                     help="run tests marked gpu with the real CuPy on this processor: see tests/hostcupy/README.md")


def pytest_configure(config: pytest.Config) -> None:
    from tests import hostcupy
    if config.getoption("--hostcupy"):
        os.environ["HOSTCUPY"] = "1"  # for processes that a test starts
        if hostcupy.missing() is None:
            hostcupy.start()


@functools.cache
def without_cupy() -> str | None:
    """Why CuPy cannot compute here, or None."""
    from minicv.backend import devices
    from tests import hostcupy
    if os.environ.get("HOSTCUPY") and hostcupy.missing():
        return hostcupy.missing()
    try:
        devices._load("cupy")
    except RuntimeError as error:
        return str(error)
    return None
