"""``minicv train``: train a network on a data set, in a folder."""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

from .. import backend, models
from ..course.lessons import CLASSIFIERS
from ..errors import UserError, blame_user, suggest
from ..files import check_folder, count_of
from ..nn import init
from .defaults import NetworkHelp, default_folder
from .options import add_data, add_proposals, network_name

ANCHORS = ("anchor_scales", "anchor_ratios")
YES_NO = argparse.BooleanOptionalAction
TRAINABLE = models.names("segmentation") + models.names("detection")


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser(
        "train", help="train a network and write DIR/last.safetensors", add_help=False,
        description="Writes DIR/last.safetensors and best.safetensors (the weights and all that --resume needs), "
        "metrics.jsonl and curve.png, a picture of the run. Without options, a training ends in at most 20 minutes on "
        "two cores. `minicv train MODEL --help` shows the numbers of that network. Under `mpirun -n 2`, two processes "
        "share each batch.")
    add.add_argument("-h", "--help", action=NetworkHelp, help="show this help, after MODEL with its numbers, and exit")
    refused = {name: f"{name} is a classifier: lesson 05 trains {'it' if name in CLASSIFIERS else 'some of these'}"
               for name in models.names("backbones")}
    add.add_argument("model", metavar="MODEL", type=network_name(TRAINABLE, refused),
                     help=f"name of the network: {', '.join(TRAINABLE)}")
    add_run_options(add)
    add_model_options(add)
    add_optimizer_options(add)
    add_image_options(add)
    add_segmentation_options(add.add_argument_group("networks that label pixels"))
    add_detection_options(add.add_argument_group("networks that find objects"))
    add.set_defaults(run=run)


def add_run_options(add: argparse.ArgumentParser) -> None:
    """Add the options of a run: data, folder, saving, checking."""
    add_data(add)
    add.add_argument("--out", type=Path, metavar="DIR",
                     help="folder of the run (default: runs/MODEL-DATA, with the last part of the data's path)")
    add.add_argument("--resume", action="store_true",
                     help="continue the run in DIR; on a CPU the result is bit-identical to that of an uninterrupted "
                     "run")
    add.add_argument("--save-every", type=float, default=60.0, metavar="SECONDS",
                     help="seconds between saves (default: 60)")
    add.add_argument("--validate", action="store_true", help="measure the network ten times on the split val, keep "
                     "the best by that in best.safetensors (default: the best by training loss), and stop early if it "
                     "no longer improves")
    add.add_argument("--patience", type=int, metavar="N", help="with --validate: stop after N measurements in a row "
                     "that are no better than the best before (default: 4; 0 never stops)")
    add.add_argument("--export-best", type=Path, metavar="FILE",
                     help="at the end, also write the best weights to FILE, without the optimizer")
    add.add_argument("--start", metavar="FILE", help="take the first weights from a file: weights in .pth or "
                     ".safetensors, such as torchvision's of the network that this one is built on, or a checkpoint. "
                     "What fits is taken and named; the backbone must fit. Weights from ImageNet expect "
                     "--option 'normalization=\"imagenet\"'")
    add.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default: 0)")
    add.add_argument("--workers", type=int, default=1,
                     help="number of threads that read and augment images (default: 1)")
    add.add_argument("--no-check", dest="check", action="store_false",
                     help="do not read all images before the first step")
    add.add_argument("--quiet", action="store_true", help="show no progress bar")


def add_model_options(add: argparse.ArgumentParser) -> None:
    """Add the options of the network."""
    add.add_argument("--preset", default="compact", choices=["compact", "paper"],
                     help="size of the network: compact, or as in its paper (default: compact)")
    add.add_argument("--width", type=int, help="number of channels of the first level (default: the preset's)")
    add.add_argument("--anchors", choices=["auto"], help="auto: take the scales and ratios of anchors from the boxes "
                     "of the training images, by k-means (YOLOv2's recipe); for networks with anchors")
    add.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                     help="any other option of the model, the value in JSON: min_size=256, 'roi_pooling=\"align\"'")


