"""What every operation must do, checked on a Case: the functions behind ``tests/ops/test_cases.py``.

Each ``check_...(case, device)`` raises AssertionError with a message that names the case, the input and the numbers.
The checks run whatever storey is in use: fast, or inside ``on_storey("plain")`` plain; what they compare with is plain.
Importing this file makes the device "strict" known.
"""
from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable

import numpy as np

import minicv
import minicv.ops
from minicv import Tensor, backend
from minicv.autograd import Function, gradcheck
from minicv.ops.case import Case
from minicv.ops.check import storeys  # noqa: F401 - for the tests
from tests.strict_device import StrictArray

DEVICES = ("numpy", "strict")  # and "cupy", where tests marked gpu are asked for
TOLERANCE = {"float64": 1e-11, "float32": 1e-5}  # relative to the largest value: about 1e5 and 1e2 roundings
LARGE = 20_000
KINKED = re.compile(r"\b(kinks?|ties?|tied|zeros?|half|halves|integers?|edges?)\b")

MODULES = [importlib.import_module(f"minicv.ops.{m.name}") for m in pkgutil.iter_modules(minicv.ops.__path__)]
CASES = [case for module in MODULES for case in getattr(module, "CASES", [])]
FUNCTIONS = [f for module in MODULES for f in vars(module).values()
             if isinstance(f, type) and issubclass(f, Function) and f.__module__ == module.__name__
             and f.forward is not Function.forward]


def on_storey(name: str) -> contextlib.AbstractContextManager:
    """Inside, operations run plain or fast."""
    return {"plain": minicv.plain, "fast": contextlib.nullcontext}[name]()


def is_float(array) -> bool:
    return array is not None and array.dtype.kind == "f"


def on(device: str, arrays: list) -> list:
    return [None if a is None else backend.to_device(a, device) for a in arrays]


def to_numpy(array):
    return None if array is None else backend.to_numpy(array)


class Run:
    """One call of a case on the given arrays, forward and, for the inputs in ``needs``, backward.

    ``outputs`` are the arrays of all results, ``gradients`` those of the inputs (None where not asked for). The first
    result is the differentiable one. ``cotangent`` makes dL/dy from y; by default it is random, and the same for
    every device and layout.
    """

    def __init__(self, case: Case, arrays: list, needs: Callable[[int], bool] = lambda i: True,
                 cotangent: Callable | None = None):
        minicv.seed(0)
        tensors = [None if a is None else Tensor(a, is_float(a) and needs(i)) for i, a in enumerate(arrays)]
        result = case.run(*tensors)
        results = list(result) if isinstance(result, tuple | list) else [result]
        self.first = results[0]
        self.outputs = [t.data for t in results]
        self.cotangent = None
        if self.first.requires_grad:
            self.cotangent = (cotangent or random_like)(self.first.data)
            self.first.backward(self.cotangent)
        self.gradients = [None if t is None else t.grad for t in tensors]

    def values(self) -> tuple[list, list]:
        """Outputs and gradients as NumPy arrays."""
        return [to_numpy(a) for a in self.outputs], [to_numpy(a) for a in self.gradients]


def random_like(y):
    values = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    return backend.to_device(values, backend.device_of(y))


def powers_of_two(y):
    return (2.0 ** np.arange(y.size)).reshape(y.shape)


def compare(actual: list, expected: list, tolerance: float, what: str) -> None:
    """Equal to within ``tolerance`` of the largest value, and integers exactly."""
    assert len(actual) == len(expected), f"{what}: {len(actual)} arrays, expected {len(expected)}"
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert (a is None) == (e is None), f"{what} {i}: got {a}, expected {e}"
        if a is None:
            continue
        assert a.shape == e.shape, f"{what} {i}: shape {a.shape}, expected {e.shape}"
        scale = 0.0
        if e.dtype.kind == "f":
            scale = np.max(np.abs(e), initial=0.0, where=np.isfinite(e))
            scale = scale if scale > tolerance else 1.0  # where everything cancels, the terms were of the size of 1
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale, err_msg=f"{what} {i}")


