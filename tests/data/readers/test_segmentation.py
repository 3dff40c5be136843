import numpy as np
import pytest

from minicv.data import IGNORE, DataError, write_png
from minicv.data.readers.segmentation import ImageAndLabel, SegmentationReader, read_entries, read_names, translate


class Two(SegmentationReader):
    """ROOT/NAME.png and ROOT/NAME-label.png, which hold 0, 7 (class 1) and 9 (void)."""

    class_names = "ground", "thing"
    colors = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)

    @classmethod
    def find_pairs(cls, root, split):
        return [ImageAndLabel(name, root / f"{name}.png", root / f"{name}-label.png") for name in ("a", "b")]

    @classmethod
    def read_label(cls, path, page=None):
        return translate(path, {0: 0, 7: 1, 9: IGNORE})


@pytest.fixture
def root(tmp_path):
    for value, name in enumerate("ab"):
        write_png(tmp_path / f"{name}.png", np.full((3, 2, 4), value, np.uint8))
        write_png(tmp_path / f"{name}-label.png", np.array([[0, 0, 7, 7], [9, 0, 7, 0]], np.uint8))
    return tmp_path


@pytest.mark.parametrize("keep", [False, True])
def test_samples(root, keep):
    two = Two(root, keep=keep)
    assert len(two) == 2 and two.num_classes == 2 and two.ignore_index == IGNORE == 255
    for sample in (two[1], two[-1], two[1]):
        assert sample.name == "b" and sample.instances is None and sample.weight is None
        assert sample.image.dtype == np.float32 and sample.label.dtype == np.int64
        np.testing.assert_array_equal(sample.image, np.full((3, 2, 4), np.float32(1 / 255)))
        np.testing.assert_array_equal(sample.label, [[0, 0, 1, 1], [255, 0, 1, 0]])
        sample.image[:] = sample.label[:] = 0  # a sample may be written to, and the next one is none the worse
    assert [sample.name for sample in two] == ["a", "b"]


def test_keep_reads_once(root):
    kept, read_again = Two(root, keep=True), Two(root)
    assert kept[0].image.max() == read_again[0].image.max() == 0
    write_png(root / "a.png", np.full((3, 2, 4), 255, np.uint8))
    assert kept[0].image.max() == 0 and read_again[0].image.max() == 1


def test_a_missing_file_shows_at_once(root):
    (root / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: no such file$"):
        Two(root)
    (root / "a-label.png").unlink()
    with pytest.raises(DataError, match=r"a-label\.png: no such file; 1 more are missing"):
        Two(root)


def test_bad_files_are_named(root):
    two = Two(root)
    write_png(root / "a-label.png", np.zeros((2, 5), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: size \(2, 4\) .*a-label\.png, \(2, 5\)"):
        two[0]
    write_png(root / "a-label.png", np.array([[0, 8, 3, 300], [0, 0, 7, 9]], np.uint16))
    with pytest.raises(DataError, match=r"a-label\.png: holds the unknown labels \[3, 8, 300\]; known: 0, 7, 9$"):
        two[0]
    data = (root / "b.png").read_bytes()
    (root / "b.png").write_bytes(data[:len(data) // 2])
    with pytest.raises(DataError, match=r"b\.png: not a readable image"):
        two[1]


def test_ranges_of_numbers_are_told_in_short(root):
    with pytest.raises(DataError, match="known: 0-2, 5, 255$"):
        translate(root / "a-label.png", {5: 1, 0: 0, 1: 0, 2: 0, 255: IGNORE})


def test_lists(tmp_path):
    path = tmp_path / "list.txt"
    with pytest.raises(DataError, match=r"list\.txt: cannot be read \(No such file"):
        read_entries(path)
    path.write_text("\n  \n")
    with pytest.raises(DataError, match=r"list\.txt: lists no images"):
        read_entries(path)
    path.write_text(" a b \n\nc\n")
    assert read_entries(path) == ["a b", "c"]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text("狗\r\nb\r\n", encoding=encoding)
        assert read_entries(path) == ["狗", "b"]
    path.write_text("狗\n", encoding="gbk")
    with pytest.raises(DataError, match=r"list\.txt: not readable as list .* save it as UTF-8"):
        read_entries(path)
    path.write_text("a\nb\n a\nb\nc\n")
    with pytest.raises(DataError, match=r"list\.txt: lists 'a', 'b' more than once; keep one line for each image"):
        read_entries(path)


def test_lists_of_names(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\nb.PNG\n2007.000032\nc d\n")
    assert read_names(path) == ["a", "b", "2007.000032", "c d"]
    for wrong in ("JPEGImages/a.jpg", "..", "C:\\a", ".png"):
        path.write_text(f"b\n{wrong}\n")
        with pytest.raises(DataError, match=r"list\.txt: expected one image name per line, without folders"):
            read_names(path)
    path.write_text("a.jpg\na\n")
    with pytest.raises(DataError, match="lists 'a' more than once"):
        read_names(path)


def test_a_name_that_differs_in_case_is_named(root):
    (root / "b.png").rename(root / "B.PNG")
    with pytest.raises(DataError, match=r"b\.png: no such file, but B\.PNG exists; rename one of them$"):
        Two(root)
