import math
import os
import subprocess
import sys
from pathlib import Path

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


def test_every_test_file_can_be_read_without_an_oracle():
    """As with the README's command, which does not install them."""
    code = ("import sys; sys.modules.update(dict.fromkeys(('torch', 'skimage', 'pycocotools'))); import pytest; "
            "sys.exit(pytest.main(['--collect-only', '-qq', 'tests']))")
    environment = {name: value for name, value in os.environ.items() if name != "MINICV_REQUIRE_ORACLE"}
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
