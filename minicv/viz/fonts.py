"""Names in any script on images and figures, in whichever installed fonts have their letters.

matplotlib brings DejaVu Sans, which has Latin, Greek, Cyrillic, Hebrew and Arabic letters; for others, the fonts of the
machine are searched once. If no font has a letter of a name, one warning says what to install, and ``legible`` replaces
the name by "class 3", where empty boxes would be drawn.

Pillow (without libraqm) and older matplotlibs draw letters from left to right in the order of the text, unjoined. So
``visual`` first reorders right-to-left text and replaces Arabic letters by their joined forms. That is enough for
names: numbers and Latin words within them keep their order; Indic scripts are not shaped.
"""
from __future__ import annotations

import functools
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont

from .pyplot import import_matplotlib

PACKAGES = {"HANGUL": "fonts-nanum", "CJK": "fonts-noto-cjk", "HIRAGANA": "fonts-noto-cjk",
            "KATAKANA": "fonts-noto-cjk", "FULLWIDTH": "fonts-noto-cjk", "IDEOGRAPHIC": "fonts-noto-cjk"}
OTHER = {"So": "fonts-symbola", "Sk": "fonts-symbola"}  # by category: emoji, skin tones
UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")  # categories of characters that need no glyph


def needed(text: str) -> set[str]:
    """The characters of a text that need a glyph."""
    return {c for c in text if unicodedata.category(c) not in UNSEEN and not 0xFE00 <= ord(c) <= 0xFE0F}


@functools.cache
def default_font() -> str:
    """The path of DejaVu Sans."""
    matplotlib = import_matplotlib()
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.cache
def installed() -> tuple[str, ...]:
    """The paths of this machine's fonts: regular ones first, then bold, italic and the like."""
    import_matplotlib()
    from matplotlib import font_manager
    special = ("bold", "italic", "oblique", "light", "thin", "black")
    return tuple(sorted(set(font_manager.findSystemFonts()),
                        key=lambda path: (any(word in Path(path).stem.lower() for word in special), path)))


@functools.cache
def characters(path: str) -> frozenset[str]:
    """The characters that a font has glyphs for; none if it cannot be read or does not scale (color emoji)."""
    import_matplotlib()
    from matplotlib.ft2font import FT2Font
    try:
        font = FT2Font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError, TypeError):
        return frozenset()


@functools.cache
def fonts_for(text: str) -> tuple[str, ...]:
    """Paths of fonts that together have all characters of a text, DejaVu Sans first; () if some have no font."""
    missing, paths = needed(text) - characters(default_font()), [default_font()]
    while missing:
        best = max(installed(), key=lambda path: len(missing & characters(path)), default=None)
        if best is None or not missing & characters(best):
            return ()
        missing, paths = missing - characters(best), [*paths, best]
    return tuple(paths)


@functools.cache
def warn(missing: frozenset[str]) -> None:
    """Warn that letters cannot be drawn, and name the packages that have them; once for each set of letters."""
    packages = sorted({next((package for script, package in PACKAGES.items() if script in unicodedata.name(c, "")),
                            OTHER.get(unicodedata.category(c), "fonts-noto-core")) for c in missing})
    some = " ".join(sorted(missing)[:10])
    warnings.warn(f"no installed font has the letters {some}: class numbers are drawn in place of such names; install "
                  f"one that has them (Debian, Ubuntu: apt-get install {' '.join(packages)})", stacklevel=3)


def legible(names: Sequence[str]) -> list[str]:
    """The names of classes, or "class 3" for one with letters that no font has, with a warning."""
    missing = {c for name in names for c in needed(visual(name)) if not fonts_for(c)}
    if missing:
        warn(frozenset(missing))
    return [f"class {k}" if missing & needed(visual(name)) else name for k, name in enumerate(names)]


# ---------------------------------------------------------------------------------------------------------
# matplotlib, Pillow
# ---------------------------------------------------------------------------------------------------------
@functools.cache
def shapes_text() -> bool:
    """Whether matplotlib itself orders right-to-left text and joins Arabic letters, as it does from 3.11 on."""
    import_matplotlib()
    from matplotlib import ft2font
    return hasattr(ft2font, "__libraqm_version__")


