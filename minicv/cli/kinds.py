"""What the command line knows of each kind of network: how it is trained and measured, and how its answers are written.

``KINDS`` is the table: networks that label pixels, and networks that find objects.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, models, training
from ..errors import UserError, blame_user
from ..files import atomic_write
from ..models.detection.faster_rcnn import FasterRCNN
from ..nn import BatchNorm2d, Module

ALL = ("steps", "batch", "optimizer", "lr", "momentum", "weight_decay", "schedule", "milestones", "gamma", "warmup",
       "freeze_bn", "seed")  # options of every config


class Kind:
    """``config``: the class of its training's numbers, of which the command line sets ``ALL`` and ``options``."""

    does = ""
    config: type[training.TrainConfig]
    options: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()  # options of evaluate and predict
    sample: type  # what a data set for it holds,
    needs = ""  # and that in words
    suffixes: tuple[str, ...]  # of the files that predict writes for an image; the last is for the eye

    def open(self, spec: str, split: str, model: str) -> Any:
        """A split of a data set; ``UserError`` if it holds no image, or nothing for the network ``model``."""
        with blame_user(f"--data {spec}"):
            dataset = data.open_dataset(spec, split)
        if not len(dataset):
            raise UserError(f"--data {spec}: the split {split} has no image")
        if not isinstance(dataset[0], self.sample):
            raise UserError(f"--data {spec} is not for {model}, which {self.does} and needs {self.needs}")
        return dataset

    def open_as_trained(self, model: Module, info: dict, args: argparse.Namespace) -> Any:
        """The split to evaluate a checkpoint on; ``UserError`` if its classes or channels are not those of the
        training."""
        dataset = self.open(args.data, args.split, model.build_args["model"])
        known, here = info.get("classes"), list(dataset.class_names)
        if known is None and model.num_classes != dataset.num_classes:
            raise UserError(f"{args.checkpoint}: knows {model.num_classes} classes, and {args.data} has "
                            f"{dataset.num_classes}: {few(here)}")
        if known is not None and known != here:
            apart = [f"only the {where} has {few(names)}" for where, names in (
                ("checkpoint", [c for c in known if c not in here]), ("data set", [c for c in here if c not in known]))
                if names] or [f"the checkpoint has {few(known)}, the data set {few(here)}"]
            raise UserError(f"{args.checkpoint}: its {len(known)} classes are not, in their order, the {len(here)} of "
                            f"--data {args.data}: {'; '.join(apart)}")
        channels = len(dataset[0].image)
        if channels != model.in_channels:
            raise UserError(f"{args.checkpoint}: takes images of {model.in_channels} channels; those of --data "
                            f"{args.data} have {channels}")
        return dataset

    def refuse_others(self, name: str, args: argparse.Namespace) -> None:
        """``UserError`` for an option of evaluate or predict that only another kind of network uses."""
        given = [name for name, value in vars(args).items() if value is not None and value is not False]  # 0 is given
        strange = [o for kind in KINDS.values() for o in kind.answers if o in given and o not in self.answers]
        if strange:
            raise UserError(f"--{strange[0]} is not for {name}, which {self.does}")

    def check(self, args: argparse.Namespace, config: training.TrainConfig, dataset: Any, model: Module,
              processes: int = 1) -> None:
        """``UserError`` for an option of train that would change nothing for this network and data."""
        batch_norm = any(isinstance(module, BatchNorm2d) for module in model.modules())
        if args.freeze_bn is not None and not batch_norm:
            raise UserError(f"--{'' if args.freeze_bn else 'no-'}freeze-bn is not for this {args.model}, which has no "
                            "batch norm")
        if args.sync_batch_norm and (processes == 1 or not batch_norm or config.freeze_bn):
            raise UserError("--sync-batch-norm " + (
                "is for several processes, as in `mpirun -n 2 minicv train ...`" if processes == 1 else
                f"is not for this {args.model}, which has no batch norm" if not batch_norm else
                "changes nothing where batch norm is frozen"))

    def chosen(self, name: str, args: argparse.Namespace) -> training.TrainConfig:
        """The config of the model ``name``, changed by the command line; ``UserError`` for options that do not fit.

        The numbers that the network has for its own optimizer or schedule are not for another one.
        """
        strange = [o for kind in KINDS.values() for o in kind.options
                   if o not in self.options and getattr(args, o, None) is not None]
        if strange:
            raise UserError(f"--{strange[0].replace('_', '-')} is not for {name}, which {self.does}")
        numbers = dict(models.model_class(name).TRAIN_DEFAULTS[args.preset])
        if args.optimizer not in (None, numbers.get("optimizer", self.config.optimizer)):
            numbers = {option: value for option, value in numbers.items()
                       if option not in ("lr", "momentum", "weight_decay", "warmup_start")}
            if args.optimizer == "adam":
                numbers |= training.ADAM_DEFAULTS
        if args.schedule not in (None, numbers.get("schedule", self.config.schedule)):
            numbers = {option: value for option, value in numbers.items() if option not in ("milestones", "gamma")}
        given = {option: getattr(args, option) for option in (*ALL, *self.options)
                 if getattr(args, option) is not None}
        merged = {"optimizer": self.config.optimizer, "schedule": self.config.schedule, "milestones": (), **numbers,
                  **given}
        if merged["optimizer"] == "adam" and "momentum" in given:
            raise UserError("--momentum is for the optimizer sgd, not for adam")
        for option in {"milestones", "gamma"} & given.keys():
            if merged["schedule"] != "step":
                raise UserError(f"--{option} is for --schedule step, not for {merged['schedule']}")
        if merged["schedule"] == "step" and not merged["milestones"]:
            raise UserError("--schedule step needs --milestones, fractions of the steps, as in --milestones 0.75,0.9")
        try:
            return self.config(**merged)
        except training.ConfigError as error:
            value = ",".join(map(str, error.value)) if isinstance(error.value, tuple) else error.value
            raise UserError(f"--{error.field.replace('_', '-')} {value}: {error.reason}") from error

    def task(self, dataset: Any, config: training.TrainConfig, model: Module,
             args: argparse.Namespace) -> training.Task:
        """What the training loop asks for examples."""
        raise TypeError(f"{type(self).__name__} has no task")

    def tasks(self, dataset: Any, config: training.TrainConfig, model: Module,
              args: argparse.Namespace) -> Iterator[tuple[str, training.Task]]:
        """One training after the other, and the folder of each in that of the run: one, in that folder itself.

        Each is to be done before the next is asked for. ``UserError`` where one cannot be parted.
        """
        if args.alternating:
            raise UserError(f"--alternating is not for {args.model}; it is for faster_rcnn and mask_rcnn")
        yield "", self.task(dataset, config, model, args)

    def about(self, dataset: Any) -> dict[str, Any]:
        """What a checkpoint is to say of its data, beside where they come from."""
        return {"classes": list(dataset.class_names)}

    def validation(self, model: Module, args: argparse.Namespace) -> Callable[[Module], float]:
        """A number for a model in training, the higher the better, from the split "val"."""
        raise TypeError(f"{type(self).__name__} has no validation")

    def after(self, model: Module, task: training.Task, args: argparse.Namespace) -> bool:
        """Train what the loop did not; False if there was nothing."""
        return False

    def evaluate(self, model: Module, info: dict, args: argparse.Namespace) -> dict[str, float]:
        """The field's measures on a split of a data set; NaN where there is nothing to measure."""
        raise TypeError(f"{type(self).__name__} has no evaluate")

    def writer(self, model: Module, info: dict, args: argparse.Namespace) -> Callable[[np.ndarray, Path], str]:
        """A function that predicts an image and writes ``suffixes`` to the path given; it returns what was found."""
        raise TypeError(f"{type(self).__name__} has no writer")