@functools.cache
@minicv.plain()
def by_loops(case: Case, dtype: str) -> list[np.ndarray]:
    """The oracle, computed in float64 at inputs that were rounded to the dtype.

    Loops over large arrays take seconds, so in float32 the float64 op, held against the loops already, stands in.
    """
    exact = [a.astype(np.float64) if is_float(a) else a for a in case.arrays(dtype)]
    if dtype == "float32" and max(a.size for a in exact if a is not None) > LARGE:
        return Run(case, exact).values()[0]
    result = case.loop(*exact, **case.options)
    return [np.asarray(r) for r in (result if isinstance(result, tuple | list) else [result])]


@functools.cache
@minicv.plain()
def reference(case: Case) -> tuple[list, list]:
    """Outputs and gradients of the plain storey on NumPy, float64, from contiguous arrays."""
    return Run(case, case.arrays()).values()


# ---------------------------------------------------------------------------------------------------------
# The checks
# ---------------------------------------------------------------------------------------------------------
def check_loop(case: Case, device: str, dtype: str) -> None:
    """The op computes what its loops compute."""
    outputs, _ = Run(case, on(device, case.arrays(dtype))).values()
    compare(outputs, by_loops(case, dtype), TOLERANCE[dtype], f"{case}: output")


def check_dtype(case: Case, device: str, dtype: str) -> None:
    """Floats keep their width, forward and backward; results and gradients are arrays of the device."""
    arrays = on(device, case.arrays(dtype))
    run = Run(case, arrays)
    array_type = type(backend.to_device(np.zeros(0), device))
    assert any(is_float(a) for a in run.outputs) or not any(map(is_float, arrays)), f"{case}: no float came out"
    for i, y in enumerate(run.outputs):
        assert type(y) is array_type, f"{case}: output {i} is a {type(y).__name__}"
        assert y.dtype == dtype or not is_float(y), f"{case}: output {i} is {y.dtype}, the input {dtype}"
    for i, (a, g) in enumerate(zip(arrays, run.gradients, strict=True)):
        assert (g is not None) == is_float(a), f"{case}: the gradient of input {i} is {g}"
        if g is not None:
            assert type(g) is array_type, f"{case}: gradient {i} is a {type(g).__name__}"
            assert g.shape == a.shape and g.dtype == dtype, f"{case}: gradient {i} is {g.dtype} {g.shape}"
    if dtype == "float32":
        exact = [a.astype(np.float64) if is_float(a) else a for a in case.arrays(dtype)]
        compare(run.values()[1], Run(case, exact).values()[1], 10 * TOLERANCE[dtype], f"{case}: gradient in float32")


def check_gradient(case: Case) -> str:
    """Backward is forward's derivative; a kink only where the label speaks of one. Returns the verdict.

    At a kink any number between the slopes of both sides passes as a derivative: so there the case must say which.
    """
    result = gradcheck(*case.differentiable())
    assert result.verdict in ("ok", "kink"), f"{case}: {result}"
    assert result.verdict == "ok" or KINKED.search(case.label), \
        f"{case}: {result.detail}, but the label names no tie, zero, half, integer, edge or kink"
    assert result.verdict == "ok" or case.gradients is not None, f"{case}: a kink, and no gradients=[...] to expect"
    if case.gradients is not None:
        received = [g for g in Run(case, case.arrays(), cotangent=powers_of_two).values()[1] if g is not None]
        expected = [np.array(e, float) for e in case.gradients]
        compare([g.reshape(e.shape) if g.size == e.size else g for g, e in zip(received, expected, strict=True)],
                expected, TOLERANCE["float64"], f"{case}: gradient at a kink")
    return result.verdict


def check_device(case: Case) -> None:
    """On the strict device: the same values as NumPy's, and no waiting for the device."""
    arrays = on("strict", case.arrays())
    StrictArray.reads.clear()
    run = Run(case, arrays)
    reads = dict(StrictArray.reads)
    outputs, gradients = run.values()
    compare(outputs, reference(case)[0], TOLERANCE["float64"], f"{case}: output on the strict device")
    compare(gradients, reference(case)[1], TOLERANCE["float64"], f"{case}: gradient on the strict device")
    assert not reads, f"{case} waits for the device: {reads}"


