"""A data set of one's own, without a change in this package: ``--data MODULE:FUNCTION[,option=value ...]``.

FUNCTION(split, **options) is called with "train", "val" or "test", and with the options as text. It returns an object
with ``class_names``, a length, and items: ``Sample`` for networks that label pixels, ``DetectionSample`` for those that
find objects. For a split that it does not have, it raises ``NoSplit``. MODULE is searched in the current folder and
where Python finds its modules; "folder.module" is folder/module.py.

Each item is checked when it is read: its types, shapes, ranges and classes. A wrong one is a ``DataError`` that names
the function, the item and what is wrong.
"""
from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from typing import Any

import numpy as np

from .errors import DataError, NoSplit
from .sample import IGNORE, DetectionSample, Sample, item_index
from .spec import Spec


class OwnDataset:
    """The checked items of a data set that a function of the user returned; other attributes are the data set's."""

    ignore_index = IGNORE

    def __init__(self, dataset: Any, where: str, split: str):
        self.dataset, self.where, self.split = dataset, where, split
        names: Any = getattr(dataset, "class_names", None)
        if isinstance(names, str) or not hasattr(names, "__len__") or not len(names) or (
                not all(isinstance(name, str) for name in names)) or len(set(names)) < len(names):
            raise DataError(f"{where}: must return an object with class_names, a list of different names, got "
                            f"{type(dataset).__name__}" + ("" if names is None else f" with class_names {names!r:.80}"))
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(f"{where}: must return an object with len() and [index], got {type(dataset).__name__}")
        self.class_names = tuple(names)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        index = item_index(self, index)
        where = f"{self.where}: item {index} of {self.split}"
        try:
            item = self.dataset[index]
        except Exception as error:
            raise _reported(where, error) from error
        if fault := fault_of(item, self.num_classes):
            raise DataError(f"{where}: {fault}")
        return item

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not set yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.dataset, name)


def open_own(spec: Spec, split: str, **options: Any) -> OwnDataset:
    """Call the function of a spec, for which ``is_own`` holds, and return its data set."""
    where = f"{spec.name}:{spec.path}"
    function = find_function(spec)
    try:
        dataset = function(split, **spec.options, **options)
    except NoSplit:
        raise
    except Exception as error:
        raise _reported(where, error) from error
    return OwnDataset(dataset, where, split)


def is_own(spec: Spec) -> bool:
    """Return whether a spec has the form MODULE:FUNCTION of a module that exists."""
    if not spec.path.isidentifier() or not all(part.isidentifier() for part in spec.name.split(".")):
        return False
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        return importlib.util.find_spec(spec.name) is not None
    except (ImportError, ValueError):
        return False


def find_function(spec: Spec) -> Any:
    """Return the function of a spec."""
    try:
        module = importlib.import_module(spec.name)
    except Exception as error:
        raise _reported(spec.name, error) from error
    function = getattr(module, spec.path, None)
    if not callable(function):
        raise DataError(f"{module.__file__}: has no function {spec.path}, which --data {spec} calls")
    return function


def _reported(where: str, error: Exception) -> DataError:
    """Return an error of the user's code as a ``DataError`` of one line, with the place."""
    if isinstance(error, DataError):
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return DataError(f"{where}: {type(error).__name__}: {text[:300]} ({frame.filename}, line {frame.lineno})")


def fault_of(item: Any, num_classes: int) -> str:
    """Return what is wrong with an item, or "" if it is as networks expect."""
    if not isinstance(item, Sample | DetectionSample):
        return f"must be a minicv.data.Sample or DetectionSample, got {type(item).__name__}"
    return _fault_of_image(item) or (_fault_of_label(item, num_classes) if isinstance(item, Sample) else
                                     _fault_of_objects(item, num_classes))


def _fault_of_image(item: Sample | DetectionSample) -> str:
    image = item.image
    channels = (1, 3) if isinstance(item, Sample) else (3,)
    if not isinstance(item.name, str):
        return f"name must be text, got {type(item.name).__name__}"
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[0] not in channels or not image.size or (
            image.dtype != np.float32):
        return f"image must be float32 ({' or '.join(map(str, channels))}, H, W), got {_kind(image)}"
    if not (image.min() >= 0 and image.max() <= 1):  # also catches NaN
        return f"image must lie in [0, 1], got {image.min():g} to {image.max():g}"
    return ""


def _fault_of_label(item: Sample, num_classes: int) -> str:
    size = item.image.shape[1:]
    for name, value, dtype in (("label", item.label, np.int64), ("instances", item.instances, np.int32),
                               ("weight", item.weight, np.float32)):
        if (value is not None or name == "label") and (
                not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != size):
            return f"{name} must be {np.dtype(dtype)} {size} like its image, got {_kind(value)}"
    strange = np.unique(item.label[(item.label != IGNORE) & ((item.label < 0) | (item.label >= num_classes))])
    if len(strange):
        return f"label holds {strange[:5].tolist()}, but the classes are 0 to {num_classes - 1}, and {IGNORE} for none"
    return ""


def _fault_of_objects(item: DetectionSample, num_classes: int) -> str:
    H, W = item.image.shape[1:]
    R = len(item.boxes)
    wanted = {"boxes": (np.float32, (R, 4)), "labels": (np.int64, (R,)), "masks": (bool, (R, H, W)),
              "difficult": (bool, (R,)), "crowd": (bool, (R,)), "area": (np.float32, (R,))}
    for name, (dtype, shape) in wanted.items():
        value = getattr(item, name)
        if value is not None and (not isinstance(value, np.ndarray) or value.dtype != dtype or value.shape != shape):
            return f"{name} must be {np.dtype(dtype)} {shape}, got {_kind(value)}"
    x1, y1, x2, y2 = item.boxes.T
    bad = ~((x1 >= 0) & (y1 >= 0) & (x1 < x2) & (y1 < y2) & (x2 <= W) & (y2 <= H))
    if bad.any():
        return f"box {item.boxes[bad][0].tolist()} must be x1 < x2, y1 < y2 within the {W} x {H} image"
    if R and not (item.labels.min() >= 0 and item.labels.max() < num_classes):
        return f"labels hold {item.labels.min()} to {item.labels.max()}, but the classes are 0 to {num_classes - 1}"
    return ""


def _kind(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