class Segmentation(Kind):
    """Networks that label pixels."""

    does = "labels pixels"
    sample, needs = data.Sample, "a class for every pixel, as in cells, street-scenes or camvid:PATH"
    config = training.SegmentationConfig
    options = ("tile", "elastic", "scale", "jitter", "augment", "weight_map", "class_weights", "two_stage")
    answers = ("tile", "average")
    suffixes = "_labels.png", "_overlay.png"

    def task(self, dataset, config, model, args):
        return training.SegmentationTask(model, dataset, config)

    def validation(self, model, args):
        from ..training.evaluate import evaluate_segmentation
        pictures = self.open(args.data, "val", args.model)
        return lambda model: evaluate_segmentation(model, pictures)["mean_iu"]

    def check(self, args, config, dataset, model, processes=1):
        super().check(args, config, dataset, model, processes)
        if args.proposals is not None:
            raise UserError(f"--proposals is not for {args.model}, which {self.does}")
        if args.weight_map and dataset[0].instances is None:
            raise UserError(f"--weight-map is not for --data {args.data}, which does not tell objects apart")
        upright = getattr(dataset, "upright", False)
        without = "--no-augment" if args.augment is False else "--two-stage" if args.two_stage else None
        for option in ("elastic", "scale", "jitter"):
            if getattr(args, option) is not None and without:
                raise UserError(f"--{option} changes nothing with {without}")
            if getattr(args, option) is not None and upright == (option == "elastic"):
                raise UserError(f"--{option} is not for --data {args.data}, whose images " + (
                    "stay upright: they are changed by --scale and --jitter" if upright else
                    "may be turned: they are bent, by --elastic"))

    def evaluate(self, model, info, args):
        from ..training.evaluate import evaluate_segmentation
        measured = self.open_as_trained(model, info, args)
        chosen_on = None  # the images for the threshold
        if getattr(measured, "membranes", False):
            chosen_on = self.open(args.data, "train", model.build_args["model"])
        with blame_user():
            return evaluate_segmentation(model, measured, chosen_on, quiet=args.json, tile=args.tile,
                                         average=args.average)

    def writer(self, model, info, args):
        from ..viz import render_segmentation
        names = class_names(model, info)
        model.predict([], args.tile)  # the tile is checked before the first image

        def write(image, stem):
            result = model.predict([image], args.tile, args.average)[0]
            data.write_png(f"{stem}_labels.png", result.labels)
            shown = render_segmentation(image, result.labels, names, enlargement(image))
            data.write_png(f"{stem}_overlay.png", shown.transpose(2, 0, 1))
            shares = np.bincount(result.labels.ravel(), minlength=len(names)) / result.labels.size
            return "  ".join(f"{name}: {share:.1%}" for name, share in zip(names, shares, strict=True))
        return write


