"""Checks of arguments that the measures share; their errors name the function."""

from collections.abc import Sequence

import numpy as np

from ..backend import is_array, to_numpy


def as_mask(function: str, name: str, mask) -> np.ndarray:
    """The mask as a boolean array. Integers may hold 0 and one other value (0 and 1, 0 and 255); floats may not."""
    mask = _not_empty(function, name, mask)
    if mask.dtype.kind not in "biu":
        raise TypeError(f"{function}: {name} must be a boolean or integer mask, got {mask.dtype}; threshold it "
                        f"first, for example {name} > 0.5")
    set_values = mask[mask != 0]
    if set_values.size and set_values.min() != set_values.max():
        raise ValueError(f"{function}: {name} must hold 0 and one other value, got labels from {set_values.min()} to "
                         f"{set_values.max()}; pick one first, for example {name} == {set_values.min()}")
    return mask != 0


def as_labels(function: str, name: str, labels) -> np.ndarray:
    """The labels as an integer array; booleans become 0 and 1."""
    labels = _not_empty(function, name, labels)
    if labels.dtype.kind not in "biu":
        raise TypeError(f"{function}: {name} must hold integer labels, got {labels.dtype}")
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def as_probability(function: str, name: str, probability) -> np.ndarray:
    """The probabilities as an array of values in [0, 1], up to the rounding of a softmax; booleans are 0 and 1."""
    probability = _not_empty(function, name, probability)
    if probability.dtype.kind not in "biuf":
        raise TypeError(f"{function}: {name} must hold probabilities, got {probability.dtype}")
    low, high = probability.min(), probability.max()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # written so that NaN fails too
        raise ValueError(f"{function}: {name} must lie in [0, 1], got values from {low} to {high}")
    return probability


def check_same_shape(function: str, name_a: str, a: np.ndarray, name_b: str, b: np.ndarray) -> None:
    """Raise ``ValueError`` unless two arrays have the same shape."""
    if a.shape != b.shape:
        raise ValueError(f"{function}: {name_a} and {name_b} must have the same shape, got {a.shape} and {b.shape}")


def mean_without_nan(values: np.ndarray | Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN without a warning if there are none."""
    array = np.asarray(values, np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")


def check_one_image(function: str, name: str, array: np.ndarray) -> None:
    """Raise ``ValueError`` unless the array is (H, W)."""
    if array.ndim != 2:
        raise ValueError(f"{function}: {name} must be one image of shape (H, W), got {array.shape}; call it once for "
                         "each image of a stack")


def _not_empty(function: str, name: str, array) -> np.ndarray:
    array = to_numpy(array) if is_array(array) else np.asarray(array)  # measures count on the host
    if array.size == 0:
        raise ValueError(f"{function}: {name} is empty (shape {array.shape}): there is no pixel to score")
    return array
