"""Draw what trained detectors find and miss: ``python -m tests.benchmarks.cells bccd:FOLDER RUN [RUN ...]``.

RUN is a folder that ``minicv train`` wrote. Draws the figures of docs/results.md: the annotated objects and the
detections, boxes or masks, of the best, the median and the worst image of a split. The images themselves are not drawn,
because they belong to others. The F1 score of an image is 2 * objects found / (objects + detections), for the
detections that ``minicv predict`` draws. The scores of the first RUN, or of that of --by, choose the images; among
equal scores, the image listed first counts as worse.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from minicv.data import open_dataset
from minicv.detection import Detections
from minicv.files import atomic_write
from minicv.metrics.detection import match_detections
from minicv.training import CachedProposals, load_checkpoint
from minicv.viz.detections import detection_sheet

from .report import table

NAMES = {"rcnn": "R-CNN", "sppnet": "SPPNet", "fast_rcnn": "Fast R-CNN", "faster_rcnn": "Faster R-CNN", "yolo": "YOLO",
         "mask_rcnn": "Mask R-CNN"}
POOLS = {"pool": "RoI pooling", "align": "RoIAlign"}


def name_of(model: Any) -> str:
    """Return the name of a detector, for Mask R-CNN with the way it pools."""
    name = model.build_args["model"]
    return NAMES[name] if name != "mask_rcnn" else f"{NAMES[name]}, {POOLS[model.pool]}"


def finder(run: Path) -> tuple[str, Any]:
    """Return a detector's name, and a function that returns the detections in an image (C, H, W) to be drawn."""
    model, _ = load_checkpoint(run / "last.safetensors")
    model.eval()
    given = CachedProposals(model.propose, run / "proposals" / "selective_search") if model.needs_proposals else None

    def find(image: np.ndarray) -> Detections:
        found = model.predict([image], None if given is None else [given(image)])[0]
        return found[found.scores >= model.display_score]

    return name_of(model), find


def f1(found: Detections, truth: Any, threshold: float) -> float:
    truth = truth.for_training()
    return 2 * np.count_nonzero(match_detections(found, truth, threshold) >= 0) / max(len(found) + len(truth.labels), 1)


def short(truth: Any) -> str:
    """Return the name of an image, shortened: those of the nuclei have 64 letters."""
    return truth.name[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--split", default="test")
    parser.add_argument("--by", type=Path, metavar="RUN", help="the run that chooses the images (default: the first)")
    parser.add_argument("--iou", type=float, default=0.5, help="IoU at which an object is found (default: 0.5)")
    parser.add_argument("--figure", type=Path, required=True)
    args = parser.parse_args()
    dataset = open_dataset(args.data, args.split)
    name, find = finder(args.by or args.runs[0])
    scores = np.array([f1(find(sample.image), sample, args.iou)
                       for sample in map(dataset.__getitem__, range(len(dataset)))])
    order = np.argsort(scores, kind="stable")
    shown = order[[-1, len(order) // 2, 0]]
    truths, found = [dataset[int(i)] for i in shown], {}
    for run in args.runs:
        title, find = finder(run)
        found[title] = [find(truth.image) for truth in truths]
    print(f"chosen by {name} of {len(dataset)} images, F1: " + ", ".join(
        f"{short(truth)} {scores[i]:.3f}" for truth, i in zip(truths, shown, strict=True)))
    print("\n".join(table(["F1", *map(short, truths)], [
        [title, *(f"{f1(some, truth, args.iou):.3f}" for some, truth in zip(each, truths, strict=True))]
        for title, each in found.items()])))
    titles = [f"{which}: {short(truth)}" for which, truth in zip(("best", "median", "worst"), truths, strict=True)]
    figure = detection_sheet(truths, found, dataset.class_names, titles, threshold=args.iou)
    with atomic_write(args.figure) as temporary:
        figure.savefig(temporary, dpi=110, format="png", bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    main()
