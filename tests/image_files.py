"""Write PNG and TIFF files byte by byte, in the kinds that Pillow does not write, and take image files apart.

For ``tests/fuzz_images.py``: a file from here holds what its arguments say, whatever a library makes of them.
"""
from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)  # y, x, steps


# ---------------------------------------------------------------------------------------------------------
# PNG
# ---------------------------------------------------------------------------------------------------------
def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values: np.ndarray, bits: int = 8, *, palette: Sequence[Sequence[int]] | None = None, interlaced: bool = False,
        before: Sequence[bytes] = (), parts: int = 1) -> bytes:
    """values: (H, W) gray or palette numbers, or (H, W, 2 to 4) with the channels of LA, RGB, RGBA. before: chunks that
    come before the pixels. parts: IDAT chunks."""
    H, W, channels = (*values.shape, 1)[:3]
    color_type = 3 if palette is not None else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    passes = [values[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [values]
    rows = b"".join(filtered(part.reshape(part.shape[0], -1), bits, channels) for part in passes if part.size)
    packed = zlib.compress(rows)
    cuts = np.linspace(0, len(packed), parts + 1).astype(int)
    head = [chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, bits, color_type, 0, 0, interlaced))]
    plte = [] if palette is None else [chunk(b"PLTE", bytes(v for color in palette for v in color))]
    return b"".join([SIGNATURE, *head, *plte, *before, *(chunk(b"IDAT", packed[a:b]) for a, b in
                                                        zip(cuts[:-1], cuts[1:], strict=True)), chunk(b"IEND")])


