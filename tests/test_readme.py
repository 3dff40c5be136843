"""What the README says must be so: its commands parse, its snippet prints what it says, its paths exist."""
import re
import shlex
from pathlib import Path

import pytest

from minicv import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
KOREAN = (ROOT / "README.ko.md").read_text(encoding="utf-8")
MAP = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("text", [README, KOREAN], ids=["English", "Korean"])
def test_links_and_pictures_exist(text):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 5 and [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("text", [README, KOREAN], ids=["English", "Korean"])
def test_it_is_under_two_screens_and_the_picture_comes_first(text):
    shown = [part for line in text.splitlines() for part in (range(0, len(line), 130) or [0])]  # long lines wrap
    assert len(shown) < 90  # two screens of 45 lines
    title, picture = [line for line in text.splitlines() if line][:2]
    assert title == "# minicv" and picture.startswith("![") and text.index("```bash") > text.index("![")


def test_the_korean_one_is_in_step():
    """The same commands, code, links and paths, in the same order; only the words differ."""
    def bare(text):
        return [re.sub(r"(?<=\S) +#.*", "", block) for _, block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)]
    assert bare(KOREAN) == bare(README)
    for pattern in (r"^#+ ", r"\]\((docs/[^)]+)\)", r"`(minicv[ /][^`]*)`"):
        assert re.findall(pattern, KOREAN, re.M) == re.findall(pattern, README, re.M)


@pytest.mark.parametrize("text", [README, MAP], ids=["README", "map"])
def test_paths_in_the_tables_exist(text):
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    missing = []
    for path in re.findall(r"`([\w./]+)`", "\n".join(rows)):
        places = [ROOT / path, ROOT / "minicv" / path, ROOT / "lessons" / f"{path}.py"]
        missing += [path] * (not any(place.exists() for place in places))
    assert rows and missing == []