class Detection(Kind):
    """Networks that find objects."""

    does = "finds objects"
    sample, needs = data.DetectionSample, "a box around every object, as in shape-boxes, bccd:PATH or coco:PATH"
    config = training.DetectionConfig
    options = ("flip", "turn", "scale", "jitter")
    answers = ("score", "proposals")
    suffixes = ".json", "_boxes.png"

    def task(self, dataset, config, model, args):
        return training.DetectionTask(model, dataset, config, proposer(model, args, args.out))

    def tasks(self, dataset, config, model, args):
        if not args.alternating or not isinstance(model, FasterRCNN):
            yield from super().tasks(dataset, config, model, args)
            return
        if args.proposals is not None:
            raise UserError("--alternating makes its own proposals; leave out --proposals")
        steps = training.alternating_tasks(model, dataset, config)
        for task, folder in zip(steps, ("1_rpn", "2_head", "3_rpn", ""), strict=True):
            yield folder, task

    def validation(self, model, args):
        pictures, given = self.open(args.data, "val", args.model), proposer(model, args, args.out)
        return lambda model: training.evaluate_detector(model, pictures, True, given)["mAP@0.5"]

    def after(self, model, task, args):
        return training.finish_training(model, task.dataset, task.proposer, args.quiet)

    def evaluate(self, model, info, args):
        given = proposer(model, args, Path(args.checkpoint).parent)
        images = self.open_as_trained(model, info, args)
        with blame_user():
            return training.evaluate_detector(model, images, args.json, given)

    def writer(self, model, info, args):
        from ..data.files.rle import encode_rle
        from ..viz import render_detections
        names, given = class_names(model, info), proposer(model, args, None)
        score = model.display_score if args.score is None else args.score

        def write(image, stem):
            found = model.predict([image], None if given is None else [given(image)], score=score)[0]
            objects = [{"class": names[k], "score": round(s, 4), "box": [round(v, 2) for v in box]} for k, s, box in
                       zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)]
            for thing, mask in zip(objects, () if found.masks is None else found.masks, strict=False):
                thing["mask"] = encode_rle(mask)
            with atomic_write(f"{stem}.json") as temporary:
                temporary.write_text(json.dumps({"height": image.shape[1], "width": image.shape[2],
                                                 "objects": objects}))
            shown = render_detections(image, found, names, enlargement(image))
            data.write_png(f"{stem}_boxes.png", shown.transpose(2, 0, 1))
            counts = np.bincount(found.labels, minlength=len(names))
            return "  ".join(f"{name}: {n}" for name, n in zip(names, counts, strict=True)) if len(found) else (
                f"nothing with a score of {score:g} or more")
        return write


