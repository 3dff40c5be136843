"""A corpus of damaged files, and what the readers make of them: ``python -m tests.fuzz [--each N] [--only NAME]``.

Every kind of file that minicv reads is made once as it should be, then changed at random, again and again: bytes,
lines, numbers. For each changed file the reader must give an answer that makes sense, or raise one of the errors that
the command line shows in a line, and the message must name the file; in seconds, within the memory that the caller
allows (``tests/test_fuzz.py``). The last line printed counts the files.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

import minicv
from minicv import data, models, training
from minicv.cli import main as cli
from minicv.course import claims
from minicv.data.download import read_manifest
from minicv.data.files.rle import decode_rle, encode_rle, unpack
from minicv.data.readers.coco import CocoDetection
from minicv.data.readers.panoptic import CocoPanoptic
from minicv.data.readers.voc_detection import VOCDetection
from tests.training.weights.test_torch_files import table, tensor, write_zip

SECONDS = 10  # for one file
ERRORS = (ValueError, TypeError, RuntimeError, OSError)  # as in cli.main; the message is all that a user sees
RNG = np.random.default_rng(0)
SIZE = (12, 16)
IMAGE = RNG.integers(0, 256, (3, *SIZE), np.uint8)
LABEL = RNG.integers(0, 3, SIZE).astype(np.uint8)
MASK = LABEL == 1


class Kind(NamedTuple):
    """``make(folder)`` writes what is read and returns the file to be changed; ``read(folder, file)`` asserts that what
    comes out makes sense. ``text``: whether lines and numbers are changed, too."""

    make: Callable[[Path], Path]
    read: Callable[[Path, Path], None]
    text: bool = False


# ---------------------------------------------------------------------------------------------------------
# Answers that make sense
# ---------------------------------------------------------------------------------------------------------
def check_image(image: np.ndarray) -> None:
    assert image.dtype == np.float32 and image.ndim == 3 and image.size
    assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1


def check_labels(dataset) -> None:
    for i in range(len(dataset)):
        sample = dataset[i]
        check_image(sample.image)
        assert sample.label.shape == sample.image.shape[1:] and sample.label.dtype == np.int64
        assert set(np.unique(sample.label)) <= {*range(dataset.num_classes), data.IGNORE}


def check_objects(dataset) -> None:
    for i in range(len(dataset)):
        sample = dataset[i]
        check_image(sample.image)
        (_, H, W), b = sample.image.shape, sample.boxes
        assert np.isfinite(b).all() and (b[:, 2:] > b[:, :2]).all() and (b >= 0).all() and (b <= [W, H, W, H]).all()
        assert ((sample.labels >= 0) & (sample.labels < dataset.num_classes)).all()
        assert sample.masks is None or (sample.masks.shape == (len(b), H, W) and sample.masks.dtype == bool)
        assert sample.area is None or np.isfinite(sample.area).all()


# ---------------------------------------------------------------------------------------------------------
# The kinds of files
# ---------------------------------------------------------------------------------------------------------
def image_kind(suffix: str, **options) -> Kind:
    def make(folder):
        Image.fromarray(IMAGE.transpose(1, 2, 0)).save(folder / f"a{suffix}", **options)
        return folder / f"a{suffix}"
    return Kind(make, lambda folder, file: check_image(data.read_image(file, "RGB")))


def make_label(folder):
    data.write_png(folder / "a.png", LABEL)
    return folder / "a.png"


def read_a_label(folder, file):
    label = data.read_label(file)
    assert label.dtype == np.int64 and label.ndim == 2


def make_isbi(folder):
    for name, array in (("image", IMAGE[:1]), ("label", MASK)):
        (folder / name).mkdir()
        data.write_png(folder / name / "0.png", array)
    return folder / "label" / "0.png"


def make_camvid(folder):
    for split in ("train", "val"):
        for name, array in ((split, IMAGE), (f"{split}annot", LABEL)):
            (folder / name).mkdir()
            data.write_png(folder / name / "a.png", array)
        (folder / f"{split}.txt").write_text(f"/SegNet/CamVid/{split}/a.png /SegNet/CamVid/{split}annot/a.png\n")
    return folder / "train.txt"


def make_voc(folder):
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    data.write_png(folder / "JPEGImages" / "a.jpg", IMAGE)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    objects = "".join(f"<object>\n<name>{name}</name>\n<difficult>{difficult}</difficult>\n<bndbox>\n<xmin>{x}</xmin>\n"
                      f"<ymin>2</ymin>\n<xmax>{x + 4}</xmax>\n<ymax>9</ymax>\n</bndbox>\n</object>\n"
                      for name, difficult, x in (("cat", 0, 3), ("dog", 1, 8)))
    path = folder / "Annotations" / "a.xml"
    path.write_text("<annotation>\n<size>\n<width>16</width>\n<height>12</height>\n<depth>3</depth>\n</size>\n"
                    f"{objects}</annotation>\n")
    return path


def make_voc_list(folder):
    make_voc(folder)
    return folder / "ImageSets" / "Main" / "train.txt"


def make_coco(folder):
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    data.write_png(folder / "val2017" / "b.png", IMAGE)
    rle = {"size": list(MASK.shape), "counts": unpack(encode_rle(MASK)["counts"])}
    things = [{"id": i, "image_id": 1, "category_id": 3, "bbox": [2, 1, 4, 3 + i], "area": 11.5, "iscrowd": i,
               "segmentation": outline} for i, outline in enumerate(([[2.0, 1.0, 6.0, 1.0, 6.0, 4.0]], rle))]
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "b.png", "height": 12, "width": 16}], "annotations":
                                things, "categories": [{"id": 3, "name": "car"}]}, indent=0))
    return path


def make_panoptic(folder):
    (folder / "annotations" / "panoptic_val").mkdir(parents=True)
    (folder / "val").mkdir()
    data.write_png(folder / "val" / "p.png", IMAGE)
    data.write_png(folder / "annotations" / "panoptic_val" / "p.png", np.stack([LABEL, 0 * LABEL, 0 * LABEL]))
    path = folder / "annotations" / "panoptic_val.json"
    path.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "p.png", "height": 12, "width": 16}],
        "categories": [{"id": 9, "name": "sky", "isthing": 0}, {"id": 2, "name": "car", "isthing": 1}],
        "annotations": [{"image_id": 1, "file_name": "p.png", "segments_info": [
            {"id": 1, "category_id": 9, "iscrowd": 0}, {"id": 2, "category_id": 2, "iscrowd": 0}]}]}, indent=0))
    return path


def read_panoptic(folder, file):
    dataset = CocoPanoptic(folder, "val")
    for i in range(len(dataset)):
        sample = dataset[i]
        check_image(sample.image)
        assert sample.segments.shape == sample.image.shape[1:] and sample.segments.min() >= 0
        assert sample.segments.max() <= len(sample.classes) == len(sample.crowd)
        assert set(sample.classes.tolist()) <= set(range(len(dataset.class_names)))


def make_dsb(folder):
    (folder / "stage1_train" / "a" / "images").mkdir(parents=True)
    (folder / "stage1_train" / "a" / "masks").mkdir()
    data.write_png(folder / "stage1_train" / "a" / "images" / "a.png", IMAGE)
    (folder / "train.txt").write_text("a\n")
    path = folder / "stage1_train" / "a" / "masks" / "m.png"
    data.write_png(path, MASK)
    return path


def make_rle(folder):
    plain = unpack(encode_rle(MASK)["counts"])
    (folder / "rle.json").write_text(json.dumps([{"size": list(MASK.shape), "counts": plain},
                                                 {"size": [3, 4], "counts": "024"}]))
    return folder / "rle.json"


def read_rle(folder, file):
    """Masks that stand in a file: a value that decode_rle must cope with, whatever JSON makes of it."""
    try:
        rles = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return
    for rle in rles if isinstance(rles, list) else [rles]:
        try:
            mask = decode_rle(rle)
        except (ValueError, TypeError) as error:
            assert "decode_rle" in str(error)
        else:
            assert mask.dtype == bool and list(mask.shape) == list(rle["size"])


def make_manifest(folder):
    path = folder / "list.tsv"
    path.write_text("# source: github.com/somebody/something at commit " + "0" * 40 + "\n"
                    + "".join(f"BCCD/Annotations/{i}.xml\t{4791 + i}\t{'ab' * 32}\n" for i in range(4)))
    return path


def read_a_manifest(folder, file):
    home, files = read_manifest(file, "BCCD/")
    assert home.startswith("https://raw.githubusercontent.com/") and files
    for f in files:
        assert (folder / f.path).resolve().is_relative_to(folder.resolve()) and 0 <= f.size < 10 ** 12


def tiny():
    minicv.seed(0)
    return models.build("unet", width=1, depth=1)


def job():
    model = tiny()
    config = training.SegmentationConfig(steps=4, batch=1, tile=20)
    return training.Training(training.SegmentationTask(model, data.Cells(1, 32), config))


def make_checkpoint(folder):
    training.save_checkpoint(folder / "model.safetensors", tiny(), data="cells")
    return folder / "model.safetensors"


def read_checkpoint(folder, file):
    model, info = training.load_checkpoint(file)
    assert info == {"data": "cells"}
    for name, value in tiny().state_dict().items():  # the checksum notices every change
        np.testing.assert_array_equal(model.state_dict()[name], value)


def make_run(folder):
    training.Run(job(), folder, quiet=True).run()
    return folder / "last.safetensors"


def make_metrics(folder):
    make_run(folder)
    return folder / "metrics.jsonl"


def read_run(folder, file):
    run = training.Run(job(), folder, quiet=True)
    run.resume()
    assert run.training.step == 4 and all(0 < line["step"] <= 4 for line in run.lines)


def make_pth(folder):
    six = np.arange(6, dtype="f4")
    write_zip(folder / "w.pth", table(a=tensor("0", (6,), (1,)), b=tensor("0", (2, 3), (3, 1))), {"0": six.tobytes()})
    return folder / "w.pth"


def make_safetensors(folder):
    save_file({"a": np.arange(6, dtype="f4"), "b": np.arange(6, dtype="f8").reshape(2, 3)}, folder / "w.safetensors")
    return folder / "w.safetensors"


def read_weights(folder, file):
    weights = training.read_weights(file)
    assert all(isinstance(name, str) and array.nbytes <= file.stat().st_size for name, array in weights.items())


def make_proposals(folder):
    cache = training.CachedProposals(lambda image: np.array([[1.0, 2, 5, 7], [0, 0, 16, 12]], np.float32), folder)
    cache(IMAGE[:1] / np.float32(255))
    (path,) = folder.glob("*.npz")
    return path


def read_proposals(folder, file):
    found = training.CachedProposals(lambda image: np.zeros((0, 4), np.float32), folder)(IMAGE[:1] / np.float32(255))
    assert found.dtype == np.float32 and found.ndim == 2 and found.shape[1] == 4 and np.isfinite(found).all()


def make_claims(folder):
    path = folder / "08_unet.json"
    path.write_text(json.dumps({"lesson": "08_unet", "quick": False, "date": "2026-01-01", "seed": 0, "data": None,
                                "seconds": 3.5, "machine": "two cores", "claims": [
                                    {"id": "S2", "source": "U-Net, Fig. 2", "claim": "no seams", "found": "0.0",
                                     "holds": True}]}, indent=0))
    return path


def read_claims(folder, file):
    assert "claims measured" in claims.table(claims.load_runs(folder))


def make_command(folder):
    path = folder / "arguments.txt"
    words = ("train unet --data cells --width 4 --option depth=1 --steps 20 --batch 2 --lr 0.01 --tile 20 --scale 1.5 "
             "--jitter 0.1 --seed 3 --workers 1 --save-every 60 --out")
    path.write_text("".join(f"{word}\n" for word in [*words.split(), f"{folder}/out"]))
    return path


def read_command(folder, file):
    """A command line, an argument in each line. Nothing is trained."""
    arguments = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    output = io.StringIO()

    def stop(*_, **__):
        raise SystemExit(0)
    originals = data.open_dataset, training.Run.run
    training.Run.run = stop
    data.open_dataset = lambda spec, split="train": originals[0](spec, split, count=1, size=(32, 32))
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            code = cli.main(arguments)
    except SystemExit as end:  # argparse
        code = end.code
    finally:
        data.open_dataset, training.Run.run = originals
    assert code in (0, 2), code
    assert code == 0 or output.getvalue().splitlines()[-1].startswith("minicv"), output.getvalue()


KINDS = {
    "png": image_kind(".png"), "jpeg": image_kind(".jpg"), "tiff": image_kind(".tif"), "bmp": image_kind(".bmp"),
    "label": Kind(make_label, read_a_label),
    "membranes": Kind(make_isbi, lambda folder, file: check_labels(data.ISBI2012(folder))),
    "camvid list": Kind(make_camvid, lambda folder, file: check_labels(data.CamVid(folder, "train")), True),
    "voc annotation": Kind(make_voc, lambda folder, file: check_objects(VOCDetection(folder)), True),
    "voc list": Kind(make_voc_list, lambda folder, file: check_objects(VOCDetection(folder)), True),
    "coco": Kind(make_coco, lambda folder, file: check_objects(CocoDetection(folder, "val")), True),
    "panoptic": Kind(make_panoptic, read_panoptic, True),
    "nuclei": Kind(make_dsb, lambda folder, file: check_objects(data.DSB2018(folder))),
    "run lengths": Kind(make_rle, read_rle, True), "manifest": Kind(make_manifest, read_a_manifest, True),
    "checkpoint": Kind(make_checkpoint, read_checkpoint), "run": Kind(make_run, read_run),
    "metrics": Kind(make_metrics, read_run, True), "pth": Kind(make_pth, read_weights),
    "safetensors": Kind(make_safetensors, read_weights), "proposals": Kind(make_proposals, read_proposals),
    "claims": Kind(make_claims, read_claims, True), "command line": Kind(make_command, read_command, True),
}

# ---------------------------------------------------------------------------------------------------------
# Changes
# ---------------------------------------------------------------------------------------------------------
STRANGE = [b"", b"-1", b"0", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""', b"true", b"99999999999999999999", b"-0.5",
           b"1e9", b"\0", b"..", b"/", b"[[[]]]", b'{"a": 1}', b"\xff", b"4294967295", b"--help", b"=", b"<a>", b"&lt;"]
NUMBER = re.compile(rb"-?\d+\.?\d*")


def change(content: bytes, rng: np.random.Generator, text: bool) -> bytes:
    """One to three changes of any kind."""
    for _ in range(rng.integers(1, 4)):
        changes = CHANGES_OF_TEXT if text and rng.random() < 0.8 else CHANGES
        content = changes[rng.integers(len(changes))](content, rng)
    return content


def flip(c, rng):
    out = bytearray(c)
    for i in rng.integers(0, max(len(c), 1), rng.integers(1, 9)) if c else ():
        out[i] ^= 1 << rng.integers(8)
    return bytes(out)


def extreme(c, rng):
    i, n = rng.integers(0, len(c) + 1), rng.integers(1, 5)
    return c[:i] + bytes([rng.choice([0, 255, 127, 128])]) * int(n) + c[i + n:]


def cut(c, rng):
    return c[:rng.integers(0, len(c) + 1)]


def drop(c, rng):
    i, j = sorted(rng.integers(0, len(c) + 1, 2))
    return c[:i] + c[j:]


def repeat(c, rng):
    i, j = sorted(rng.integers(0, len(c) + 1, 2))
    return c[:j] + c[i:j] + c[j:]


def insert(c, rng):
    i = rng.integers(0, len(c) + 1)
    return c[:i] + rng.bytes(rng.integers(1, 20)) + c[i:]


def number(c, rng):
    """Another number, or something that is none."""
    places = list(NUMBER.finditer(c))
    if not places:
        return c
    m = places[rng.integers(len(places))]
    return c[:m.start()] + STRANGE[rng.integers(len(STRANGE))] + c[m.end():]


def word(c, rng):
    """A word, or what stands in quotes, as something else."""
    places = list(re.finditer(rb'"[^"\n]*"|[A-Za-z]+', c))
    if not places:
        return c
    m = places[rng.integers(len(places))]
    return c[:m.start()] + STRANGE[rng.integers(len(STRANGE))] + c[m.end():]


def line(c, rng):
    """A line less, twice, or elsewhere."""
    lines = c.splitlines(keepends=True) or [b""]
    i, j = rng.integers(0, len(lines), 2)
    return b"".join([lines[:i] + lines[i + 1:], [*lines[:i], lines[i], *lines[i:]],
                     [*lines[:i], lines[j], *lines[i + 1:]]][rng.integers(3)])


CHANGES = [flip, extreme, cut, drop, repeat, insert]
CHANGES_OF_TEXT = [number, number, number, word, word, line, line]


# ---------------------------------------------------------------------------------------------------------
# The corpus
# ---------------------------------------------------------------------------------------------------------
class Slow(BaseException):
    """A file that took too long."""


def attempt(kind: Kind, folder: Path, file: Path) -> str:
    """"read", "refused", or what went wrong."""
    def alarm(*_):
        raise Slow
    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", data.DataWarning)
            kind.read(folder, file)
        return "read"
    except ERRORS as error:
        if str(folder) not in str(error) and "no such file" not in str(error).lower():  # but one named in a list
            return f"its error does not name the file: {type(error).__name__}: {error}"
        return "refused" if len(str(error)) < 2000 else f"an error of {len(str(error))} characters"
    except Slow:
        return f"not done after {SECONDS} s"
    except BaseException as error:  # KeyError, AssertionError, MemoryError, RecursionError, ...
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


def run(names: list[str], each: int, seed: int, out: Path) -> int:
    """Try all; what went wrong is printed and the files are kept in ``out``. How many went wrong."""
    wrong, counts = 0, Counter()
    for name in names:
        kind = KINDS[name]
        folder = out / name.replace(" ", "_")
        folder.mkdir(parents=True)
        file = kind.make(folder)
        content = file.read_bytes()
        assert attempt(kind, folder, file) == "read", f"{name}: as it should be: {attempt(kind, folder, file)}"
        own = Counter()
        for i in range(each):
            file.write_bytes(change(content, np.random.default_rng([seed, i, len(content)]), kind.text))
            result = attempt(kind, folder, file)
            if result not in ("read", "refused"):
                kept = out / f"{name.replace(' ', '_')}_{i}"
                shutil.copy(file, kept)
                print(f"{name}, change {i}: {result} ({kept})", flush=True)
                wrong += 1
            own[result if result in ("read", "refused") else "wrong"] += 1
        counts += own
        print(f"{name:<16} {own['read']:>5} read  {own['refused']:>5} refused  {own['wrong']:>3} wrong", flush=True)
    print(f"{counts.total()} damaged files of {len(names)} kinds: {counts['read']} read, {counts['refused']} refused, "
          f"{wrong} wrong")
    return wrong


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--each", type=int, default=100, help="changed files of each kind")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", choices=list(KINDS), action="append")
    arguments.add_argument("--out", type=Path, default=None, help="an empty folder for the files")
    options = arguments.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="minicv-fuzz-"))
    sys.exit(1 if run(options.only or list(KINDS), options.each, options.seed, out) else 0)
