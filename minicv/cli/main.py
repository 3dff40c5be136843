"""The ``minicv`` command: its parser, and how it reports errors."""
from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator

from .. import backend
from ..autograd import plain
from ..errors import UserError, exit_on_interrupt
from ..files import print_anything
from ..version import __version__
from . import course, data, doctor, evaluate, export, gradcheck, predict, summary, train
from .options import Parser

EXAMPLES = """examples:
  minicv lessons run --quick                       run every lesson, small; the figures go to lessons/out/
  minicv lessons run 08_unet                       run one lesson in full
  minicv gradcheck conv2d                          check the backward pass against finite differences
  minicv summary vgg16 --preset paper              list its layers: shapes, parameters, MACs, receptive fields
  minicv papers unet                               list its equations and figures, with file and line
  minicv data download isbi2012 --root DIR         download real images and verify them
  minicv data check camvid:DIR                     check that a data set is complete
  minicv train unet --data cells --out runs/cells  train on generated images of cells
  minicv predict --checkpoint runs/cells/last.safetensors image.png --out runs/results
  minicv train faster_rcnn --data bccd:PATH --out runs/blood
  minicv export runs/cells/last.safetensors --to torch
exit codes:
  0    success
  1    gradcheck, data check or a lesson found a fault, or predict could not read every image; or an error in minicv
       itself, shown with its traceback
  2    a file, option or value that cannot be used; one line on standard error names it
  130  interrupted by Ctrl-C"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = Parser(
        prog="minicv", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The classic networks for detection and segmentation, built from nothing but arrays.")
    top.add_argument("--version", action="version", version=f"minicv {__version__}")
    top.add_argument("--backend", choices=["numpy", "cupy"],
                     help="compute with NumPy, or with CuPy on a GPU (default: MINICV_BACKEND, or numpy)")
    top.add_argument("--plain", action="store_true",
                     help="run every operation as minicv/ops defines it, without the faster versions in minicv/fast")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (course, gradcheck, doctor, summary, train, evaluate, predict, export, data):
        group.add_parsers(commands)
    return top


@contextlib.contextmanager
def one_line_warnings(command: str) -> Iterator[None]:
    """Inside, print a warning as one line on standard error, without the source line that raised it."""
    def show(message: Warning | str, *where: object, **more: object) -> None:
        print(f"minicv {command}: warning: {message}", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def run_command(args: argparse.Namespace) -> int:
    """Run one command on the device that the options and the environment ask for; return its exit code."""
    try:
        if args.backend:
            backend.use(args.backend)
        backend.current_device()  # raises for a bad MINICV_BACKEND
        backend.num_threads()  # raises for a bad MINICV_THREADS
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    with one_line_warnings(args.command), plain() if args.plain else contextlib.nullcontext():
        code = args.run(args)
    sys.stdout.flush()
    return code


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Print a user's error as one line on standard error. A programming error keeps its traceback, with a note that names
    the command.
    """
    if signal.getsignal(signal.SIGINT) is exit_on_interrupt:  # from here on, the handler below answers
        signal.signal(signal.SIGINT, signal.default_int_handler)
    print_anything()
    args = parser().parse_args(argv)
    try:
        return run_command(args)
    except BrokenPipeError:  # the reader has enough, as `head` in `minicv papers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
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
    except Exception as error:
        error.add_note(f"minicv {args.command}: this is an error in minicv itself, not in what you gave it")
        raise
