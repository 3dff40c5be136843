"""The ``minicv`` command."""
from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import minicv

from .. import backend, models
from ..course import lessons
from ..errors import UserError, blame_user
from ..files import check_folder, print_anything, to_json
from ..nn import Module

EXAMPLES = """examples:
  minicv lessons run --quick                       every lesson, small; figures in lessons/out/
  minicv lessons run 08_unet                       one lesson in full
  minicv gradcheck conv2d                          is the backward pass the derivative of the forward pass?
  minicv summary vgg16 --preset paper              its layers: shapes, parameters, MACs, receptive fields
  minicv papers unet                               its equations and figures: in which line of which file
  minicv data download isbi2012 --root DIR         real pictures, verified
  minicv data check camvid:DIR                     does a data set hold what it should?
  minicv train unet --data cells --out runs/cells  train on generated pictures of cells
  minicv predict --checkpoint runs/cells/last.safetensors picture.png --out runs/pictures
  minicv train faster_rcnn --data bccd:PATH --out runs/blood --optimizer adam --jitter 0.1
exit codes:
  0    done
  1    gradcheck, data check or a lesson found something wrong, or predict could not read every image; or a fault of
       minicv itself, shown with its traceback
  2    a file, option or value that cannot be used; one line on standard error names it
  130  interrupted by Ctrl-C"""

PROPOSALS = ("a checkpoint of faster_rcnn, whose RPN is to propose the boxes (default: selective search, for networks "
             "that need proposals)")

TILE = ("side of the output tiles that an image is predicted in, pixels; what the network looks at around a tile is "
        "added (default: the whole image, or, where that would take more than half of the free memory, tiles that fit)")


