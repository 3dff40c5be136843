"""The guides, followed literally in a copy of the project: every file written, every line added, every command run."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>python|bash)\n(?P<text>.*?)^```$", re.M | re.S)


def steps(text):
    """(what, file, line, text) for each block: "write", "below", "above" or "run"."""
    for match in BLOCK.finditer(text):
        before, block = match["before"], match["text"]
        write = re.search(r"Write `([^`]+)`:$", before)
        insert = re.search(r"In `([^`]+)`, (below|above) the line `(.+)`:$", before)
        if match["language"] == "bash":
            yield "run", None, None, block
        elif write:
            yield "write", write[1], None, block
        else:
            assert insert, f"it does not say where this belongs: {before!r}"
            yield insert[2], insert[1], insert[3], block


def follow(text, folder):
    """Do what a guide says, in ``folder``; return what its commands print, a text for each block of them."""
    tools = folder.parent / "tools"  # the commands of the guides, for this copy
    tools.mkdir()
    for name, start in (("minicv", "-m minicv"), ("pytest", "-m pytest"), ("curl", "-m tests.pretend_download"),
                        ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    printed = []
    for what, file, line, block in steps(text):
        if what == "run":
            done = subprocess.run(["sh", "-e", "-c", block], cwd=folder, env=environment, capture_output=True,
                                  text=True, timeout=600, check=False)
            assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            assert "no tests ran" not in done.stdout
            printed.append(done.stdout)
        elif what == "write":
            assert not (folder / file).exists()
            (folder / file).write_text(block)
        else:
            lines = (folder / file).read_text().splitlines(keepends=True)
            (place,) = [i for i, text in enumerate(lines) if text.rstrip("\n") == line]
            lines.insert(place + (what == "below"), block)
            (folder / file).write_text("".join(lines))
    return printed


def check_troubleshooting(printed):
    """The numbers that the page states are those that its commands print."""
    _, checks, shows, _, by_heart, rates, weighted, boxes, others = printed
    assert checks.count("faults: 0") == 2  # nothing that check can know
    assert "values: mean 0.028 0.028 0.028" in shows and "values: mean 0.422" in shows
    def value(text, name, column=1):
        return float(next(line.split()[column] for line in text.splitlines() if line.split()[:1] == [name]))
    assert value(by_heart, "pixel_accuracy") == pytest.approx(0.93, abs=0.01)
    assert value(by_heart, "pole") == pytest.approx(0.017, abs=0.001) and value(by_heart, "pole", 3) < 0.1
    losses = [float(loss) for loss in re.findall(r", loss (\S+) over the last 30", rates)]
    assert losses[:2] == pytest.approx([2.18, 1.14], abs=0.01) and losses[2] > 1000
    assert value(by_heart, "pole", 4) < 0.06 and value(weighted, "pole", 4) == pytest.approx(0.34, abs=0.04)
    assert "objects that an anchor fits: " in boxes and "location" in boxes
    first, second = (float(each) for each in re.findall(r"^pixel_accuracy +(\S+)", others, re.M))
    assert first > second + 0.2


CHECKS = {"troubleshooting": check_troubleshooting}


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_can_be_followed(guide, tmp_path):
    copy = tmp_path / "minicv"
    copy.mkdir()
    for name in ("minicv", "lessons", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "out"))
    for name in ("pyproject.toml", "setup.cfg", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    printed = follow(guide.read_text(encoding="utf-8"), copy)
    if guide.stem in CHECKS:
        CHECKS[guide.stem](printed)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_lines_that_a_guide_names_are_there(guide):
    for what, file, line, _ in steps(guide.read_text(encoding="utf-8")):
        if what == "write":
            assert not (ROOT / file).exists() and (ROOT / file).parent.is_dir()
        elif what != "run":
            assert (ROOT / file).read_text(encoding="utf-8").splitlines().count(line) == 1


def test_a_guide_is_read_as_it_stands():
    text = ("Write `a.py`:\n\n```python\nx = 1\n```\n\nIn `b.py`, above the line `y = 2`:\n\n```python\nx = 3\n```\n\n"
            "Now\n\n```bash\nls\n```\n")
    assert list(steps(text)) == [("write", "a.py", None, "x = 1\n"), ("above", "b.py", "y = 2", "x = 3\n"),
                                 ("run", None, None, "ls\n")]
