"""Deleting ``minicv/fast`` leaves a working library."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# An editable installation would find the folder that the copy lacks where it is installed from.
ALONE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in getattr(finder, "__name__", "")]
"""


@pytest.mark.slow
def test_the_operations_pass_their_tests_without_the_folder(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("minicv", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
        shutil.rmtree(tmp_path / folder / "fast")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "sitecustomize.py").write_text(ALONE)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", "tests/ops"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    program = "import minicv; from minicv.autograd import function; print(minicv.__file__, function.fast_versions())"
    found = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONPATH": str(tmp_path)}).stdout
    assert found == f"{tmp_path / 'minicv' / '__init__.py'} {{}}\n"
