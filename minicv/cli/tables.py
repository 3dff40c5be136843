"""The measures of ``minicv evaluate`` as lines of text."""
from __future__ import annotations

import math
from typing import Any

PRINT = "-"  # the value of --json without a file
PAGE = "index.html"  # of a report


def measure_lines(measures: dict[str, float]) -> list[str]:
    """Return a line for each measure."""
    return [f"{name:<22} " + ("nothing to measure" if math.isnan(value) else f"{value:.6f}")
            for name, value in measures.items()]


def class_table(rows: list[dict[str, Any]], columns: dict[str, str]) -> list[str]:
    """Return the rows of a table of classes as lines of text. columns: key -> head."""
    wide = max(len("class"), *(len(row["class"]) for row in rows))
    lines = [f"{'class':<{wide}}" + "".join(f"  {head:>8}" for head in columns.values())]
    for row in rows:
        cells = [f"{row[key]:,}" if isinstance(row[key], int) else "-" if math.isnan(row[key]) else f"{row[key]:.4f}"
                 for key in columns]
        lines.append(f"{row['class']:<{wide}}" + "".join(f"  {cell:>8}" for cell in cells))
    return lines
