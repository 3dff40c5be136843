import re
import warnings

import numpy as np
import pytest

from minicv.data import open_dataset, write_png
from minicv.data.errors import DataError, DataWarning
from minicv.data.readers.voc_detection import BLOOD_CELLS, VOCDetection, to_continuous
from minicv.data.readers.voc_segmentation import CLASSES

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part>
<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"""
SIZE = "<size><width>10</width><height>6</height><depth>3</depth></size>"


def thing(x1, y1, x2, y2, name="cat", difficult=0):
    return OBJECT.format(**locals())


@pytest.fixture
def root(tmp_path):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path, thing(1, 1, 10, 6) + thing(3, 2, 4, 5, "dog", 1))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n\n")
    write_png(tmp_path / "JPEGImages/a.jpg", np.zeros((3, 6, 10), np.uint8))  # read by its content, not by its name
    return tmp_path


def write(root, objects, size=SIZE):
    (root / "Annotations/a.xml").write_text(f"<annotation>{size}{objects}</annotation>")


def test_read(root):
    images = VOCDetection(root, class_names=CLASSES[1:])
    sample = images[0]
    # the whole image, 1..10 and 1..6, is (0, 0, 10, 6); columns 3 and 4, rows 2 to 5 reach from 2 to 4 and 1 to 5
    assert sample.boxes.tolist() == [[0, 0, 10, 6], [2, 1, 4, 5]] and sample.boxes.dtype == np.float32
    assert sample.labels.tolist() == [7, 11] and images.class_names[7] == "cat"  # of 20, without background
    assert sample.difficult.tolist() == [False, True] and sample.masks is None and sample.name == "a"
    assert len(images) == 1 and images.num_classes == 20 and images.problems == []


def test_an_image_without_objects(root):
    write(root, "")
    assert VOCDetection(root, class_names=["cat"])[0].boxes.shape == (0, 4)


@pytest.mark.parametrize("objects, boxes, problem", [
    (thing(4, 2, 4, 2), [], r"a\.xml: object\[0\]: box \[4.0, 2.0, 4.0, 2.0\] .* has no area; left out"),
    (thing(4, 2, 4, 5), [], "has no area; left out"),
    (thing(5, 2, 3, 4), [[2, 1, 5, 4]], "swapped corners; reordered"),
    (thing(0, 1, 12, 6), [[0, 0, 10, 6]], "extends beyond the 10 x 6 image; clipped"),
    (thing(11, 2, 14, 3), [], "lies outside the 10 x 6 image; left out"),
])
def test_what_is_wrong_is_told_and_reading_goes_on(root, objects, boxes, problem):
    write(root, objects)
    with pytest.warns(DataWarning, match=problem):
        images = VOCDetection(root)
    assert images[0].boxes.tolist() == boxes and len(images[0].labels) == len(boxes)


@pytest.mark.parametrize("content, message", [
    ("", "not a readable annotation"),
    ("<annotation>", "not a readable annotation"),
    (f"<annotation>{SIZE}{thing(1, 1, 2, 2, 'cow')}</annotation>", "unknown class 'cow'; known: cat, dog"),
    (f"<annotation>{SIZE}{thing(1, 1, 'x', 2)}</annotation>", r"object\[0\], bndbox: <xmax> must be .*, got 'x'"),
    (f"<annotation>{SIZE}{thing('nan', 1, 2, 2)}</annotation>", "<xmin> must be a number up to .*, got 'nan'"),
    (f"<annotation>{SIZE.replace('10', 'inf')}</annotation>", "size: <width> must be a number up to .*, got 'inf'"),
    (f"<annotation>{SIZE}<object><name>cat</name></object></annotation>", "a cat without a <bndbox>"),
])
def test_what_cannot_be_read(root, content, message):
    (root / "Annotations/a.xml").write_text(content)
    (root / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=rf"a\.xml: .*{message}"):
        VOCDetection(root)


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>5</ymax></bndbox>"
CAT = f"<object><name>cat</name>{BOX}</object>"


@pytest.mark.parametrize("content, message", [
    ('<annotations><image name="a"><box label="cat" xtl="1"/></image></annotations>', "its root is <annotations>"),
    ('<svg xmlns="http://www.w3.org/2000/svg"/>',
     "its root is <{http://www.w3.org/2000/svg}svg>, not <annotation>; export it as PASCAL VOC"),
    ('<project><modelVersion>4.0.0</modelVersion></project>', "its root is <project>"),
    (f'<annotation xmlns="http://example.org">{CAT}</annotation>', "its root is <{http://example.org}annotation>"),
    (f"<Annotation>{CAT}</Annotation>", "its root is <Annotation>"),
    (f"<annotation>{SIZE}<Object><name>cat</name>{BOX}</Object></annotation>", "<Object> where PASCAL VOC has none"),
    (f'<annotation xmlns:v="x">{SIZE}<v:object/></annotation>', "<{x}object> where PASCAL VOC has none"),
    (f"<annotation>{SIZE}<objects>{CAT}</objects></annotation>", "<bndbox> where PASCAL VOC has none"),
    (f"<annotation>{SIZE}<thing><name>cat</name>{BOX}</thing></annotation>", "<bndbox> where PASCAL VOC has none"),
    ("<annotation/>", "no <object>, <filename> or <size> as in PASCAL VOC"),
    ("<annotation><text>dog</text></annotation>", "no <object>, <filename> or <size> as in PASCAL VOC"),
    (f'<annotation>{SIZE}<box label="cat" x="1"/></annotation>', "no <object> as in PASCAL VOC, but 'box'"),
    (f"<annotation>{SIZE}<item><name>cat</name><x>1</x></item></annotation>", "no <object> as in PASCAL VOC, but 'it"),
    (f"<annotation>{SIZE}<object><name>cat</name><polygon><pt><x>1</x></pt></polygon></object></annotation>",
     "a cat without a <bndbox>; polygons alone are not read"),
    (f"<annotation>{SIZE}{SIZE}{CAT}</annotation>", "annotation: <size> occurs 2 times"),
    (f"<annotation>{SIZE}<object><name>cat</name>{BOX}{BOX}</object></annotation>",
     "object[0]: <bndbox> occurs 2 times; keep one"),
    (f"<annotation>{SIZE}<object><name>cat</name><name>dog</name>{BOX}</object></annotation>", "<name> occurs 2 times"),
    (f"<annotation>{SIZE}<object>{BOX}</object></annotation>", "object[0]: <name> must be text"),
    (f"<annotation>{SIZE}<object><name> </name>{BOX}</object></annotation>", "object[0]: <name> must be text"),
    (f"<annotation>{SIZE}<object><name>c<b/>at</name>{BOX}</object></annotation>", "<name> must be text"),
    (f"<annotation>{SIZE}{thing(1, 1, 5, 5, difficult='yes')}</annotation>", "<difficult> must be 0 or 1, got 'yes'"),
    (f"<annotation>{SIZE}{thing('1_0', 1, 5, 5)}</annotation>", "<xmin> must be a number up to 1e+09, got '1_0'"),
    (f"<annotation>{SIZE}{thing('１', 1, 5, 5)}</annotation>", "<xmin> must be a number up to 1e+09, got '１'"),
    (f"<annotation>{SIZE}{thing('1e400', 1, 5, 5)}</annotation>", "<xmin> must be a number up to 1e+09, got '1e400'"),
    (f"<annotation>{SIZE.replace('10', '0')}</annotation>", "size: 0 x 6 pixels are impossible; fix <size>, or"),
    (f"<annotation>{SIZE.replace('10', '10.5')}</annotation>", "size: 10.5 x 6 pixels are impossible"),
    (f"<annotation>{SIZE.replace('10', '99999999')}</annotation>", "size: 99999999 x 6 pixels are impossible"),
    ("<annotation><size><width>10</width></size></annotation>", "size: <height> must be a number up to 1e+09, got ''"),
])
def test_other_formats_and_broken_layouts_are_refused(root, content, message):
    (root / "Annotations/a.xml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"a\.xml: .*{re.escape(message)}"):
        VOCDetection(root)


def test_what_may_vary(root):
    """Floats, blanks, comments, elements of other tools, another order, true and false."""
    write(root, "<!-- by hand --><path>C:\\a.jpg</path><filename>D:\\set\\a.jpg</filename>"
          "<object><difficult>true</difficult><bndbox><ymax> 5.5 </ymax><ymin>2</ymin><xmax>4e0</xmax>"
          "<xmin>3.0<!-- x --></xmin></bndbox><occluded>0</occluded><name> dog\n</name></object>")
    images = VOCDetection(root)
    assert images[0].boxes.tolist() == [[2, 1, 4, 5.5]] and images[0].difficult.tolist() == [True]
    assert images.problems == []


def test_the_name_of_another_image_is_told(root):
    write(root, f"<filename>b.jpg</filename>{CAT}")
    with pytest.warns(DataWarning, match=r"a\.xml: <filename> is 'b\.jpg'; is it the annotation of another image\?"):
        assert len(VOCDetection(root)[0].boxes) == 1


@pytest.mark.parametrize("encoding, name", [("gb2312", "路灯"), ("euc-kr", "사람"), ("shift_jis", "猫"), ("big5", "狗"),
                                            ("iso-8859-1", "chaîne"), ("utf-16", "чашка")])
def test_class_names_in_other_encodings(root, encoding, name):
    content = f'<?xml version="1.0" encoding="{encoding}"?><annotation>{SIZE}{thing(1, 1, 10, 6, name)}</annotation>'
    (root / "Annotations/a.xml").write_bytes(content.encode(encoding))
    assert VOCDetection(root, class_names=["other", name])[0].labels.tolist() == [1]


def test_class_names_must_differ(root):
    with pytest.raises(ValueError, match="VOCDetection: class_names must differ from each other, got 'cat', 'cat'"):
        VOCDetection(root, class_names=("cat", "cat"))


def test_an_image_listed_twice(root):
    (root / "ImageSets/Main/train.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match=r"train\.txt: lists 'a' more than once; keep one line for each image"):
        VOCDetection(root)


def test_sizes(root):
    write(root, thing(1, 1, 2, 2), size="")
    assert VOCDetection(root)[0].boxes.tolist() == [[0, 0, 2, 2]]  # from the image, where none is stated
    write(root, "", size="<size><width>6</width><height>10</height></size>")
    with pytest.raises(DataError, match=r"a\.jpg: size \(6, 10\) .* that of its annotation, \(10, 6\)"):
        VOCDetection(root, class_names=["cat"])[0]


def test_lists_and_folders(root):
    with pytest.raises(ValueError, match=r"Main: no split 'val'; available: train; add ,val=0.2"):
        VOCDetection(root, "val")
    (root / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(DataError, match="lists no images"):
        VOCDetection(root, "val")
    (root / "JPEGImages/a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.jpg: no such file"):
        VOCDetection(root)
    with pytest.raises(DataError, match="nowhere: no such folder; VOC is expected as"):
        VOCDetection(root / "nowhere")


def test_to_continuous_by_hand():
    boxes = np.array([[1, 1, 10, 6], [10, 1, 1, 6], [4, 2, 4, 2.0]])
    assert to_continuous(boxes).tolist() == [[0, 0, 10, 6], [10, 0, 0, 6], [4, 2, 4, 2]]  # swapped ones stay so


def test_blood_cells(real_data):
    with pytest.warns(DataWarning, match="2 annotations are wrong"):
        images = open_dataset(f"bccd:{real_data / 'bccd'}", "trainval")
    assert len(images) == 292 and images.class_names == BLOOD_CELLS
    assert [p.split(": ")[0].rpartition("/")[2] for p in images.problems] == ["BloodImage_00338.xml",
                                                                               "BloodImage_00343.xml"]
    assert all("has no area; left out" in p for p in images.problems)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        counts = {s: len(open_dataset(f"bccd:{real_data / 'bccd'}", s)) for s in ("train", "val", "test")}
    assert counts == {"train": 205, "val": 87, "test": 72}
    sample = images[0]
    assert sample.image.shape == (3, 480, 640) and sample.boxes[0].tolist() == [259, 176, 491, 376]
    assert sample.labels[0] == 1
