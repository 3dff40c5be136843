import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from minicv.data import DataError, read_image, read_label, write_png
from minicv.data.files.decode import image_endings, page_count
from minicv.data.files.images import read_stored


@pytest.fixture
def noisy_image(tmp_path):
    """A noisy, so incompressible, 64 x 48 gray PNG."""
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)).save(path)
    return path


def test_gray_values(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8)).save(path)
    image = read_image(path)
    assert image.dtype == np.float32 and image.shape == (1, 2, 2)
    np.testing.assert_allclose(image[0], [[0, 0.2], [0.4, 1]], rtol=1e-6)  # 51 / 255 = 0.2
    np.testing.assert_array_equal(read_image(str(path), "RGB"), np.repeat(image, 3, axis=0))


def test_colors_and_their_gray(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)).save(path)
    np.testing.assert_array_equal(read_image(path, "RGB"), [[[1, 0]], [[0, 0]], [[0, 1]]])
    # ITU-R 601: 0.299 * 255 = 76.2 and 0.114 * 255 = 29.07
    np.testing.assert_allclose(read_image(path, "L") * 255, [[[76, 29]]], rtol=1e-6)


def test_transparency_is_dropped(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[[255, 0, 51, 7]]], np.uint8)).save(path)
    np.testing.assert_allclose(read_image(path, "RGB")[:, 0, 0], [1, 0, 0.2], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.array([[0, 13107], [300, 65535]], np.uint16)).save(path)
    image = read_image(path)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0], [[0, 0.2], [300 / 65535, 1]], rtol=1e-6)  # 13107 / 65535 = 0.2
    assert read_image(path, "RGB").shape == (3, 2, 2)
    np.testing.assert_array_equal(read_label(path), [[0, 13107], [300, 65535]])


def test_labels_are_stored_numbers_or_palette_indices(tmp_path):
    values = np.array([[0, 1], [2, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "gray.png")
    palette = Image.fromarray(values).convert("P")
    palette.putdata(values.ravel().tolist())
    palette.putpalette([7, 8, 9] * 256)
    palette.save(tmp_path / "palette.png")
    for name in ("gray.png", "palette.png"):
        label = read_label(tmp_path / name)
        assert label.dtype == np.int64
        np.testing.assert_array_equal(label, values)


def test_a_color_image_is_no_label(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[[0, 0, 0], [1, 0, 0]]], np.uint8)).save(path)
    with pytest.raises(DataError, match=r"a\.png: a label map has one integer per pixel, but this has colors"):
        read_label(path)


@pytest.mark.parametrize("read", [read_image, read_label])
class TestDamage:
    def test_missing(self, tmp_path, read):
        with pytest.raises(DataError, match=r"none\.png: no such file"):
            read(tmp_path / "none.png")

    def test_empty(self, tmp_path, read):
        (tmp_path / "a.png").touch()
        with pytest.raises(DataError, match=r"a\.png: not a readable image \(damaged header"):
            read(tmp_path / "a.png")

    def test_a_folder(self, tmp_path, read):
        with pytest.raises(DataError, match=r"is a folder, not an image file"):
            read(tmp_path)

    def test_text(self, tmp_path, read):
        (tmp_path / "a.png").write_text("<html>404</html>")
        with pytest.raises(DataError, match=r"a\.png: not a readable image"):
            read(tmp_path / "a.png")

    @pytest.mark.parametrize("part", [0.02, 0.3, 0.9, 0.997])
    def test_truncated(self, noisy_image, read, part):
        whole = noisy_image.read_bytes()
        noisy_image.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(DataError, match=r"image\.png: not a readable image"):
            read(noisy_image)

    def test_a_flipped_bit(self, noisy_image, read):
        whole = bytearray(noisy_image.read_bytes())
        whole[len(whole) // 2] ^= 1
        noisy_image.write_bytes(whole)
        with pytest.raises(DataError, match=r"image\.png: not a readable image"):
            read(noisy_image)

    def test_a_broken_stream(self, noisy_image, read):
        whole = bytearray(noisy_image.read_bytes())
        start = whole.index(b"IDAT") + 4
        whole[start : start + 8] = b"\xff" * 8  # no zlib stream starts so
        noisy_image.write_bytes(whole)
        with pytest.raises(DataError, match=r"image\.png: not a readable image"):
            read(noisy_image)

    # Pillow itself warns of such a header; the error that follows is what counts here.
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("side", [10_000, 60_000, 2**31 - 1])
    def test_absurdly_large(self, tmp_path, read, side):
        """A header that claims side x side pixels is refused before anything is decoded."""
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        path = tmp_path / "bomb.png"
        chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", b""), _chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        with pytest.raises(DataError, match=r"bomb\.png: .*more than the 89478485 (pixels )?allowed"):
            read(path)

    def test_several_images_in_one_tiff(self, tmp_path, read):
        pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in range(3)]
        pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
        with pytest.raises(DataError, match=r"stack\.tif: holds 3 images; save each as its own file"):
            read(tmp_path / "stack.tif")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("pages, expected", [
    ([[0, 0.25, 1]], [[0, 0.25, 1]]),  # within 0 and 1: as stored
    ([[-1, 0, 3]], [[0, 0.25, 1]]),  # else the least of the file is 0, the largest 1
    ([[0, 0.5, 1], [1, 2, 4]], [[0, 0.125, 0.25], [0.25, 0.5, 1]]),  # one range for all pages of a stack
    ([[7, 7, 7]], [[0, 0, 0]]),
])
def test_float_images(tmp_path, pages, expected):
    first, *others = (Image.fromarray(np.array([page], np.float32)) for page in pages)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    for page, values in enumerate(expected):
        image = read_image(tmp_path / "a.tif", page=page)
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, [[values]])


