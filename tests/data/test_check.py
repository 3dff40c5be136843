import numpy as np
import pytest

from minicv.cli import main as cli
from minicv.data import write_png
from minicv.data.check import check

SPLITS = "train", "val", "test"
NOISE = np.random.default_rng(0).integers(0, 256, (3, 2, 3), np.uint8)


@pytest.fixture
def camvid(tmp_path):
    """SegNet's layout, two images of 3 x 2 in each split: half road (3), a third sky (0), a sixth void."""
    for split in SPLITS:
        for folder, array in ((split, NOISE),
                              (f"{split}annot", np.array([[3, 3, 3], [0, 0, 11]], np.uint8))):
            (tmp_path / folder).mkdir()
            for i in range(2):
                write_png(tmp_path / folder / f"{split}{i}.png", array)
        (tmp_path / f"{split}.txt").write_text(
            "".join(f"/x/{split}/{split}{i}.png /x/{split}annot/{split}{i}.png\n" for i in range(2)))
    return tmp_path


def run(spec, capsys):
    code = cli.main(["data", "check", spec])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_nothing_wrong(camvid, capsys):
    code, lines, _ = run(f"camvid:{camvid}", capsys)
    assert code == 0
    assert lines[:3] == [f"{split}: 2 images, 3 x 2 pixels" for split in SPLITS]
    assert lines[3].split() == ["%", "of", "the", "pixels", "train", "val", "test"]
    assert lines[4].split() == ["sky", "33.33", "33.33", "33.33"] and lines[7].split() == ["road"] + ["50.00"] * 3
    assert lines[15].split() == ["void", "16.67", "16.67", "16.67"] and lines[16:] == ["faults: 0"]


def test_every_fault_is_named(camvid, capsys):
    (camvid / "train/train0.png").unlink()
    (camvid / "train/train1.png").write_bytes(b"no image")
    write_png(camvid / "valannot/val0.png", np.zeros((4, 3), np.uint8))
    write_png(camvid / "valannot/val1.png", np.full((2, 3), 12, np.uint8))
    with (camvid / "test.txt").open("a") as file:
        file.write("/x/val/val1.png /x/valannot/val1.png\n/x/test/gone.png /x/testannot/gone.png\n")
    write_png(camvid / "testannot/test1.png", np.zeros((5, 7), np.uint8))
    write_png(camvid / "test/test1.png", np.resize(NOISE, (3, 5, 7)))  # another size is no fault
    code, lines, err = run(f"camvid:{camvid}", capsys)
    assert code == 1 and not err
    assert lines[0] == "train: 2 images, none of which can be read"
    assert lines[2] == "test: 4 images, of 2 sizes, 3 to 7 x 2 to 5 pixels"
    faults = lines[lines.index(next(line for line in lines if line.startswith("void"))) + 1:]
    expected = ["train/train0.png: no such file", "train/train1.png: not a readable image",
                "valannot/val0.png, (4, 3)",
                "valannot/val1.png: holds the unknown labels [12]", "val/val1.png: is in both val and test",
                "test/gone.png: no such file", "testannot/gone.png: no such file", "faults: 7"]
    for fault, text in zip(faults, expected, strict=True):
        assert text in fault


def test_missing_folders(tmp_path, capsys):
    code, lines, _ = run(f"camvid:{tmp_path / 'nowhere'}", capsys)
    assert code == 1 and len(lines) == 2 and "nowhere: no such folder; CamVid is expected as" in lines[0]
    code, lines, _ = run(f"voc:{tmp_path}", capsys)
    assert code == 1 and "JPEGImages: no such folder; VOC is expected as" in lines[0] and lines[1] == "faults: 1"


def test_images_of_trainval_are_read_once_and_are_no_fault(tmp_path):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in "ab":
        (tmp_path / f"JPEGImages/{name}.jpg").write_bytes(b"no image" if name == "b" else _jpeg())
        write_png(tmp_path / f"SegmentationClass/{name}.png", np.arange(64, dtype=np.uint8).reshape(8, 8) % 3)
    for split, names in (("train", "a"), ("val", "b"), ("trainval", "ab")):
        (tmp_path / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names))
    report = check(f"voc:{tmp_path}")
    assert len(report.faults) == 1 and "JPEGImages/b.jpg: not a readable image" in report.faults[0]
    assert report.contents[2] == "trainval: 2 images, 8 x 8 pixels"


def _jpeg():
    import io

    from PIL import Image
    file = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).save(file, "JPEG")
    return file.getvalue()


def test_isbi2012(tmp_path, capsys):
    code, lines, _ = run(f"isbi2012:{tmp_path}", capsys)
    assert code == 1 and "image: no such folder" in lines[0]
    for kind in ("image", "label"):
        (tmp_path / kind).mkdir()
        for n in range(3):
            write_png(tmp_path / kind / f"{n}.png", np.array([[0, 255], [255, 255]], np.uint8))
    code, lines, _ = run(f"isbi2012:{tmp_path}", capsys)
    assert code == 1
    assert lines[:3] == ["3 slices, 2 x 2 pixels", "train: 2, val: 0, test: 1", "cells: 75.0% of the pixels"]
    assert lines[3].endswith("3 slices are too few for a split val") and lines[4:] == ["faults: 1"]
    (tmp_path / "image/1.png").unlink()
    write_png(tmp_path / "label/2.png", np.array([[7, 255], [255, 255]], np.uint8))
    code, lines, _ = run(f"isbi2012:{tmp_path}", capsys)
    assert code == 1 and lines[0] == "3 slices, 2 x 2 pixels" and lines[-1] == "faults: 3"
    assert "image/1.png: no such file" in lines[3]
    assert ("label/2.png: a mask must have two values, 0 outside and one inside; this has 2 of them, [7, 255]"
            in lines[4])


def test_what_cannot_be_checked(capsys):
    for spec in ("cells", "street-scenes"):
        assert run(spec, capsys)[2].endswith(f"{spec} is generated: nothing to check\n")
    assert run("camvd:x", capsys)[2].endswith("unknown data set 'camvd'; did you mean camvid?\n")
    assert "unknown data set 'mnist'; there are: cells, isbi2012, camvid" in run("mnist:x", capsys)[2]
    for spec in ("camvid", ""):
        code, lines, err = run(spec, capsys)
        assert code == 2 and not lines
        assert "check: needs NAME:PATH with one of camvid, masks, voc" in err and repr(spec) in err


def test_the_real_images(real_data, capsys):
    code, lines, _ = run(f"camvid:{real_data / 'camvid'}", capsys)
    assert code == 0
    assert lines[:3] == ["train: 367 images, 240 x 180 pixels", "val: 101 images, 240 x 180 pixels",
                         "test: 233 images, 240 x 180 pixels"]
    assert lines[-1] == "faults: 0"


def test_check_readable_names_every_bad_image(camvid):
    from minicv.data import CamVid, Cells
    from minicv.data.check import check_readable
    train = CamVid(camvid, "train")
    assert check_readable(train) == []
    (camvid / "train/train1.png").write_bytes((camvid / "train/train1.png").read_bytes()[:-20])
    write_png(camvid / "trainannot/train0.png", np.full((2, 3), 12, np.uint8))
    first, second = check_readable(train, quiet=True)
    assert "trainannot/train0.png: holds the unknown labels [12]" in first
    assert "train/train1.png: not a readable image" in second

    class Unreadable(Cells):
        def __getitem__(self, index):
            raise AssertionError("a generated image was drawn")
    assert check_readable(Unreadable(2)) == []