def filtered(rows: np.ndarray, bits: int, channels: int) -> bytes:
    """Rows of numbers with each of PNG's five filters in turn."""
    step, out, above = max(1, bits * channels // 8), [], None
    for k, row in enumerate(rows):
        raw = np.frombuffer(pack(row, bits), np.uint8).astype(int)
        above = np.zeros_like(raw) if above is None else above
        left, corner = (np.concatenate([np.zeros(step, int), r])[:len(r)] for r in (raw, above))
        guess = left + above - corner
        distances = np.abs([guess - left, guess - above, guess - corner])
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        out.append(bytes([k % 5]) + (raw - [0 * raw, left, above, (left + above) // 2, paeth][k % 5]).astype(np.uint8)
                   .tobytes())
        above = raw
    return b"".join(out)


def pack(row: np.ndarray, bits: int, order: str = ">") -> bytes:
    """Numbers of some bits each, the first in the highest bits of a byte."""
    if bits >= 8 and bits != 12:
        return row.astype(f"{order}{row.dtype.kind if row.dtype.kind in 'if' else 'u'}{bits // 8}").tobytes()
    text = "".join(f"{int(v):0{bits}b}" for v in row)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


# ---------------------------------------------------------------------------------------------------------
# TIFF
# ---------------------------------------------------------------------------------------------------------
class Tag(NamedTuple):
    number: int
    type: int  # 3: 16 bits, 4: 32 bits
    values: list[int]


def tiff_tags(values: np.ndarray, bits: int, *, order: str = "<", photo: int = 1, planar: int = 1,
              sample_format: int = 1, compressed: bool = False, tile: int = 0, rows: int = 0,
              extra: Sequence[int] = (), more: Sequence[Tag] = ()) -> tuple[list[Tag], list[bytes]]:
    """The tags of a TIFF, and its strips (of ``rows`` rows) or square tiles (of side ``tile``)."""
    H, W, channels = (*values.shape, 1)[:3]
    planes = [values] if planar == 1 else [values[..., c] for c in range(channels)]
    if tile:
        blocks = [np.pad(plane[y:y + tile, x:x + tile], [(0, max(0, y + tile - H)), (0, max(0, x + tile - W))]
                         + [(0, 0)] * (plane.ndim - 2))
                  for plane in planes for y in range(0, H, tile) for x in range(0, W, tile)]
    else:
        rows = rows or H
        blocks = [plane[y:y + rows] for plane in planes for y in range(0, H, rows)]
    data = [b"".join(pack(row.ravel(), bits, order) for row in block) for block in blocks]
    data = [zlib.compress(d) if compressed else d for d in data]
    counts, zeros = [len(d) for d in data], [0] * len(data)
    tags = [Tag(256, 3, [W]), Tag(257, 3, [H]), Tag(258, 3, [bits] * channels), Tag(259, 3, [8 if compressed else 1]),
            Tag(262, 3, [photo]), Tag(277, 3, [channels]), Tag(284, 3, [planar]),
            Tag(339, 3, [sample_format] * channels)]
    tags += [Tag(322, 3, [tile]), Tag(323, 3, [tile]), Tag(324, 4, zeros), Tag(325, 4, counts)] if tile else [
        Tag(273, 4, zeros), Tag(278, 3, [rows]), Tag(279, 4, counts)]
    tags += [Tag(338, 3, list(extra))] * bool(extra) + list(more)
    return sorted(tags), data


def number_of(value: int, kind: int, order: str) -> bytes:
    """A tag's number in the bytes of its type; of types that do not fit, as many bytes as text has."""
    code, top = {3: ("H", 65535), 4: ("I", 2 ** 32 - 1)}.get(kind, ("B", 255))
    return struct.pack(order + code, value & top)


def tiff(tags: list[Tag], blocks: list[bytes], order: str = "<", pages: int = 1) -> bytes:
    """The bytes of a TIFF; each page has the same tags and pixels. Tags stand in the order given."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8))
    for page in range(pages):
        directory, size = len(out), 2 + 12 * len(tags) + 4
        after, place, entries = bytearray(), directory + size, b""
        starts = np.cumsum([place, *map(len, blocks)])[:-1].tolist()
        after += b"".join(blocks)
        for number, kind, values in tags:
            values = starts[:len(values)] if number in (273, 324) else values
            content = b"".join(number_of(v, kind, order) for v in values)
            if len(content) > 4:
                offset = len(after) + place
                after += content
                content = struct.pack(order + "I", offset)
            entries += struct.pack(order + "HHI", number, kind, len(values)) + content.ljust(4, b"\0")
        follows = place + len(after) + len(after) % 2 if page + 1 < pages else 0
        out += struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", follows) + after
        out += b"\0" * (len(out) % 2)
    return bytes(out)


# ---------------------------------------------------------------------------------------------------------
# Taking apart, and damage
# ---------------------------------------------------------------------------------------------------------
def png_chunks(content: bytes) -> list[bytes]:
    place, parts = 8, []
    while place < len(content):
        end = place + 12 + int.from_bytes(content[place:place + 4], "big")
        parts.append(content[place:end])
        place = end
    return parts


def jpeg_segments(content: bytes) -> list[bytes]:
    """SOI and EOI by themselves, the entropy-coded data with their SOS."""
    place, parts = 2, [content[:2]]
    while place < len(content) - 2:
        end = place + 2 + int.from_bytes(content[place + 2:place + 4], "big")
        if content[place + 1] == 0xDA:
            while not (content[end] == 0xFF and content[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
        parts.append(content[place:end])
        place = end
    return [*parts, content[place:]]


def rearranged(parts: list) -> Iterator[tuple[str, list]]:
    """Every part removed, repeated, moved to the end, and changed with the next."""
    for k, part in enumerate(parts):
        rest = parts[:k] + parts[k + 1:]
        yield f"part {k} removed", rest
        yield f"part {k} twice", [*parts[:k], part, *parts[k:]]
        yield f"part {k} last", [*rest, part]
        if k:
            yield f"part {k} before part {k - 1}", [*parts[:k - 1], part, parts[k - 1], *parts[k + 1:]]


def damaged_png(content: bytes) -> Iterator[tuple[str, bytes]]:
    parts = png_chunks(content)
    for name, new in rearranged(parts):
        yield name, SIGNATURE + b"".join(new)
    for k, part in enumerate(parts):
        kind, inside = part[4:8], part[8:-4]
        for name, new in (("emptied", chunk(kind)), ("half", chunk(kind, inside[:len(inside) // 2])),
                          ("sum wrong", part[:-1] + bytes([part[-1] ^ 1])), ("unknown", chunk(b"ABCD", inside)),
                          ("too long", struct.pack(">I", len(part) - 11) + part[4:])):
            yield f"part {k} {kind} {name}", SIGNATURE + b"".join([*parts[:k], new, *parts[k + 1:]])


def damaged_jpeg(content: bytes) -> Iterator[tuple[str, bytes]]:
    parts = jpeg_segments(content)
    for name, new in rearranged(parts):
        yield name, b"".join(new)
    for k, part in enumerate(parts[1:-1], start=1):
        length = int.from_bytes(part[2:4], "big")
        for name, new in (("emptied", part[:2] + b"\0\2" + part[2 + length:]),
                          ("length 0", part[:2] + b"\0\0" + part[4:]), ("cut", part[:2 + length // 2]),
                          ("length huge", part[:2] + b"\xff\xff" + part[4:])):
            yield f"part {k} ({part[1]:x}) {name}", b"".join([*parts[:k], new, *parts[k + 1:]])


def damaged_tags(tags: list[Tag]) -> Iterator[tuple[str, list[Tag]]]:
    for name, new in rearranged(tags):
        yield name, new
    for k, tag in enumerate(tags):
        for name, new in (("emptied", tag._replace(values=[])), ("as text", tag._replace(type=2)),
                          ("of unknown type", tag._replace(type=77)), ("zero", tag._replace(values=[0])),
                          ("values twice", tag._replace(values=tag.values * 2)),
                          ("first value only", tag._replace(values=tag.values[:1])),
                          ("huge", tag._replace(type=4, values=[2 ** 32 - 1] * len(tag.values)))):
            yield f"tag {tag.number} {name}", [*tags[:k], new, *tags[k + 1:]]
