"""The paper index: which line of the code is which equation, section, figure or table of which paper.

The index is collected from comments and docstrings, so it is always up to date. A reference is

    PAPER, sec. 3.1    PAPER, eq. (2)    PAPER, Fig. 1    PAPER, Table 1    PAPER, app. A    PAPER, algorithm 1

or several at once: secs. 2 and 3.1, eqs. (1), (3), eqs. (1) to (3). ``Figure`` and ``Sec.`` may begin a sentence. PAPER
is one of the names in ``citations.py`` and comes earlier in the same clause ("U-Net's augmentation, sec. 3.1"). If the
clause names no paper, it is the first paper in the module's docstring. A paper without any such reference is listed
wherever it is "named". ``index`` also returns malformed references, such as "eq. 2" or "section 3"; the tests require
that there are none.
"""
from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import suggest
from ..models import MODELS
from .citations import PAPERS, Paper
from .lessons import LESSONS_DIR, PACKAGE


def _name(text: str) -> str:
    """Return the regular expression of one of a paper's names, which may contain line breaks."""
    text, _, year = text.partition(" et al., ")
    words = r"\s+".join(map(re.escape, text.split()))
    return words + (rf"\s+et\s+al\.,?\s+\(?(?:[A-Z]\w+\s+)?{year}" if year else "")


def _title(paper: Paper) -> str:
    return paper.citation.split('"')[1].rstrip(".?")


NAMES = {name: key for key, paper in PAPERS.items() for name in (*paper.names, _title(paper))}
LONGEST_FIRST = sorted(NAMES, key=len, reverse=True)
NAMED = re.compile(rf"(?<![\w-])(?:{'|'.join(f'({_name(name)})' for name in LONGEST_FIRST)})(?![\w+])")
KINDS = {  # how a reference is printed: the words that begin it, the form of its number
    "sec.": (r"[Ss]ecs?\.", r"\d+(?:\.\d+)*"),
    "eq.": (r"[Ee]qs?\.", r"\(\d+\)"),
    "Fig.": (r"(?:[Ff]igs?\.|[Ff]igures?)", r"\d+(?:\.\d+)?"),
    "Table": (r"[Tt]ables?", r"\d+"),
    "app.": (r"[Aa]pps?\.", r"[A-Z](?:\.\d+)?\b"),
    "algorithm": (r"[Aa]lgorithms?", r"\d+"),
}
AND = r"(?:,\s+|,?\s+and\s+|\s+to\s+)"


def _paper(match: re.Match) -> str:
    """Return the key of the paper that a match of NAMED names: the number of its only group."""
    return NAMES[LONGEST_FIRST[(match.lastindex or 0) - 1]]


def _group(kind: str) -> str:
    """"eq." as the name of a group in a regular expression: "eq"."""
    return re.sub("[^a-zA-Z]", "", kind)


REFERENCE = re.compile("|".join(rf"(?<!\w)(?P<{_group(kind)}>{word}\s+{number}(?:{AND}{number})*)"
                                for kind, (word, number) in KINDS.items()))
ALIKE = re.compile(r"§|(?<![\w`.])(?:sections?|sect?s?|equations?|eqn?s?|fig(?:ure)?s?|tables?|tabs?|"
                   r"algorithms?|algs?)\.?[ \t]*\n?[ \t]*\(?\d|(?<![\w`.])app(?:endi(?:x|ces))?s?\.?\s*[A-F]\b",
                   re.IGNORECASE)
STOP = re.compile(r";|(?<=\S)   +(?=\S|$)|[.!?]\s+(?=[A-Z\"(`*])|\n[ \t#]*\n")  # where a clause ends
UNKNOWN = re.compile(r"((?:[A-Z][\w+-]+(?:\s+and)?\s+)*[A-Z][\w+-]+(?:\s+et\s+al\.)?)(?:\s+\(\d{4}\))?,\s+$")


