"""Draw the graph of calls behind a tensor."""
from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

from ..autograd import Tensor
from ..autograd.graph import calls
from .pyplot import import_pyplot

MAX_CALLS = 400  # a longer row is wider than an image file can be


def draw_graph(tensor: Tensor, names: dict[str, Tensor] | None = None, ax: Any = None) -> Any:
    """Draw the graph behind a tensor with matplotlib, computation from left to right, and return the axes.

    Square boxes are calls, with the shape of their result; round boxes are leaves (a leaf that needs no gradient is not
    in the graph). The arrow of the first argument arrives highest. ``names`` labels leaves and results, as in
    ``{"w": w, "loss": loss}``. Raises ``RuntimeError`` after ``backward``, which frees the graph, and ``ValueError``
    for a graph of more than MAX_CALLS calls.
    """
    count = len(calls(tensor))
    if count > MAX_CALLS:
        raise ValueError(f"draw_graph: the graph has {count:,} calls, and a drawing has room for {MAX_CALLS}; draw "
                         "a smaller network, or a result nearer to its leaves")
    plt = import_pyplot()
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path
    place, arrows = arrange(tensor)
    labels, text = {t.node or t: name for name, t in (names or {}).items()}, {}
    for box in (b for b in place if not isinstance(b, tuple)):
        lines = [labels.get(box, "leaf")] if isinstance(box, Tensor) else [box.name(), labels.get(box, "")]
        text[box] = "\n".join(line for line in [*lines, str(box.shape)] if line not in ("", "()"))
    width = 0.3 + 0.08 * max(len(line) for t in text.values() for line in t.split("\n"))  # of a box, in inches
    height = 0.2 + 0.15 * max(t.count("\n") + 1 for t in text.values())
    at = {item: (column * (width + 0.45), y * (height + 0.25)) for item, (column, y) in place.items()}
    left, low = min(x for x, _ in at.values()) - 0.55 * width, min(y for _, y in at.values()) - 0.6 * height
    right, high = max(x for x, _ in at.values()) + 0.55 * width, max(y for _, y in at.values()) + 0.6 * height
    if ax is None:
        ax = plt.figure(figsize=(right - left, high - low)).add_axes((0, 0, 1, 1))
    ax.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    ax.set_axis_off()
    area = ax.get_window_extent()
    scale = min(area.width / (right - left), area.height / (high - low)) / ax.figure.dpi  # 1 in a figure of its own
    for box, label in text.items():
        (x, y), leaf = at[box], isinstance(box, Tensor)
        ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, ec="0.4", fc="#ffe8c2" if leaf else
                                    "#d6e6f5", boxstyle="round,pad=0,rounding_size=0.2" if leaf else "square,pad=0"))
        ax.text(x, y, label, ha="center", va="center", fontsize=9 * scale, linespacing=1.1)
    for path, port in arrows:
        points = []
        for a, b in pairwise(path):  # from the right side of a to the left side of b, leaving and arriving level
            (x0, y0), (x1, y1) = at[a], at[b]
            x0, x1, y1 = x0 + width / 2, x1 - width / 2, y1 + port * height * (b is path[-1])
            points += [(x0, y0), ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)]
        codes = [Path.MOVETO, *([Path.CURVE4] * 3 + [Path.LINETO]) * (len(path) - 1)][:-1]
        ax.add_patch(FancyArrowPatch(path=Path(points, codes), arrowstyle="-|>", mutation_scale=9 * scale, color="0.4",
                                     shrinkA=0, shrinkB=0))
    return ax


def arrange(tensor: Tensor) -> tuple[dict[Any, tuple[int, float]], list[tuple[list, float]]]:
    """The layout of ``draw_graph``: item -> (column, height), and for each arrow its path and the port where it ends.

    An item is a call, a leaf, or (source, column), the space that an arrow needs to pass a column. A port is a height
    on the box, -0.5 to 0.5. Every item stands as far right as its users allow, at the mean height of its neighbors, but
    at least one row from the next item: a small version of Sugiyama, Tagawa and Toda (1981).
    """
    column, edges, arrows, joined = {tensor.node or tensor: 0}, [], [], defaultdict(list)
    for node in reversed(calls(tensor)):  # by now all that use its result have a column
        if node.edges is None:
            raise RuntimeError(f"draw_graph: backward has taken the graph through {node.name()} apart; draw it "
                               "before")
        sources = [e for e in node.edges if e is not None]
        for i, source in enumerate(sources):
            column[source] = min(column.get(source, 0), column[node] - 1)
            edges.append((source, node, 0.3 - 0.6 * (i + 0.5) / len(sources)))
    for source, node, port in edges:
        path = [source, *((source, c) for c in range(column[source] + 1, column[node])), node]
        column |= {room: room[1] for room in path[1:-1]}
        arrows.append((path, port))
        for a, b in pairwise(path):
            joined[a].append((b, port * (b is node)))
            joined[b].append((a, -port * (b is node)))
    y, first = dict.fromkeys(column, 0.0), min(column.values())
    inside = defaultdict(list)
    for item, c in column.items():
        inside[c].append(item)
    for c in [*range(-1, first, -1), *range(first, 1)] * 60 if edges else ():
        wish = {k: sum(y[other] + up for other, up in joined[k]) / len(joined[k]) for k in inside[c]}
        order = sorted(wish, key=lambda k: -wish[k])
        for i, k in enumerate(order):
            y[k] = min(wish[k], y[order[i - 1]] - 1) if i else wish[k]
        shift = sum(wish[k] - y[k] for k in wish) / len(wish)
        y |= {k: y[k] + shift for k in wish}
    return {k: (column[k], round(2 * y[k]) / 2) for k in column}, arrows  # half rows: fewer bends
