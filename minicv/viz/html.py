"""Pages of HTML that are one file: the style, tables and pictures are inside."""
from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2em auto; max-width: 76em;
       padding: 0 1.5em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
p { max-width: 60em; } .small { color: #555; font-size: 0.9em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.8em 0; }
th, td { padding: 0.15em 0.7em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
td.text, th.text { text-align: left; white-space: normal; }
tr.total td { border-top: 1px solid #999; font-weight: 600; }
table.matrix td { text-align: center; min-width: 2.4em; padding: 0.15em 0.3em; border: 1px solid #fff; }
table.matrix th.turned { vertical-align: bottom; text-align: left; padding: 0.3em; height: 1em; font-weight: 400; }
table.matrix th.turned span { writing-mode: vertical-rl; transform: rotate(180deg); }
table.matrix th { font-weight: 400; border: 0; }
figure { margin: 1.2em 0; overflow-wrap: anywhere; } figure img, img { max-width: 100%; height: auto; }
figcaption { margin-bottom: 0.4em; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(26em, 1fr)); gap: 0.5em 1.5em; }
.mark { display: inline-block; padding: 0 0.35em; border-radius: 0.2em; margin-right: 0.25em; }
"""


def escape(text: object) -> str:
    """Return a text with the characters that are special in HTML as entities."""
    return html.escape(str(text).encode("utf-8", "replace").decode())


def page(title: str, parts: Sequence[str]) -> str:
    """Return a page with a heading and parts of HTML."""
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
            f'<meta name="viewport" content="width=device-width">\n<style>{STYLE}</style>\n</head>\n<body>\n'
            f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], total: Sequence[Any] | None = None,
          text: Sequence[int] = ()) -> str:
    """Return a table. Floats get three decimals, NaN a dash. total: a last row. text: columns of running text."""
    lines = ["<tr>" + "".join(_cell("th", name, i in text) for i, name in enumerate(head)) + "</tr>"]
    lines += ["<tr>" + "".join(_cell("td", value, i in text) for i, value in enumerate(row)) + "</tr>" for row in rows]
    if total is not None:
        lines.append('<tr class="total">' + "".join(_cell("td", value, False) for value in total) + "</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _cell(tag: str, value: Any, text: bool) -> str:
    shown = value if isinstance(value, str) else number(value)
    return f"<{tag}{' class=text' if text else ''}>{escape(shown)}</{tag}>"


def number(value: Any) -> str:
    """Return a number as text: integers with commas, floats with three decimals, NaN as a dash.

    >>> number(1234), number(0.5), number(float("nan"))
    ('1,234', '0.500', '–')
    """
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return "–" if np.isnan(value) else f"{value:.3f}"


def matrix(counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], last: str = "") -> str:
    """Return a confusion matrix whose cells are shaded by their share of the row, in percent.

    counts: (R, C). last: the head of one more column, with the total of each row.
    """
    turned = "".join(f'<th class="turned"><span>{escape(name)}</span></th>' for name in columns)
    lines = [f"<tr><th></th>{turned}<th>{escape(last)}</th></tr>"]
    for name, row in zip(rows, counts, strict=True):
        cells = [f"<th>{escape(name)}</th>"]
        for column, count in zip(columns, row.tolist(), strict=True):
            share = count / max(row.sum(), 1)
            shade = f"background: rgb(0 90 178 / {share:.2f}); color: {'#fff' if share > 0.55 else '#222'}"
            shown = "" if not count else f"{100 * share:.0f}" if share > 0.005 else "&lt;1"
            cells.append(f'<td style="{shade}" title="{escape(name)} as {escape(column)}: {count:,}">{shown}</td>')
        lines.append("<tr>" + "".join(cells) + f"<td>{row.sum():,}</td></tr>")
    return '<div class="wide"><table class="matrix">\n' + "\n".join(lines) + "\n</table></div>"


def picture(rgb: np.ndarray, alt: str) -> str:
    """Return an image, uint8 (H, W, 3), as JPEG inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, format="JPEG", quality=88, subsampling=0)
    return _image("jpeg", buffer, alt)


def chart(figure: Any, alt: str) -> str:
    """Return a matplotlib figure as PNG inside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _image("png", buffer, alt)


def _image(kind: str, buffer: io.BytesIO, alt: str) -> str:
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/{kind};base64,{content}" alt="{escape(alt)}">'
