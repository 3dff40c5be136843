import math

import pytest

from tests.oracle import require


def test_an_installed_module_is_returned():
    assert require("math") is math


def test_a_missing_oracle_is_a_skip_with_a_reason(monkeypatch):
    monkeypatch.delenv("MINICV_REQUIRE_ORACLE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="oracle no_such_oracle is not installed"):
        require("no_such_oracle")


def test_a_missing_oracle_is_a_failure_where_oracles_are_required(monkeypatch):
    monkeypatch.setenv("MINICV_REQUIRE_ORACLE", "1")
    with pytest.raises(pytest.fail.Exception, match="no_such_oracle .* MINICV_REQUIRE_ORACLE=1"):
        require("no_such_oracle")
