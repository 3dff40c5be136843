"""Image files of every kind, whole and damaged by structure, and what each says: for ``tests/fuzz_images.py``."""
from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.image_files import ADAM7, Tag, chunk, damaged_jpeg, damaged_png, damaged_tags, png, tiff, tiff_tags

RNG = np.random.default_rng(0)
H, W = 17, 21
WORD = RNG.integers(0, 65536, (H, W, 4))
BYTE, SMALL = WORD % 256, WORD[..., 0] % 5
Y, X = np.mgrid[:H, :W]
SMOOTH = np.dstack([6 * Y + 5 * X, 200 - 7 * Y + X, 3 * Y + 9 * X, 0 * X + 20])  # survives JPEG
COLORS = RNG.permuted(np.arange(256 * 3).reshape(256, 3) % 256, axis=0)


class File(NamedTuple):
    """What a file says. rgb: (H, W, 3) in [0, 1], right to ``slack``. numbers: (H, W), as a label map. colors:
    (H, W, 3), as a label of colors. None: must be refused; nan: not judged."""

    name: str
    content: bytes
    rgb: np.ndarray | None = None
    numbers: np.ndarray | None = None
    colors: np.ndarray | None = None
    slack: float = 1e-6


def gray(name: str, content: bytes, values: np.ndarray, top: int, label: bool = True) -> File:
    return File(name, content, np.dstack([values / top] * 3), values if label else None)


def color(name: str, content: bytes, values: np.ndarray, top: int = 255, label: bool = True) -> File:
    return File(name, content, values[..., :3] / top, None, values[..., :3] if label and top == 255 else None)


# ---------------------------------------------------------------------------------------------------------
# Whole files
# ---------------------------------------------------------------------------------------------------------
def pillow(image: Image.Image, kind: str, **options) -> bytes | None:
    """The file that Pillow writes; None where it writes none of this mode."""
    file = io.BytesIO()
    try:
        image.save(file, kind, **options)
    except (OSError, ValueError, KeyError, RuntimeError):
        return None
    return file.getvalue()


FORMATS = [("PNG", {}), ("PNG", {"optimize": True}), ("PNG", {"compress_level": 0}), ("BMP", {}), ("GIF", {}),
           ("GIF", {"interlace": 0}), ("WEBP", {"lossless": True, "exact": True}), ("WEBP", {"quality": 100}),
           *(("JPEG", {"quality": 100, "subsampling": 0, **more}) for more in
             ({}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 1})),
           *(("TIFF", {} if c is None else {"compression": c}) for c in
             (None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "group3", "group4", "jpeg", "zstd",
              "lzma", "webp")),
           *(("TIFF", {"compression": c, "tiffinfo": {317: 2}}) for c in ("tiff_lzw", "tiff_adobe_deflate")),
           *((kind, {"icc_profile": b"no profile"}) for kind in ("PNG", "TIFF")),
           ("JPEG", {"quality": 100, "subsampling": 0, "icc_profile": b"no profile"})]


