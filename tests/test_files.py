import os
import signal
import stat
import subprocess
import sys

import pytest

from minicv.errors import UserError
from minicv.files import atomic_write, check_folder, one_line, print_anything


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first", "second"):
        with atomic_write(path) as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text(text)
        assert path.read_text() == text
    assert os.listdir(tmp_path) == ["a.txt"]


def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_a_full_disk_is_said_to_be_full_for_which_file(tmp_path):
    """The file size limit stands in for the disk: writing beyond it fails as there."""
    import resource
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    limit, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*a\.bin'$"), atomic_write(path) as temporary:
            temporary.write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


def test_the_old_file_stays_until_the_body_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "nowhere" / "a.txt"
    message = r"nowhere/a\.txt cannot be written, its folder does not exist"
    with pytest.raises(FileNotFoundError, match=message), atomic_write(path):
        pytest.fail("the body must not run")


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    message = r"nothing was written to the temporary file for .*a\.txt"
    with pytest.raises(FileNotFoundError, match=message), atomic_write(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644  # 0o666 without group and other write


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killed_in_the_middle_of_writing(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    script = f"""
import os, signal
from minicv.errors import UserError
from minicv.files import atomic_write, check_folder, one_line, print_anything
with atomic_write({str(path)!r}) as temporary:
    with open(temporary, "wb") as file:
        file.write(b"n" * 100_000)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", script], env=environment)
    assert result.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    leftovers = [name for name in os.listdir(tmp_path) if name != "a.bin"]
    assert len(leftovers) == 1 and leftovers[0].startswith(".a.bin.") and leftovers[0].endswith(".tmp")
    with atomic_write(path) as temporary:  # and the next run is not disturbed by what is left
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_one_line_keeps_letters_and_escapes_line_ends():
    assert one_line("a b\n\x1b[2J狗.png") == "a b\\n\\x1b[2J狗.png"


def test_check_folder(tmp_path):
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new/folder", "--out")
    assert not (tmp_path / "new").exists()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for path in (tmp_path / "file", tmp_path / "file/sub", tmp_path / "link"):
        with pytest.raises(UserError, match=r"--out .*: \S+/(file|link) is a file, not a folder"):
            check_folder(path, "--out")


def test_a_closed_output_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    print_anything()
    print("seen by nobody")
    sys.stdout.close()
