"""``minicv predict``: predict image files one by one, and name those that cannot be predicted."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError, blame_user
from ..files import check_folder, one_line
from .options import add_label_options, add_proposals


class ImageFile(NamedTuple):
    """An image to predict: a file, or a page of a TIFF stack, counted from 0."""

    path: str
    page: int | None = None

    def __str__(self) -> str:
        return self.path if self.page is None else f"{self.path}, page {self.page}"

    @property
    def stem(self) -> str:
        """The name of its results: NAME, or NAME-0, NAME-1, ... of a stack, as data sets name its pages."""
        return Path(self.path).stem + ("" if self.page is None else f"-{self.page}")


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
        for image, stem in zip(images, stems, strict=True):
            try:
                line = predict_file(writer, model.in_channels, image, stem)
            except (UserError, MemoryError) as error:
                reason = f"{image}: not enough memory ({error})" if isinstance(error, MemoryError) else error
                print(f"minicv predict: {one_line(reason)}", file=sys.stderr, flush=True)
                bad.append(str(image))
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


def predict_file(writer: Any, channels: int, file: ImageFile, stem: Path) -> str:
    """Predict one image; return its size and what was found."""
    from .. import data
    from ..data.files.decode import header_size
    image = data.read_image(file.path, "L" if channels == 1 else "RGB", upright=True, page=file.page)
    path = Path(file.path)
    with blame_user(str(file)):
        line = writer.write(image, path.with_name(file.stem + path.suffix), stem)
    orientation = header_size(path)[1]
    rotated = f", upright by EXIF orientation {orientation}" if orientation != 1 else ""
    _, H, W = image.shape
    return f"({W} x {H} pixels{rotated})  {line}"


def image_files(paths: Sequence[str]) -> tuple[list[ImageFile], list[str]]:
    """Return the images of these paths, and the folders without any.

    A folder stands for the images in it, by name; a TIFF stack for its pages.
    """
    from ..data.files.decode import image_endings, page_count
    from ..data.readers.folders import list_files
    files, empty = [], []
    for path in paths:
        inside = list(map(str, list_files(Path(path), image_endings()))) if os.path.isdir(path) else [path]
        empty += [path] * (not inside)
        for file in inside:
            pages = page_count(file)
            files += [ImageFile(file, page) for page in range(pages)] if pages > 1 else [ImageFile(file)]
    return files, empty


def result_stems(images: Sequence[ImageFile], out: Path, suffixes: Sequence[str],
                 shared_files: Sequence[str]) -> list[Path]:
    """Return each image's result path without suffix; ``UserError`` if two share it, or one would replace an image."""
    stems: dict[str, ImageFile] = {}
    results = []
    for image in images:
        stem = out / image.stem
        if Path(image.path).name in ("", "..") or not image.stem:
            raise UserError(f"{image.path or '(an empty name)'}: not an image file")
        other = stems.setdefault(os.path.normcase(stem), image)
        if other is not image:
            raise UserError(f"{other} and {image}: both results would be named {stem}{suffixes[-1]}; predict them into "
                            "different folders")
        results.append(stem)
    read = {os.path.realpath(image.path): image.path for image in images}
    written = {f"{stem}{suffix}": str(image) for image, stem in zip(images, results, strict=True)
               for suffix in suffixes} | {f"{out / name}": "all images" for name in shared_files}
    for file, owner in written.items():
        if os.path.realpath(file) in read:
            raise UserError(f"{read[os.path.realpath(file)]}: would be overwritten by a result of {owner}; choose "
                            "another --out, or leave out earlier results")
    return results
