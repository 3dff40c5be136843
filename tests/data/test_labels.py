"""Label files: numbers and colors are read as they are meant in every mode and depth, or refused by name."""
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from minicv.data import IGNORE, CamVid, DataError, read_image, read_label, write_png
from minicv.data.files.images import read_label_colors, read_mask
from minicv.data.readers.cityscapes import LABELS, Cityscapes
from minicv.data.readers.panoptic import read_segments
from minicv.data.readers.voc_segmentation import palette, read_voc_label

NUMBERS = np.array([[0, 15, 255, 20], [4, 4, 255, 1]], np.uint8)
VOC_RGB = palette()[NUMBERS]
SKY, ROAD, CAR, VOID = (128, 128, 128), (128, 64, 128), (64, 0, 128), (0, 0, 0)
STREET = np.array([[SKY, SKY, VOID], [ROAD, CAR, CAR]], np.uint8)
STREET_CLASSES = [[0, 0, IGNORE], [3, 8, 8]]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_bits(path, values, bits, colors=None):
    """A PNG of 1, 2, 4 or 8 bits, gray or with a palette (n, 3)."""
    strings = ["".join(f"{v:0{bits}b}" for v in row).ljust(-(-len(row) * bits // 8) * 8, "0") for row in values]
    rows = b"".join(b"\0" + int(s, 2).to_bytes(len(s) // 8, "big") for s in strings)
    header = struct.pack(">IIBBBBB", len(values[0]), len(values), bits, 0 if colors is None else 3, 0, 0, 0)
    plte = b"" if colors is None else chunk(b"PLTE", np.asarray(colors, np.uint8).tobytes())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + plte + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))


def with_palette(indices, colors):
    image = Image.fromarray(np.asarray(indices, np.uint8)).convert("P")
    image.putdata(np.asarray(indices).ravel().tolist())
    image.putpalette(np.asarray(colors, np.uint8).ravel().tolist())
    return image


def shuffled(rgb):
    """The same colors as a palette image whose palette is in another order than VOC's or any class's."""
    colors, where = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    order = np.random.default_rng(1).permutation(len(colors))
    return with_palette(np.argsort(order)[where].reshape(rgb.shape[:2]), colors[order])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["gray", "palette"])
def test_every_depth_keeps_its_numbers(tmp_path, bits, kind):
    values = np.arange(18).reshape(2, 9) % min(2 ** bits, 16)
    colors = None if kind == "gray" else [[9 * k % 256, 255 - k, 7] for k in range(2 ** bits)]
    write_bits(tmp_path / "a.png", values.tolist(), bits, colors)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), values)
    image = read_image(tmp_path / "a.png", "RGB")
    expected = (np.repeat(values[None] / (2 ** bits - 1), 3, axis=0) if colors is None
                else np.array(colors)[values].transpose(2, 0, 1) / 255)
    np.testing.assert_allclose(image, expected, atol=1e-6)  # as an image, the largest value is white


@pytest.mark.parametrize("form", ["palette", "palette in another order", "transparent palette", "RGB", "RGBA", "gray",
                                  "gray as RGB", "gray with alpha", "gray palette", "16 bit", "TIFF", "WebP"])
def test_voc(tmp_path, form):
    path, clear = tmp_path / "a.png", np.full(NUMBERS.shape, 255, np.uint8)
    {"palette": lambda: with_palette(NUMBERS, palette()).save(path),
     "palette in another order": lambda: shuffled(VOC_RGB).save(path),
     "transparent palette": lambda: with_palette(NUMBERS, palette()).save(path, transparency=0),
     "RGB": lambda: Image.fromarray(VOC_RGB).save(path),
     "RGBA": lambda: Image.fromarray(np.dstack([VOC_RGB, clear])).save(path),
     "gray": lambda: Image.fromarray(NUMBERS).save(path),
     "gray as RGB": lambda: Image.fromarray(np.dstack([NUMBERS] * 3)).save(path),
     "gray with alpha": lambda: Image.fromarray(np.dstack([NUMBERS, clear])).save(path),
     "gray palette": lambda: with_palette(NUMBERS, [[k] * 3 for k in range(256)]).save(path),
     "16 bit": lambda: Image.fromarray(NUMBERS.astype(np.uint16)).save(path),
     "TIFF": lambda: with_palette(NUMBERS, palette()).save(path, "TIFF", compression="tiff_lzw"),
     "WebP": lambda: Image.fromarray(VOC_RGB).save(path, "WEBP", lossless=True)}[form]()
    np.testing.assert_array_equal(read_voc_label(path), NUMBERS)