def check_unmodified(case: Case, device: str) -> None:
    """No input, no array among the options and no cotangent is changed by forward or backward."""
    arrays = on(device, case.arrays())
    options = [v for v in case.options.values() if isinstance(v, np.ndarray)]
    watched = [a for a in arrays if a is not None] + options
    before = [to_numpy(a).tobytes() for a in watched]
    if device == "numpy":
        for a in arrays:
            if a is not None:
                a.flags.writeable = False  # whoever writes is in the traceback
    given = []

    def cotangent(y):
        given.append(random_like(y))
        given.append(to_numpy(given[0]).tobytes())
        return given[0]

    Run(case, arrays, cotangent=cotangent)
    for i, (a, b) in enumerate(zip(watched, before, strict=True)):
        assert to_numpy(a).tobytes() == b, f"{case}: array {i} of inputs and options was changed"
    assert not given or to_numpy(given[0]).tobytes() == given[1], f"{case}: backward changed the gradient it was given"


def check_needs(case: Case) -> None:
    """Each gradient alone is what it is beside the others; without any, the result is the same."""
    arrays = case.arrays()
    gradients = reference(case)[1]
    for i, a in enumerate(arrays):
        if is_float(a):
            alone = Run(case, arrays, needs=lambda j, i=i: i == j).values()[1]
            expected = [g if j == i else None for j, g in enumerate(gradients)]
            compare(alone, expected, TOLERANCE["float64"], f"{case}: gradient, asked for input {i} alone,")
    with minicv.no_grad():
        run = Run(case, arrays)
    assert run.first.node is None, f"{case}: builds a graph inside no_grad"
    compare(run.values()[0], Run(case, arrays).values()[0], 0, f"{case}: output inside no_grad")


def check_repeatable(case: Case) -> None:
    """The same inputs give the same bits."""
    first, second = (Run(case, case.arrays()).values() for _ in range(2))
    for a, b in zip(first[0] + first[1], second[0] + second[1], strict=True):
        assert (a is None and b is None) or a.tobytes() == b.tobytes(), f"{case}: two runs differ"


def layouts(a) -> dict[str, Callable]:
    """Ways to lay the same values out in memory, {name: function of an array}."""
    xp = backend.xp_of(a)
    back = (slice(None, None, -1),) * a.ndim

    def reversed_axes(a):
        return xp.ascontiguousarray(a.T).T

    def channels_last(a):
        return xp.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if a.ndim == 4 else reversed_axes(a)

    def every_other(a):
        gaps = np.nan if is_float(a) else 1
        return fill(xp.full(tuple(2 * n + 1 for n in a.shape), gaps, a.dtype)[(slice(1, None, 2),) * a.ndim], a)

    def backwards(a):
        return fill(xp.empty(a.shape, a.dtype)[back], a)

    def fill(view, a):
        view[...] = a
        return view

    names = {f.__name__: f for f in (reversed_axes, channels_last, every_other, backwards)}
    return names if a.ndim else dict.fromkeys(names, lambda a: a)


def check_layouts(case: Case, device: str) -> None:
    """How inputs and the incoming gradient lie in memory makes no difference."""
    arrays = on(device, case.arrays())
    for name in layouts(next(a for a in arrays if a is not None)):
        laid_out = [None if a is None else layouts(a)[name](a) for a in arrays]
        run = Run(case, laid_out, cotangent=lambda y, name=name: layouts(y)[name](random_like(y)))
        outputs, gradients = run.values()
        compare(outputs, reference(case)[0], TOLERANCE["float64"], f"{case}, {name}: output")
        compare(gradients, reference(case)[1], TOLERANCE["float64"], f"{case}, {name}: gradient")

    def repeated(y):  # as a sum's backward gives it: one number in memory
        return backend.xp_of(y).broadcast_to(backend.xp_of(y).full((), 1.5, y.dtype), y.shape)

    def plain(y):
        return backend.xp_of(y).full(y.shape, 1.5, y.dtype)
    compare(Run(case, arrays, cotangent=repeated).values()[1], Run(case, arrays, cotangent=plain).values()[1],
            TOLERANCE["float64"], f"{case}, one number as the incoming gradient: gradient")
