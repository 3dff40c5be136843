"""Data sets, augmentation and weight maps, on plain NumPy arrays.

A data set has `len()`, `[i]` -> Sample, `num_classes` and `class_names`. All randomness comes from an
explicit `numpy.random.Generator` or seed.
"""

from minicv.data.cells import Cells, draw_cells
from minicv.data.errors import DataError
from minicv.data.images import read_image, read_label, write_png
from minicv.data.isbi import ISBI2012
from minicv.data.sample import IGNORE, Sample
from minicv.data.transforms import (
    UNetAugment,
    elastic_displacement,
    mirror_pad,
    random_flip,
    random_grey,
    random_rotation,
    random_shift,
    random_tile,
    standardise,
    warp,
)
from minicv.data.weight_map import WithWeightMap, balanced_class_weights, weight_map, weight_map_loop

__all__ = [
    "IGNORE",
    "ISBI2012",
    "Cells",
    "DataError",
    "Sample",
    "UNetAugment",
    "WithWeightMap",
    "balanced_class_weights",
    "draw_cells",
    "elastic_displacement",
    "mirror_pad",
    "open_dataset",
    "random_flip",
    "random_grey",
    "random_rotation",
    "random_shift",
    "random_tile",
    "read_image",
    "read_label",
    "standardise",
    "warp",
    "weight_map",
    "weight_map_loop",
    "write_png",
]


def open_dataset(spec: str, split: str = "train", **options):
    """Open a data set by its spec, NAME or NAME:PATH, as the command line's --data takes it.

    "cells": generated; options count, size, seed and draw_cells's; the splits "train" and "test" never
    share a picture. "isbi2012:PATH": see ISBI2012; splits "train", "test", "all". Raises ValueError for a
    spec or split that does not exist, DataError for files that cannot be used.
    """
    name, _, path = spec.partition(":")
    if name not in _DATASETS:
        raise ValueError(f"open_dataset: no data set {name!r}; available: {_available()}")
    opener, needs_path = _DATASETS[name]
    if needs_path != bool(path):
        problem = "needs a path" if needs_path else "is generated and takes no path"
        raise ValueError(f"open_dataset: {name} {problem}, got {spec!r}; available: {_available()}")
    return opener(path, split, **options)


def _open_cells(path: str, split: str, count: int = 30, size=(256, 256), seed: int = 0, **options) -> Cells:
    if split not in ("train", "test"):
        raise ValueError(f'open_dataset: cells has the splits "train" and "test", got {split!r}')
    # Even seeds draw training pictures, odd ones test pictures.
    return Cells(count, size, 2 * seed + (split == "test"), **options)


def _open_isbi2012(path: str, split: str, **options) -> ISBI2012:
    return ISBI2012(path, split=split, **options)


_DATASETS = {"cells": (_open_cells, False), "isbi2012": (_open_isbi2012, True)}


def _available() -> str:
    return ", ".join(f"{name}:PATH" if needs_path else name for name, (_, needs_path) in _DATASETS.items())