def set_fonts(artist: Any) -> None:
    """Give the texts of a figure, or of axes, fonts that have their letters; a letter that no font has becomes "?"."""
    from matplotlib import font_manager
    from matplotlib.text import Text
    artist = getattr(artist, "figure", None) or artist
    for text in artist.findobj(Text):
        written = text.get_text() if shapes_text() else visual(text.get_text())
        if written.isascii():
            continue
        missing = {c for c in needed(written) if not fonts_for(c)}
        if missing:
            warn(frozenset(missing))
            written = "".join("?" if c in missing else c for c in written)
        text.set_text(written)
        families = []
        for path in fonts_for(written):
            font_manager.fontManager.addfont(path)
            families.append(font_manager.FontProperties(fname=path).get_name())
        text.set_fontfamily(families)


@functools.cache
def _face(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _runs(text: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The text in parts, each with the font that has its letters."""
    runs: list[tuple[str, ImageFont.FreeTypeFont]] = []
    text = visual(text)
    fonts = fonts_for(text) or (default_font(),)
    for c in text:
        face = _face(next((path for path in fonts if c in characters(path)), fonts[0]), size)
        if not needed(c) and ord(c) >= 0x300:
            continue  # a joiner or a variation selector, which fonts draw as a box
        if runs and runs[-1][1] is face:
            runs[-1] = runs[-1][0] + c, face
        else:
            runs.append((c, face))
    return runs


def text_size(text: str, size: int) -> tuple[int, int]:
    """Width and height in pixels of a text drawn by ``draw_text``."""
    ascent, descent = _face(default_font(), size).getmetrics()
    return round(sum(face.getlength(part) for part, face in _runs(text, size))), ascent + descent


def draw_text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, fill: Any) -> None:
    """Write a text, its letters ``size`` pixels high, with its upper left corner ``at`` (x, y)."""
    x, baseline = float(at[0]), at[1] + _face(default_font(), size).getmetrics()[0]
    for part, face in _runs(text, size):
        draw.text((x, baseline), part, fill=fill, font=face, anchor="ls")
        x += face.getlength(part)


# ---------------------------------------------------------------------------------------------------------
# From right to left
# ---------------------------------------------------------------------------------------------------------
@functools.cache
def _forms() -> dict[str, dict[str, str]]:
    """Arabic letter -> {"isolated", "final", "initial" or "medial": its presentation form}."""
    forms: dict[str, dict[str, str]] = {}
    for c in map(chr, [*range(0xFB50, 0xFDFF), *range(0xFE80, 0xFEF5)]):
        form, *letters = unicodedata.decomposition(c).split() or [""]
        if form.startswith("<") and len(letters) == 1:
            forms.setdefault(chr(int(letters[0], 16)), {})[form[1:-1]] = c
    return forms


def visual(text: str) -> str:
    """A text with its letters in the order, from left to right, in which they are seen."""
    right = [unicodedata.bidirectional(c) in ("R", "AL", "NSM") and (i > 0 or unicodedata.bidirectional(c) != "NSM")
             for i, c in enumerate(text)]
    if not any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        return text
    forms, shaped = _forms(), list(text)
    for i, c in enumerate(text):
        before = i > 0 and "initial" in forms.get(text[i - 1], {}) and "final" in forms.get(c, {})
        after = i + 1 < len(text) and "initial" in forms.get(c, {}) and "final" in forms.get(text[i + 1], {})
        form = ("isolated", "initial", "final", "medial")[2 * before + after]
        shaped[i] = forms.get(c, {}).get(form, c)
    runs: list[tuple[bool, list[str]]] = []
    for c, is_right in zip(shaped, right, strict=True):
        if not runs or (runs[-1][0] != is_right and not c.isspace()):
            runs.append((is_right, []))
        runs[-1][1].append(c)
    words = ["".join(reversed(run)) if is_right else "".join(run) for is_right, run in runs]
    return "".join(reversed(words)) if right[0] else "".join(words)
