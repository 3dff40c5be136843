"""``minicv predict``: predict image files one by one, and name those that cannot be predicted."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError, blame_user
from ..files import check_folder, one_line
from .options import add_proposals, add_tile_and_average


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser(
        "predict", help="label the pixels of images, or find their objects",
        description="A network that labels pixels writes NAME_labels.png and NAME_overlay.png for each image; one that "
        "finds objects writes NAME.json and NAME_boxes.png.")
    add.add_argument("--checkpoint", required=True, metavar="FILE", help="the trained network")
    add.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the results")
    add_tile_and_average(add)
    add.add_argument("--score", type=float,
                     help="lowest score of an object to write (default: 0.5; 0 for SVMs, 0.25 for YOLO)")
    add_proposals(add)
    add.add_argument("images", nargs="+", metavar="IMAGE", help="an image file")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """minicv predict: print a line for each image; return 1 if some could not be predicted, else 0.

    Raises ``UserError``, before anything is predicted, if results would overwrite each other or an image, or if
    ``--out`` cannot be written.
    """
    from .. import data
    from ..data.files.decode import header_size
    from .networks import load_network
    model, info, commands = load_network(args.checkpoint)
    commands.check_predict_options(model.build_args["model"], args)
    stems = result_stems(args.images, args.out, commands.suffixes)
    with blame_user():
        write = commands.result_writer(model, info, args)
    check_folder(args.out, "--out")
    args.out.mkdir(parents=True, exist_ok=True)
    bad = []
    for path, stem in zip(args.images, stems, strict=True):
        try:
            image = data.read_image(path, "L" if model.in_channels == 1 else "RGB", upright=True)
            with blame_user(path):
                line = write(image, stem)
        except (UserError, MemoryError) as error:
            reason = f"{path}: not enough memory ({error})" if isinstance(error, MemoryError) else error
            print(f"minicv predict: {one_line(reason)}", file=sys.stderr, flush=True)
            bad.append(str(path))
        else:
            orientation = header_size(path)[1]
            rotated = f", upright by EXIF orientation {orientation}" if orientation != 1 else ""
            _, H, W = image.shape
            print(f"{one_line(stem)}{commands.suffixes[-1]}  ({W} x {H} pixels{rotated})  {line}", flush=True)
    if bad:
        print(f"minicv predict: {len(bad)} of {len(stems)} images could not be predicted: "
              f"{one_line(', '.join(bad))}",
              file=sys.stderr)
    return 1 if bad else 0


def result_stems(images: Sequence[str], out: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return each image's result path without suffix; ``UserError`` if two share it, or one would replace an image."""
    stems: dict[str, str] = {}
    results = []
    for image in images:
        stem = out / Path(image).stem
        if Path(image).name in ("", "..") or not Path(image).stem:
            raise UserError(f"{image or '(an empty name)'}: not an image file")
        other = stems.setdefault(os.path.normcase(stem), image)
        if other is not image:
            raise UserError(f"{other} and {image}: both results would be named {stem}{suffixes[-1]}; predict them into "
                            "different folders")
        results.append(stem)
    read = {os.path.realpath(image): image for image in images}
    for image, stem in zip(images, results, strict=True):
        for suffix in suffixes:
            if os.path.realpath(f"{stem}{suffix}") in read:
                raise UserError(f"{read[os.path.realpath(f'{stem}{suffix}')]}: would be overwritten by a result of "
                                f"{image}; choose another --out, or leave out earlier results")
    return results