class Reference(NamedTuple):
    """One place in the code that names one place of a paper. ``where``: "eq. (2)" or "named"; ``text``: the line."""

    paper: str
    where: str
    function: str
    file: str
    line: int
    text: str


class Problem(NamedTuple):
    """A malformed reference."""

    file: str
    line: int
    text: str
    reason: str


class _Text(NamedTuple):
    """A comment or docstring as it is in the file, and its first line."""

    line: int
    text: str


def _texts(source: str, tree: ast.Module) -> Iterator[_Text]:
    """Yield all docstrings and comments; consecutive comment lines are one text."""
    lines = source.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            constant = node.body[0]
            yield _Text(constant.lineno, "\n".join(lines[constant.lineno - 1:constant.end_lineno]))
    block: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[:token.start[1]].strip()
            if block and not (alone and token.start[0] == block[-1][0] + 1):
                yield _Text(block[0][0], "\n".join(text for _, text in block))
                block = []
            block.append((token.start[0], token.string))
            if not alone:
                yield _Text(*block.pop())
    if block:
        yield _Text(block[0][0], "\n".join(text for _, text in block))


def _functions(tree: ast.Module) -> list[tuple[int, int, str]]:
    """Return (first line, last line, qualified name) of every class and function, outer ones first."""
    found = []

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                found.append((child.lineno, child.end_lineno, prefix + child.name))
                visit(child, f"{prefix}{child.name}.")
            else:
                visit(child, prefix)

    visit(tree, "")
    return found


def _last_name(text: str) -> str | None:
    """Return the last paper that ``text`` names, or None if a clause ends after it."""
    last = None
    for match in NAMED.finditer(text):
        last = match
    return None if last is None or STOP.search(text, last.end()) else _paper(last)


def read(source: str, file: str) -> tuple[list[Reference], list[Problem]]:
    """Return the references and the malformed references in one file's source."""
    tree = ast.parse(source)
    first = NAMED.search(ast.get_docstring(tree) or "")
    default = first and _paper(first)
    functions, lines = _functions(tree), source.splitlines()
    references, problems = [], []
    for begin, text in _texts(source, tree):
        good = list(REFERENCE.finditer(text))
        for match in ALIKE.finditer(text):
            own = file.startswith("lessons/") and match[0].lower().startswith("section")  # a lesson's own section
            if not own and not any(g.start() <= match.start() < g.end() for g in good):
                line = begin + text.count("\n", 0, match.start())
                problems.append(Problem(file, line, match[0], "malformed; write 'PAPER, sec. 3.1', 'eq. (2)', "
                                        "'Fig. 1', 'Table 1', 'app. A' or 'algorithm 1'"))
        for match in good:
            line = begin + text.count("\n", 0, match.start())
            before = text[:match.start()]
            paper, unknown = _last_name(before), UNKNOWN.search(before)
            if paper is None and unknown and not REFERENCE.search(unknown[1]):
                problems.append(Problem(file, line, f"{unknown[1]}, {match[0]}", "no paper of course/citations.py"))
                continue
            paper = paper or default
            if paper is None:
                problems.append(Problem(file, line, match[0], "neither clause nor docstring names a paper"))
                continue
            kind = next(k for k in KINDS if _group(k) == match.lastgroup)
            around = [name for low, high, name in functions if low <= line <= high]
            comment = " ".join(lines[line - 1].split())
            numbers = _numbers(match[0], KINDS[kind][1])
            if kind in ("Fig.", "Table") and not re.match(r"\w+s\b", match[0]):
                del numbers[1:]  # "Table 1, 50 layers" is one table: a list of them needs the plural
            for number in numbers:
                references.append(Reference(paper, f"{kind} {number}", function=around[-1] if around else "", file=file,
                                            line=line, text=comment))
    return references, problems