def add_optimizer_options(add: argparse.ArgumentParser) -> None:
    """Add the options of the optimizer and of the learning rate."""
    add.add_argument("--steps", type=int, help="number of training steps")
    add.add_argument("--batch", type=int, help="number of images per step")
    add.add_argument("--optimizer", choices=["sgd", "adam"],
                     help="sgd with momentum, or adam, which needs fewer "
                     "steps; sgd takes the paper's --lr, --momentum and --weight-decay")
    add.add_argument("--lr", type=float, help="learning rate at the start")
    add.add_argument("--momentum", type=float, help="momentum of sgd")
    add.add_argument("--weight-decay", type=float, help="factor of the L2 term in the gradient")
    add.add_argument("--schedule", choices=["constant", "poly", "step", "cosine"], help="how the learning rate falls")
    add.add_argument("--milestones", type=fractions, metavar="F,F", help="when --schedule step multiplies the learning "
                     "rate by --gamma, as fractions of the steps, such as 0.75,0.9")
    add.add_argument("--gamma", type=float, help="factor of the learning rate at each milestone (default: 0.1)")
    add.add_argument("--warmup", type=int, metavar="STEPS", help="number of steps in which the rate rises to --lr")
    add.add_argument("--freeze-bn", action=YES_NO, help="keep the statistics, scale and shift of batch norm fixed")
    add.add_argument("--freeze", choices=["backbone"], help="keep the backbone as it is in --start FILE, with the "
                     "statistics of its batch norm; only the other layers are trained")
    add.add_argument("--sync-batch-norm", action="store_true",
                     help="under mpirun: normalize over the batches of all processes")


def add_image_options(add: argparse.ArgumentParser) -> None:
    """Add the augmentations of all networks."""
    add.add_argument("--scale", type=float, help="enlarge or shrink images by up to this factor")
    add.add_argument("--jitter", type=float, help="change colors by up to this fraction")


def add_segmentation_options(add: argparse._ArgumentGroup) -> None:
    """Add the options of the networks that label pixels."""
    add.add_argument("--tile", type=int, metavar="PIXELS", help="side of the output tile of one example, in pixels")
    add.add_argument("--elastic", type=float, metavar="PIXELS",
                     help="standard deviation of the elastic deformation, in pixels")
    add.add_argument("--no-augment", dest="augment", action="store_const", const=False,
                     help="use the images unchanged")
    add.add_argument("--weight-map", action=YES_NO, help="weigh pixels by U-Net's eq. (2)")
    add.add_argument("--class-weights", action="store_const", const=True, help="weigh pixels of rare classes more, as "
                     "ENet does: 1 / ln(1.02 + the class's share of the pixels)")
    add.add_argument("--two-stage", action=YES_NO, help="train as DeconvNet's paper does: on crops around single "
                     "objects for a third of the steps, then on crops around proposals, instead of on tiles")


def add_detection_options(add: argparse._ArgumentGroup) -> None:
    """Add the options of the networks that find objects."""
    add.add_argument("--alternating", action="store_true", help="train faster_rcnn or mask_rcnn in four trainings of "
                     "--steps each, as the paper does: RPN, head, RPN, head. The first three write into DIR/1_rpn, "
                     "DIR/2_head and DIR/3_rpn")
    add.add_argument("--flip", action=YES_NO, help="flip every second image left to right (default: yes)")
    add.add_argument("--turn", action="store_const", const=True, help="rotate and flip images in all eight ways")
    add_proposals(add)


def fractions(text: str) -> tuple[float, ...]:
    """Return the numbers of a text such as "0.75,0.9"."""
    return tuple(map(float, text.split(",")))


