"""What the README says must be so: its commands parse, its snippet prints what it says, its paths exist."""
import argparse
import re
import shlex
from pathlib import Path

import pytest

from minicv import models
from minicv.cli import main as cli
from minicv.course import lessons

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
KOREAN = (ROOT / "README.ko.md").read_text(encoding="utf-8")
MAP = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "docs" / "guides").glob("*.md"))]
GUIDE = {"tiny", "softplus", "stripes", "90"}  # what the guides add
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


def commands(text):
    """Each call of minicv in a page's shell blocks, as a list of words; variables are filled in."""
    found = []
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S):
        values = dict(re.findall(r'^(\w+)="(.*)"$', block, re.M))
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\$(\w+)", lambda m, values=values: values.get(m[1], m[0]), line)
            words = shlex.split(re.sub(r"(^|\s)#.*", "", line))
            for i, word in enumerate(words):
                if word == "minicv" and (i == 0 or words[i - 1] in ("&&", "2", "4")):
                    found.append(words[i + 1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_every_page_are_understood(page):
    for words in commands(page.read_text(encoding="utf-8")):
        args = cli.parser().parse_args([{"tiny": "unet"}.get(word, word) for word in words if word != "..."])
        if args.command == "lessons" and args.what == "run":
            assert GUIDE & set(args.names) or lessons.find(args.names)


def subparsers(parser):
    """The parsers of a parser's commands, by name."""
    return next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_of_every_page_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for command in re.findall(r"`(?:mpirun -n \d )?minicv\s+([^`]+)`", text):
        words = [word for word in command.split() if word != "..."]
        if words[0] in ("--backend", "--version"):
            words = words[2:]
        parser = cli.parser()
        while words and words[0] in subparsers(parser):
            parser = subparsers(parser)[words.pop(0)]
        assert parser.prog != "minicv" or not words, command
        known = {option for action in parser._actions for option in action.option_strings}
        assert {word for word in words if word.startswith("--")} <= known, command
        if parser.prog in ("minicv summary", "minicv train") and words and not words[0].startswith("-"):
            assert words[0] in {*models.names(), *GUIDE}, command


def test_a_command_that_is_wrong_is_noticed():
    text = '```bash\nC="--steps 3"\nmpirun -n 2 minicv train unet $C \\\n    --out x  # and so on\npip install x\n```\n'
    assert commands(text) == [["train", "unet", "--steps", "3", "--out", "x"]]
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["train", "unet", "--stpes", "3"])


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
