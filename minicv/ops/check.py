"""Check an operation on its cases, for ``minicv gradcheck``.

The loops of the definition, the plain Function and its fast version must give the same numbers, and each backward must
be the derivative of its forward.
"""
from __future__ import annotations

import contextlib
import functools
import traceback
from typing import Any

import numpy as np

from .. import backend
from ..autograd import GradcheckResult, Tensor, gradcheck, plain
from ..autograd.function import Function, fast_versions
from ..autograd.graph import calls
from .case import Case

TOLERANCE = 1e-10  # relative to the largest number, in float64
LARGE = 20_000  # elements: loops over larger arrays would take seconds


def storeys(case: Case) -> tuple[str, ...]:
    """("plain", "fast") if the case calls a Function whose fast version would run now, else ("plain",)."""
    return ("plain", "fast") if not plain.active() and functions(case) & fast_versions().keys() else ("plain",)


@functools.cache
def functions(case: Case) -> frozenset[type[Function]]:
    """The Functions that the case calls, as plain classes; none if it fails."""
    inputs = [None if a is None else Tensor(a, requires_grad=a.dtype.kind == "f") for a in case.arrays()]
    with plain(), contextlib.suppress(Exception):
        return frozenset(type(call) for call in calls(as_list(case.run(*inputs))[0]))
    return frozenset()


def check_case(case: Case, device: str = "numpy") -> dict[str, GradcheckResult]:
    """The verdict on each storey of the case."""
    found, reference = {}, None
    for storey in storeys(case):
        with plain() if storey == "plain" else contextlib.nullcontext():
            try:
                values = results(case, device)
                if reference is None:
                    large = max((a.size for a in case.arrays() if a is not None), default=0) > LARGE
                    reference = values if large else loop_results(case)
                mismatch = compare(values, reference)
                found[storey] = gradcheck(*case.differentiable(device)) if mismatch is None else mismatch
            except Exception as error:  # an operation that fails is wrong, and the others are still to be checked
                where = traceback.extract_tb(error.__traceback__)[-1]
                found[storey] = GradcheckResult("WRONG", float("nan"), "; ".join([
                    f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()),
                    f"{where.filename}, line {where.lineno}: {where.line}"]))
    return found


def results(case: Case, device: str) -> list[np.ndarray]:
    """The results of the operation on the case's inputs, as NumPy arrays."""
    y = case.run(*(None if a is None else Tensor(backend.to_device(a, device)) for a in case.arrays()))
    return [t.numpy() for t in as_list(y)]


def loop_results(case: Case) -> list[np.ndarray]:
    """The results of the definition, in loops."""
    return [np.asarray(y) for y in as_list(case.loop(*case.arrays(), **case.options))]


def as_list(result: Any) -> list:
    """A list of the results of an operation that returns one or several."""
    return list(result) if isinstance(result, tuple | list) else [result]


def compare(values: list[np.ndarray], reference: list[np.ndarray]) -> GradcheckResult | None:
    """The verdict WRONG if the results differ from those of the loops, or of the plain storey; else None."""
    for y, expected in zip(values, reference, strict=True):
        if y.shape != expected.shape:
            return GradcheckResult("WRONG", float("nan"), f"forward gives shape {y.shape}, the loops {expected.shape}")
        with np.errstate(invalid="ignore"):  # inf - inf
            apart = np.where(y == expected, 0.0, abs(np.subtract(y, expected, dtype=float)))
        apart = np.where(np.isnan(y) & np.isnan(expected), 0.0, apart)
        scale = np.max(np.abs(expected), where=np.isfinite(expected), initial=0.0)
        scale = scale if scale > TOLERANCE else 1.0  # where all terms cancel, they were of the size of 1
        if not (apart <= TOLERANCE * scale).all():
            place = np.unravel_index(int(np.argmax(np.where(np.isnan(apart), np.inf, apart))), y.shape)
            return GradcheckResult("WRONG", float(apart[place] / scale), f"forward gives {y[place]:.6g} at "
                                   f"{tuple(map(int, place))}, the loops {expected[place]:.6g}")
    return None