def parser() -> argparse.ArgumentParser:
    """The command line and its help."""
    top = argparse.ArgumentParser(
        prog="minicv", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The classic networks for detection and segmentation, built from nothing but arrays.")
    top.add_argument("--version", action="version", version=f"minicv {minicv.__version__}")
    top.add_argument("--backend", choices=["numpy", "cupy"], help="where to compute (default: MINICV_BACKEND or numpy)")
    top.add_argument("--plain", action="store_true", help="run every operation as minicv/ops defines it, without the "
                     "fast versions of minicv/fast: slower, but what runs is what one reads")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add = commands.add_parser("lessons", help="list or run the lessons")
    add.set_defaults(run=run_lessons)
    what = add.add_subparsers(dest="what", metavar="list|run")
    what.add_parser("list", help="their names and titles")
    run = what.add_parser("run", help="run all, or those named by number, name or its beginning")
    run.add_argument("names", nargs="*", metavar="NAME")
    run.add_argument("--quick", action="store_true", help="a few seconds each, to see that they run")
    run.add_argument("--data", metavar="NAME:PATH", help="a real data set, as in isbi2012:PATH")
    run.add_argument("--seed", type=int, help="of the random numbers (default: 0)")

    add = commands.add_parser(
        "gradcheck", help="check backward passes against finite differences",
        description="One line per op and case: shapes, largest relative error, verdict. kink: the function has no "
        "derivative there, and backward lies between the slopes on its two sides.")
    add.add_argument("ops", nargs="*", metavar="OP", help="names from minicv.ops (default: all)")
    add.set_defaults(run=run_gradcheck)

    add = commands.add_parser("doctor", help="what this machine computes with, how fast, and what to set if it is slow")
    add.set_defaults(run=run_doctor)

    add = commands.add_parser(
        "summary", help="what a network is made of: shapes, parameters, MACs, receptive fields",
        description="One line per layer. MACs are multiply-accumulates of convolutions and matrix products; a count of "
        "FLOPs is twice that.")
    add.add_argument("model", choices=models.names())
    add.add_argument("--preset", default="compact", choices=["compact", "paper"])
    add.add_argument("--input", metavar="CxHxW", help="channels, height, width: 3x224x224 (default: the preset's)")
    add.set_defaults(run=run_summary)

    add = commands.add_parser("train", help="train a network and write DIR/last.safetensors",
                              description="Writes DIR/last.safetensors and best.safetensors (the weights and all that "
                              "--resume needs), metrics.jsonl and curve.png. Under `mpirun -n 2` two processes share "
                              "each batch.")
    add.add_argument("model", choices=models.names("segmentation") + models.names("detection"))
    add.add_argument("--data", required=True, metavar="NAME[:PATH]",
                     help="cells and boxes (generated), isbi2012:PATH, bccd:PATH, ...")
    add.add_argument("--out", required=True, type=Path, metavar="DIR")
    add.add_argument("--preset", default="compact", choices=["compact", "paper"])
    add.add_argument("--width", type=int, help="channels of the first level, instead of the preset's")
    add.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                     help="any other option of the model, the value in JSON: min_size=256, 'roi_pooling=\"align\"'")
    add.add_argument("--steps", type=int, help="training steps")
    add.add_argument("--batch", type=int, help="pictures per step")
    add.add_argument("--optimizer", choices=["sgd", "adam"],
                     help="sgd with momentum, or adam, which needs fewer steps (default: as the model's paper)")
    add.add_argument("--lr", type=float, help="learning rate at the start")
    add.add_argument("--momentum", type=float, help="of sgd")
    add.add_argument("--weight-decay", type=float, help="L2 in the gradient of sgd or adam (default: that of the "
                     "model's paper; 0 where adam stands in for the paper's sgd)")
    add.add_argument("--schedule", choices=["constant", "poly", "step", "cosine"], help="how the learning rate falls")
    add.add_argument("--milestones", type=fractions, metavar="F,F", help="where --schedule step multiplies the rate by "
                     "--gamma, as fractions of the steps: 0.75,0.9")
    add.add_argument("--gamma", type=float, help="see --milestones (default: 0.1)")
    add.add_argument("--warmup", type=int, metavar="STEPS", help="over which the rate rises to --lr")
    add.add_argument("--freeze-bn", action=argparse.BooleanOptionalAction, help="keep the statistics, scale and shift "
                     "of batch norm as they are")
    add.add_argument("--scale", type=float, help="pictures become larger by up to this factor, or smaller")
    add.add_argument("--jitter", type=float, help="colours change by up to this share")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--workers", type=int, default=1, help="threads that read and change pictures (default: 1)")
    add.add_argument("--validate", action="store_true", help="measure ten times on the split val; best.safetensors is "
                     "the best by that, instead of by the training loss")
    add.add_argument("--sync-batch-norm", action="store_true", help="under mpirun: normalize over the whole batch")
    add.add_argument("--resume", action="store_true", help="go on with the run in DIR as if it had never stopped")
    add.add_argument("--save-every", type=float, default=60.0, metavar="SECONDS", help="between saves (default: 60)")
    add.add_argument("--no-check", dest="check", action="store_false", help="do not read all images before training")
    add.add_argument("--quiet", action="store_true", help="no progress bar")
    some = add.add_argument_group("networks that label pixels")
    some.add_argument("--tile", type=int, help="side of the output tile that a step looks at, pixels")
    some.add_argument("--elastic", type=float, help="standard deviation of the elastic deformation, pixels")
    some.add_argument("--no-augment", dest="augment", action="store_const", const=False)
    some.add_argument("--weight-map", action=argparse.BooleanOptionalAction, help="weigh pixels by U-Net's eq. (2)")
    some.add_argument("--class-weights", action="store_const", const=True, help="weigh pixels of rare classes more, as "
                      "ENet: 1 / ln(1.02 + the class's share)")
    some.add_argument("--start", metavar="FILE", help="a checkpoint with whose weights to begin: for fcn16s, fcn8s a "
                      "coarser FCN (32s, 16s, 8s: FCN's stages); for any FCN and DeconvNet, its classifier; for PSPNet "
                      "and DeepLab, the same network, as of another output stride")
    some.add_argument("--two-stage", action=argparse.BooleanOptionalAction, help="as DeconvNet's paper: crops around "
                      "single objects for a third of the steps, then crops around proposals, instead of tiles")
    some = add.add_argument_group("networks that find objects")
    some.add_argument("--alternating", action="store_true", help="faster_rcnn in four trainings of --steps each, as in "
                      "its paper: RPN, head, RPN, head; the first three in DIR/1_rpn, DIR/2_head, DIR/3_rpn")
    some.add_argument("--flip", action=argparse.BooleanOptionalAction, help="mirror every second picture left to right "
                      "(default: yes)")
    some.add_argument("--turn", action="store_const", const=True, help="turn and mirror pictures in all eight ways")
    some.add_argument("--proposals", metavar="FILE", help=PROPOSALS)
    add.set_defaults(run=run_train)

    add = commands.add_parser("evaluate", help="measure a checkpoint on the test pictures of a data set")
    add.add_argument("--checkpoint", required=True, metavar="FILE")
    add.add_argument("--data", required=True, metavar="NAME[:PATH]")
    add.add_argument("--split", default="test", help="which pictures (default: test)")
    add.add_argument("--tile", type=int, help=TILE)
    add.add_argument("--average", action="store_true", help="mean over the picture turned and mirrored: 8 versions")
    add.add_argument("--proposals", metavar="FILE", help=PROPOSALS)
    add.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    add.set_defaults(run=run_evaluate)

    add = commands.add_parser("predict", help="label pictures (NAME_labels.png, NAME_overlay.png), or find objects "
                              "(NAME.json, NAME_boxes.png)")
    add.add_argument("--checkpoint", required=True, metavar="FILE")
    add.add_argument("--out", required=True, type=Path, metavar="DIR")
    add.add_argument("--tile", type=int, help=TILE)
    add.add_argument("--average", action="store_true", help="mean over the picture turned and mirrored: 8 versions")
    add.add_argument("--score", type=float, help="write objects with at least this score (default: 0.5; 0 for "
                     "SVMs, 0.25 for YOLO)")
    add.add_argument("--proposals", metavar="FILE", help=PROPOSALS)
    add.add_argument("images", nargs="+", metavar="IMAGE")
    add.set_defaults(run=run_predict)

    add = commands.add_parser("papers", help="which line of the code is which equation of which paper",
                              description="Collected from the comments and docstrings of minicv and of the lessons.")
    add.add_argument("name", nargs="?", metavar="NAME", help="a paper or a network, as in unet (default: list them)")
    add.set_defaults(run=run_papers)

    add = commands.add_parser("claims", help="what the papers claim, and what the lessons' last full runs found")
    add.add_argument("ids", nargs="*", metavar="ID", help="as in S3 (default: all)")
    add.add_argument("--quick", action="store_true", help="what the last quick runs found, which means little")
    add.add_argument("--keep", action="store_true", help="also write them to docs/claims.json, for the documentation")
    add.set_defaults(run=run_claims)

    add = commands.add_parser("data", help="fetch a data set; say what is in it, and what is wrong with it")
    what = add.add_subparsers(dest="what", required=True, metavar="check|download")
    add = what.add_parser("check", help="read everything; name each file that is missing, damaged or does not fit")
    add.add_argument("data", metavar="NAME:PATH", help="as in camvid:PATH, voc:PATH, cityscapes:PATH, bccd:PATH")
    add.set_defaults(run=run_data_check)
    add = what.add_parser("download", help="fetch real pictures from their public home and verify them; the same "
                          "command goes on after an interruption")
    add.add_argument("name", metavar="isbi2012|bccd|camvid|dsb2018")
    add.add_argument("--root", required=True, type=Path, metavar="DIR", help="the folder of this set")
    add.add_argument("--mirror", metavar="URL", help="fetch from another copy of that folder, as http://HOST:8000")
    add.add_argument("--connections", type=int, default=8, help="files fetched at once (default: 8)")
    add.add_argument("--quiet", action="store_true", help="no progress bar")
    add.set_defaults(run=run_data_download)
    return top


