"""``minicv predict``: one image after the other; those that cannot be predicted are named, and the rest is."""
from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import data
from ..data.files.decode import header_size
from ..errors import UserError, blame_user
from ..files import one_line
from ..nn import Module


def predict_files(model: Module, info: dict, kind: Any, args: argparse.Namespace) -> int:
    """Predict ``args.images`` into ``args.out`` and print a line for each; 1 if some could not be predicted, else 0.

    ``UserError``, before anything is predicted, where results would overwrite each other or an image, or where
    ``args.out`` cannot be written.
    """
    stems = result_stems(args.images, args.out, kind.suffixes)
    with blame_user():
        write = kind.writer(model, info, args)
    make_folder(args.out)
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
            turned = f", upright by EXIF orientation {orientation}" if orientation != 1 else ""
            _, H, W = image.shape
            print(f"{one_line(stem)}{kind.suffixes[-1]}  ({W} x {H} pixels{turned})  {line}", flush=True)
    if bad:
        print(f"minicv predict: {len(bad)} of {len(stems)} images could not be predicted: "
              f"{one_line(', '.join(bad))}",
              file=sys.stderr)
    return 1 if bad else 0


def result_stems(images: Sequence[str], out: Path, suffixes: Sequence[str]) -> list[Path]:
    """What the names of each image's results begin with; ``UserError`` where two would share a file, or replace one."""
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


def make_folder(out: Path) -> None:
    """Make the folder of the results, if it is not there; ``UserError`` where files cannot be written into it."""
    probe = out / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (out, *out.parents) if path.exists())
        raise UserError(f"--out {out}: {file} is a file, not a folder") from error
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from error