def modes() -> Iterator[tuple[str, Image.Image, File]]:
    """Every mode of Pillow, with what a file of it says."""
    v, s = BYTE.astype(np.uint8), SMOOTH.astype(np.uint8)
    bits = WORD[..., 0] % 2
    yield "1", Image.fromarray(bits.astype(bool)), gray("", b"", bits, 1)
    for name, a in (("L", v), ("smooth L", s)):
        yield name, Image.fromarray(a[..., 0]), gray("", b"", a[..., 0].astype(int), 255)
        yield name.replace("L", "RGB"), Image.fromarray(a[..., :3]), color("", b"", a.astype(int))
    yield "LA", Image.fromarray(v[..., :2]), gray("", b"", BYTE[..., 0], 255, label=False)
    yield "RGBA", Image.fromarray(v), color("", b"", BYTE, label=False)
    yield "opaque RGBA", Image.fromarray(v[..., :3]).convert("RGBA"), color("", b"", BYTE)
    yield "RGBX", Image.frombuffer("RGBX", (W, H), v.tobytes(), "raw", "RGBX", 0, 1), color("", b"", BYTE)
    for name, n in (("P", 256), ("P of 3 colors", 3)):
        image = Image.frombytes("P", (W, H), (BYTE[..., 0] % n).astype(np.uint8).tobytes())
        image.putpalette(COLORS[:n].astype(np.uint8).tobytes())
        shown = COLORS[BYTE[..., 0] % n]
        yield name, image, File("", b"", shown / 255, BYTE[..., 0] % n, shown)
    for name, a in (("CMYK", v), ("smooth CMYK", s)):
        rgb = (255 - a[..., :3].astype(float)) * (255 - a[..., 3:].astype(float)) / 255
        yield name, Image.frombytes("CMYK", (W, H), a.tobytes()), File("", b"", rgb / 255, slack=1.01 / 255)
    y, cb, cr = (s[..., c].astype(float) for c in range(3))
    rgb = np.dstack([y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)])
    yield "YCbCr", Image.frombytes("YCbCr", (W, H), s[..., :3].tobytes()), File(
        "", b"", rgb.clip(0, 255) / 255, slack=1.6 / 255)
    yield "LAB", Image.frombytes("LAB", (W, H), v[..., :3].tobytes()), File("", b"")
    yield "HSV", Image.frombytes("HSV", (W, H), v[..., :3].tobytes()), File("", b"", slack=2)
    yield "I", Image.fromarray(WORD[..., 0].astype(np.int32)), gray("", b"", WORD[..., 0], 65535)
    yield "I beyond 16 bits", Image.fromarray(WORD[..., 0].astype(np.int32) * 3), File("", b"")
    yield "I below 0", Image.fromarray(WORD[..., 0].astype(np.int32) - 40000), File("", b"")
    for name in ("I;16", "I;16B"):
        data = WORD[..., 0].astype("<u2" if name == "I;16" else ">u2").tobytes()
        yield name, Image.frombytes(name, (W, H), data), gray("", b"", WORD[..., 0], 65535)
    f = (WORD[..., 0] / 65535).astype(np.float32)
    yield "F", Image.fromarray(f), File("", b"", f[..., None].repeat(3, 2))


def written_by_pillow() -> Iterator[File]:
    """Every mode in every format that takes it. A conversion by Pillow on writing (to RGB, to 8 bits) is not judged."""
    keeps = {"JPEG": ("L", "RGB", "RGBX", "CMYK", "YCbCr"), "WEBP": ("RGB", "RGBX", "opaque RGBA", "L"),
             "GIF": ("P", "P of 3 colors", "L"), "BMP": ("1", "L", "RGB", "P", "P of 3 colors")}
    for name, image, said in modes():
        for kind, options in FORMATS:
            base = name.removeprefix("smooth ")
            lossy = kind == "JPEG" or options.get("compression") in ("jpeg", "webp") or (
                kind == "WEBP" and not options.get("lossless"))
            if kind in keeps and base not in keeps[kind] or (base == "L" and kind == "GIF" and "smooth" in name):
                continue
            if base in ("I", "I beyond 16 bits", "I below 0") and kind != "TIFF" or (lossy and "smooth" not in name):
                continue
            content = pillow(image, kind, **options)
            if content is None:
                continue
            numbers, colors = said.numbers, said.colors
            if kind == "WEBP":  # has RGB only, which reads as gray numbers where gray
                numbers, colors = said.numbers if base == "L" else None, said.colors if base != "L" else np.nan
            if kind in ("GIF", "BMP") or base == "P of 3 colors" or (kind == "TIFF" and base.startswith("CMYK")):
                numbers, colors = np.nan, np.nan  # a palette is written in Pillow's own order
            if base.startswith("CMYK") or base == "YCbCr":
                numbers, colors = np.nan, np.nan
            if lossy:
                numbers = colors = None
            yield File(f"{kind} {name} {options}", content, said.rgb, numbers, colors,
                       max(said.slack, 12 / 255 if lossy else 0))