def fractions(text: str) -> tuple[float, ...]:
    """The numbers of "0.75,0.9"."""
    return tuple(map(float, text.split(",")))


def run_lessons(args: argparse.Namespace) -> int:
    """minicv lessons [list | run]"""
    if args.what != "run":
        for path in lessons.find():
            print(f"{path.stem}  {lessons.title(path)}")
        return 0
    return 1 if lessons.run(args.names, args.quick, args.data, args.seed) else 0


def run_gradcheck(args: argparse.Namespace) -> int:
    """minicv gradcheck [OP...]"""
    from .. import ops
    from ..ops.check import check_case
    with blame_user():
        cases = ops.cases(args.ops)
    start, wrong = time.perf_counter(), {}  # wrong: (operation, storey) -> how many cases
    for case in cases:
        shapes = " ".join("x".join(map(str, a.shape)) or "()" for a in case.arrays() if a is not None)
        for storey, result in check_case(case, backend.current_device()).items():
            if result.verdict == "WRONG":
                wrong[case.name, storey] = wrong.get((case.name, storey), 0) + 1
            detail = f"  {result.detail}" if result.detail else ""
            print(f"{case.name:<18} {case.label:<46} {shapes:<34} {storey:<5} {result.error:7.1e}  {result.verdict}"
                  f"{detail}", flush=True)
    for (name, storey), n in wrong.items():
        where = f"minicv/ops/{sys.modules[getattr(ops, name).__module__].__name__.rpartition('.')[2]}.py"
        print(f"{name}: {storey} is wrong in {n} of {sum(case.name == name for case in cases)} cases; see "
              f"{where if storey == 'plain' else 'minicv/fast, which stands for ' + where}")
    print(f"{len(cases)} cases, {sum(wrong.values())} wrong, {time.perf_counter() - start:.1f} s")
    return 1 if wrong else 0


