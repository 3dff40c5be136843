"""Train, evaluate and predict with the networks that label pixels."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, training
from ..data.readers.voc_segmentation import palette
from ..errors import UserError, blame_user
from ..files import atomic_write
from ..metrics.segmentation_analysis import SegmentationAnalysis
from .commands import Evaluation, NetworkCommands, ResultWriter, class_names, display_scale
from .examples import render_pixels
from .tables import PAGE, PRINT, class_table, measure_lines

VOC_COLORS = palette()


class SegmentationCommands(NetworkCommands):
    """The commands of the networks that label pixels."""

    task_name = "labels pixels"
    config_class = training.SegmentationConfig
    train_options = ("tile", "elastic", "scale", "jitter", "augment", "weight_map", "class_weights", "two_stage")
    predict_options = ("tile", "average", "scales", "flip")
    sample_class = data.Sample
    data_needed = "a class for every pixel, as in cells, camvid:PATH or masks:PATH"
    suffixes = ("_labels.png", "_overlay.png")
    shared_files = ("legend.png", "legend.txt")

    def make_task(self, model: Any, dataset: Any, config: Any, args: argparse.Namespace) -> training.Task:
        return training.SegmentationTask(model, dataset, config)

    def fit_config(self, args: argparse.Namespace, dataset: Any, config: Any) -> Any:
        """Small images are taken whole if they are upright; others get a tile that fits into each of them."""
        if args.tile is not None or args.preset != "compact" or config.tile is None:
            return config
        sizes = training.image_sizes(dataset)
        if getattr(dataset, "upright", False):
            whole = len(sizes) == 1 and max(max(size) for size in sizes) <= config.tile
            return config.replace(tile=None) if whole else config
        return config.replace(tile=min([config.tile, *(min(size) for size in sizes)]))

    def validation(self, dataset: Any, task: Any) -> Callable[[Any], float]:
        return lambda model: training.evaluate_segmentation(model, dataset)["mean_iu"]

    def examples(self, dataset: Any, task: Any) -> training.RenderExamples:
        return partial(render_pixels, dataset)

    def check_train_options(self, args: argparse.Namespace, config: Any, dataset: Any, model: Any,
                            processes: int = 1) -> None:
        super().check_train_options(args, config, dataset, model, processes)
        if args.proposals is not None:
            raise UserError(f"--proposals is not for {args.model}, which {self.task_name}")
        if args.weight_map and dataset[0].instances is None:
            raise UserError(f"--weight-map is not for --data {args.data}, which does not tell objects apart")
        upright = getattr(dataset, "upright", False)
        without = "--no-augment" if args.augment is False else "--two-stage" if args.two_stage else None
        for option in ("elastic", "scale", "jitter"):
            if getattr(args, option) is not None and without:
                raise UserError(f"--{option} has no effect with {without}")
            if getattr(args, option) is not None and upright == (option == "elastic"):
                raise UserError(f"--{option} is not for --data {args.data}, whose images " + (
                    "have an upright direction: --scale and --jitter change them" if upright else
                    "have no upright direction: --elastic deforms them"))

    def evaluate(self, model: Any, info: dict, args: argparse.Namespace) -> Evaluation:
        dataset = self.open_matching_dataset(model, info, args)
        threshold_data = None
        if getattr(dataset, "membranes", False):
            threshold_data = self.open_dataset(args.data, "train", model.build_args["model"])
        with blame_user():
            analysis = training.analyze_segmentation(model, dataset, threshold_data, quiet=args.json == PRINT,
                                                     **predict_arguments(args))
        return LabelEvaluation(analysis, dataset)

    def result_writer(self, model: Any, info: dict, args: argparse.Namespace) -> ResultWriter:
        return LabelWriter(model, class_names(model, info), args)


class LabelEvaluation(Evaluation):
    """What evaluate measured of a network that labels pixels."""

    def __init__(self, analysis: SegmentationAnalysis, dataset: Any):
        self.analysis, self.dataset = analysis, dataset

    def lines(self) -> list[str]:
        measures = {name: value for name, value in self.analysis.measures().items() if not name.startswith("iu ")}
        columns = {name: name for name in ("pixels", "predicted", "accuracy", "IU")}
        return [*measure_lines(measures), "", *class_table(self.analysis.class_rows(), columns)]

    def write_report(self, folder: Path, title: str) -> None:
        from ..viz.report import segmentation_page
        with atomic_write(folder / PAGE) as temporary:
            temporary.write_text(segmentation_page(self.analysis, self.dataset, title), encoding="utf-8")


def predict_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a network's ``predict`` from the options."""
    return {"tile": args.tile, "average": args.average, "scales": args.scales or (1.0,), "flip": args.flip}


class LabelWriter(ResultWriter):
    """Writes label maps as palette images in VOC's colors, images with the classes in color, and a legend."""

    def __init__(self, model: Any, names: list[str], args: argparse.Namespace):
        self.model, self.names, self.args = model, names, args
        self.palette = VOC_COLORS if len(names) <= len(VOC_COLORS) else None  # more classes do not fit 8 bits
        model.predict([], **predict_arguments(args))  # refuses bad ones before the first image

    def write(self, image: np.ndarray, path: Path, stem: Path) -> str:
        from ..viz import render_segmentation
        result = self.model.predict([image], **predict_arguments(self.args))[0]
        data.write_png(f"{stem}_labels.png", result.labels, self.palette)
        overlay = render_segmentation(image, result.labels, self.names, display_scale(image))
        data.write_png(f"{stem}_overlay.png", overlay.transpose(2, 0, 1))
        shares = np.bincount(result.labels.ravel(), minlength=len(self.names)) / result.labels.size
        return "  ".join(f"{name}: {share:.1%}" for name, share in zip(self.names, shares, strict=True))

    def finish(self, folder: Path) -> list[Path]:
        from ..viz import render_legend
        if self.palette is None:
            return []
        data.write_png(folder / "legend.png", render_legend(self.names, self.palette).transpose(2, 0, 1))
        lines = (f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(self.names, self.palette.tolist(), strict=False))
        with atomic_write(folder / "legend.txt") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
        return [folder / "legend.png", folder / "legend.txt"]