def run(args: argparse.Namespace) -> int:
    """minicv train MODEL"""
    from .. import training
    from .networks import commands_for
    group = training.process_group()
    with training.abort_on_error(group):
        check_run_options(args)
        if args.out is None:
            args.out = default_folder(args.model, args.data)
            if group.rank == 0:
                print(f"folder of the run: {args.out} (--out chooses another)", flush=True)
        commands = commands_for(args.model)
        config = commands.config_from_args(args.model, args)
        check_folder(args.out, "--out")
        weights = training.read_weights(args.start) if args.start is not None and not args.resume else None
        dataset = commands.open_dataset(args.data, "train", args.model)
        options = {"num_classes": dataset.num_classes, "in_channels": len(dataset[0].image), **model_options(args)}
        options |= anchor_options(args, options, dataset, config)
        backend.seed(args.seed)
        with blame_user(args.model):
            model = models.build(args.model, args.preset, **options)
        dataset = commands.shrink(dataset, model, config)
        if args.check and group.rank == 0:
            check_images(dataset, args.data, args.quiet)
        config = commands.fit_config(args, dataset, config)
        commands.check_train_options(args, config, dataset, model, group.size)
        if weights is not None:
            start(model, weights, args.preset, quiet=group.rank > 0)
        for number, (folder, task) in enumerate(commands.make_tasks(model, dataset, config, args)):
            train_task(args, commands, task, args.out / folder, first=number == 0)
        if args.export_best is not None and group.rank == 0:
            training.strip_optimizer(args.out / "best.safetensors", args.export_best)
            print(args.export_best)
    return 0


def check_run_options(args: argparse.Namespace) -> None:
    """Raise ``UserError`` for a bad option of a run."""
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be at least 1")
    if not args.save_every >= 0:
        raise UserError(f"--save-every {args.save_every}: must be at least 0, seconds")
    if args.patience is not None and (args.patience < 0 or not args.validate or args.alternating):
        raise UserError("--patience is for --validate, whose measurements it counts" if not args.validate else
                        "--patience is not for --alternating, whose four trainings build on each other"
                        if args.alternating else f"--patience {args.patience}: must be at least 0")
    if args.export_best is not None:
        check_folder(args.export_best.parent, "--export-best")
        if args.export_best.suffix != ".safetensors":
            raise UserError(f"--export-best {args.export_best}: the name must end with .safetensors")


def train_task(args: argparse.Namespace, commands: Any, task: Any, folder: Path, *, first: bool) -> None:
    """Train one task in a folder. ``first``: no other training of this run comes before it."""
    from .. import training
    model, config, group = task.model, task.config, training.process_group()
    job = training.Training(task, group, args.workers, args.sync_batch_norm)
    held_out = validate = None
    if args.validate:
        with blame_user("--validate"):
            held_out = commands.shrink(commands.open_dataset(args.data, "val", args.model), model, config)
        validate = commands.validation(held_out, task)
    metadata = {"data": args.data, "classes": list(task.dataset.class_names),
                **({"anchors": args.anchors} if args.anchors else {})}
    run = training.Run(job, folder, metadata, args.quiet, save_every=args.save_every, validate=validate,
                       patience=None if args.alternating else (4 if args.patience is None else args.patience) or None,
                       examples=commands.examples(task.dataset if held_out is None else held_out, task))
    existing = [path for path in (run.last_path, args.out / run.last_path.name) if path.exists()]
    if args.resume and (run.last_path in existing or first):  # later trainings may not have begun
        run.resume()
        if args.alternating and run.previous_steps != config.steps:
            raise UserError(f"--steps {config.steps}: {run.last_path} is of {run.previous_steps} steps, and the four "
                            "trainings of --alternating build on each other; choose another --out")
    elif existing and not args.resume:
        raise UserError(f"{existing[0]} already exists: add --resume to continue it, or choose another --out")
    if group.rank == 0:
        print(f"{args.model} {args.preset}: {model.num_parameters():,} parameters, "
              + count_of(len(task.dataset), "image")
              + (f", {group.size} processes" if group.size > 1 else "")
              + (f", from step {job.step}" if args.resume else "") + f"\n{describe(config)}", flush=True)
        if run.previous_steps != config.steps:
            print(f"{config.steps} steps instead of {run.previous_steps}: from here on the learning rate follows the "
                  f"schedule of {config.steps} steps; now it is {job.optimizer.param_groups[0]['lr']:.3g}")
    if group.rank == 0 and first and job.step == 0:
        print_survey(task)
    run.run(partial(commands.finish_training, model, task, args.quiet))
    if group.rank == 0:
        print_result(run)


