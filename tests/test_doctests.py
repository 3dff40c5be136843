"""The examples in docstrings and in the documentation's pages do what they say."""
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import minicv

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "docs" / "guides").glob("*.md"))]
MODULES = [info.name for info in pkgutil.walk_packages(minicv.__path__, "minicv.") if info.name != "minicv.__main__"]


def examples(text):
    """The doctests of a Markdown page's Python blocks, as one text of which all other lines are empty."""
    kept, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```python" and not inside
            kept.append("")
        else:
            kept.append(line if inside else "")
    return "\n".join(kept) + "\n"


def failures(test):
    """What went wrong, in words; "" if nothing."""
    said = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_of_a_page(page):
    test = doctest.DocTestParser().get_doctest(examples(page.read_text(encoding="utf-8")), {}, page.name, str(page), 0)
    assert failures(test) == ""


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    module = importlib.import_module(name)
    assert "".join(failures(test) for test in doctest.DocTestFinder().find(module) if test.examples) == ""


def test_each_convention_has_an_example():
    text = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    assert [section.split(".")[0] for section in sections] == [str(n + 1) for n in range(len(sections))]
    assert all(section.count(">>>") >= 2 for section in sections)


def test_a_wrong_example_is_noticed():
    test = doctest.DocTestParser().get_doctest(examples("a\n```python\n>>> 1 + 1\n3\n\n```\n"), {}, "page", None, 0)
    assert "Expected:\n    3\nGot:\n    2" in failures(test)


def resolves(name):
    """Is there something of this dotted name?"""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:i]))
        except ImportError:
            continue
        for part in parts[i:]:
            value = getattr(value, part, None)
        return value is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_in_a_page_are_there(page):
    names = set(re.findall(r"`(minicv(?:\.\w+)+)`", page.read_text(encoding="utf-8")))
    assert sorted(name for name in names if not resolves(name)) == []


def test_the_glossary_has_every_column():
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in
            (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 50
    for english, korean, meaning, _, code in rows:
        assert english and re.search("[가-힣]", korean) and resolves(code.strip("`")), english
        assert 1 < len(meaning.split()) <= 12, english