def own_pngs() -> Iterator[File]:
    chunks = {"": [], " tRNS": None, " gAMA": [chunk(b"gAMA", (45455).to_bytes(4, "big"))],
              " text": [chunk(b"tEXt", b"a\0b"), chunk(b"pHYs", bytes(9)), chunk(b"tIME", bytes(7))],
              " sRGB": [chunk(b"sRGB", b"\0"), chunk(b"cHRM", bytes(32))]}
    for interlaced in (False, True):
        for parts in (1, 4):
            for what, before in chunks.items():
                name = f"PNG{' interlaced' * interlaced} {parts} IDAT{what}"
                how = {"interlaced": interlaced, "parts": parts}
                for bits in (1, 2, 4, 8, 16):
                    v, top = WORD[..., 0] % 2 ** bits, 2 ** bits - 1
                    trns = [chunk(b"tRNS", b"\0\1")] if before is None else before
                    yield gray(f"{name} gray {bits}", png(v, bits, before=trns, **how), v, top)
                    if bits <= 8:
                        trns = [chunk(b"tRNS", b"\0\x80")] if before is None else before
                        data = png(v, bits, palette=COLORS[:top + 1], before=trns, **how)
                        yield File(f"{name} palette {bits}", data, COLORS[v] / 255, v, COLORS[v])
                for bits in (8, 16):
                    w, top = WORD % 2 ** bits, 2 ** bits - 1
                    trns = [chunk(b"tRNS", bytes(6))] if before is None else before
                    yield color(f"{name} RGB {bits}", png(w[..., :3], bits, before=trns, **how), w, top)
                    if before is not None:
                        yield color(f"{name} RGBA {bits}", png(w, bits, before=before, **how), w, top, label=False)
                        la = png(w[..., :2], bits, before=before, **how)
                        yield gray(f"{name} LA {bits}", la, w[..., 0], top, label=False)
    short = png(WORD[..., 0] % 4, 2, palette=COLORS[:3])
    yield File("PNG palette shorter than its numbers", short)
    yield File("PNG animated", SIGNED_APNG)
    for count in range(len(ADAM7)):  # images smaller than the passes
        size = 1 + count % 3, 1 + count // 2
        v = BYTE[:size[0], :size[1], 0]
        yield gray(f"PNG interlaced {size}", png(v, 8, interlaced=True), v, 255)


def own_tiffs() -> Iterator[File]:
    for order in "<>":
        for layout in ({}, {"rows": 5}, {"tile": 16}, {"compressed": True}, {"compressed": True, "tile": 16},
                       {"compressed": True, "rows": 4}):
            name = f"TIFF {order} {layout}"
            for bits in (1, 2, 4, 8, 12, 16, 32):
                v = WORD[..., 0] % 2 ** min(bits, 16)
                top = 65535 if bits == 32 else 2 ** bits - 1
                yield gray(f"{name} {bits}", tiff(*tiff_tags(v, bits, order=order, **layout), order), v, top)._replace(
                    slack=1e-5)  # 12 bits are kept as 16
                stored = top - v
                inverted = tiff(*tiff_tags(stored, bits, order=order, photo=0, **layout), order)
                yield gray(f"{name} {bits} 0 is white", inverted, v, top, label=bits == 1)
                if bits >= 16:
                    signed = v.astype(f"i{bits // 8}" if bits == 32 else "i2")
                    data = tiff(*tiff_tags(signed, bits, order=order, sample_format=2, **layout), order)
                    yield gray(f"{name} signed {bits}", data, v, 65535) if bits == 32 else File(f"{name} signed", data)
                if bits in (8, 16):
                    for planar in (1, 2):
                        w = WORD[..., :3] % 2 ** bits
                        tags = tiff_tags(w, bits, order=order, photo=2, planar=planar, **layout)
                        yield color(f"{name} RGB {bits} planar {planar}", tiff(*tags, order), w, 2 ** bits - 1)
                    w = WORD % 2 ** bits
                    for kind in (0, 2):
                        tags = tiff_tags(w, bits, order=order, photo=2, extra=[kind], **layout)
                        yield color(f"{name} RGB {bits} extra {kind}", tiff(*tags, order), w, 2 ** bits - 1,
                                    label=kind == 0)
            for bits in (16, 32, 64):
                f = (WORD[..., 0] / 65535).astype(f"f{bits // 8}")
                for odd in (0, np.nan, np.inf):
                    f[0, 0] = odd
                    tags = tiff_tags(f, bits, order=order, sample_format=3, **layout)
                    known = np.isfinite(odd) and bits > 16
                    yield File(f"{name} float {bits} {odd}", tiff(*tags, order),
                               f.astype(np.float32)[..., None].repeat(3, 2) if known else None)
            colormap = Tag(320, 3, (COLORS.T * 257).ravel().tolist())
            p = BYTE[..., 0]
            tags = tiff_tags(p, 8, order=order, photo=3, more=[colormap], **layout)
            yield File(f"{name} palette", tiff(*tags, order), COLORS[p] / 255, p, COLORS[p])
            yield File(f"{name} 3 pages", tiff(*tiff_tags(p, 8, order=order, **layout), order, pages=3))
            tags = tiff_tags(p.astype(np.int8), 8, order=order, sample_format=2, **layout)
            yield File(f"{name} signed 8", tiff(*tags, order))
            for turn in range(2, 9):  # pixels lie as stored; a label must not be turned
                tags = tiff_tags(p, 8, order=order, more=[Tag(274, 3, [turn])], **layout)
                yield gray(f"{name} orientation {turn}", tiff(*tags, order), p, 255, label=False)


