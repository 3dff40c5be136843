"""A Sphinx extension that makes pages from the package at each build: API, source, paper index, claims, pictures.

Docstrings are written to be read in the file: a paragraph is text, and an indented block is shown verbatim. ``convert``
turns this into reStructuredText.
"""
from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import ideas
import numpy as np
from docutils.utils.math import latex2mathml
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import minicv
from minicv import models, ops
from minicv.course import claims, papers
from minicv.course.lessons import VERDICTS
from minicv.viz.architecture import blocks, describe, draw_architecture
from minicv.viz.operation import draw_arrays, draw_operation
from minicv.viz.pyplot import import_pyplot

ROOT = Path(__file__).resolve().parent.parent


class Name(NamedTuple):
    """A public function or class: its module, its shortest dotted name, and the object itself."""

    module: str
    name: str
    value: Any


# ---------------------------------------------------------------------------------------------------------
# What is public
# ---------------------------------------------------------------------------------------------------------
@cache
def modules() -> tuple[ModuleType, ...]:
    """Return every module of the package without a leading underscore in its name."""
    found = [minicv]
    for info in pkgutil.walk_packages(minicv.__path__, "minicv."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            found.append(importlib.import_module(info.name))
    return tuple(found)


@cache
def names() -> tuple[Name, ...]:
    """Return every public function and class, in the order of the files."""
    found = []
    for module in modules():
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                line = inspect.getsourcelines(inspect.unwrap(value))[1]
                found.append((line, Name(module.__name__, shortest(module, name), value)))
    order = [module.__name__ for module in modules()]
    return tuple(name for _, name in sorted(found, key=lambda pair: (order.index(pair[1].module), pair[0])))


def shortest(module: ModuleType, name: str) -> str:
    """Return the shortest dotted name under which ``module.name`` can be imported: minicv.ops.conv2d."""
    parts = module.__name__.split(".")
    for n in range(1, len(parts)):
        above = ".".join(parts[:n])
        if getattr(importlib.import_module(above), name, None) is getattr(module, name):
            return f"{above}.{name}"
    return f"{module.__name__}.{name}"


@cache
def known() -> dict[str, str]:
    """Map every way to write a public name in text ("conv2d", "minicv.ops.conv2d") to its shortest dotted name.

    Ambiguous short names are left out.
    """
    found: dict[str, set[str]] = {}
    for module, name, value in names():
        for text in {name, f"{module}.{value.__name__}", value.__name__, f"{name.split('.')[-2]}.{value.__name__}"}:
            found.setdefault(text, set()).add(name)
    return {text: next(iter(several)) for text, several in found.items() if len(several) == 1}


# ---------------------------------------------------------------------------------------------------------
# From docstrings to reStructuredText
# ---------------------------------------------------------------------------------------------------------
def escape(text: str) -> str:
    """Escape the characters that are special in reStructuredText."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def inline(text: str) -> str:
    """Convert a paragraph: ``code`` and `code` become code, or a link if it is a public name; *emphasis* is kept."""
    parts = re.split(r"(``.+?``|`[^`\s][^`]*`|(?<!\w)\*[A-Za-z][^*\n]*[A-Za-z]\*(?!\w))", text)
    out = []
    for i, part in enumerate(parts):
        if i % 2 == 0:
            out.append(escape(part))
        elif part.startswith("*"):
            out.append(f"\\ *{escape(part[1:-1])}*\\ ")
        else:
            code = part.strip("`")
            target = known().get(code.removesuffix("()"))
            role = f":py:obj:`{code} <{target}>`" if target else f":code:`{escape(code) if '`' in code else code}`"
            out.append(f"\\ {role}\\ ")
    return "".join(out)


def convert(docstring: str | None) -> list[str]:
    """Return a docstring as lines of reStructuredText."""
    lines: list[str] = []
    for block in re.split(r"\n[ \t]*\n", inspect.cleandoc(docstring or "")):
        paragraph: list[str] = []
        for kind, some in runs(block.splitlines()):
            if kind == "text":
                paragraph = some
                lines += [inline(" ".join(line.strip() for line in paragraph)).strip(), ""]
            elif kind == "code":
                lines += ["::", "", *("    " + line for line in some), ""]
            else:
                lines += ["* " + inline(" ".join(line.strip() for line in some)).strip().removeprefix("\\ "), ""]
    return lines


def runs(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Split a block into ("text" | "item" | "code", lines): items begin with "- " or "1. ", code is indented."""
    i = 0
    while i < len(lines):
        line, j = lines[i], i + 1
        if re.match(r"(-|\d+\.) ", line):
            while j < len(lines) and lines[j].startswith(" "):
                j += 1
            yield "item", [re.sub(r"^- ", "", line), *lines[i + 1:j]]
        elif line.startswith(" "):
            while j < len(lines) and lines[j].startswith(" "):
                j += 1
            yield "code", lines[i:j]
        else:
            while j < len(lines) and not re.match(r" |(-|\d+\.) ", lines[j]):
                j += 1
            yield "text", lines[i:j]
        i = j


# ---------------------------------------------------------------------------------------------------------
# Pages
# ---------------------------------------------------------------------------------------------------------
def heading(text: str, line: str = "=") -> list[str]:
    return [text, line * max(len(text), 3), ""]


def signature(value: Any) -> str:
    """Return a signature, (x: Tensor, ...) -> Tensor, on one line; a default without a short text becomes "..."."""
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        return "()"
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are strings
    there = vars(importlib.import_module(value.__module__))
    text = re.sub(r"(?<![\w.\"'])[A-Z]\w+", lambda m: dotted(there.get(m[0])) or m[0], text)
    text = re.sub(r"<[^<>]*(?:<[^<>]*>)?[^<>]*>", "...", text).replace("'", '"')
    return " ".join(text.split())


def dotted(value: Any) -> str | None:
    """Return the shortest dotted name of a public class, or None for anything else."""
    return known().get(f"{value.__module__}.{value.__name__}") if inspect.isclass(value) else None


def source_link(file: str, line: int, text: str) -> str:
    """Return a link from a page in generated/ or generated/api/ to a line of a source page."""
    return f":src:`{text} <{file}#L-{line}>`"


def described(name: str, value: Any, kind: str = "function", indent: str = "") -> list[str]:
    """Return the directive of a function, class or method."""
    own = inspect.unwrap(value)
    file, line = Path(inspect.getsourcefile(own)).relative_to(ROOT).as_posix(), inspect.getsourcelines(own)[1]
    lines = [f".. py:{kind}:: {name}{signature(value)}", ""]
    lines += ["   " + text if text else "" for text in convert(value.__doc__)]
    lines += ["   " + source_link(file, line, f"{file}:{line}"), ""]
    if inspect.isclass(value):
        for key, member in vars(value).items():
            member = getattr(member, "__func__", member)  # of a static or class method
            if inspect.isfunction(member) and not key.startswith("_") and member.__doc__:
                lines += described(key, member, "method", "   ")
    return [indent + line if line else "" for line in lines]


def file_of(module: ModuleType) -> str:
    """Return the path of a module: minicv/ops/conv.py."""
    return Path(module.__file__).relative_to(ROOT).as_posix()


def module_page(module: ModuleType) -> str:
    """Return the API page of a module: its docstring and its public names."""
    file = file_of(module)
    lines = heading(module.__name__) + convert(module.__doc__) + [source_link(file, 1, file), ""]
    for name in names():
        if name.module == module.__name__:
            lines += described(name.name, name.value, "class" if inspect.isclass(name.value) else "function")
            if name.name.startswith("minicv.ops."):
                lines += image(f"operation_{name.value.__name__}", "   ")
    below = [m.__name__ for m in modules() if m.__name__.rpartition(".")[0] == module.__name__]
    if below:
        lines += [".. toctree::", "   :maxdepth: 1", "", *(f"   {name}" for name in below), ""]
    return "\n".join(lines)


def source_page(path: Path, name: str) -> str:
    """Return the page of a source file, with numbered lines; line 12 is at #L-12."""
    html = highlight(path.read_text(encoding="utf-8"), PythonLexer(), HtmlFormatter(
        linenos="inline", lineanchors="L", anchorlinenos=True, cssclass="highlight source"))
    page = [":orphan:", "", *heading(name), ".. raw:: html", "", *("   " + line for line in html.splitlines())]
    return "\n".join(page)


def place(reference: papers.Reference) -> str:
    """Return the function of a paper reference, as a link if it has an API page."""
    module = reference.file.removesuffix(".py").replace("/", ".")
    first = reference.function.split(".")[0]
    target = known().get(f"{module}.{first}")
    if not reference.function:
        return ""
    return f":py:obj:`{reference.function} <{target}>`" if target else f":code:`{reference.function}`"


def table(head: list[str], rows: list[list[str]], widths: str) -> list[str]:
    """Return the directive of a table."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return [*lines, ""]


def papers_page() -> str:
    """Return the page that lists where the code implements each paper."""
    lines = heading("Papers") + [
        "Read a paper and its code side by side. For each section, equation, figure and table of a paper, this page "
        "gives the function, file and line that implements or uses it. The references are collected from the code. "
        "``minicv papers unet`` prints those of one paper.", ""]
    for key, paper in papers.PAPERS.items():
        some = [r for r in papers.index()[0] if r.paper == key]
        if some:
            lines += [f".. _paper-{key}:", "", *heading(paper.names[0], "-"),
                      "\\" + escape(paper.citation), "",  # the backslash, so that "A. Author" begins no list
                      *table(["in the paper", "function", "line"], [
                          [r.where, place(r), source_link(r.file, r.line, f"{r.file}:{r.line}")] for r in some],
                          "15 35 50")]
    return "\n".join(lines)


def claims_page() -> str:
    """Return the page of claims, with what the last full runs of the lessons found, or those of this build."""
    with chdir(ROOT / "lessons"):  # where the lessons run, and MINICV_LESSONS_OUT begins
        runs = claims.load_runs()
    found = claims.measured_claims(runs)
    there = {path.stem for path in papers.PACKAGE.parent.glob("lessons/[0-9][0-9]_*.py")}
    lines = heading("Claims") + [
        "This page lists what the papers claim, who makes each claim, and the number that a lesson measured. The "
        "lessons run small networks on two processor cores, and on generated images unless a claim says otherwise. "
        "Claims that do not hold are listed too. ``minicv claims`` prints the same list.", ""]

    def item(f: claims.MeasuredClaim) -> list[str]:
        lesson = f.run["lesson"]
        link = f":doc:`lesson {lesson[:2]} </gallery/{lesson}>`" if lesson in there else lesson
        return [f"* {f.id}: {inline(f.claim)} ({inline(f.source)}). Found: {inline(f.found)}. "
                f"**{VERDICTS[f.holds]}** ({link})", ""]

    for letter, topic in claims.TOPICS.items():
        lines += heading(topic, "-")
        for id, words in claims.CLAIMS.items():
            if id[0] == letter:
                some = [f for f in found if claims.base_id(f.id) == id]
                lines += [f"**{id}** {inline(words)}", ""]
                lines += [line for f in some for line in item(f)] or ["* Not measured by a full run yet.", ""]
    others = [f for f in found if claims.base_id(f.id) not in claims.CLAIMS]
    if others:
        lines += [*heading("Other claims of the lessons", "-"), *(line for f in others for line in item(f))]
    lines += heading("Runs", "-")
    lines += [line for run in runs for line in (f"* {inline(claims.describe_run(run))}", "")] or ["None yet.", ""]
    lines += [f"All runs together took {sum(run['seconds'] for run in runs):.0f} s.", ""] if runs else []
    return "\n".join(lines)


def models_page() -> str:
    """Return the page that shows a picture of each network."""
    lines = heading("Networks") + [
        "These pictures are drawn from the layers of each network, in the compact preset. The height of a block is the "
        "square root of the side of its feature map, and its width is the logarithm of the number of channels. Arrows "
        "over the blocks are skip connections; *x 2* over a block means that it has two residual connections. "
        "``minicv summary unet`` prints every layer.", ""]
    for name in models.names():
        cls = models.model_class(name)
        target = known().get(f"{cls.__module__}.{cls.__name__}")
        lines += [*heading(name, "-"), f":py:obj:`{cls.__name__} <{target}>`", ""]
        lines += image(f"network_{name}")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------
# Sphinx
# ---------------------------------------------------------------------------------------------------------
OUT = ROOT / "docs" / "generated"


def write(path: Path, text: str) -> None:
    """Write a page if its text has changed, so that Sphinx reads only changed pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    written.add(path)


written: set[Path] = set()


def up_to_date(picture: Path) -> bool:
    """Return whether a picture is newer than all the code that it may depend on."""
    return picture.exists() and picture.with_suffix(".txt").exists() and picture.stat().st_mtime > max(
        Path(m.__file__).stat().st_mtime for m in (*modules(), ideas))


def pictures() -> dict[str, Callable[[], tuple[Any, str]]]:
    """Map the file name of each picture (network, operation, idea) to a function returning (figure, alt text)."""
    wanted: dict[str, Callable] = {f"network_{name}": partial(draw_network, name) for name in models.names()}
    wanted |= {name: partial(draw_idea, draw) for name, draw in ideas.PICTURES.items()}
    for case in ops.cases():  # the first case of each operation
        wanted.setdefault(f"operation_{case.name}", partial(draw_operation, case))
    kernel = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    matrix = ops.conv_matrix(kernel, (4, 4)).toarray()
    return wanted | {
        "operation_conv_matrix": lambda: draw_arrays("conv_matrix, 3x3 on a 4x4 image", {
            "weight": kernel, "matrix": matrix}),
        "operation_bilinear_kernel": lambda: draw_arrays("bilinear_kernel, factor 2", {
            "kernel": ops.bilinear_kernel(2)}),
        "operation_bilinear_weight": lambda: draw_arrays("bilinear_weight, 2 channels, factor 2", {
            f"weight [{o}, {i}]": ops.bilinear_weight(2, 2)[o, i] for o in range(2) for i in range(2)})}


def draw_pictures() -> None:
    """Draw the pictures that are older than the code, and write the alt text of each into a text file beside it."""
    plt = import_pyplot()
    plt.switch_backend("agg")
    folder = OUT / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "minicv"}):
        for name, draw in pictures().items():
            picture = folder / f"{name}.svg"
            if not up_to_date(picture):
                figure, words = draw()
                figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})
                picture.with_suffix(".txt").write_text(words, encoding="utf-8")
                plt.close(figure)


