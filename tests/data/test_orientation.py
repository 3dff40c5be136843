"""EXIF orientation: images upright where asked, or where that alone fits the label."""
import numpy as np
import pytest
from PIL import Image, ImageOps

from minicv.data import DataError, read_image
from minicv.data.files.images import image_size, read_label, read_stored

ARRAY = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def write(path, orientation, array=ARRAY):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path, suffix, orientation):
    path = write(tmp_path / f"a{suffix}", orientation)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(path, "RGB"), ARRAY.transpose(2, 0, 1) / np.float32(255))
    np.testing.assert_array_equal(read_image(path, "RGB", upright=True), upright / np.float32(255))
    assert image_size(path) == (6, 8) and image_size(path, upright=True) == upright.shape[1:]


def test_upright_by_hand(tmp_path):
    """Tag 6 is a camera turned to the left: what is stored at the left is the top."""
    path = write(tmp_path / "a.png", 6, np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    np.testing.assert_array_equal(read_image(path, upright=True)[0] * 255, [[4, 1], [5, 2], [6, 3]])


def test_a_label_decides(tmp_path):
    path = write(tmp_path / "a.png", 6)
    np.testing.assert_array_equal(read_stored(path, size=(6, 8)), ARRAY.transpose(2, 0, 1))
    np.testing.assert_array_equal(read_stored(path, size=(8, 6)), np.rot90(ARRAY, -1).transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"a\.png: size \(6, 8\) .*, and \(8, 6\) upright \(its EXIF orient"):
        read_stored(path, size=(7, 6))


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_where_both_fit_the_tag_is_named(tmp_path, orientation):
    path = write(tmp_path / "a.png", orientation)
    with pytest.raises(DataError, match=rf"a\.png: its EXIF orientation is {orientation}, and its annotation "
                                        "fits it both"):
        read_stored(path, size=(6, 8))


def test_a_label_has_no_orientation(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: a label must not have an orientation tag, got 3; "
                                        "save it as PNG without the tag"):
        read_label(write(tmp_path / "a.png", 3, ARRAY[..., 0]))