def several_images() -> Iterator[File]:
    frames = [Image.fromarray((BYTE[..., :3] * k % 256).astype(np.uint8)) for k in (1, 3, 5)]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        yield File(f"{kind} of three images", pillow(frames[0], kind, save_all=True, append_images=frames[1:]))
    for kind in ("PPM", "TGA", "ICO", "JPEG2000", "PCX", "SGI", "PDF", "AVIF", "DDS", "QOI"):
        content = pillow(frames[0], kind, **({"sizes": [(W, H)]} if kind == "ICO" else {}))
        if content:
            lossless = kind in ("PPM", "TGA", "PCX", "SGI", "QOI")
            rgb = None if kind == "PDF" else BYTE[..., :3] / 255 if lossless else np.full((H, W, 3), np.nan)
            yield File(f"{kind}, which is not read as a label", content, rgb)


SIGNED_APNG = pillow(Image.new("L", (W, H)), "PNG", save_all=True, append_images=[Image.new("L", (W, H), 9)])


# ---------------------------------------------------------------------------------------------------------
# Damaged files
# ---------------------------------------------------------------------------------------------------------
def damaged() -> Iterator[File]:
    """Whatever the damage, the pixels are those of the whole file, or the file is refused."""
    smooth = SMOOTH.astype(np.uint8)
    bases = [file for file in own_pngs() if " 4 IDAT" in file.name and "interlaced" not in file.name]
    for file in bases:
        for name, content in damaged_png(file.content):
            yield file._replace(name=f"{file.name}: {name}", content=content)
    for mode, options in (("L", {}), ("RGB", {}), ("RGB", {"optimize": True}), ("RGB", {"restart_marker_blocks": 1}),
                          ("RGB", {"comment": b"a"}), ("RGB", {"progressive": True})):
        image = Image.fromarray(smooth[..., 0] if mode == "L" else smooth[..., :3])
        whole = pillow(image, "JPEG", quality=100, subsampling=0, **options)
        rgb = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB")) / 255
        for name, content in damaged_jpeg(whole):
            yield File(f"JPEG {mode} {options}: {name}", content, rgb)
    for layout in ({}, {"rows": 5}, {"tile": 16}, {"compressed": True, "rows": 4}, {"planar": 2}):
        for bits, channels in ((1, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)):
            v = WORD[..., :3] % 2 ** bits if channels == 3 else WORD[..., 0] % 2 ** bits
            if channels == 1 and "planar" in layout:
                continue
            tags, blocks = tiff_tags(v, bits, photo=1 + (channels == 3), **layout)
            make = color if channels == 3 else gray
            for name, new in damaged_tags(tags):
                if name == "tag 262 zero":  # a whole TIFF, of a negative
                    continue
                yield make(f"TIFF {layout} {bits} x {channels}: {name}", tiff(new, blocks), v, 2 ** bits - 1)
    for file in [*bases[:6], File("JPEG", whole, rgb), *list(own_tiffs())[:60:7]]:
        for end in np.linspace(0, len(file.content) - 1, 40).astype(int):
            yield file._replace(name=f"{file.name}: cut at {end}", content=file.content[:end])
        yield file._replace(name=f"{file.name}: zeros behind it", content=file.content + bytes(50))