@pytest.mark.parametrize(("image", "options", "message"), [
    (with_palette(NUMBERS, [[k, 255 - k, 0] for k in range(256)]), {}, "holds 6 unknown colors"),
    (Image.fromarray(VOC_RGB), {"format": "JPEG"}, r"lossy compression \(JPEG, WebP\) has changed its numbers"),
    (Image.fromarray(VOC_RGB), {"format": "WEBP"}, "lossy compression"),
    (Image.fromarray(VOC_RGB), {"format": "TIFF", "compression": "jpeg"}, "lossy compression"),
    (Image.fromarray(np.dstack([VOC_RGB, NUMBERS])), {}, "some pixels of this label are transparent"),
    (Image.fromarray(np.uint8([[0, 255], [255, 0]])), {}, "holds only 0 and 255, like a mask, but 255 means void here"),
    (Image.fromarray(np.uint8([[0, 255]] * 3)[..., None].repeat(3, 2)), {}, "holds only 0 and 255, like a mask"),
    (Image.fromarray(np.uint16([[0, 65535]])), {}, r"holds the unknown labels \[65535\]"),
    (Image.fromarray(np.uint8([[0, 3]])), {"format": "TIFF", "tiffinfo": {262: 0}}, "a TIFF that stores 0 for white"),
    (Image.fromarray(np.float32([[0, 2.5]])), {"format": "TIFF"}, "but this has fractions"),
    (Image.fromarray(np.int32([[0, -1]])), {"format": "TIFF"}, r"gray values -1\.\.0 do not fit"),
])
def test_voc_refuses(tmp_path, image, options, message):
    image.save(tmp_path / "a.png", **({"format": "PNG"} | options))
    with pytest.raises(DataError, match=rf"a\.png: .*({message})"):
        read_voc_label(tmp_path / "a.png")


@pytest.mark.parametrize("image", [
    Image.fromarray(STREET), Image.fromarray(STREET).convert("RGBA"), Image.fromarray(STREET).quantize(4, dither=0),
    shuffled(STREET), Image.fromarray(np.uint8([[0, 0, 11], [3, 8, 8]])),
    with_palette([[0, 0, 11], [3, 8, 8]], [[k] * 3 for k in range(12)])], ids=lambda image: image.mode)
def test_camvid(tmp_path, image):
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(CamVid.read_label(tmp_path / "a.png"), STREET_CLASSES)


def test_cityscapes(tmp_path):
    """Colors say the class in labelTrainIds; in labelIds they do not, since a pole and a group of poles share one."""
    trains, ids = tmp_path / "x_gtFine_labelTrainIds.png", tmp_path / "x_gtFine_labelIds.png"
    rgb = np.array([[LABELS[name][1] for name in ("road", "car", "pole")] + [(0, 0, 0)]], np.uint8)
    for image in (Image.fromarray(rgb), shuffled(rgb), Image.fromarray(np.uint8([[0, 13, 5, 255]]))):
        image.save(trains)
        np.testing.assert_array_equal(Cityscapes.read_label(trains), [[0, 13, 5, IGNORE]])
    for image, message in ((Image.fromarray(rgb), "has colors"), (shuffled(rgb), "may be in any order")):
        image.save(ids)
        with pytest.raises(DataError, match=rf"labelIds\.png: .*{message}"):
            Cityscapes.read_label(ids)
    with_palette([[7, 26, 17, 0]], [[k] * 3 for k in range(34)]).save(ids)
    np.testing.assert_array_equal(Cityscapes.read_label(ids), [[0, 13, 5, IGNORE]])


