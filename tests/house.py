"""Limits of the files, and the direction of imports: ``python -m tests.house`` prints what breaks them."""
from __future__ import annotations

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "minicv"
MOST_LINES, MOST_IN_FUNCTION, MOST_POSITIONAL = 400, 60, 5
ALIKE = {"zip", "min", "max", "reshape", "transpose", "Sequential", "print"}  # variadic: all of one meaning
# A room may import from the rooms named beside it, and from itself. "" is the package: its version, ``use``, ...
FOUNDATIONS = {"errors", "files", "version"}  # modules at the top that every room may import
MAY_IMPORT = {
    "backend": set(),
    "autograd": {"backend"},
    "ops": {"backend", "autograd"},
    "fast": {"backend", "autograd", "ops"},
    "detection": {"backend", "autograd", "ops"},
    "metrics": {"backend", "autograd", "ops", "detection", "data"},
    "data": {"backend", "autograd", "ops", "detection"},
    "nn": {"backend", "autograd", "ops"},
    "optim": {"backend", "autograd", "ops", "nn"},
    "models": {"backend", "autograd", "ops", "nn", "optim", "data", "detection"},
    "training": {"backend", "autograd", "ops", "nn", "optim", "models", "data", "detection", "metrics", "viz"},
    "viz": {"backend", "autograd", "ops", "nn", "models", "data", "detection", "metrics"},
    "course": {"backend", "autograd", "ops", "nn", "optim", "models", "data", "detection", "metrics", "training",
               "viz", ""},
    "cli": {"backend", "autograd", "ops", "nn", "optim", "models", "data", "detection", "metrics", "training", "viz",
            "course", ""},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def import_nodes(node: ast.AST):
    """Every import statement below ``node``, those in functions too; not those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not is_type_checking(child):
            yield from import_nodes(child)


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The package's modules that module ``name`` imports."""
    found = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in import_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
            continue
        base = node.module or ""
        if node.level:
            parents = package.split(".")[:len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            if inner in known:
                found.add(inner)
            elif base in known:
                found.add(base)
    return found - {name}


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import one another in a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(v: str) -> None:
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in sorted(graph[v]):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                groups.append(sorted(stack[at:]))
            del stack[at:]

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return groups


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def size_problems(path: Path) -> list[str]:
    text = path.read_text()
    where = path.relative_to(PACKAGE.parent)
    found = []
    if (lines := len(text.splitlines())) > MOST_LINES:
        found.append(f"{where}: {lines} lines, {MOST_LINES} at most")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > MOST_IN_FUNCTION:
            found.append(f"{where}:{node.lineno}: {node.name} has {length(node)} lines, {MOST_IN_FUNCTION} at most")
        if (isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL
                and ast.unparse(node.func).rpartition(".")[2] not in ALIKE):
            found.append(f"{where}:{node.lineno}: {ast.unparse(node.func)[:40]} is called with {len(node.args)} "
                         f"positional arguments, {MOST_POSITIONAL} at most")
    return found


def import_problems() -> list[str]:
    known = modules()
    graph = {name: imports(name, path, known) for name, path in known.items()}
    found = []
    for name, targets in graph.items():
        here = room(name)
        for target in sorted(targets):
            there = room(target)
            if there in FOUNDATIONS or there == here or name in ("minicv", "minicv.__main__"):
                continue
            if there not in MAY_IMPORT.get(here, set()):
                found.append(f"{name} imports {target}")
    return found + ["in a circle: " + ", ".join(group) for group in circles(graph)]


def problems() -> list[str]:
    return [line for path in modules().values() for line in size_problems(path)] + import_problems()


if __name__ == "__main__":
    found = problems()
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{sum(len(p.read_text().splitlines()) for p in modules().values())} lines in {len(modules())} files")
    sys.exit(bool(found))
