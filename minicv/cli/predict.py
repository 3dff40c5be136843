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
from .options import add_label_options, add_proposals


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser(
        "predict", help="label the pixels of images, or find their objects",
        description="A network that labels pixels writes NAME_labels.png (each pixel's value is its class, shown in "
        "VOC's colors) and NAME_overlay.png for each image, and the legend as legend.png and legend.txt. One that "
        "finds objects writes NAME_boxes.png for each image, and results.json in COCO's format, which pycocotools "
        "loads with COCO('images.json').loadRes('results.json').")
    add.add_argument("--checkpoint", required=True, metavar="FILE", help="the trained network")
    add.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the results")
    add_label_options(add)
    add.add_argument("--score", type=float,
                     help="lowest score of an object to write (default: 0.5; 0 for SVMs, 0.25 for YOLO)")
    add_proposals(add)
    add.add_argument("--comp4", action="store_true", help="also write VOC's result files, comp4_det_test_CLASS.txt; "
                     "to measure average precision from them, write low scores, too: --score 0.001")
    add.add_argument("images", nargs="+", metavar="IMAGE|DIR", help="an image file, or a folder of them")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """minicv predict: print a line for each image; return 1 if some could not be predicted, else 0.

    Raises ``UserError``, before anything is predicted, if results would overwrite each other or an image, or if
    ``--out`` cannot be written. The files of all images are written even if an error or Ctrl-C ends it early.
    """
    from .networks import load_network
    model, info, commands = load_network(args.checkpoint)
    commands.check_predict_options(model.build_args["model"], args)
    images, bad = image_files(args.images)
    stems = result_stems(images, args.out, commands.suffixes, commands.shared_files)
    with blame_user():
        writer = commands.result_writer(model, info, args)
    check_folder(args.out, "--out")
    args.out.mkdir(parents=True, exist_ok=True)
    for path in bad:
        print(f"minicv predict: {one_line(path)}: no image file in this folder", file=sys.stderr, flush=True)
    total, shared = len(images) + len(bad), list[Path]()
    try:
        for path, stem in zip(images, stems, strict=True):
            try:
                line = predict_file(writer, model.in_channels, path, stem)
            except (UserError, MemoryError) as error:
                reason = f"{path}: not enough memory ({error})" if isinstance(error, MemoryError) else error
                print(f"minicv predict: {one_line(reason)}", file=sys.stderr, flush=True)
                bad.append(str(path))
            else:
                print(f"{one_line(stem)}{commands.suffixes[-1]}  {line}", flush=True)
    finally:
        if len(bad) < total:
            shared = writer.finish(args.out)
    for file in shared:
        print(one_line(file))
    if bad:
        print(f"minicv predict: {len(bad)} of {total} images could not be predicted: {one_line(', '.join(bad))}",
              file=sys.stderr)
    return 1 if bad else 0


def predict_file(writer: Any, channels: int, path: str, stem: Path) -> str:
    """Predict one file; return its size and what was found."""
    from .. import data
    from ..data.files.decode import header_size
    image = data.read_image(path, "L" if channels == 1 else "RGB", upright=True)
    with blame_user(path):
        line = writer.write(image, Path(path), stem)
    orientation = header_size(path)[1]
    rotated = f", upright by EXIF orientation {orientation}" if orientation != 1 else ""
    _, H, W = image.shape
    return f"({W} x {H} pixels{rotated})  {line}"


def image_files(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files of these paths, where a folder stands for its images by name, and the folders without any."""
    from ..data.files.decode import image_endings
    from ..data.readers.folders import list_files
    files, empty = [], []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        inside = list_files(Path(path), image_endings())
        files += map(str, inside)
        empty += [path] * (not inside)
    return files, empty


def result_stems(images: Sequence[str], out: Path, suffixes: Sequence[str], shared_files: Sequence[str]) -> list[Path]:
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
    written = [(f"{stem}{suffix}", image) for image, stem in zip(images, results, strict=True) for suffix in suffixes]
    for file, image in [*written, *((f"{out / name}", "all images") for name in shared_files)]:
        if os.path.realpath(file) in read:
            raise UserError(f"{read[os.path.realpath(file)]}: would be overwritten by a result of {image}; choose "
                            "another --out, or leave out earlier results")
    return results