def run_doctor(args: argparse.Namespace) -> int:
    """minicv doctor"""
    from . import doctor
    return doctor.main()


def run_summary(args: argparse.Namespace) -> int:
    """minicv summary MODEL"""
    from ..models.summary import summarise
    from ..nn import init
    size = models.model_class(args.model).INPUT[args.preset]
    if args.input is not None:
        parts = args.input.split("x")
        if len(parts) != 3 or not all(p.isdecimal() and int(p) for p in parts):
            raise UserError(f"--input {args.input}: must be CxHxW, as in 3x224x224")
        size = tuple(map(int, parts))
    shown = "x".join(map(str, size))
    with blame_user(f"--input {shown}"), init.blank():  # the weights do not matter
        table = summarise(models.build(args.model, args.preset, in_channels=size[0]), size)
    print(f"{args.model} {args.preset}, input {shown}\n{table}")
    return 0


def run_train(args: argparse.Namespace) -> int:
    """minicv train MODEL"""
    from .. import training
    from . import kinds
    group = training.process_group()
    with training.abort_on_error(group):
        if args.workers < 1:
            raise UserError(f"--workers {args.workers}: must be at least 1")
        if not args.save_every >= 0:
            raise UserError(f"--save-every {args.save_every}: must be at least 0, seconds")
        kind = kinds.kind_of(args.model)
        config = kind.chosen(args.model, args)
        check_folder(args.out, "--out")
        dataset = kind.open(args.data, "train", args.model)
        if args.check and group.rank == 0:
            refuse_unreadable(dataset, args)
        minicv.seed(args.seed)
        with blame_user(args.model):
            model = models.build(args.model, args.preset, num_classes=dataset.num_classes,
                                 in_channels=len(dataset[0].image), **model_options(args))
        kind.check(args, config, dataset, model, group.size)
        if args.start is not None:
            begin_with(model, args.model, args.start, args.resume)
        for number, (folder, task) in enumerate(kind.tasks(dataset, config, model, args)):
            job = training.Training(task, group, args.workers, args.sync_batch_norm)
            with blame_user("--validate"):
                validation = kind.validation(model, args) if args.validate else None
            run = training.Run(job, args.out / folder, {"data": args.data, **kind.about(dataset)}, args.quiet,
                               save_every=args.save_every, validate=validation)
            there = [path for path in (run.last_path, args.out / run.last_path.name) if path.exists()]
            if args.resume and (run.last_path in there or number == 0):  # later trainings may not have begun
                run.resume()
                if args.alternating and run.previous_steps != config.steps:
                    raise UserError(f"--steps {config.steps}: {run.last_path} is of {run.previous_steps} steps, and "
                                    "the four trainings of --alternating build on each other; choose another --out")
            elif there and not args.resume:
                raise UserError(f"{there[0]} already exists: add --resume to continue it, or choose another --out")
            if group.rank == 0:
                print(f"{args.model} {args.preset}, {model.num_parameters():,} parameters, {len(dataset)} pictures, "
                      f"{config}"
                      + (f", {group.size} processes" if group.size > 1 else "")
                      + (f", from step {job.step}" if args.resume else ""), flush=True)
                if run.previous_steps != config.steps:
                    print(f"{config.steps} steps in place of {run.previous_steps}: the schedule of the learning rate "
                          f"is from here on that over {config.steps} steps, now "
                          f"{job.optimizer.param_groups[0]['lr']:.3g}")
            if group.rank == 0 and number == job.step == 0:
                for line in training.missing_targets(task):
                    print(f"warning: {line}", flush=True)
            run.run(partial(kind.after, model, task, args))
            if group.rank == 0:
                print(f"{job.step} steps in {run.seconds:.0f} s, loss {run.mean_loss():.4f} over the last "
                      f"{min(100, job.step)}\n{run.last_path}")
    return 0