def _numbers(text: str, number: str) -> list[str]:
    """Return ["(1)", "(2)", "(3)", "(5)"] for "(1) to (3), (5)"."""
    found: list[str] = []
    for match in re.finditer(rf"(to\s+)?({number})", text):
        if match[1] and found:  # all between: the last of their digits count
            *stem, low, end = re.split(r"(\d+)", found[-1])
            high = re.findall(r"\d+", match[2])[-1]
            found += [f"{''.join(stem)}{n}{end}" for n in range(int(low) + 1, int(high) + 1)]
        else:
            found.append(match[2])
    return found


def named(source: str, file: str) -> Iterator[Reference]:
    """Yield where one file's comments and docstrings name a paper, with or without a section or equation."""
    tree, lines = ast.parse(source), source.splitlines()
    functions = _functions(tree)
    for begin, text in _texts(source, tree):
        for match in NAMED.finditer(text):
            line = begin + text.count("\n", 0, match.start())
            around = ["", *(name for low, high, name in functions if low <= line <= high)]
            yield Reference(_paper(match), "named", function=around[-1], file=file, line=line,
                            text=" ".join(lines[line - 1].split()))


def files() -> list[tuple[Path, str]]:
    """Return the package's modules and the lessons, each with its name in the index."""
    modules = [(path, path.relative_to(PACKAGE.parent).as_posix()) for path in sorted(PACKAGE.rglob("*.py"))
               if path.name not in ("papers.py", "citations.py")]  # these explain what a reference is
    return modules + [(path, f"lessons/{path.name}") for path in sorted(LESSONS_DIR.glob("[0-9][0-9]_*.py"))]


@cache
def index() -> tuple[tuple[Reference, ...], tuple[Problem, ...]]:
    """Return all references and problems, sorted by paper and section."""
    references, problems = [], []
    sources = [(path.read_text(encoding="utf-8"), name) for path, name in files()]
    for source, name in sources:
        some, wrong = read(source, name)
        references += some
        problems += wrong
    placed = {r.paper for r in references}
    references += [r for source, name in sources for r in named(source, name) if r.paper not in placed]
    return tuple(sorted(set(references), key=_order)), tuple(problems)


def _order(reference: Reference) -> tuple:
    kind, _, number = reference.where.partition(" ")
    parts = [int(n) if n.isdigit() else ord(n) for n in re.findall(r"\d+|[A-Z]", number)]
    lesson = reference.file.startswith("lessons/")
    return reference.paper, [*KINDS, "named"].index(kind), parts, lesson, reference.file, reference.line


def find(name: str) -> str:
    """Return the key of a paper, from any of its names or from a network's: "U-Net", "unet", "resnet50".

    A network's paper is the first that its file names. Raises ``ValueError`` for another name.
    """
    if name in MODELS and name not in PAPERS:
        path = PACKAGE / "models" / f"{MODELS[name].split(':')[0].replace('.', '/')}.py"
        return next(_paper(match) for match in NAMED.finditer(path.read_text(encoding="utf-8")))

    def plain(text):
        return re.sub(r"[^a-z0-9+]", "", text.lower())
    known = {plain(k): k for k in PAPERS} | {plain(n): k for n, k in NAMES.items()}
    wanted = plain(name)
    if wanted in known:
        return known[wanted]
    raise ValueError(f"no paper named {name!r}; {suggest(name, [*PAPERS, *MODELS])}")


def table(name: str | None = None) -> str:
    """Return what ``minicv papers`` prints: all papers, or the references to one paper with their lines."""
    references, _ = index()
    if name is None:
        width = max(map(len, PAPERS))
        return "\n".join(f"{key:<{width}}  {sum(r.paper == key for r in references):>3} places  {paper.citation}"
                         for key, paper in PAPERS.items())
    key = find(name)
    rows = [(r.where, f"{r.file}:{r.line}", r.function, r.text) for r in references if r.paper == key]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    lines, last = [PAPERS[key].citation], ""
    for where, place, function, text in rows:
        shown = "" if where == last else where
        lines.append(f"  {shown:<{widths[0]}}  {place:<{widths[1]}}  {function:<{widths[2]}}  {text}".rstrip())
        last = where
    return "\n".join(lines if rows else [*lines, "  nothing refers to it yet"])
