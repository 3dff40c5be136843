"""The README's exercise, done literally: a sign changed in a plain backward, and what ``minicv gradcheck`` says."""
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = {"conv2d": ("ops/conv.py", "Conv2d"), "max_pool2d": ("ops/max_pool.py", "MaxPool2d"),
             "batch_norm": ("ops/norm.py", "BatchNorm"), "cross_entropy": ("ops/loss.py", "CrossEntropy"),
             "roi_align": ("ops/roi.py", "RoIAlign")}
COMPUTED_WITH = re.compile(r"(?<!xp_of\()\bgy\b(?!\.(shape|dtype))")  # not only asked for its library, shape or dtype


def break_backward(source, cls):
    """The source of a file in which ``-gy`` stands for the first ``gy`` that ``cls.backward`` computes with."""
    (found,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == cls]
    (backward,) = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "backward"]
    lines = source.splitlines(keepends=True)
    for n in range(backward.body[0].lineno - 1, backward.end_lineno):
        lines[n], count = COMPUTED_WITH.subn("-gy", lines[n], count=1)
        if count:
            return "".join(lines)
    raise AssertionError(f"{cls}.backward computes nothing with gy")


def gradcheck(name, folder):
    """Exit code and lines of ``minicv gradcheck NAME`` for the package in ``folder``."""
    done = subprocess.run([sys.executable, "-m", "minicv", "gradcheck", name], cwd=folder, capture_output=True,
                          text=True, check=False, env={**os.environ, "PYTHONPATH": str(folder), "MINICV_PLAIN": ""})
    assert not done.stderr, done.stderr[-3000:]
    return done.returncode, done.stdout.splitlines()


def verdicts(lines, storey):
    """The verdict of each line about a storey: "ok", "kink" or "WRONG"."""
    return [match[1] for line in lines if (match := re.search(rf" {storey} +\S+  (\w+)", line))]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_the_exercise(name, tmp_path):
    file, cls = EXERCISES[name]
    shutil.copytree(ROOT / "minicv", tmp_path / "minicv", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "minicv" / file
    path.write_text(break_backward(path.read_text(encoding="utf-8"), cls), encoding="utf-8")
    code, lines = gradcheck(name, tmp_path)
    assert code == 1
    assert verdicts(lines, "plain").count("WRONG") > 1
    assert verdicts(lines, "fast") and "WRONG" not in verdicts(lines, "fast")
    (blamed,) = [line for line in lines if line.startswith(f"{name}: ")]
    assert blamed.startswith(f"{name}: plain is wrong in ") and blamed.endswith(f"see minicv/{file}")


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_the_readme_names_it(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert "`minicv gradcheck conv2d`" in text and "`minicv/ops/conv.py`" in text
    assert all(word in text for word in ("`Conv2d.backward`", "WRONG", "`minicv/fast/`"))
    before, after = re.findall(r"`(g = [^`]+)`", text)
    source = (ROOT / "minicv" / "ops" / "conv.py").read_text(encoding="utf-8")
    start = source.index("\nclass Conv2d(")
    assert source[:start] + source[start:].replace(before, after, 1) == break_backward(source, "Conv2d")


def test_a_broken_backward_changes_one_sign():
    source = "class A:\n    def forward(ctx, x):\n        return gy\n\n    def backward(ctx, gy):\n" \
             "        xp, s = xp_of(gy), gy.shape\n        return 2 * gy.reshape(s), gy\n"
    assert break_backward(source, "A") == source.replace("2 * gy", "2 * -gy")
