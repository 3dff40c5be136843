"""The formats of labeling tools: a set of each, read, recognized, checked, trained on for 20 steps, and predicted."""
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicv.cli import main as cli
from minicv.data import DataError, DataWarning, NoSplit, open_dataset
from minicv.data.check import check
from minicv.data.recognize import recognize, recognized_spec
from tests.data.sets import BOXES, COUNT, LABELED, NUMBERED, OUTLINES, SCENES, TWO_VALUES, H, W, save, stack, write

OBJECTS = BOXES | OUTLINES | NUMBERED
LABELS = TWO_VALUES | LABELED
EVERY = OBJECTS | LABELS
BY_NAME = {s.name: s for s in SCENES}


def read_all(spec):
    """All samples by name, each in one split."""
    found = {}
    for split in ("train", "val", "test"):
        for sample in open_dataset(spec, split):
            assert found.setdefault(sample.name, sample) is sample
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_read_as_written(name, tmp_path):
    spec = OBJECTS[name](tmp_path)
    found, names = read_all(spec), open_dataset(spec).class_names
    assert names == {"instances": ("pet",), "instances, colors": ("object",)}.get(name, ("cat", "dog"))
    assert found.keys() == BY_NAME.keys()
    for s in SCENES:
        sample = found[s.name]
        order = np.argsort(sample.boxes[:, 0])
        np.testing.assert_allclose(sample.boxes[order], s.boxes, atol=1e-3)
        assert name in NUMBERED or sample.labels[order].tolist() == list(range(len(s.boxes)))
        assert (sample.masks is None) == (name in BOXES)
        for r, box in zip(order, s.boxes, strict=True):
            if sample.masks is not None:
                x1, y1, x2, y2 = box
                assert sample.masks[r].sum() == (x2 - x1) * (y2 - y1) == sample.masks[r, y1:y2, x1:x2].sum()
        np.testing.assert_array_equal(np.rint(sample.image * 255), s.pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_read_as_written(name, tmp_path):
    spec = LABELS[name](tmp_path)
    found, names = read_all(spec), open_dataset(spec).class_names
    assert names == (("background", "object") if name in TWO_VALUES else ("background", "cat", "dog"))
    assert len(found) == COUNT
    for k, s in enumerate(SCENES):
        sample = found.get(s.name) or found[f"volume-{k}"]
        np.testing.assert_array_equal(sample.label, s.numbers((1, 1) if name in TWO_VALUES else (1, 2)))
        assert sample.image.shape == (3, H, W) and sample.image.dtype == np.float32
        if name not in ("masks 0 1", "masks 0 255"):  # JPEG
            expected = s.pixels.transpose(2, 0, 1)
            if name.startswith("stack"):
                expected = s.pixels[None, ..., 0].repeat(3, 0).astype(float)
            if name == "stack of floats":  # from the least to the largest value of the file
                least, most = (f([s.pixels[..., 0] for s in SCENES]) for f in (np.min, np.max))
                expected = (expected - least) / (most - least) * 255
            np.testing.assert_allclose(sample.image * 255, expected, atol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_each_is_recognized_and_has_no_fault(name, tmp_path, capsys):
    spec = EVERY[name](tmp_path)
    format = spec.partition(":")[0]
    found = recognize(tmp_path)
    assert found[format] and found.keys() <= {format} | ({"masks"} if format == "instances" else set())
    report = check(spec)
    assert report.faults == [] and [line.split(":")[0] for line in report.contents[:3]] == ["train", "val", "test"]
    assert cli.main(["data", "check", spec]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_train_and_predict(name, tmp_path, capsys):
    spec = EVERY[name](tmp_path / "set")
    network = "unet" if name in LABELS else "faster_rcnn" if name in BOXES else "mask_rcnn"
    own = ["--tile", "20", "--width", "4"] if network == "unet" else [
        "--option", "min_size=48", "--option", "max_size=64"]
    assert cli.main(["train", network, "--data", spec, "--out", str(tmp_path / "run"), "--steps", "20", "--quiet",
                     "--validate", *own]) == 0
    checkpoint = ["--checkpoint", str(tmp_path / "run/last.safetensors")]
    assert cli.main(["evaluate", *checkpoint, "--data", spec, "--json"]) == 0
    image = tmp_path / "new.png"
    save(image, SCENES[0].pixels)
    assert cli.main(["predict", *checkpoint, "--out", str(tmp_path / "out"), str(image)]) == 0
    assert any((tmp_path / "out").iterdir())


# ---------------------------------------------------------------------------------------------------------
# Splits, names, several formats
# ---------------------------------------------------------------------------------------------------------
def names_of(spec, split):
    return [sample.name for sample in open_dataset(spec, split)]


def test_a_split_by_share_depends_on_names_shares_and_seed_alone(tmp_path):
    spec = EVERY["labelimg"](tmp_path / "a")
    splits = {split: names_of(spec, split) for split in ("train", "val", "test")}
    assert [len(names) for names in splits.values()] == [7, 2, 1] and splits["val"] == ["img_0", "img_5"]
    for path in sorted((tmp_path / "a").iterdir(), reverse=True):  # written in another order, elsewhere
        write(tmp_path / "b/x", "")
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "b/x").unlink()
    assert {split: names_of(f"voc-detection:{tmp_path / 'b'}", split) for split in splits} == splits
    assert names_of(f"{spec},seed=1", "val") != splits["val"]
    assert len(names_of(f"{spec},val=0.5,test=0", "val")) == 5
    with pytest.raises(NoSplit, match="no split 'test' with val=0.5,test=0; available: train, val"):
        from minicv.data import Shares, VOCDetection
        VOCDetection(tmp_path / "a", "test", shares=Shares(0.5, 0))
    with pytest.warns(DataWarning, match="no labeled test split; reading val instead"):
        assert open_dataset(f"{spec},test=0", "test").split == "val"
    with pytest.raises(ValueError, match="val and test leave no image for training"):
        open_dataset(f"{spec},val=0.5,test=0.5")


def test_the_pages_of_one_stack_are_split_in_blocks(tmp_path):
    spec = stack(tmp_path, np.uint8)
    assert names_of(spec, "train") == [f"volume-{k}" for k in range(7)]
    assert names_of(spec, "val") == ["volume-7", "volume-8"] and names_of(spec, "test") == ["volume-9"]


def test_shares_are_refused_for_a_data_set_with_splits(tmp_path):
    spec = EVERY["yolo"](tmp_path)
    with pytest.raises(ValueError, match="has the splits .*train.*; leave out val, test and seed"):
        open_dataset(f"{spec},val=0.3")


def test_too_few_images_for_the_shares(tmp_path):
    spec = EVERY["masks 0 1"](tmp_path)
    for s in SCENES[2:]:
        (tmp_path / f"images/{s.name}.jpg").unlink()
        (tmp_path / f"masks/{s.name}.png").unlink()
    with pytest.raises(DataError, match="2 images cannot be split with val=0.2,test=0.1: none is left for training"):
        open_dataset(spec)
    assert len(open_dataset(f"{spec},test=0")) == 1


def test_two_formats_that_fit(tmp_path, capsys):
    EVERY["yolo of labelimg"](tmp_path)
    EVERY["labelimg"](tmp_path)
    for s in SCENES:
        (tmp_path / f"{s.name}.bmp").unlink()
    with pytest.raises(DataError, match="2 formats fit; name one, as in voc-detection:.*yolo: has img_0.txt"):
        recognized_spec(str(tmp_path))
    assert cli.main(["data", "check", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["data", "check", f"yolo:{tmp_path}"]) == 0


def test_a_folder_that_fits_no_format(tmp_path, capsys):
    save(tmp_path / "photo.jpg", SCENES[0].pixels)
    with pytest.raises(DataError, match=r"fits no format; it holds photo.jpg. The formats: cells"):
        recognized_spec(str(tmp_path))
    assert recognized_spec("cells") == ("cells", "") and recognized_spec("voc:x") == ("voc:x", "")
    assert cli.main(["train", "unet", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert f"write NAME:{tmp_path}; minicv data check {tmp_path} says which name fits" in capsys.readouterr().err


def test_recognized_and_checked_in_one_command(tmp_path, capsys):
    EVERY["coco of roboflow"](tmp_path)
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"coco:{tmp_path}: has train/_annotations.coco.json\ntrain: 6 images")


# ---------------------------------------------------------------------------------------------------------
# Wrong inputs
# ---------------------------------------------------------------------------------------------------------
def edit(pattern, old, new):
    """Change a text in the only file that a pattern finds."""
    def apply(root):
        (path,) = root.glob(pattern)
        assert old in path.read_text(encoding="utf-8")
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    return apply


def remove(pattern):
    return lambda root: [path.unlink() for path in root.glob(pattern)]


def twin(pattern, ending):
    """The same image once more, in another format."""
    def apply(root):
        (path,) = root.glob(pattern)
        Image.open(path).convert("RGB").save(path.with_suffix(ending))
    return apply


def paint(pattern, value):
    def apply(root):
        (path,) = root.glob(pattern)
        image = np.array(Image.open(path))
        image[:3, :3] = value
        Image.fromarray(image).save(path)
    return apply


REFUSED = [
    ("voc", lambda root: write(root / "classes.txt", "cat\n"),
     r"img_\d\.xml: object\[1\]: unknown class 'dog'; known: cat"),
    ("voc", edit("Annotations/img_0.xml", "<name>cat", "<name>Cat"), "'Cat' and 'cat' differ in capitals only"),
    ("voc", remove("Annotations/img_0.xml"), r"img_0\.xml: cannot be read"),
    ("voc", remove("JPEGImages/img_0.PNG"), r"img_0\.jpg: no such file"),
    ("voc", twin("JPEGImages/img_0.PNG", ".jpg"), r"img_0\.jpg: has the same name as img_0\.PNG"),
    ("labelimg", remove("img_3.bmp"), r"img_3\.jpg: no such file"),
    ("labelimg", twin("img_3.bmp", ".png"), r"img_3\.png: has the same name as img_3\.bmp"),
    ("voc of roboflow", twin("train/img_3.png", ".jpg"), r"img_3\.png: has the same name as img_3\.jpg"),
    ("yolo", edit("labels/train/img_0.txt", "1 ", "2 "),
     r"img_0\.txt: line 2: unknown class 2; the classes are 0 to 1"),
    ("yolo", edit("labels/train/img_0.txt", "0 0.", "0 31."), r"img_0\.txt: line 1: numbers must be relative"),
    ("yolo", edit("labels/train/img_0.txt", "1 0.", "1 0.9 0."), r"img_0\.txt: line 2: must be CLASS X Y WIDTH HEIGHT"),
    ("yolo", edit("labels/train/img_0.txt", "0 0.", "cat 0."), r"img_0\.txt: line 1: must be CLASS X Y WIDTH HEIGHT"),
    ("yolo", edit("data.yaml", "  1: dog", "  2: dog"), r"data\.yaml: names: must number the classes from 0"),
    ("yolo", edit("data.yaml", "train: images/train", "train: images/training"),
     r"data\.yaml: train: .*: no such folder"),
    ("yolo", edit("data.yaml", "names:", "names: !!map"), r"data\.yaml: names: must be text, \[TEXT"),
    ("yolo", remove("data.yaml"), "no data.yaml with names and no classes.txt"),
    ("yolo", remove("images/train/img_0.png"), r"img_0\.txt: there is no image img_0\.\*"),
    ("yolo", twin("images/train/img_0.png", ".jpg"), r"img_0\.png: has the same name as img_0\.jpg"),
    ("yolo of roboflow", edit("data.yaml", "nc: 2", "nc: 3"), r"data\.yaml: nc is '3', but names has 2 classes"),
    ("yolo of roboflow", edit("data.yaml", "'dog'", "'cat'"), r"data\.yaml: names: must list the classes, each once"),
    ("yolo of labelimg", edit("classes.txt", "dog\n", ""), r"img_\d\.txt: line 2: unknown class 1"),
    ("yolo of labelimg", remove("classes.txt"), "no data.yaml with names and no classes.txt"),
    ("yolo of cvat", edit("train.txt", "img_3", "img_33"), r"img_33\.png: no such file"),
    ("coco of roboflow", edit("train/*.json", '"category_id": 2', '"category_id": 7'), "unknown category_id 7"),
    ("coco of roboflow", remove("train/img_0.png"), r"train/img_0\.png: no such file"),
    ("coco of cvat", edit("annotations/*.json", '"image_id": 1', '"image_id": 99'), "unknown image_id 99"),
    ("coco of cvat", edit("annotations/*.json", "img_1.png", "img_0.png"), "has the same file_name as"),
    ("labelme", edit("img_3.json", '"polygon"', '"spiral"'), r"img_3\.json: shapes\[0\]: shape_type must be one of"),
    ("labelme", edit("img_3.json", '"shapes"', '"objects"'),
     r"img_3\.json: has no shapes; it is not a file of LabelMe"),
    ("labelme", lambda root: write(root / "classes.txt", "cat\n"), r"shapes\[1\]: unknown class 'dog'; known: cat"),
    ("labelme", remove("img_3.png"), r"img_3\.png: no such file"),
    ("labelme", twin("img_3.png", ".jpg"), r"img_3\.png: has the same name as img_3\.jpg"),
    ("labelme", edit("img_4.json", '"mask": "', '"mask": "x'), r"img_4\.json: shapes\[0\]: a mask that cannot be read"),
    ("masks 0 1", remove("masks/img_3.png"), r"masks/img_3\.png: no such file"),
    ("masks 0 255", remove("Images/img_3.JPG"), r"Images/img_3\.png: no such file"),
    ("masks 0 1", twin("images/img_3.jpg", ".png"), r"img_3\.png: has the same name as img_3\.jpg"),
    ("masks 0 1", paint("masks/img_3.png", 9), r"the masks hold the numbers 0, 1, 9, with gaps: write a line for each"),
    ("masks, indexed", paint("train/masks/img_3.png", 3),
     r"img_3\.png: holds the unknown labels \[3\]; known: 0-2, 255"),
    ("masks, rgb", paint("masks/train/img_3.png", (1, 2, 3)),
     r"img_3\.png: holds 1 unknown colors, such as \(1, 2, 3\)"),
    ("masks, rgb", remove("legend.txt"),
     r"the masks hold 3 colors, such as .*write a line for each class to legend\.txt"),
    ("masks, rgb", edit("legend.txt", "0 0 255", "0 0"),
     r"legend\.txt: class 3 must be NAME R G B|give each class a color"),
    ("voc, masks", paint("SegmentationClass/img_3.png", (9, 9, 9)), r"img_3\.png: holds 1 unknown colors"),
    ("instances", edit("classes.txt", "pet", "cat\ndog"),
     "classes.txt: has 2 classes, but numbered objects are of one"),
    ("instances", remove("images/img_3.png"), r"images/img_3\.png: no such file"),
]


@pytest.mark.parametrize(("name", "damage", "message"), REFUSED)
def test_what_is_refused(name, damage, message, tmp_path):
    spec = EVERY[name](tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as error, warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for split in ("train", "val", "test"):
            for sample in open_dataset(spec, split):
                assert sample
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    faults = check(spec).faults
    assert any(str(error.value).split("; 1 more")[0] in fault for fault in faults), faults


NAMED = [
    ("voc", edit("Annotations/img_0.xml", "<xmax>", "<xmax>9"), r"extends beyond the 64 x 48 image; clipped"),
    ("voc", edit("Annotations/img_0.xml", "<xmin>", "<xmin>9"), r"lies outside the 64 x 48 image|swapped corners"),
    ("labelimg", remove("img_3.xml"), r"img_3\.bmp: has no annotation img_3\.xml; left out"),
    ("yolo", edit("labels/train/img_0.txt", "1 0.", "1 1."), r"img_0\.txt: line 2: box .* the 64 x 48 image"),
    ("yolo of cvat", lambda root: write(root / "labels/train/img_0.txt", "0 0.5 0.5 0.2 0.2"),
     "no outline, although other"),
    ("coco of cvat", edit("annotations/*.json", '"bbox": [', '"bbox": [9'), "the 64 x 48 image|mostly outside"),
    ("labelme", remove("img_3.json"), r"img_3\.png: has no annotation img_3\.json; left out"),
    ("labelme", edit("img_3.json", '"polygon"', '"linestrip"'), r"shapes\[0\]: a linestrip has no area; left out"),
    ("labelme", edit("img_3.json", "img_3.png", "img_5.png"),
     r"imagePath is 'img_5\.png'; is it the annotation of anoth"),
]


@pytest.mark.parametrize(("name", "damage", "message"), NAMED)
def test_what_is_named_and_reading_goes_on(name, damage, message, tmp_path):
    spec = EVERY[name](tmp_path)
    damage(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert sum(len(open_dataset(spec, split)) for split in ("train", "val", "test")) >= COUNT - 1
    faults = "\n".join(check(spec).faults)
    import re
    assert re.search(message, faults), faults
    if "mostly" not in message:
        assert any(re.search(message, str(warning.message)) for warning in caught)


def test_a_yolo_image_without_a_label_file_has_no_objects(tmp_path):
    """So Ultralytics defines it."""
    spec = EVERY["yolo"](tmp_path)
    (tmp_path / "labels/train/img_0.txt").unlink()
    sample = {s.name: s for s in open_dataset(spec)}["img_0"]
    assert sample.boxes.shape == (0, 4) and sample.masks is None and check(spec).faults == []


def test_paths_of_another_system_in_a_list(tmp_path):
    spec = EVERY["yolo of cvat"](tmp_path)
    path = Path(tmp_path / "train.txt")
    path.write_text(path.read_text().replace("images/train/", "images\\train\\").replace("img_1.", "IMG_1."))
    assert len(read_all(spec)) == COUNT
