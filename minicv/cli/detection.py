"""Train, evaluate and predict with the networks that find objects."""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, training
from ..errors import UserError, blame_user
from ..files import atomic_write
from ..models.detection.faster_rcnn import FasterRCNN
from .commands import NetworkCommands, class_names, display_scale


class DetectionCommands(NetworkCommands):
    """The commands of the networks that find objects."""

    task_name = "finds objects"
    config_class = training.DetectionConfig
    train_options = ("flip", "turn", "scale", "jitter")
    predict_options = ("score", "proposals")
    sample_class = data.DetectionSample
    data_needed = "a box around every object, as in shape-boxes, bccd:PATH or coco:PATH"
    suffixes = (".json", "_boxes.png")

    def make_task(self, model: Any, dataset: Any, config: Any, args: argparse.Namespace) -> training.Task:
        return training.DetectionTask(model, dataset, config, proposals_for(model, args.proposals, args.out))

    def make_tasks(self, model: Any, dataset: Any, config: Any, args: argparse.Namespace
                   ) -> Iterator[tuple[str, training.Task]]:
        if not args.alternating or not isinstance(model, FasterRCNN):
            yield from super().make_tasks(model, dataset, config, args)
            return
        if args.proposals is not None:
            raise UserError("--alternating makes its own proposals; leave out --proposals")
        tasks = training.alternating_tasks(model, dataset, config)
        for task, folder in zip(tasks, ("1_rpn", "2_head", "3_rpn", ""), strict=True):
            yield folder, task

    def validation(self, model: Any, args: argparse.Namespace) -> Callable[[Any], float]:
        images = self.open_dataset(args.data, "val", args.model)
        proposer = proposals_for(model, args.proposals, args.out)
        return lambda model: training.evaluate_detector(model, images, proposer=proposer)["mAP@0.5"]

    def finish_training(self, model: Any, task: Any, quiet: bool) -> bool:
        return training.finish_training(model, task.dataset, task.proposer, quiet)

    def evaluate(self, model: Any, info: dict, args: argparse.Namespace) -> dict[str, float]:
        proposer = proposals_for(model, args.proposals, Path(args.checkpoint).parent)
        images = self.open_matching_dataset(model, info, args)
        with blame_user():
            return training.evaluate_detector(model, images, quiet=args.json, proposer=proposer)

    def result_writer(self, model: Any, info: dict, args: argparse.Namespace) -> Callable[[np.ndarray, Path], str]:
        from ..viz import render_detections
        names, proposer = class_names(model, info), proposals_for(model, args.proposals, None)
        score = model.display_score if args.score is None else args.score

        def write(image: np.ndarray, stem: Path) -> str:
            found = model.predict([image], None if proposer is None else [proposer(image)], score=score)[0]
            with atomic_write(f"{stem}.json") as temporary:
                temporary.write_text(json.dumps({"height": image.shape[1], "width": image.shape[2],
                                                 "objects": objects(found, names)}))
            shown = render_detections(image, found, names, display_scale(image))
            data.write_png(f"{stem}_boxes.png", shown.transpose(2, 0, 1))
            counts = np.bincount(found.labels, minlength=len(names))
            return "  ".join(f"{name}: {n}" for name, n in zip(names, counts, strict=True)) if len(found) else (
                f"nothing with a score of {score:g} or more")
        return write


def objects(found: Any, names: list[str]) -> list[dict[str, Any]]:
    """Return detections as JSON holds them: class, score, box (x1, y1, x2, y2) in pixels, mask as RLE."""
    from ..data.files.rle import encode_rle
    result = [{"class": names[k], "score": round(s, 4), "box": [round(v, 2) for v in box]} for k, s, box in
              zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)]
    for each, mask in zip(result, () if found.masks is None else found.masks, strict=False):
        each["mask"] = encode_rle(mask)
    return result


def proposals_for(model: Any, checkpoint: str | None, folder: Path | None) -> training.Proposer | None:
    """Return where a detector's proposals come from, cached in ``folder``/proposals; None if it uses none.

    ``checkpoint``: a Faster R-CNN whose RPN proposes; by default the model proposes, by selective search.
    """
    if checkpoint is None and not model.needs_proposals:
        return None
    if not model.needs_proposals and not isinstance(model, FasterRCNN):
        raise UserError(f"--proposals is not for {model.build_args['model']}, which uses none")
    source, name = model.propose, "selective_search"
    if checkpoint is not None:
        rpn: Any = training.load_checkpoint(checkpoint, expect="faster_rcnn")[0]
        source, name = rpn.propose, Path(checkpoint).parent.resolve().name
    return training.CachedProposals(source, None if folder is None else folder / "proposals" / name)