def test_panoptic_numbers(tmp_path):
    rgb = np.array([[[1, 2, 3], [255, 0, 0]]], np.uint8)
    for image in (Image.fromarray(rgb), Image.fromarray(rgb).convert("RGBA"), shuffled(rgb)):
        image.save(tmp_path / "a.png")
        assert read_segments(tmp_path / "a.png").tolist() == [[1 + 2 * 256 + 3 * 65536, 255]]
    for gray in (rgb[..., 0], np.uint16([[5]])):
        Image.fromarray(gray).save(tmp_path / "a.png")
        with pytest.raises(DataError, match=r"a\.png: a label whose 8-bit colors name the classes has gray values"):
            read_label_colors(tmp_path / "a.png")


MASK = np.array([[0, 1, 1], [0, 0, 1]], bool)


@pytest.mark.parametrize("form", ["0/1", "0/255", "0/7", "1 bit", "16 bit", "RGB", "red", "RGBA", "alpha", "palette",
                                  "palette, white first", "gray palette", "transparent palette", "TIFF G4", "2 bits"])
def test_masks_of_two_values(tmp_path, form):
    path, values = tmp_path / "a.png", MASK.astype(np.uint8)
    rgb, half = np.dstack([values * 255] * 3), np.uint8([[127]])
    {"0/1": lambda: Image.fromarray(values).save(path), "0/255": lambda: Image.fromarray(values * 255).save(path),
     "0/7": lambda: Image.fromarray(values * 7).save(path), "1 bit": lambda: Image.fromarray(MASK).save(path),
     "16 bit": lambda: Image.fromarray(values * np.uint16(65535)).save(path),
     "RGB": lambda: Image.fromarray(rgb).save(path),
     "red": lambda: Image.fromarray(rgb * np.uint8([1, 0, 0])).save(path),
     "RGBA": lambda: Image.fromarray(rgb).convert("RGBA").save(path),
     "alpha": lambda: Image.fromarray(np.dstack([np.full((2, 3, 3), half), values * 255])).save(path),
     "palette": lambda: with_palette(MASK, [[0, 0, 0], [9, 8, 7]]).save(path),
     "palette, white first": lambda: with_palette(~MASK, [[255] * 3, [0] * 3]).save(path),
     "gray palette": lambda: with_palette(MASK, [[0, 0, 0], [1, 1, 1]]).save(path),
     "transparent palette": lambda: with_palette(MASK, [[9, 9, 9], [9, 9, 9]]).save(path, transparency=0),
     "TIFF G4": lambda: Image.fromarray(MASK).save(path, "TIFF", compression="group4"),
     "2 bits": lambda: write_bits(path, (values * 3).tolist(), 2)}[form]()
    np.testing.assert_array_equal(read_mask(path), MASK)


@pytest.mark.parametrize(("values", "options", "message"), [
    ([[0, 1, 2]], {}, r"a mask must have two values, .* 3 of them, \[0, 1, 2\]\. Save each object"),
    ([[0, 9, 100, 255]], {}, "threshold gray edges at half"),
    ([[1, 2]], {}, r"2 of them, \[1, 2\]"),
    ([[0, 255]], {"format": "JPEG"}, "lossy compression"),
    ([[0, 255]], {"format": "TIFF", "tiffinfo": {262: 0}}, "a TIFF that stores 0 for white"),
])
def test_masks_of_other_values_are_refused(tmp_path, values, options, message):
    Image.fromarray(np.uint8(values)).save(tmp_path / "a.png", **({"format": "PNG"} | options))
    with pytest.raises(DataError, match=rf"a\.png: .*{message}"):
        read_mask(tmp_path / "a.png")


def test_color_and_alpha_that_disagree(tmp_path):
    write_png(tmp_path / "a.png", MASK)
    rgba = np.dstack([MASK * np.uint8(255)] * 3 + [np.uint8([[0, 255, 0], [0, 0, 255]])])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: color and transparency are two different masks"):
        read_mask(tmp_path / "a.png")


def test_a_number_beyond_the_palette(tmp_path):
    write_bits(tmp_path / "a.png", [[0, 1, 3]], 2, [[0, 0, 0], [255, 0, 0]])
    for read in (read_image, read_label, read_mask):
        with pytest.raises(DataError, match=r"a\.png: a pixel has palette number 3, but the palette has 2 colors"):
            read(tmp_path / "a.png")