def test_floats_that_are_no_numbers(tmp_path):
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: holds floats that are NaN or infinite"):
        read_image(tmp_path / "a.tif")


def test_labels_of_floats_are_whole_numbers(tmp_path):
    Image.fromarray(np.array([[0, 3]], np.float32)).save(tmp_path / "a.tif")
    assert read_label(tmp_path / "a.tif").tolist() == [[0, 3]]
    Image.fromarray(np.array([[0, 2.5]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: a label map has one integer per pixel, but this has fractions"):
        read_label(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_the_pages_of_a_stack(tmp_path, mode):
    arrays = [np.array([[page, 9]], np.uint8 if mode == "L" else np.uint16) for page in range(3)]
    first, *others = map(Image.fromarray, arrays)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    assert page_count(tmp_path / "a.tif") == 3 and page_count(tmp_path / "none.tif") == 1
    for page, array in enumerate(arrays):
        np.testing.assert_array_equal(read_stored(tmp_path / "a.tif", "L", page=page)[0], array)
    with pytest.raises(DataError, match=r"a\.tif: has no page 3 \(counted from 0\), only 3"):
        read_image(tmp_path / "a.tif", page=3)


@pytest.mark.parametrize("format", ["PPM", "TGA", "JPEG2000", "ICO", "PCX"])
def test_other_formats_are_images_but_no_labels(tmp_path, format):
    array = np.arange(3 * 256, dtype=np.uint8).reshape(16, 16, 3)
    path = tmp_path / f"a.{format}"
    Image.fromarray(array).save(path, format=format, **({"irreversible": False} if format == "JPEG2000" else {}))
    np.testing.assert_array_equal(read_stored(path), array.transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"or its format may; save it as PNG"):
        read_label(path)


def test_drawings_are_not_given_to_other_programs(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.eps")
    with pytest.raises(DataError, match=r"a\.eps: not a readable image"):
        read_image(tmp_path / "a.eps")
    assert ".eps" not in image_endings() and {".jpg", ".jp2", ".tif", ".webp"} <= image_endings()


def test_32_bit_integers_beyond_16_bits(tmp_path):
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: gray values 0\.\.70000 do not fit into 16 bits"):
        read_image(tmp_path / "a.tif")


def test_unknown_mode(noisy_image):
    with pytest.raises(ValueError, match=r'read_image: mode must be "L" or "RGB", got \'HSV\''):
        read_image(noisy_image, "HSV")


@settings(max_examples=30, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_labels_survive_a_round_trip(tmp_path_factory, data, dtype):
    array = data.draw(arrays(dtype, array_shapes(min_dims=2, max_dims=2, max_side=9)))
    path = tmp_path_factory.mktemp("label") / "a.png"
    write_png(path, array)
    np.testing.assert_array_equal(read_label(path), array)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), channels=st.sampled_from([1, 3]))
def test_images_survive_a_round_trip_to_half_a_gray_level(tmp_path_factory, data, channels):
    unit = st.floats(0, 1, width=32)
    array = data.draw(arrays(np.float32, (channels, 5, 4), elements=unit))
    path = tmp_path_factory.mktemp("image") / "a.png"
    write_png(path, array)
    back = read_image(path, "L" if channels == 1 else "RGB")
    assert back.shape == array.shape
    assert np.abs(back - array).max() <= 0.5 / 255 + 1e-6


def test_write_numbers_with_a_palette(tmp_path):
    """The numbers are stored, and a viewer shows their colors."""
    labels, colors = np.array([[0, 2], [1, 2]]), np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    write_png(tmp_path / "a.png", labels, colors)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), labels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", "RGB") * 255, colors[labels].transpose(2, 0, 1))
    for array, few in ((labels, colors[:2]), (np.zeros((3, 2, 2)), colors), (labels, np.zeros((300, 3), np.uint8))):
        with pytest.raises(ValueError, match="write_png: a palette of"):
            write_png(tmp_path / "b.png", array, few)
    assert os.listdir(tmp_path) == ["a.png"]


def test_write_booleans(tmp_path):
    write_png(tmp_path / "a.png", np.array([[True, False]]))
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), [[255, 0]])


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((2, 3, 4)), ValueError, r"must be \(H, W\), .* or \(3, H, W\), got shape \(2, 3, 4\)"),
        (np.zeros((0, 4)), ValueError, r"got shape \(0, 4\)"),
        (np.array([[1.5]]), ValueError, r"float values must lie in \[0, 1\], got 1\.5"),
        (np.array([[np.nan]]), ValueError, r"float values must lie in \[0, 1\], got nan"),
        (np.array([[-1]]), ValueError, r"integers must lie in 0\.\.65535 for this shape, got -1"),
        (np.full((3, 2, 2), 256), ValueError, r"integers must lie in 0\.\.255 for this shape, got 256"),
        (np.array([["a"]]), TypeError, r"write_png: array must be float, integer or bool, got <U1"),
    ],
)
def test_what_cannot_be_written(tmp_path, array, error, message):
    with pytest.raises(error, match=message):
        write_png(tmp_path / "a.png", array)
    assert os.listdir(tmp_path) == []
