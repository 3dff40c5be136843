"""The corpus of damaged files (``tests/fuzz.py``), in a process of its own, whose memory is limited."""
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz

ROOT = Path(__file__).resolve().parent.parent
MEMORY = 4 << 30  # bytes of addresses; Python with its libraries takes 1 to 2 GB of them


@pytest.mark.slow
def test_damaged_files_are_refused_by_name_or_read(tmp_path, capsys):
    """No crash (the process would end), no hang (10 s a file), no more memory than allowed, no other error."""
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", "--out", tmp_path / "files"], cwd=ROOT, text=True,
                          capture_output=True, timeout=600, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    last = done.stdout.splitlines()[-1]
    files, read, refused, wrong = map(int, re.fullmatch(
        r"(\d+) damaged files of \d+ kinds: (\d+) read, (\d+) refused, (\d+) wrong", last).groups())
    assert files >= 2000 and read + refused == files and wrong == 0
    with capsys.disabled():
        print(f"\n{last}")


def attempt(read, tmp_path):
    return fuzz.attempt(fuzz.Kind(None, read), tmp_path, tmp_path / "file")


def test_what_counts_as_wrong(tmp_path, monkeypatch):
    def fail(error):
        def read(folder, file):
            raise error
        return read
    assert attempt(lambda folder, file: None, tmp_path) == "read"
    assert attempt(fail(ValueError(f"{tmp_path}/file: damaged")), tmp_path) == "refused"
    assert attempt(fail(ValueError("damaged")), tmp_path) == "its error does not name the file: ValueError: damaged"
    assert attempt(fail(KeyError("id")), tmp_path) == "KeyError: 'id'"
    assert attempt(fail(MemoryError()), tmp_path) == "MemoryError: "
    assert attempt(lambda folder, file: np.float32(1) / np.zeros(1, np.float32), tmp_path).startswith("RuntimeWarning")
    monkeypatch.setattr(fuzz, "SECONDS", 1)

    def forever(folder, file):
        while True:
            pass
    assert attempt(forever, tmp_path) == "not done after 1 s"


def test_changes_differ_and_change():
    rng, content = np.random.default_rng(0), b'{"a": 1,\n"b": 22}\n' * 5
    changed = [fuzz.change(content, rng, True) for _ in range(100)]
    assert len(set(changed)) > 90 and sum(c != content for c in changed) > 90
    assert all(isinstance(fuzz.change(b"", rng, text), bytes) for text in (True, False) for _ in range(50))