def print_survey(task: Any) -> None:
    """Print what the training images hold, and a warning for each thing that cannot be learned from them."""
    from .. import training
    found = training.survey_task(task)
    lines = list(training.describe_survey(task, found))
    advice = training.advise_anchors(task, found)
    warnings = training.missing_targets(task, found) + ([advice] if advice else [])
    print("\n".join([*lines, *(f"warning: {line}" for line in warnings)]), flush=True)


def print_result(run: Any) -> None:
    """Print the end of a run: steps, time, loss, and which files hold what."""
    job, scores = run.training, [line for line in run.lines if line.get("validation") is not None]
    if run.stalled():
        print(f"stopped after step {job.step} of {run.config.steps}: the last {run.patience} measurements on val are "
              "no better than the best before; --patience 0 does not stop")
    loss = run.mean_loss()
    print(f"{count_of(job.step, 'step')} in {run.seconds:.0f} s"
          + (f", loss {loss:.4f} over the last {min(100, job.step)}" if math.isfinite(loss) else ""))
    if scores:
        best = max(scores, key=lambda line: line["validation"])
        print(f"{run.folder / 'best.safetensors'}: step {best['step']}, {best['validation']:.4f} on val")
    print(run.last_path)


def anchor_options(args: argparse.Namespace, options: dict[str, Any], dataset: Any, config: Any) -> dict[str, Any]:
    """Return the model's options that ``--anchors auto`` chooses; a run that is resumed keeps its own.

    Raises ``UserError`` for a network without anchors, for anchors that --option gives too, and without objects.
    """
    from .. import training
    if args.resume and args.anchors is None:
        for path in (args.out / "last.safetensors", args.out / "1_rpn" / "last.safetensors"):
            if path.is_file():
                saved, info, _ = training.read_checkpoint(path)
                args.anchors = "auto" if info.get("anchors") == "auto" else None
                return {name: saved["options"][name] for name in ANCHORS} if args.anchors else {}
    if args.anchors is None:
        return {}
    if "anchor_scales" not in models.model_options(models.model_class(args.model)):
        raise UserError(f"--anchors is not for {args.model}, which has no anchors")
    if given := [name for name in ANCHORS if name in options]:
        raise UserError(f"--anchors auto: --option gives {given[0]}, too")
    with blame_user(args.model), init.blank():
        model: Any = models.build(args.model, args.preset, **options)  # only for the size that it sees
    with blame_user(f"--anchors auto: {args.data}"):
        found = training.fitting_anchors(model, training.survey_objects(dataset), config.turn)
    return dict(zip(ANCHORS, found, strict=True))


