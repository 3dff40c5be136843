"""minicv evaluate: its table, JSON and report; pycocotools computes the same from what the command exports."""
import contextlib
import io
import json

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.cli import main as cli
from minicv.data import DetectionSample, write_png
from minicv.data.results import Results
from minicv.detection import Detections
from minicv.metrics import CocoEvaluator
from minicv.models.detection.mask_rcnn import MaskRCNN
from minicv.training import save_checkpoint
from tests.models.detection.learning import PROPOSING, TINY
from tests.oracle import require

NAMES = ("cell", "플랫", "a/b")


class Scenes:
    """Eight images of objects of all sizes, some difficult, some crowds, with masks, and what a network finds."""

    class_names, num_classes = NAMES, 3

    def __init__(self, masks=True):
        rng = np.random.default_rng(4)
        self.items, self.found = [], []
        for n in range(8):
            R, (H, W) = rng.integers(0, 7), (230 + n, 230)
            corner, size = rng.uniform(0, 60, (R, 2)), rng.choice([16, 50, 110], (R, 1)) * rng.uniform(0.8, 1.3, (R, 2))
            boxes, labels = np.concatenate([corner, corner + size], axis=1).astype(np.float32), rng.integers(0, 3, R)
            flags = {"difficult": rng.random(R) < 0.15, "crowd": rng.random(R) < 0.1}
            image = np.full((3, H, W), n / 8, np.float32)
            self.items.append(DetectionSample(image, boxes, labels, f"image {n}", self.fill(boxes, (H, W)) if masks else
                                              None, **flags))
            near = np.repeat(np.arange(R), 2)
            found = np.concatenate([boxes[near] + rng.normal(0, 3, (2 * R, 4)), rng.uniform(0, 40, (3, 4))
                                    + (0, 0, 40, 40)]).astype(np.float32)
            classes = np.concatenate([labels[near], rng.integers(0, 3, 3)])
            scores = np.sort(rng.choice(np.linspace(0.05, 0.95, 10), len(found))).astype(np.float32)[::-1]
            self.found.append(Detections(found, scores, classes, self.fill(found + 1, (H, W)) if masks else None))

    @staticmethod
    def fill(boxes, size):
        masks = np.zeros((len(boxes), *size), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, np.maximum(boxes, 0).astype(int), strict=True):
            mask[y1:y2, x1:x2] = True
        return masks

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.fixture
def evaluate(run, monkeypatch, tmp_path):
    """Run ``minicv evaluate`` with a network that finds what ``Scenes`` says."""
    def call(*options, masks=True, dataset=None):
        scenes = Scenes(masks)
        minicv.seed(0)
        tiny = {**TINY, **PROPOSING, "allowed_border": 1e9, "num_classes": 3, "mask_width": 4}
        save_checkpoint(tmp_path / "m.safetensors", models.build("mask_rcnn", **tiny), classes=list(NAMES))
        monkeypatch.setattr(minicv.data, "open_dataset", lambda spec, split="train": dataset or scenes)
        monkeypatch.setattr(MaskRCNN, "predict", lambda self, images, proposals=None, batch=1, score=None: [
            scenes.found[round(8 * float(image[0, 0, 0]))] for image in images])
        code, out, error = run("evaluate", "--checkpoint", tmp_path / "m.safetensors", "--data", "x", *options)
        assert (code, error) == (0, "")
        return out
    return call


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("masks", [True, False])
def test_pycocotools_gives_the_same_on_what_is_exported(evaluate, tmp_path, masks):
    """All twelve numbers, of boxes and of masks, to 1e-9."""
    require("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    out = tmp_path / "report"
    measures = json.loads(evaluate("--json", "--report", out, masks=masks).splitlines()[0])
    names = list(CocoEvaluator(1).summary())
    for prefix, kind in (("COCO", "bbox"), ("mask", "segm"))[:1 + masks]:
        results = json.loads((out / "results.json").read_text())
        if kind == "segm":
            for each in results:  # with boxes, pycocotools would take their areas for those of the masks
                del each["bbox"]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(out / "ground_truth.json"))
            theirs = COCOeval(coco, coco.loadRes(results), kind)
            theirs.evaluate()
            theirs.accumulate()
            theirs.summarize()
        mine = [measures[f"{prefix} {name}"] for name in names]
        assert 0.1 < mine[0] < 0.9 and None not in mine
        np.testing.assert_allclose(mine, theirs.stats, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_results_fit_the_data_sets_own_annotations(evaluate, run, monkeypatch, tmp_path):
    """A data set in COCO's format, with ids of its own: pycocotools measures the results by that file."""
    require("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    (tmp_path / "set" / "images").mkdir()
    own, scenes = Results(NAMES, category_ids=[1, 18, 44]), Scenes(masks=False)
    for n, sample in enumerate(scenes):
        sample = sample.select(~sample.difficult)
        write_png(tmp_path / "set" / "images" / f"{n}.png", sample.image)
        own.add(f"{n}.png", sample.image.shape[1:], Detections.empty(), sample, image_id=397133 + 7 * n)
    annotations = tmp_path / "set" / "annotations" / "instances_test.json"
    own.write_coco(tmp_path / "nothing.json", annotations)
    dataset = minicv.data.open_dataset(f"coco:{tmp_path / 'set'}", "test")
    measures = json.loads(evaluate("--json", "--report", tmp_path / "report", masks=False, dataset=dataset
                                   ).splitlines()[0])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
        theirs = COCOeval(coco, coco.loadRes(str(tmp_path / "report" / "results.json")), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    assert theirs.stats[0] > 0.1
    np.testing.assert_allclose([measures[f"COCO {name}"] for name in CocoEvaluator(1).summary()], theirs.stats, rtol=0,
                               atol=1e-9)


def test_the_ids_of_cocos_own_file_are_kept(evaluate, monkeypatch, tmp_path):
    monkeypatch.setattr(Scenes, "image_ids", [397133 + n for n in range(8)], raising=False)
    monkeypatch.setattr(Scenes, "category_ids", [1, 18, 44], raising=False)
    evaluate("--report", tmp_path)
    truth = json.loads((tmp_path / "ground_truth.json").read_text())
    assert [image["id"] for image in truth["images"]] == Scenes.image_ids
    assert [category["id"] for category in truth["categories"]] == [1, 18, 44]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {each["category_id"] for each in results} == {1, 18, 44}
    assert {each["image_id"] for each in results} == set(Scenes.image_ids)


def test_the_table(evaluate):
    measures, classes, errors = evaluate().split("\n\n")
    assert measures.splitlines()[0].startswith("mAP@0.5 ") and len(measures.splitlines()) == 25
    head, *rows = classes.splitlines()
    assert head.split() == ["class", "objects", "AP@0.5", "AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge",
                            "AR100"]
    assert [row.split()[0] for row in rows] == list(NAMES) and all(len(row.split()) == 10 for row in rows)
    head, *rows = errors.splitlines()
    assert head == "errors at score 0.5       count  AP50 lost"
    assert [row.split()[0] for row in rows] == ["(right)", "class", "location", "both", "duplicate", "background",
                                                "missed"]
    assert "errors at score 0.9 " in evaluate("--score", "0.9")


def test_json_to_a_file(evaluate, fails, tmp_path):
    """The table is printed, and the file has all that the report shows."""
    out = evaluate("--json", tmp_path / "all.json")
    assert out.startswith("mAP@0.5 ")
    document = json.loads((tmp_path / "all.json").read_text())
    assert document["mAP@0.5"] == pytest.approx(float(out.split()[1]), abs=1e-6)
    assert [row["class"] for row in document["classes"]] == list(NAMES) and document["images"] == 8
    assert np.array(document["confusion matrix"]["counts"]).shape == (4, 4)
    message = fails("evaluate", "--checkpoint", tmp_path / "m.safetensors", "--data", "x", "--json", tmp_path / "no/a")
    assert message == f"--json {tmp_path / 'no/a'}: the folder {tmp_path / 'no'} does not exist"


def test_a_report_of_objects(evaluate, fails, tmp_path):
    out = tmp_path / "new" / "report"
    assert evaluate("--report", out).splitlines()[-1] == str(out / "index.html")
    assert sorted(path.name for path in out.iterdir()) == ["ground_truth.json", "index.html", "results.json"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "mask_rcnn on x, test</h1>" in page and "플랫" in page and "<b>image " in page
    (tmp_path / "file").write_text("mine")
    message = fails("evaluate", "--checkpoint", tmp_path / "m.safetensors", "--data", "x", "--report",
                    tmp_path / "file")
    assert message.endswith("is a file, not a folder")


def test_files_are_written_before_anything_is_printed(evaluate, monkeypatch, tmp_path):
    """`minicv evaluate ... | head -3` ends the command at the first line too many."""
    evaluate(masks=False)

    def full(*words, **options):
        raise BrokenPipeError
    monkeypatch.setattr("builtins.print", full)
    args = cli.parser().parse_args(["evaluate", "--checkpoint", str(tmp_path / "m.safetensors"), "--data", "x",
                                    "--json", str(tmp_path / "all.json"), "--report", str(tmp_path / "report")])
    with pytest.raises(BrokenPipeError):
        args.run(args)
    assert (tmp_path / "report" / "index.html").exists() and (tmp_path / "all.json").exists()


def test_a_report_of_labels(run, few_images, tmp_path):
    minicv.seed(0)
    save_checkpoint(tmp_path / "u.safetensors", models.build("unet", width=2, depth=1), classes=["background", "cell"])
    code, text, error = run("evaluate", "--checkpoint", tmp_path / "u.safetensors", "--data", "cells", "--report",
                            tmp_path / "report", "--json", tmp_path / "all.json")
    assert (code, error) == (0, "") and text.splitlines()[-1] == str(tmp_path / "report" / "index.html")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    document = json.loads((tmp_path / "all.json").read_text())
    assert f"mean IU {document['worst images'][0]['mean_iu']:.3f}" in page
    assert document["worst images"][0]["mean_iu"] <= document["worst images"][1]["mean_iu"]
