"""Where data check finds no fault, a training sees the data as they were written; it ends whatever a set holds."""
import warnings

import numpy as np
import pytest
from PIL import Image

from minicv import models
from minicv.data import DataError, Sample, open_dataset, write_png
from minicv.data.check import check, check_readable
from minicv.data.readers.voc_segmentation import palette
from minicv.training import SegmentationConfig, SegmentationTask
from tests.image_files import png

SIDE = 24
NAMES = {"train": ["0001TP_006690", "0001TP_006720", "0006R0_f00930"], "val": ["0016E5_07959", "0016E5_07961"],
         "test": ["Seq05VD_f00000", "Seq05VD_f00030"]}
EVERY = [name for names in NAMES.values() for name in names]


def image(name):
    return np.random.default_rng(EVERY.index(name)).integers(0, 256, (3, SIDE, SIDE), np.uint8)


def label(name):
    return (image(name)[0] // 64).astype(np.uint8)  # 0 to 3


class Camvid:
    spec = "camvid"

    def __init__(self, root):
        self.root = root
        for split, names in NAMES.items():
            for name in names:
                self.write(self.image(name, split), image(name))
                self.write(self.label(name, split), label(name))
            self.list(split).write_text("".join(self.line(name, split) + "\n" for name in names))

    def write(self, path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, array)

    def image(self, name, split="train"):
        return self.root / split / f"{name}.png"

    def label(self, name, split="train"):
        return self.root / f"{split}annot" / f"{name}.png"

    def list(self, split):
        return self.root / f"{split}.txt"

    def line(self, name, split):
        return f"/x/{split}/{name}.png /x/{split}annot/{name}.png"


class VOC(Camvid):
    spec = "voc"

    def __init__(self, root):
        super().__init__(root)
        self.list("trainval").write_text("\n".join(NAMES["train"] + NAMES["val"]))

    def image(self, name, split="train"):
        return self.root / "JPEGImages" / f"{name}.jpg"  # PNG inside, so that it is exact

    def label(self, name, split="train"):
        return self.root / "SegmentationClass" / f"{name}.png"

    def list(self, split):
        path = self.root / "ImageSets/Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def line(self, name, split):
        return name


class Streets(Camvid):
    spec = "cityscapes"

    def image(self, name, split="train"):
        return self.root / "leftImg8bit" / split / "ulm" / f"{name}_leftImg8bit.png"

    def label(self, name, split="train"):
        return self.root / "gtFine" / split / "ulm" / f"{name}_gtFine_labelTrainIds.png"


class Membranes(Camvid):
    spec = "isbi2012"

    def write(self, path, array):
        super().write(path, array[:1] if array.ndim == 3 else np.where(array > 0, 255, 0).astype(np.uint8))

    def image(self, name, split="train"):
        return self.root / "image" / f"{EVERY.index(name)}.png"

    def label(self, name, split="train"):
        return self.root / "label" / f"{EVERY.index(name)}.png"


class Nuclei(Camvid):
    spec = "dsb2018"

    def write(self, path, array):
        super().write(path, array if array.ndim == 3 else np.where(array == 1, 255, 0).astype(np.uint8))

    def image(self, name, split="train"):
        return self.root / "stage1_train" / name / "images" / f"{name}.png"

    def label(self, name, split="train"):
        return self.root / "stage1_train" / name / "masks" / "m.png"

    def line(self, name, split):
        return name


FIRST, SECOND = NAMES["train"][:2]


def with_image(change):
    return lambda s: change(s.image(FIRST))


def with_label(change):
    return lambda s: change(s.label(FIRST))


def rewritten(change, **options):
    """The pixels of a file changed, and saved again, as PNG if nothing else is said."""
    def run(path):
        with Image.open(path) as file:
            array = np.asarray(file)
        result = change(array)
        new = result if isinstance(result, Image.Image) else Image.fromarray(result)
        new.save(path, **{"format": "PNG", **options})
    return run


def upright_pixels(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return rewritten(lambda a: a, exif=exif)


def in_list(change):
    return lambda s: s.list("train").write_bytes(change(s.list("train").read_text(), s).encode())


def to_palette(array):
    file = Image.fromarray(array).convert("P")
    file.putdata(array.ravel().tolist())
    file.putpalette(np.random.default_rng(0).permutation(palette()).ravel().tolist())
    return file


FILE = {"missing": lambda p: p.unlink(), "empty": lambda p: p.write_bytes(b""), "text": lambda p: p.write_text("404"),
        "cut": lambda p: p.write_bytes(p.read_bytes()[:-30]), "folder": lambda p: (p.unlink(), p.mkdir()),
        "upper case": lambda p: p.rename(p.with_name(p.name.upper())),
        "another size": rewritten(lambda a: a[:-3, :-5]), "one pixel": rewritten(lambda a: a[:1, :1]),
        "turned 90": upright_pixels(6), "turned 180": upright_pixels(3), "TIFF": rewritten(lambda a: a, format="TIFF"),
        "float": rewritten(lambda a: a.reshape(SIDE, SIDE, -1)[..., 0] / np.float32(9), format="TIFF")}
IMAGE = {"constant": rewritten(lambda a: a * 0), "opaque": rewritten(lambda a: Image.fromarray(a).convert("RGBA")),
         "16 bits of RGB": lambda p: p.write_bytes(png(np.asarray(Image.open(p).convert("RGB")).astype(int) * 257, 16))}
LABEL = {"all void": rewritten(lambda a: a * 0 + 255), "inverted": rewritten(lambda a: 255 - a),
         "mask of 0 and 255": rewritten(lambda a: np.where(a > 0, 255, 0).astype(np.uint8)),
         "numbers too high": rewritten(lambda a: a + 40), "16 bits": rewritten(lambda a: a.astype(np.uint16)),
         "a palette in any order": rewritten(to_palette), "RGB": rewritten(lambda a: np.dstack([a] * 3)),
         "transparent": rewritten(lambda a: np.dstack([a, np.arange(SIDE) * np.ones_like(a)]).astype(np.uint8)),
         "JPEG": rewritten(lambda a: a, format="JPEG"), "colors": rewritten(lambda a: palette()[a])}
LIST = {"repeated": lambda t, s: t + t,
        "with mark and CRLF": lambda t, s: "\ufeff" + t.replace("\n", "\r\n"),
        "blank lines, comments, spaces": lambda t, s: "# a\n\n  " + t.replace("\n", " \n\n"),
        "empty": lambda t, s: "\n",
        "endings": lambda t, s: t.replace("\n", ".png\n") if ".png" not in t else t,
        "in lower case": lambda t, s: t.lower(), "a name too many": lambda t, s: t + s.line("none", "train") + "\n",
        "val in train": lambda t, s: t + s.line(NAMES["val"][0], "val") + "\n", "zero bytes": lambda t, s: t + "\0",
        "paths": lambda t, s: t.replace("/x/", "../") if "/x/" in t else f"../{t}"}
DAMAGE = {f"{part} {k}": use(v) for part, use, ways in (
    ("image", with_image, FILE | IMAGE), ("label", with_label, FILE | LABEL), ("list", in_list, LIST))
    for k, v in ways.items()}
KINDS = [Camvid, VOC, Streets, Membranes, Nuclei]
CASES = [(kind, damage) for kind in KINDS for damage in DAMAGE
         if not (damage.startswith("list") and kind in (Streets, Membranes))  # they have no lists
         and (kind, damage) not in ((Nuclei, "label missing"), (Nuclei, "image constant"))]  # an image without nuclei


def seen(spec):
    """What a training sees of the split train: image, label or masks of each item, and examples of the task."""
    dataset, found = open_dataset(spec, "train"), []
    for i in range(len(dataset)):
        sample = dataset[i]
        found += [sample.image, sample.label if isinstance(sample, Sample) else sample.masks]
    if isinstance(dataset[0], Sample):
        model = models.build("unet", width=1, depth=1, in_channels=dataset[0].image.shape[0],
                             num_classes=dataset.num_classes)
        task = SegmentationTask(model, dataset, SegmentationConfig(steps=1, batch=1, tile=4, augment=False))
        found += [part for i in range(3) for part in task.example(i)[:2]]
    return found


@pytest.mark.parametrize(("kind", "damage"), CASES, ids=lambda value: getattr(value, "spec", value))
def test_no_fault_means_the_data_as_written(tmp_path, kind, damage):
    whole, broken = kind(tmp_path / "whole"), kind(tmp_path / "broken")
    reads = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = seen(f"{whole.spec}:{whole.root}")
        DAMAGE[damage](broken)
        report = check(f"{broken.spec}:{broken.root}")  # never ends early
        assert all(str(broken.root) in fault for fault in report.faults)
        try:
            reads = seen(f"{broken.spec}:{broken.root}")
            assert check_readable(open_dataset(f"{broken.spec}:{broken.root}"), quiet=True) == []
        except (DataError, ValueError) as error:
            assert str(broken.root) in str(error)
    same = reads is not None and len(reads) == len(expected) and all(
        a.shape == b.shape and np.allclose(a, b, atol=1e-6) for a, b in zip(reads, expected, strict=True))
    assert same or report.faults, "data check says 0 faults"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.spec)
def test_a_whole_set_has_no_fault(tmp_path, kind):
    whole = kind(tmp_path)
    assert check(f"{whole.spec}:{tmp_path}").faults == []
