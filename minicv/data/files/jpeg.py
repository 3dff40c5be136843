"""Check that a JPEG file is whole: decoders continue without a table or scan, to wrong pixels (ITU T.81, annex B)."""
from __future__ import annotations

import re

IN_SCAN = re.compile(rb"\xff[^\x00\xff]")  # a marker; 0xff 0x00 is pixel data
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
DQT, DHT, DRI, SOS, EOI, RST = 0xDB, 0xC4, 0xDD, 0xDA, 0xD9, range(0xD0, 0xD8)


class Tables:
    """The tables read so far.

    An encoder writes a Huffman table once for all scans, or again for each scan that uses it. If one of several is
    missing or misplaced, the decoder uses another scan's table.
    """

    def __init__(self) -> None:
        self.uses: dict[tuple[str, int], int] = {}  # scans that used the table since its definition
        self.renewed: set[tuple[str, int]] = set()

    def define(self, key: tuple[str, int]) -> str:
        if key in self.uses:
            if self.uses[key] != 1:
                return "Huffman tables are missing, or out of order"
            self.renewed.add(key)
        self.uses[key] = 0
        return ""

    def use(self, keys: set[tuple[str, int]]) -> str:
        for key in keys:
            self.uses[key] += 1
            if key in self.renewed and self.uses[key] > 1:
                return "Huffman tables are missing, or out of order"
        return ""


def fault_of_jpeg(content: bytes) -> str:
    """Return what is missing or repeated, "" if nothing. Damage within tables or pixels is not found."""
    try:
        return _fault(content)
    except IndexError:
        return "it ends within a segment"


def _fault(content: bytes) -> str:
    place, tables, progressive, restart = 2, Tables(), False, 0
    components: dict[int, int] = {}  # number -> quantization table
    lowest: dict[tuple[int, int], int] = {}  # (component, coefficient) -> lowest bit read so far
    while True:
        if place >= len(content):
            break  # no end mark; the decoder finds missing pixels
        if content[place] != 0xFF:
            return "something lies between its segments"
        marker = content[place + 1]
        if marker == 0xFF:  # a filling byte
            place += 1
            continue
        if marker == EOI:
            break
        length = content[place + 2] << 8 | content[place + 3]
        body, place = content[place + 4:place + 2 + length], place + 2 + length
        if length < 2 or place > len(content):
            return f"segment {marker:x} has a wrong length"
        if marker in FRAMES:
            if components:
                return "it has two frames"
            progressive = marker == 0xC2
            components = {body[6 + 3 * k]: body[8 + 3 * k] for k in range(body[5])}
            if len(body) != 6 + 3 * body[5] or len(components) != body[5]:
                return "its frame has a wrong length"
            if marker not in (0xC0, 0xC1, 0xC2):
                return f"its coding is not supported ({marker:x})"
        elif marker in (DQT, DHT):
            if fault := _define_tables(body, tables, quantization=marker == DQT):
                return fault
        elif marker == DRI:
            restart = body[0] << 8 | body[1]
        elif marker == SOS:
            fault = _scan(body, components, tables, progressive, lowest)
            if fault:
                return fault
            for marks, found in enumerate(IN_SCAN.finditer(content, place)):
                mark = content[found.start() + 1]
                if mark not in RST:
                    place = found.start()
                    break
                if mark != RST[marks % 8] or not restart:
                    return "its restart marks are out of order"
            else:
                break
    wanted = {(c, k) for c in components for k in (range(64) if progressive else (0,))}
    if any(not tables.uses[key] for key in tables.renewed):
        return "Huffman tables are missing, or out of order"
    if not components or any(lowest.get(key, 1) for key in wanted):
        return "a scan is missing"
    return ""


def _define_tables(body: bytes, tables: Tables, quantization: bool) -> str:
    """Record a segment's quantization or Huffman tables. Return its fault."""
    while body:
        if quantization:
            tables.uses.setdefault(("quantization", body[0] & 15), 0)
            size, what = 65 + 64 * (body[0] >> 4), "quantization"
        elif fault := tables.define(("DC" if body[0] < 16 else "AC", body[0] & 15)):
            return fault
        else:
            size, what = 17 + sum(body[1:17]), "Huffman"
        if len(body) < size:
            return f"a {what} table is cut"
        body = body[size:]
    return ""


def _scan(body: bytes, components: dict[int, int], tables: Tables, progressive: bool, lowest: dict) -> str:
    """Record the coefficients of a scan. Return its fault."""
    count = body[0]
    if len(body) != 4 + 2 * count or not count:
        return "a scan's beginning has a wrong length"
    first, last, high, low = body[-3], body[-2], body[-1] >> 4, body[-1] & 15
    wanted = set()
    for k in range(count):
        component, huffman = body[1 + 2 * k], body[2 + 2 * k]
        if component not in components:
            return "a scan comes before its frame"
        needed = {("quantization", components[component])}
        if not progressive or (first == 0 and high == 0):
            needed.add(("DC", huffman >> 4))
        if not progressive or first:
            needed.add(("AC", huffman & 15))
        if missing := needed - tables.uses.keys():
            return f"it lacks the {sorted(missing)[0][0]} table of a scan"
        wanted |= needed
        for coefficient in range(first, last + 1) if progressive else (0,):
            if lowest.get((component, coefficient)) != (high or None):
                return "a scan is repeated, or out of order"
            lowest[component, coefficient] = low if progressive else 0
    return tables.use(wanted)