def draw_network(name: str) -> tuple[Any, str]:
    """Draw a network in the compact preset; return the figure and its alt text."""
    model = models.build(name)
    several = blocks(model, model.INPUT["compact"])
    size = " x ".join(map(str, model.INPUT["compact"]))
    return draw_architecture(several, f"{type(model).__name__}, compact, {size}"), f"{name}: {describe(several)}"


def draw_idea(draw: Callable[[], Any]) -> tuple[Any, str]:
    """Draw an idea; its docstring is the alt text, and the page that shows it has its own."""
    return draw(), (draw.__doc__ or "").strip()


def image(name: str, indent: str = "") -> list[str]:
    """Return the directive that shows a picture, or nothing if it was not drawn."""
    words = OUT / "pictures" / f"{name}.txt"
    if not words.exists():
        return []
    alt = words.read_text(encoding="utf-8")
    return [f"{indent}.. image:: /generated/pictures/{name}.svg", f"{indent}   :alt: {alt}", ""]


def generate(app: Any) -> None:
    """Write all pages in docs/generated, and remove pages of earlier builds that no longer exist."""
    written.clear()
    draw_pictures()
    for module in modules():
        write(OUT / "api" / f"{module.__name__}.rst", module_page(module))
    lessons = [(path, name) for path, name in papers.files() if name.startswith("lessons/")]
    for path, name in lessons + [(Path(m.__file__), file_of(m)) for m in modules()]:
        write(OUT / "source" / f"{name}.rst", source_page(path, name))
    write(OUT / "papers.rst", papers_page())
    write(OUT / "claims.rst", claims_page())
    write(OUT / "models.rst", models_page())
    for old in set(OUT.rglob("*.rst")) - written:
        old.unlink()


