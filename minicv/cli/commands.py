"""What train, evaluate and predict share for all networks; each task has a subclass in a file of its own."""
from __future__ import annotations

import abc
import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, models, training
from ..errors import UserError, blame_user
from ..files import abbreviate
from ..nn import BatchNorm2d

COMMON_OPTIONS = ("steps", "batch", "optimizer", "lr", "momentum", "weight_decay", "schedule", "milestones", "gamma",
                  "warmup", "freeze", "freeze_bn", "seed")  # of ``minicv train``, each a field of every TrainConfig


class ResultWriter(abc.ABC):
    """What predict does with each image, and with all of them at the end."""

    @abc.abstractmethod
    def write(self, image: np.ndarray, path: Path, stem: Path) -> str:
        """Predict the image (C, H, W) of a file, write its results beside ``stem``, and return a line of text."""

    @abc.abstractmethod
    def finish(self, folder: Path) -> list[Path]:
        """Write the files that describe the results of all images; return them."""


class Evaluation(abc.ABC):
    """What evaluate measured, as text and as a page. ``analysis`` has ``measures()`` and, for JSON, ``document()``."""

    analysis: Any

    @abc.abstractmethod
    def lines(self) -> list[str]:
        """Return the measures, and a table of the classes, as lines of text."""

    @abc.abstractmethod
    def write_report(self, folder: Path, title: str) -> None:
        """Write the page and what belongs to it."""


