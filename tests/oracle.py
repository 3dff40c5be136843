"""Other libraries as oracles: what they compute, minicv must compute too. Only tests import them."""

import importlib
import os
from types import ModuleType

import pytest


def require(name: str) -> ModuleType:
    """Import an oracle such as "torch" or "skimage.metrics"; where it is not installed, skip the test.

    With MINICV_REQUIRE_ORACLE=1 in the environment a missing oracle is a failure: a run that is meant to
    compare must not pass because it compared nothing. Call it in a test, or at the top of a test file.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        reason = f"the oracle {name} is not installed ({error}), minicv's extra `oracle` brings it"
    if os.environ.get("MINICV_REQUIRE_ORACLE") == "1":
        pytest.fail(f"{reason}, and MINICV_REQUIRE_ORACLE=1 asks for it")
    pytest.skip(reason, allow_module_level=True)