def link_names(app: Any, document: str, source: list[str]) -> None:
    """Turn names in backticks in Markdown pages, `minicv.ops.conv2d`, into links to their API pages."""
    if str(app.env.doc2path(document)).endswith(".md"):
        source[0] = re.sub(r"(?<!`)`(minicv\.[\w.]+)`(?!`)",
                           lambda m: f"{{py:obj}}`{m[1]} <{known()[m[1]]}>`" if m[1] in known() else m[0], source[0])


def source_role(name, rawtext, text, lineno, inliner, options=None, content=None):
    """Implement :src:`text <minicv/ops/conv.py#L-12>`, a link to a line of a source page."""
    from docutils import nodes
    words, target = re.fullmatch(r"(.*) <(.*)>", text, re.DOTALL).groups()
    file, _, anchor = target.partition("#")
    here = inliner.document.settings.env.docname
    up = "../" * here.count("/")
    return [nodes.reference(rawtext, words, refuri=f"{up}generated/source/{file}.html#{anchor}", internal=True)], []


def visit_math(self: Any, node: Any) -> None:
    """Write a formula as MathML, which needs no script and no network."""
    from docutils import nodes
    self.body.append(latex2mathml.tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: Any) -> None:
    from docutils import nodes
    self.body.append(f'<div class="math">{latex2mathml.tex2mathml(node.astext(), as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    app.add_role("src", source_role)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", generate, priority=900)  # after the lessons have run
    app.connect("source-read", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