def describe(config: Any) -> str:
    """Return a training configuration in two lines: the optimizer's numbers, then what a task adds to them.

    >>> from minicv.training import SegmentationConfig
    >>> print(describe(SegmentationConfig(steps=300, batch=2, lr=0.01, momentum=0.99, tile=68, weight_map=True)))
    300 steps of 2 images, sgd: lr 0.01 (poly), momentum 0.99, weight decay 0, seed 0
    tile 68, augment, elastic 10.0, scale 2.0, jitter 0.1, weight map
    """
    from ..training import TrainConfig
    lr = f"lr {config.lr:g} ({config.schedule}"
    if config.schedule == "step":
        lr += f": times {config.gamma:g} at {', '.join(f'{m:g}' for m in config.milestones)} of the steps"
    parts = [lr + (f", {config.warmup} steps of warmup)" if config.warmup else ")")]
    if config.optimizer == "sgd":
        parts.append(f"momentum {config.momentum:g}")
    parts += [f"weight decay {config.weight_decay:g}", *(["backbone frozen"] if config.freeze else []),
              *(["batch norm frozen"] if config.freeze_bn else []), f"seed {config.seed}"]
    common = {field.name for field in dataclasses.fields(TrainConfig)}
    own = {field.name.replace("_", " "): getattr(config, field.name) for field in dataclasses.fields(config)
           if field.name not in common}
    extra = [name if value is True else f"{name} {value}" for name, value in own.items() if value not in (None, False)]
    return (f"{count_of(config.steps, 'step')} of {count_of(config.batch, 'image')}, {config.optimizer}: "
            f"{', '.join(parts)}\n{', '.join(extra)}")


def check_images(dataset: Any, spec: str, quiet: bool) -> None:
    """Read all images and annotations of a data set; ``UserError`` names those that cannot be read."""
    from ..data.check import check_readable
    faults = check_readable(dataset, quiet)
    if faults:
        more = f" (and {len(faults) - 1} more files; minicv data check {spec} names them)" if faults[1:] else ""
        raise UserError(f"{faults[0]}{more}")


def start(model: Any, weights: Any, preset: str, *, quiet: bool) -> None:
    """Start the model from the weights of ``--start``, and print what was taken unless ``quiet``; ``UserError`` if the
    backbone does not fit."""
    from ..training import take_weights
    try:
        taken = take_weights(model, weights)
    except UserError as error:
        hint = "; the compact preset has fewer channels than published weights, --preset paper has as many"
        raise UserError(f"--start {error}{hint if preset == 'compact' else ''}") from None
    if not quiet:
        print("\n".join(taken.lines()), flush=True)
        wanted = weights.normalization or "imagenet"
        if wanted != model.normalization:
            known = f"was trained on images with normalization {wanted!r}: add" if weights.normalization else (
                "does not say how its images were normalized; if it comes from ImageNet, add")
            print(f"warning: {weights.path} {known} --option 'normalization=\"{wanted}\"', as this network has "
                  f"{model.normalization!r}", flush=True)


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for the model's class from ``--option`` and ``--width``; ``UserError`` for a bad one."""
    options: dict[str, Any] = {}
    types = {name: option.annotation for name, option in
             models.model_options(models.model_class(args.model)).items()
             if name not in ("num_classes", "in_channels")}
    for text in args.option:
        name, equals, value = text.partition("=")
        if name in ("num_classes", "in_channels"):
            raise UserError(f"--option {text}: {name} follows from --data")
        if equals and name not in types:
            raise UserError(f"--option {text}: {args.model} has no option {name}; {suggest(name, types)}")
        if name in options:
            raise UserError(f"--option {text}: {name} is given twice")
        try:
            if not equals:
                raise ValueError
            options[name] = json.loads(value, parse_constant=int)  # JSON has no NaN or Infinity
        except ValueError:
            if equals and re.fullmatch(r"(?!True|False|None)[A-Za-z]\w*", value):
                raise UserError(f"--option {text}: text needs quotes: --option '{name}=\"{value}\"'") from None
            raise UserError(f"--option {text}: must be NAME=VALUE with the value in JSON, as in min_size=256") from None
        if not models.matches_type(options[name], types[name]):
            raise UserError(f"--option {text}: must be {types[name]}")
    if args.width is not None:
        if "width" not in types:
            raise UserError(f"--width is not for {args.model}, which has no single width")
        if "width" in options:
            raise UserError(f"--width {args.width}: --option gives the width, too")
        options["width"] = args.width
    return options