def refuse_unreadable(dataset: object, args: argparse.Namespace) -> None:
    """Read all that the training will read; ``UserError`` with the files that cannot be read."""
    from ..data.check import check_readable
    faults = check_readable(dataset, args.quiet)
    if faults:
        more = f" (and {len(faults) - 1} more files; minicv data check {args.data} names them)" if faults[1:] else ""
        raise UserError(f"{faults[0]}{more}")


def begin_with(model: Module, name: str, start: str, resumed: bool) -> None:
    """Take over the weights of the checkpoint ``start``; ``UserError`` if there is no way or they do not fit.

    A run that is ``resumed`` has begun with them before.
    """
    from ..training import load_checkpoint
    if not hasattr(model, "initialize_from"):
        raise UserError(f"--start is not for {name}; it is for the FCNs, DeconvNet, PSPNet and DeepLab")
    if not resumed:
        source, _ = load_checkpoint(start)
        with blame_user(f"--start {start}"):
            model.initialize_from(source)


def model_options(args: argparse.Namespace) -> dict[str, object]:
    """Arguments for the model's class, from --option and --width; ``UserError`` for one that is not for the user."""
    options: dict[str, object] = {}
    kinds_of = {name: option.annotation for name, option in
                models.model_options(models.model_class(args.model)).items()
                if name not in ("num_classes", "in_channels")}
    for text in args.option:
        name, equals, value = text.partition("=")
        if name in ("num_classes", "in_channels"):
            raise UserError(f"--option {text}: {name} follows from --data")
        if equals and name not in kinds_of:
            raise UserError(f"--option {text}: {args.model} has no option {name}; it has {', '.join(kinds_of)}")
        if name in options:
            raise UserError(f"--option {text}: {name} is given twice")
        try:
            if not equals:
                raise ValueError
            options[name] = json.loads(value)
        except ValueError:
            raise UserError(f"--option {text}: must be NAME=VALUE with the value in JSON, as in min_size=256") from None
        if not models.matches_type(options[name], kinds_of[name]):
            raise UserError(f"--option {text}: must be {kinds_of[name]}")
    if args.width is not None:
        if "width" not in kinds_of:
            raise UserError(f"--width is not for {args.model}, which has no single width")
        if "width" in options:
            raise UserError(f"--width {args.width}: --option gives the width, too")
        options["width"] = args.width
    return options


