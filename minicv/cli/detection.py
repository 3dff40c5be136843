"""Train, evaluate and predict with the networks that find objects."""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, training
from ..data.results import Results
from ..errors import UserError, blame_user
from ..files import atomic_write
from ..metrics.detection_analysis import COLUMNS, DetectionAnalysis
from ..models.detection.faster_rcnn import FasterRCNN
from .commands import Evaluation, NetworkCommands, ResultWriter, class_names, display_scale
from .examples import render_objects
from .tables import PAGE, PRINT, class_table, measure_lines


class DetectionCommands(NetworkCommands):
    """The commands of the networks that find objects."""

    task_name = "finds objects"
    config_class = training.DetectionConfig
    train_options = ("flip", "turn", "scale", "jitter")
    predict_options = ("score", "proposals", "comp4")
    sample_class = data.DetectionSample
    data_needed = "a box around every object, as in shape-boxes, bccd:PATH or yolo:PATH"
    suffixes = ("_boxes.png",)
    shared_files = ("results.json", "images.json")

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

    def check_train_options(self, args: argparse.Namespace, config: Any, dataset: Any, model: Any,
                            processes: int = 1) -> None:
        super().check_train_options(args, config, dataset, model, processes)
        if args.validate and getattr(model, "svm", False):
            raise UserError(f"--validate is not for {args.model}: its SVMs, which find the objects, are trained after "
                            "the last step; with --option svm=false its softmax finds them")

    def shrink(self, dataset: Any, model: Any, config: Any) -> Any:
        return training.shrink_large(dataset, model, config.scale)

    def validation(self, dataset: Any, task: Any) -> Callable[[Any], float]:
        return lambda model: training.evaluate_detector(model, dataset, proposer=task.proposer)["mAP@0.5"]

    def examples(self, dataset: Any, task: Any) -> training.RenderExamples:
        return partial(render_objects, dataset, task.proposer)

    def finish_training(self, model: Any, task: Any, quiet: bool) -> bool:
        return training.finish_training(model, task.dataset, task.proposer, quiet)

    def evaluate(self, model: Any, info: dict, args: argparse.Namespace) -> Evaluation:
        proposer = proposals_for(model, args.proposals, Path(args.checkpoint).parent)
        images = self.open_matching_dataset(model, info, args)
        analysis = DetectionAnalysis(images.class_names, model.display_score if args.score is None else args.score)
        results = None if args.report is None else Results(images.class_names, getattr(images, "category_ids", None))
        ids = getattr(images, "image_ids", [None] * len(images))  # COCO's own
        with blame_user():
            predicted = training.detections(model, images, quiet=args.json == PRINT, proposer=proposer)
            for image_id, (sample, found) in zip(ids, predicted, strict=True):
                analysis.update(found, sample)
                if results is not None:
                    results.add(sample.name, sample.image.shape[1:], found, sample, image_id)
        return BoxEvaluation(analysis, images, results)

    def result_writer(self, model: Any, info: dict, args: argparse.Namespace) -> ResultWriter:
        return DetectionWriter(model, class_names(model, info), args)


class BoxEvaluation(Evaluation):
    """What evaluate measured of a network that finds objects; ``results`` are None without a report."""

    def __init__(self, analysis: DetectionAnalysis, dataset: Any, results: Results | None):
        self.analysis, self.dataset, self.results = analysis, dataset, results

    def lines(self) -> list[str]:
        analysis, (_, costs) = self.analysis, self.analysis.costs.costs()
        measures = {name: value for name, value in analysis.measures().items() if not name.startswith("AP@0.5 ")}
        columns = {name: name for name in ("objects", "AP@0.5", *COLUMNS)}
        kinds = [f"{name:<22} {count:>8,}  {costs[name]:.4f}" for name, count in analysis.error_counts.items()]
        return [*measure_lines(measures), "", *class_table(analysis.class_rows(), columns), "",
                f"errors at score {analysis.score:<5g}     count  AP50 lost", f"{'(right)':<22} {analysis.right:>8,}",
                *kinds]

    def write_report(self, folder: Path, title: str) -> None:
        from ..viz.report import detection_page
        assert self.results is not None  # collected with --report
        self.results.write_coco(folder / "results.json", folder / "ground_truth.json")
        with atomic_write(folder / PAGE) as temporary:
            temporary.write_text(detection_page(self.analysis, self.dataset, title), encoding="utf-8")


class DetectionWriter(ResultWriter):
    """Writes images with boxes, one results file of COCO and, by ``--comp4``, VOC's result files."""

    def __init__(self, model: Any, names: list[str], args: argparse.Namespace):
        self.model, self.names, self.comp4 = model, names, args.comp4
        self.proposer = proposals_for(model, args.proposals, None)
        self.score = model.display_score if args.score is None else args.score
        self.results = Results(names)

    def write(self, image: np.ndarray, path: Path, stem: Path) -> str:
        from ..viz import render_detections
        proposals = None if self.proposer is None else [self.proposer(image)]
        found = self.model.predict([image], proposals, score=self.score)[0]
        shown = render_detections(image, found, self.names, display_scale(image))
        data.write_png(f"{stem}_boxes.png", shown.transpose(2, 0, 1))
        self.results.add(path, image.shape[1:], found)
        counts = np.bincount(found.labels, minlength=len(self.names))
        return "  ".join(f"{name}: {n}" for name, n in zip(self.names, counts, strict=True)) if len(found) else (
            f"nothing with a score of {self.score:g} or more")

    def finish(self, folder: Path) -> list[Path]:
        self.results.write_coco(folder / "results.json", folder / "images.json")
        if not self.comp4:
            return [folder / "results.json"]
        return [folder / "results.json", *self.results.write_voc(folder)]


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