class NetworkCommands(abc.ABC):
    """Train, evaluate and predict with the networks of one task.

    ``train_options`` are fields of ``config_class`` beside ``COMMON_OPTIONS``. ``suffixes`` are those of the files that
    predict writes for an image; the last file is an image. ``shared_files`` are those that it writes for all images.
    """

    task_name: str  # completes "unet, which ..."
    config_class: type[training.TrainConfig]
    train_options: tuple[str, ...]
    predict_options: tuple[str, ...]  # of evaluate and predict
    sample_class: type
    data_needed: str  # completes "needs ..."
    suffixes: tuple[str, ...]
    shared_files: tuple[str, ...]

    def foreign_options(self, kind: str) -> list[str]:
        """Return the "train_options" or "predict_options" that only the other task has."""
        return [option for cls in NetworkCommands.__subclasses__() for option in getattr(cls, kind)
                if option not in getattr(self, kind)]

    def open_dataset(self, spec: str, split: str, model_name: str) -> Any:
        """Open a split; ``UserError`` if it is empty or its samples are not for this task."""
        with blame_user(f"--data {spec}"):
            dataset = data.open_dataset(spec, split)
        if not len(dataset):
            raise UserError(f"--data {spec}: the split {split} has no image")
        if not isinstance(dataset[0], self.sample_class):
            raise UserError(f"--data {spec} is not for {model_name}, which {self.task_name} and needs "
                            f"{self.data_needed}")
        return dataset

    def open_matching_dataset(self, model: Any, info: dict, args: argparse.Namespace) -> Any:
        """Open the split to evaluate on; ``UserError`` if its classes or channels differ from the checkpoint's."""
        dataset = self.open_dataset(args.data, args.split, model.build_args["model"])
        known, here = info.get("classes"), list(dataset.class_names)
        if known is None and model.num_classes != dataset.num_classes:
            raise UserError(f"{args.checkpoint}: knows {model.num_classes} classes, and {args.data} has "
                            f"{dataset.num_classes}: {abbreviate(here)}")
        if known is not None and known != here:
            differences = [f"only the {where} has {abbreviate(names)}" for where, names in (
                ("checkpoint", [c for c in known if c not in here]), ("data set", [c for c in here if c not in known]))
                if names] or [f"the checkpoint has {abbreviate(known)}, the data set {abbreviate(here)}"]
            raise UserError(f"{args.checkpoint}: its {len(known)} classes differ, in names or order, from the "
                            f"{len(here)} of --data {args.data}: {'; '.join(differences)}")
        channels = len(dataset[0].image)
        if channels != model.in_channels:
            raise UserError(f"{args.checkpoint}: takes images of {model.in_channels} channels; those of --data "
                            f"{args.data} have {channels}")
        return dataset

    def check_predict_options(self, model_name: str, args: argparse.Namespace) -> None:
        """Raise ``UserError`` for an option of evaluate or predict that only the other task uses."""
        for option in self.foreign_options("predict_options"):
            value = getattr(args, option, None)
            if value is not None and value is not False:
                raise UserError(f"--{option} is not for {model_name}, which {self.task_name}")

    def check_train_options(self, args: argparse.Namespace, config: Any, dataset: Any, model: Any,
                            processes: int = 1) -> None:
        """Raise ``UserError`` for an option of train that has no effect on this network and data."""
        batch_norm = any(isinstance(module, BatchNorm2d) for module in model.modules())
        if args.freeze_bn is not None and not batch_norm:
            raise UserError(f"--{'' if args.freeze_bn else 'no-'}freeze-bn is not for this {args.model}, which has no "
                            "batch norm")
        if args.freeze and not model.BACKBONE:
            raise UserError(f"--freeze backbone is not for {args.model}, which has no backbone")
        if args.freeze and args.start is None and not args.resume:
            raise UserError("--freeze backbone needs --start FILE: without it, the backbone would stay random")
        if args.sync_batch_norm and (processes == 1 or not batch_norm or config.freeze_bn):
            raise UserError("--sync-batch-norm " + (
                "is for several processes, as in `mpirun -n 2 minicv train ...`" if processes == 1 else
                f"is not for this {args.model}, which has no batch norm" if not batch_norm else
                "has no effect on frozen batch norm"))

    def config_from_args(self, model_name: str, args: argparse.Namespace) -> Any:
        """Return the network's training configuration, changed by the command line; ``UserError`` for a bad option.

        The network's own numbers for its optimizer or schedule are dropped when the command line chooses another;
        sgd then takes the paper's.
        """
        for option in self.foreign_options("train_options"):
            if getattr(args, option, None) is not None:
                raise UserError(f"--{option.replace('_', '-')} is not for {model_name}, which {self.task_name}")
        model_class: Any = models.model_class(model_name)
        defaults = dict(model_class.TRAIN_DEFAULTS[args.preset])
        if args.optimizer not in (None, defaults.get("optimizer", self.config_class.optimizer)):
            defaults = {option: value for option, value in defaults.items()
                        if option not in ("lr", "momentum", "weight_decay", "warmup_start")}
            paper = model_class.TRAIN_DEFAULTS["paper"]  # for sgd
            defaults |= training.ADAM_DEFAULTS if args.optimizer == "adam" else {
                option: paper[option] for option in ("lr", "momentum", "weight_decay") if option in paper}
        if args.schedule not in (None, defaults.get("schedule", self.config_class.schedule)):
            defaults = {option: value for option, value in defaults.items() if option not in ("milestones", "gamma")}
        given = {option: getattr(args, option) for option in (*COMMON_OPTIONS, *self.train_options)
                 if getattr(args, option) is not None}
        merged = {"optimizer": self.config_class.optimizer, "schedule": self.config_class.schedule, "milestones": (),
                  **defaults, **given}
        check_optimizer_options(given, merged)
        try:
            return self.config_class(**merged)
        except training.ConfigError as error:
            value = ",".join(map(str, error.value)) if isinstance(error.value, tuple) else error.value
            raise UserError(f"--{error.field.replace('_', '-')} {value}: {error.reason}") from error

    @abc.abstractmethod
    def make_task(self, model: Any, dataset: Any, config: Any, args: argparse.Namespace) -> training.Task:
        """Return what the training loop takes its examples from."""

    def make_tasks(self, model: Any, dataset: Any, config: Any, args: argparse.Namespace
                   ) -> Iterator[tuple[str, training.Task]]:
        """Yield each training's folder within the run's and its task: here one training, in the run's own folder.

        A training must end before the next is asked for. Raises ``UserError`` for ``--alternating`` with a network
        that is not trained in parts.
        """
        if args.alternating:
            raise UserError(f"--alternating is not for {args.model}; it is for faster_rcnn and mask_rcnn")
        yield "", self.make_task(model, dataset, config, args)

    def shrink(self, dataset: Any, model: Any, config: Any) -> Any:
        """Return the data set with images that are far larger than what the network sees shrunk; here as it is."""
        return dataset

    def fit_config(self, args: argparse.Namespace, dataset: Any, config: Any) -> Any:
        """Return the configuration, with what the images ask for where no option does; here as it is."""
        return config

    @abc.abstractmethod
    def validation(self, dataset: Any, task: Any) -> Callable[[Any], float]:
        """Return a function from the model of a training to its score on a data set; higher is better."""

    @abc.abstractmethod
    def examples(self, dataset: Any, task: Any) -> training.RenderExamples:
        """Return a function that renders the predictions of a training's model for a few images of a data set."""

    def finish_training(self, model: Any, task: Any, quiet: bool) -> bool:
        """Train what the loop does not train; return whether that changed the model."""
        return False

    @abc.abstractmethod
    def evaluate(self, model: Any, info: dict, args: argparse.Namespace) -> Evaluation:
        """Measure a network on a split of a data set."""

    @abc.abstractmethod
    def result_writer(self, model: Any, info: dict, args: argparse.Namespace) -> ResultWriter:
        """Return what predicts images and writes the results."""


def check_optimizer_options(given: dict[str, Any], merged: dict[str, Any]) -> None:
    """Raise ``UserError`` if an option that was given is for another optimizer or schedule."""
    if merged["optimizer"] == "adam" and "momentum" in given:
        raise UserError("--momentum is for the optimizer sgd, not for adam")
    for option in {"milestones", "gamma"} & given.keys():
        if merged["schedule"] != "step":
            raise UserError(f"--{option} is for --schedule step, not for {merged['schedule']}")
    if merged["schedule"] == "step" and not merged["milestones"]:
        raise UserError("--schedule step needs --milestones, fractions of the steps, as in --milestones 0.75,0.9")


def class_names(model: Any, info: dict) -> list[str]:
    """Return the class names in a checkpoint's metadata; "class 0", ... if it has none."""
    names = info.get("classes") or []
    return list(names) if len(names) == model.num_classes else [f"class {k}" for k in range(model.num_classes)]


def display_scale(image: np.ndarray) -> int:
    """Return the factor by which an image (C, H, W) is enlarged so that names on it can be read."""
    return max(1, 500 // max(image.shape[1:]))