def run_evaluate(args: argparse.Namespace) -> int:
    """minicv evaluate"""
    from . import kinds
    model, info, kind = kinds.load(args.checkpoint)
    kind.refuse_others(model.build_args["model"], args)
    result = kind.evaluate(model, info, args)
    if args.json:
        print(to_json(result))
    else:
        for name, value in result.items():
            print(f"{name:<22} " + ("nothing to measure" if math.isnan(value) else f"{value:.6f}"))
    return 0


def run_predict(args: argparse.Namespace) -> int:
    """minicv predict"""
    from . import kinds
    from .prediction import predict_files
    model, info, kind = kinds.load(args.checkpoint)
    kind.refuse_others(model.build_args["model"], args)
    return predict_files(model, info, kind, args)


def run_papers(args: argparse.Namespace) -> int:
    """minicv papers [NAME]"""
    from ..course import papers
    wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else None  # a file or pipe gets whole lines
    with blame_user():
        table = papers.table(args.name)
    print("\n".join(line[:wide] for line in table.splitlines()))
    return 0


def run_claims(args: argparse.Namespace) -> int:
    """minicv claims [ID ...]"""
    from ..course import claims
    if args.keep and args.quick:
        raise UserError("--keep: only full runs are kept, so leave out --quick")
    runs = claims.runs(quick=args.quick)
    print(claims.table(runs, args.ids, args.quick))
    if args.keep:
        print(f"kept: {claims.keep(runs)}")
    return 0


def run_data_check(args: argparse.Namespace) -> int:
    """minicv data check NAME:PATH"""
    from ..data.check import check
    with blame_user():
        report = check(args.data)
    print("\n".join([*report.contents, *report.faults, f"faults: {len(report.faults)}"]))
    return 1 if report.faults else 0


def run_data_download(args: argparse.Namespace) -> int:
    """minicv data download NAME --root DIR"""
    from ..data.download import SOURCES, download
    with blame_user():
        count, fetched = download(args.name, args.root, args.mirror, connections=args.connections, quiet=args.quiet)
    print(f"{args.root}: {count} files, {fetched} fetched\n{SOURCES[args.name].origin}; licence: "
          f"{SOURCES[args.name].licence}\nminicv data check {args.name}:{args.root}")
    return 0


@contextlib.contextmanager
def one_line_warnings(command: str) -> Iterator[None]:
    """Inside, a warning is a line on the error stream without the line of code that gave it."""
    def show(message: Warning | str, *where: object) -> None:
        print(f"minicv {command}: warning: {message}", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code. What the user can fix is one line on the error stream, all else a traceback."""
    print_anything()
    args = parser().parse_args(argv)
    try:
        try:
            if args.backend:
                minicv.use(args.backend)
            backend.current_device()  # what the environment asks for,
            backend.num_threads()  # before a command begins
        except (ValueError, RuntimeError) as error:
            raise UserError(str(error)) from error
        with one_line_warnings(args.command), minicv.plain() if args.plain else contextlib.nullcontext():
            code = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has enough, as `head` in `minicv papers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python's own last flush finds no pipe either
        return 0
    except (UserError, OSError) as error:
        print(f"minicv {args.command}: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"minicv {args.command}: not enough memory ({str(error) or 'it is full'})", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"minicv {args.command}: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
