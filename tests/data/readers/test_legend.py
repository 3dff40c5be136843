"""What the values of masks mean: by legend.txt, classes.txt, or the masks alone."""
import numpy as np
import pytest
from PIL import Image

from minicv.data import IGNORE, DataError, ImageMasks, Instances
from minicv.data.readers.image_masks import without_suffix
from minicv.data.readers.legend import parse_legend

RNG = np.random.default_rng(0)


def make(root, masks, **files):
    """A folder of these masks: arrays, or images as they are; files: texts beside the folders."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    for k in range(10):
        mask = masks[k % len(masks)]
        mask = mask if isinstance(mask, Image.Image) else Image.fromarray(np.asarray(mask))
        mask.save(root / f"masks/{k}.png")
        Image.fromarray(RNG.integers(0, 255, (*mask.size[::-1], 3), np.uint8)).save(root / f"images/{k}.png")
    for name, text in files.items():
        (root / f"{name}.txt").write_text(text, encoding="utf-8")
    return root


def palette(numbers, colors):
    image = Image.fromarray(np.uint8(numbers)).convert("P")
    image.putdata(np.ravel(numbers).tolist())
    image.putpalette(np.ravel(colors).tolist())
    return image


def labels(root, **options):
    dataset = ImageMasks(root, **options)
    return dataset.class_names, sorted({int(v) for sample in dataset for v in np.unique(sample.label)})


BINARY = ("background", "object")


@pytest.mark.parametrize(("masks", "names", "values"), [
    ([np.uint8([[0, 1]])], BINARY, [0, 1]), ([np.uint8([[0, 255]])], BINARY, [0, 1]),
    ([np.uint8([[0, 7]])], BINARY, [0, 1]), ([np.array([[False, True]])], BINARY, [0, 1]),
    ([np.uint16([[0, 65535]])], BINARY, [0, 1]), ([np.uint8([[0, 0]]), np.uint8([[0, 255]])], BINARY, [0, 1]),
    ([np.uint8([[[0] * 3, [255] * 3]])], BINARY, [0, 1]),  # gray stored as RGB
    ([np.uint8([[[0, 0, 0], [200, 30, 0]]])], BINARY, [0, 1]),  # black and a color
    ([palette([[0, 1]], [(255, 255, 255), (0, 0, 0)])], BINARY, [0, 1]),  # number 0 is white: it is the object
    ([palette([[0, 1]], [(0, 0, 0), (9, 200, 9)])], BINARY, [0, 1]),
    ([np.uint8([[0, 1, 2]])], ("background", "class 1", "class 2"), [0, 1, 2]),
    ([np.uint8([[0, 1, 2, 255]])], ("background", "class 1", "class 2"), [0, 1, 2, IGNORE]),
    ([np.uint8([[0, 1]]), np.uint8([[0, 2]])], ("background", "class 1", "class 2"), [0, 1, 2]),
    ([palette([[0, 1, 2]], [(0, 0, 0), (9, 0, 0), (0, 9, 0)])], ("background", "class 1", "class 2"), [0, 1, 2]),
])
def test_masks_without_a_legend(tmp_path, masks, names, values):
    assert labels(make(tmp_path, masks)) == (names, values)


def test_white_is_the_object_whatever_its_palette_number(tmp_path):
    root = make(tmp_path, [palette([[0, 1, 1]], [(255, 255, 255), (0, 0, 0)])])
    assert ImageMasks(root)[0].label.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(("masks", "message"), [
    ([np.uint8([[0, 64, 128]])], "the masks hold the numbers 0, 64, 128, with gaps: write a line for each class"),
    ([np.uint8([[0, 1, 3]])], "the masks hold the numbers 0, 1, 3, with gaps"),
    ([np.uint8([[[0, 0, 0], [9, 0, 0], [0, 9, 0]]])], r"the masks hold 3 colors, such as \(0, 0, 0\), \(0, 9, 0\)"),
    ([np.uint8([[[5, 0, 0], [9, 0, 0]]])], "the masks hold 2 colors"),
    ([palette([[0, 1, 2]], [(0, 0, 0), (9, 0, 0), (0, 9, 0)]), palette([[0, 1, 2]], [(0, 0, 0), (0, 9, 0), (9, 0, 0)])],
     "the masks hold 3 colors"),
])
def test_masks_that_need_a_legend(tmp_path, masks, message):
    with pytest.raises(DataError, match=message):
        ImageMasks(make(tmp_path, masks))


@pytest.mark.parametrize(("masks", "files", "names", "values"), [
    ([np.uint8([[0, 1, 255]])], {"classes": "sky\nroad\n"}, ("sky", "road"), [0, 1, IGNORE]),
    ([np.uint8([[0, 255]])], {"classes": "sky\nroad\n"}, ("sky", "road"), [0, 1]),
    ([np.uint8([[0, 2]])], {"classes": "sky\nroad\ncar\n"}, ("sky", "road", "car"), [0, 2]),
    ([np.uint8([[0, 64, 128]])], {"legend": "ground 0\ntall tree 64\nroof 128\n"}, ("ground", "tall tree", "roof"),
     [0, 1, 2]),
    ([np.uint16([[0, 500]])], {"legend": "ground 0\ntree 500\n"}, ("ground", "tree"), [0, 1]),
    ([np.uint8([[0, 9]])], {"legend": "ground 0\nvoid 9\n"}, ("ground",), [0, IGNORE]),
    ([np.uint8([[[0, 0, 0], [9, 0, 0], [0, 9, 0]]])], {"legend": "void, 0, 0, 0\nred: 9, 0, 0\n0 9 0 green\n"},
     ("red", "green"), [0, 1, IGNORE]),
    ([palette([[0, 1]], [(0, 9, 0), (9, 0, 0)])], {"legend": "red 9 0 0\ngreen 0 9 0"}, ("red", "green"), [0, 1]),
    ([np.uint8([[0, 7]])], {"legend": "black 0 0 0\ngray 7 7 7"}, ("black", "gray"), [0, 1]),  # gray is a color, too
    ([np.uint8([[[0, 0, 0], [9, 0, 0]]])], {"labelmap": "# label:color_rgb:parts:actions\nbg:0,0,0::\nred:9,0,0::\n"},
     ("bg", "red"), [0, 1]),
])
def test_masks_with_a_legend(tmp_path, masks, files, names, values):
    assert labels(make(tmp_path, masks, **files)) == (names, values)


@pytest.mark.parametrize(("text", "message"), [
    ("sky\nroad\n", "class 1 must be NAME R G B, R G B NAME or NAME N, got 'sky'"),
    ("a 1 2\nb 3\n", "class 1: |give each class a color|a 1"), ("a 0 0 0\nb 1\n", "give each class a color"),
    ("a 0 0 300\nb 0 0 0", "R G B from 0 to 255"), ("a 1\nb 1\n", "class 2: 'b 1' repeats a name or a value"),
    ("a 1\na 2\n", "class 2: 'a 2' repeats a name"), ("void 0\n", "0 classes"), ("a 99999\n", "class 1 must be"),
    ("", "lists no classes"), ("1 2 3\n", "class 1 must be|a color"),
])
def test_legends_that_are_refused(tmp_path, text, message):
    (tmp_path / "legend.txt").write_text(text)
    if text.startswith("a 1 2"):
        assert parse_legend(tmp_path / "legend.txt").names == ("a 1", "b")
        return
    if text == "1 2 3\n":
        assert parse_legend(tmp_path / "legend.txt").names == ("1 2",)
        return
    with pytest.raises(DataError, match=rf"legend\.txt: .*({message})"):
        parse_legend(tmp_path / "legend.txt")


@pytest.mark.parametrize(("images", "masks", "expected"), [
    (["a", "b"], ["a", "b"], ["a", "b"]),
    (["1", "10"], ["1_mask", "10_mask"], ["1", "10"]),
    (["a", "a_1"], ["a_seg", "a_1_seg"], ["a", "a_1"]),
    (["a", "a_1"], ["a_1_seg"], ["a_1"]),
    (["a", "b", "c"], ["a_m", "b_m", "x_m"], ["a", "b", "x"]),  # x has no image, and is named
    (["a", "b"], ["a", "b_mask"], ["a", "b_mask"]),  # mixed: b has no mask
])
def test_suffixes(images, masks, expected):
    found = without_suffix(dict.fromkeys(images), dict.fromkeys(masks))
    assert sorted(found) == sorted(expected)


def test_images_that_may_be_turned(tmp_path):
    root = make(tmp_path, [np.uint8([[0, 1]])])
    assert ImageMasks(root).upright and not ImageMasks(root, upright=False).upright


def test_numbered_objects(tmp_path):
    dataset = Instances(make(tmp_path, [np.uint16([[0, 7, 7], [900, 900, 0]])]))
    assert dataset.class_names == ("object",) and dataset[0].boxes.tolist() == [[1, 0, 3, 1], [0, 1, 2, 2]]
    dataset = Instances(make(tmp_path, [np.uint16([[0, 0, 0], [0, 0, 0]])]))
    assert dataset[0].boxes.shape == (0, 4) and dataset[0].masks.shape == (0, 2, 3)
    dataset = Instances(make(tmp_path, [np.uint16([[3, 3, 4]])]))  # no background
    assert dataset[0].boxes.tolist() == [[0, 0, 2, 1], [2, 0, 3, 1]]


def test_an_image_in_place_of_a_mask(tmp_path):
    values = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100)
    with pytest.raises(DataError, match=r"masks/\d\.png: has 10000 different values; is it an image\?"):
        Instances(make(tmp_path, [values]))
