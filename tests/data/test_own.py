"""--data MODULE:FUNCTION: what it must return, and one line for what is wrong."""
import sys

import pytest

from minicv.cli import main as cli
from minicv.data import DataError, DataWarning, NoSplit, open_dataset
from minicv.data.check import check

GOOD = """
import numpy as np
from minicv.data import DetectionSample, NoSplit, Sample

class Items(list):
    class_names = ["dark", "bright"]

def label(i):
    return np.full((24, 24), i % 2, np.int64)

def sample(i, **changes):
    parts = dict(image=np.full((1, 24, 24), i % 7 / 7, np.float32), label=label(i), instances=None, name=f"n{i}")
    return Sample(**(parts | changes))

def found(i, **changes):
    parts = dict(image=np.full((3, 24, 24), i % 7 / 7, np.float32), boxes=np.float32([[1, 2, 9, 20]]),
                 labels=np.array([i % 2]), name=f"n{i}")
    return DetectionSample(**(parts | changes))

def pixels(split, count="4"):
    if split == "test":
        raise NoSplit("no split test")
    return Items(sample(i + 100 * (split == "val")) for i in range(int(count)))

def boxes(split):
    return Items(found(i + {"train": 0, "val": 100, "test": 200}[split]) for i in range(4))

"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the current folder; return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    count = iter(range(100))

    def write(text=""):
        name = f"own_{tmp_path.name.replace('-', '_')}_{next(count)}"
        (tmp_path / f"{name}.py").write_text(GOOD + text, encoding="utf-8")
        return name
    yield write
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_read_check_train_evaluate(module, tmp_path, capsys):
    name = module()
    dataset = open_dataset(f"{name}:pixels,count=3")
    assert len(dataset) == 3 and dataset.num_classes == 2 and dataset.class_names == ("dark", "bright")
    assert dataset[-1].name == "n2" and [sample.name for sample in dataset] == ["n0", "n1", "n2"]
    with pytest.raises(IndexError, match="OwnDataset: index 3 is out of range for 3 images"):
        dataset[3]
    with pytest.warns(DataWarning, match="no labeled test split; reading val instead"):
        assert open_dataset(f"{name}:pixels", "test").split == "val"
    report = check(f"{name}:pixels")
    assert report.faults == [] and report.contents[0] == "train: 4 images, 24 x 24 pixels"
    assert report.contents[2] == "test: missing (no split test)"
    for function, network, options in (("pixels", "unet", ["--tile", "20", "--width", "4", "--no-augment"]),
                                       ("boxes", "yolo", ["--option", "image_size=64"])):
        assert cli.main(["train", network, "--data", f"{name}:{function}", "--out", str(tmp_path / network), "--steps",
                         "2", "--quiet", *options]) == 0
        assert cli.main(["evaluate", "--checkpoint", str(tmp_path / network / "last.safetensors"), "--data",
                         f"{name}:{function}", "--split", "val", "--json"]) == 0


@pytest.mark.parametrize(("function", "message"), [
    ("def f(split): return [sample(0)]", "must return an object with class_names, a list of different names, got list"),
    ("class C: class_names = 'ab'\ndef f(split): return C()", "class_names, a list of different names, got C"),
    ("class C: class_names = ['a', 'a']\ndef f(split): return C()", "class_names, a list of different names, got C"),
    ("class C: class_names = ['a']\ndef f(split): return C()",
     r"must return an object with len\(\) and \[index\], got C"),
    ("def f(split): return None", "got NoneType"),
    ("def f(split): return Items([1])", "item 0 of train: must be a minicv.data.Sample or DetectionSample, got int"),
    ("def f(split): return Items([sample(0, image=np.zeros((1, 24, 24)))])",
     r"item 0 of train: image must be float32 \(1 or 3, H, W\), got float64 \(1, 24, 24\)"),
    ("def f(split): return Items([sample(0, image=np.full((1, 24, 24), 255, np.float32))])",
     r"image must lie in \[0, 1\], got 255 to 255"),
    ("def f(split): return Items([sample(0, image=np.full((1, 24, 24), np.nan, np.float32))])",
     r"must lie in \[0, 1\]"),
    ("def f(split): return Items([sample(0, label=label(0)[:9])])", r"label must be int64 \(24, 24\) like its image"),
    ("def f(split): return Items([sample(0, label=label(0) + 2)])",
     r"label holds \[2\], but the classes are 0 to 1, and"),
    ("def f(split): return Items([sample(0, name=3)])", "name must be text, got int"),
    ("def f(split): return Items([found(0, labels=np.array([2]))])", "labels hold 2 to 2, but the classes are 0 to 1"),
    ("def f(split): return Items([found(0, boxes=np.float32([[5, 5, 5, 9]]))])",
     "must be x1 < x2, y1 < y2 within the 24"),
    ("def f(split): return Items([found(0, boxes=np.float32([[5, 5, 99, 9]]))])", "within the 24 x 24 image"),
    ("def f(split): return Items([found(0, masks=np.zeros((1, 3, 3), bool))])",
     r"masks must be bool \(1, 24, 24\), got"),
    ("def f(split): return Items([found(0, image=np.zeros((1, 24, 24), np.float32))])",
     r"image must be float32 \(3, H, W"),
    ("def f(split): return 1 / 0", r"ZeroDivisionError: division by zero \(.*\.py, line \d+\)"),
    ("def f(): pass", r"TypeError: f\(\) takes 0 positional arguments"),
    ("class C(Items):\n  def __getitem__(self, i): raise KeyError('x')\ndef f(split): return C([1])",
     r"item 0 of train: KeyError: 'x' \(.*\.py, line \d+\)"),
    ("g = 3", r"has no function f, which --data"),
    ("raise RuntimeError('no')", r"RuntimeError: no \(.*\.py, line \d+\)"),
])
def test_what_is_wrong_is_one_line(module, function, message, capsys):
    name = module(function)
    with pytest.raises(DataError, match=message) as error:
        open_dataset(f"{name}:f")[0]
    assert "\n" not in str(error.value) and name in str(error.value)
    assert cli.main(["train", "unet", "--data", f"{name}:f", "--out", "out"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert check(f"{name}:f").faults


def test_an_unknown_module_function_or_split(module):
    with pytest.raises(ValueError, match="unknown data set 'nowhere_at_all'; there are: cells, .*; or MODULE:FUNC"):
        open_dataset("nowhere_at_all:f")
    name = module("def f(split):\n    raise NoSplit(f'no split {split}')")
    with pytest.raises(NoSplit, match="no split dev"):
        open_dataset(f"{name}:f", "dev")
    assert check(f"{name}:f").faults == [f"{name}:f: has no split"]
    with pytest.raises(DataError, match="unexpected keyword argument 'size'"):
        open_dataset(f"{name}:f,size=3")
