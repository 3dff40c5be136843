"""The pages about the two storeys: what they show is the code itself, and nothing is left out."""
import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FIRST = (DOCS / "read_first.md").read_text(encoding="utf-8")
FAST = (DOCS / "how_it_is_fast.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```\{literalinclude\} \.\./(\S+)\n:pyobject: (\S+)$", FIRST, re.M)


def lines_of(file, name):
    """The lines of a function, class or method "Class.method" in a file, blanks and docstring included."""
    node = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for part in name.split("."):
        (node,) = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part]
    return node.end_lineno - node.lineno + 1


def test_read_this_first_shows_code_from_its_files():
    assert FIRST.count("```{literalinclude}") == len(SHOWN) >= 7
    assert {name.split(".")[0] for _, name in SHOWN} >= {"walk", "Conv2d", "UNet", "Training"}
    assert all(lines_of(file, name) > 1 for file, name in SHOWN)


def test_read_this_first_has_less_than_150_lines_of_code():
    assert "```python" not in FIRST
    assert sum(lines_of(file, name) for file, name in SHOWN) < 150


def test_lines_are_counted():
    assert lines_of("tests/test_pages.py", "lines_of") == 6
    with pytest.raises(ValueError):
        lines_of("tests/test_pages.py", "lines_of_nothing")


def test_each_piece_has_sentences_before_it():
    for text in re.split(r"^```\{literalinclude\}.*?^```$", FIRST, flags=re.M | re.S)[:-1]:
        assert len(text.split()) >= 10 and text.rstrip()[-1] in ".:", text


def test_the_map_names_every_file_of_both_storeys():
    text = (DOCS / "map.md").read_text(encoding="utf-8")
    files = {path.relative_to(ROOT / "minicv").as_posix() for storey in ("ops", "fast")
             for path in (ROOT / "minicv" / storey).rglob("*.py")}
    named = set(re.findall(r"`((?:ops|fast)/[\w/]+\.py)`", text[text.index("## The two storeys"):]))
    assert len(files) > 30 and named == files


@pytest.mark.parametrize("page", ["read_first", "memory_layout", "how_it_is_fast", "map"])
def test_files_that_a_page_names_exist(page):
    named = set(re.findall(r"`(?:minicv/)?((?:ops|fast|backend|autograd|nn|training|models)/[\w/]*\w\.py|optim\.py)`",
                           (DOCS / f"{page}.md").read_text(encoding="utf-8")))
    assert named and sorted(name for name in named if not (ROOT / "minicv" / name).is_file()) == []


def test_every_idea_has_a_picture_a_file_and_a_gain():
    sections = re.split(r"^## ", FAST, flags=re.M)[1:-1]
    assert len(sections) >= 10
    for section in sections:
        assert len(re.findall(r"^!\[[^\]]{30,}\]\(generated/pictures/idea_\w+\.svg\)$", section, re.M)) == 1, section
        assert re.search(r"^Files?: `minicv/", section, re.M) and "Gain: " in section, section


def test_the_table_has_every_fast_class_and_the_rows_that_the_text_names():
    from minicv.fast import FAST as TABLE
    about, _, head, *rows = (DOCS / "storeys.txt").read_text(encoding="utf-8").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d, .+ threads", about) and head.split() == ["plain", "fast", "gain"]
    assert {re.match(r"\w+", row)[0] for row in rows} == {cls.__name__ for cls in TABLE}
    text = re.sub(r"\s+", " ", FAST)
    for name in re.findall(r"\*([A-Z]\w+2?d?(?:, [^*]+)?)\*", text[text.index("Gain:"):]):
        assert any(row.startswith(name) for row in rows), name


def test_pictures_are_drawn():
    sys.path.insert(0, str(DOCS))
    try:
        import ideas
    finally:
        sys.path.remove(str(DOCS))
    from minicv.viz.pyplot import import_pyplot
    shown = set(re.findall(r"generated/pictures/(idea_\w+)\.svg",
                           FAST + (DOCS / "memory_layout.md").read_text(encoding="utf-8")))
    assert shown == set(ideas.PICTURES)
    for name, draw in ideas.PICTURES.items():
        figure = draw()
        assert figure.get_figwidth() == ideas.WIDTH, name
        texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))
        assert min(text.get_fontsize() for text in texts if text.get_text()) >= 7, name  # 7 points at the page's width
        import_pyplot().close(figure)
