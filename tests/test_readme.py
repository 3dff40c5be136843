"""What the README says must be so: its commands parse, its snippet prints what it says, its paths exist."""
import re
import shlex
from pathlib import Path

import pytest

from minicv import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for language, text in BLOCKS if language == "bash"
            for line in text.splitlines() if line.startswith("minicv ")]


def test_the_first_code_block_is_two_commands_that_set_everything_up_themselves():
    language, text = BLOCKS[0]
    lines = text.splitlines()
    assert language == "bash" and len(lines) == 2
    assert all(line.startswith("python3 -m venv .venv && .venv/bin/pip install") for line in lines)
    assert lines[0].endswith(".venv/bin/minicv lessons run --quick")
    assert lines[1].endswith(".venv/bin/pytest -n auto")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    cli.parser().parse_args(shlex.split(command)[1:])


def test_there_are_commands():
    assert len(COMMANDS) >= 3


def test_the_snippet_prints_what_it_says(capsys):
    (code,) = [text for language, text in BLOCKS if language == "python"]
    exec(compile(code, "README.md", "exec"), {})
    said = [line.split("# ", 1)[1].strip() for line in code.splitlines() if line.startswith("print(")]
    assert capsys.readouterr().out.splitlines() == said and said


def test_links_and_pictures_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_paths_in_the_map_exist():
    rows = [line for line in README.splitlines() if line.startswith("| ") and "`" in line]
    missing = []
    for path in re.findall(r"`([\w./]+)`", "\n".join(rows)):
        places = [ROOT / path, ROOT / "minicv" / path, ROOT / "lessons" / f"{path}.py"]
        missing += [path] * (not any(place.exists() for place in places))
    assert rows and missing == []