def class_names(model: Module, info: dict) -> list[str]:
    """The names of a model's classes, from what its checkpoint says; "class 0", ... where it does not."""
    names = info.get("classes") or []
    return list(names) if len(names) == model.num_classes else [f"class {k}" for k in range(model.num_classes)]


def enlargement(image: np.ndarray) -> int:
    """How many times larger an image (C, H, W) is shown, so that names on it can be read."""
    return max(1, 500 // max(image.shape[1:]))


def proposer(model: Module, args: argparse.Namespace, folder: Path | None) -> training.Proposer | None:
    """Where a detector's proposals come from, kept in ``folder``/proposals; None if it needs none and is given none.

    ``--proposals FILE``: the RPN of a Faster R-CNN in this checkpoint; otherwise the model's own, selective search.
    """
    if args.proposals is None and not model.needs_proposals:
        return None
    if not model.needs_proposals and not isinstance(model, FasterRCNN):
        raise UserError(f"--proposals is not for {model.build_args['model']}, which uses none")
    source, name = model.propose, "selective_search"
    if args.proposals is not None:
        rpn, _ = training.load_checkpoint(args.proposals, expect="faster_rcnn")
        source, name = rpn.propose, Path(args.proposals).parent.resolve().name
    return training.CachedProposals(source, None if folder is None else folder / "proposals" / name)


KINDS: dict[str, Kind] = {"segmentation": Segmentation(), "detection": Detection()}


def few(names: list[str], most: int = 5) -> str:
    """Some of the names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def kind_of(model: str) -> Kind | None:
    """The kind of a network by its name; None for a classifier, which is neither."""
    return KINDS.get(models.MODELS[model].partition(".")[0])


def names() -> list[str]:
    """The networks of all kinds."""
    return sorted(name for kind in KINDS for name in models.names(kind))


def load(path: str) -> tuple[Module, dict, Kind]:
    """The model of a checkpoint, what else was saved with it, and its kind; ``UserError`` if it is of none."""
    model, info = training.load_checkpoint(path)
    kind = kind_of(model.build_args["model"])
    if kind is None:
        raise UserError(f"{path}: holds the model {model.build_args['model']!r}, which neither labels pixels nor finds "
                         "objects")
    return model, info, kind
