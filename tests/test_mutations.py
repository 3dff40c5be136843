"""A test of the tests: break an operation on purpose, and the cases must notice.

Each mutation changes one place in one file of ``minicv/ops``. The mutant is loaded beside the real module, and its
cases go through the checks of ``tests/ops/test_cases.py``: against the loops, and against finite differences. A
mutation that nothing notices is a hole in the cases. (Which of equal maxima takes the gradient cannot be seen so, as
either is a slope between those of both sides: ``tests/ops/test_max_pool.py``, also beside PyTorch, holds that.)
"""
import sys
import types
from pathlib import Path

import pytest

import minicv.ops
from minicv import Tensor
from tests import harness

FOLDER = Path(minicv.ops.__file__).parent

# (family whose cases must notice, file to change, what is there, what to put there instead)
MUTATIONS = {
    "a lost sign in subtraction": ("elementwise", "elementwise", "unbroadcast(-gy, ctx.shapes[1])",
                                   "unbroadcast(gy, ctx.shapes[1])"),
    "a lost sign in division": ("elementwise", "elementwise", "-gy * a / (b * b)", "gy * a / (b * b)"),
    "the product's gradients swapped": ("elementwise", "elementwise", "unbroadcast(gy * b, a.shape)",
                                        "unbroadcast(gy * a, a.shape)"),
    "broadcasting undone by a mean": ("elementwise", "elementwise", "g.sum(axis=repeated", "g.mean(axis=repeated"),
    "a tie gives both the whole gradient": ("elementwise", "elementwise", "gy * (1 - share)",
                                            "gy * ((share != 1) * 1.0)"),
    "a power's rule forgets the factor": ("elementwise", "elementwise", "ctx.p * x ** (ctx.p - 1)", "x ** (ctx.p - 1)"),
    "the logarithm's rule upside down": ("elementwise", "elementwise", "return gy / ctx.saved[0]",
                                         "return gy * ctx.saved[0]"),
    "leaky ReLU leaks only forward": ("activation", "activation", "where(x > 0, gy, gy * ctx.slope)",
                                      "where(x > 0, gy, gy * 0)"),
    "ReLU passes at negative inputs": ("activation", "activation", "xp.greater(x, 0, out=positive)",
                                       "xp.greater(x, -1, out=positive)"),
    "sigmoid's derivative without 1 - y": ("activation", "activation", "gy * y * (1 - y)", "gy * y"),
    "maxima that tie each take everything": ("reduce", "reduce", "winners * (gy / winners.sum(",
                                             "winners * (gy / (winners * 0 + 1).max("),
    "= for += where an element is taken twice": ("shape", "shape", "add_at(gx, ctx.index, gy)", "gx[ctx.index] = gy"),
    "a permutation undone in shape only": ("shape", "shape", "gy.transpose(ctx.inverse)",
                                           "gy.reshape([gy.shape[i] for i in ctx.inverse])"),
    "joined parts returned in the wrong place": ("shape", "shape", "slice(end - n, end)", "slice(0, n)"),
    "mirroring repeats the edge": ("pad", "pad", "list(range(before, 0, -1))", "list(range(before - 1, -1, -1))"),
    "= for += where mirrored rows meet": ("pad", "pad", "gy[along(axis, source)] += g", "gy[along(axis, source)] = g"),
    "a product's gradient without signs": ("linear", "linear", "unbroadcast(a.swapaxes(-1, -2) @ gy, b.shape)",
                                            "unbroadcast(a.swapaxes(-1, -2) @ abs(gy), b.shape)"),
    "the bias of the wrong sign": ("linear", "linear", "gb = xp_of(gy).ones(len(gy), gy.dtype) @ gy",
                                   "gb = -xp_of(gy).ones(len(gy), gy.dtype) @ gy"),
    "= for += over kernel rows": ("conv", "shifted", "total += product", "total[...] = product"),
    "a lost overlap at the border": ("conv", "shifted", "low = min(max(0, -(first // step)), count)",
                                     "low = min(max(0, 1 - (first // step)), count)"),
    "padding on the wrong side": ("conv", "conv", "offset=(top, left)", "offset=(bottom, right)"),
    "the kernel not turned around in the adjoint": ("conv", "shifted", "if (a + top - d * i) % s == 0][::-1]",
                                                    "if (a + top - d * i) % s == 0]"),
    "the adjoint's channels in reverse": ("conv", "shifted", "w.swapaxes(2, 3)", "w.swapaxes(2, 3)[:, :, ::-1]"),
    "the weight's gradient from the first phase only": ("conv", "shifted", "products.sum(axis=(0, 1))",
                                                        "products[0].sum(axis=0)"),
    "the input's gradient for one remainder only": ("conv", "shifted", "for a in range(min(s, size)):",
                                                    "for a in range(min(1, size)):"),
    "depthwise filters mixed up": ("conv", "conv", "slice(None), w.transpose(2, 3, 1, 0)",
                                   "slice(None), w.transpose(2, 3, 1, 0)[::-1]"),
    "depthwise columns not summed": ("conv", "depthwise", "OW, O).sum(axis=2)", "OW, O)[:, :, 0]"),
    "= for += where a stride deals depthwise columns out": ("conv", "depthwise", "part if y is None else y + part",
                                                            "part"),
    "pixels that no window meets are left as they are": ("conv", "patches", "left_over[...] = 0 if bias is None else",
                                                         "left_over[...] = 7 if bias is None else"),
    "the rows beyond the last whole piece are lost": ("conv", "patches", "total += rows[whole:].T @ g[whole:]", "pass"),
    "the bias of the last group for all": ("conv", "conv", "bias=None if bias is None else bias[O]",
                                           "bias=None if bias is None else bias[-(O.stop - O.start):]"),
    "max padding of zero": ("max_pool", "max_pool", "best[at(w, w + 1)] = x[at(pixel, pixel + 1)]",
                            "best[at(w, w + 1)] = xp.maximum(x[at(pixel, pixel + 1)], 0)"),
    "= for += where maxima of windows coincide": ("max_pool", "max_pool", "add_at(gx.reshape(-1), place.reshape(-1), "
                                                  "last(gy)[n, begin:end].reshape(-1))",
                                                  "gx.reshape(-1)[place.reshape(-1)] = "
                                                  "last(gy)[n, begin:end].reshape(-1)"),
    "= for += where averages overlap": ("avg_pool", "avg_pool", "x[(*before, pixels)] += y[(*before, windows)]",
                                        "x[(*before, pixels)] = y[(*before, windows)]"),
    "softmax with a backward of zeros": ("softmax", "softmax", "p * (gp - (gp * p).sum(axis=0))", "p * (gp - gp)"),
    "log-softmax without its sum": ("softmax", "softmax", "gy - xp.exp(y) * gy.sum(axis=0)", "gy - xp.exp(y)"),
    "the true class gets its gradient only": ("loss", "loss", "gz.ravel()[at] -= ga", "gz.ravel()[at] = -ga"),
    "the ignored label counts": ("loss", "loss", "counts = t != ignore_index\n            t *= counts",
                                 "counts = t >= -1000\n            t *= t != ignore_index"),
    "class weights forgotten in the mean": ("loss", "loss", "a[span] = u * w_t", "a[span] = u"),
    "batch norm's mean a constant": ("norm", "norm", "a * (k * mean - every_gb / max(P, 1))", "a * (k * mean)"),
    "batch norm's variance a constant": ("norm", "norm", "k = inv * every_gw / max(P, 1)", "k = 0 * gw"),
    "the unbiased variance normalises": ("norm", "norm", "inv = 1 / xp.sqrt(var + eps)",
                                         "inv = 1 / xp.sqrt(var * (P / max(P - 1, 1)) + eps)"),
    "local response norm one channel off": ("norm", "norm", "(j <= i + (size - 1) // 2)", "(j < i + (size - 1) // 2)"),
    "dropout's scale lost backward": ("dropout", "dropout", "return _multiply(gy, m), None",
                                      "return _multiply(gy, (m > 0) * gy.dtype.type(1)), None"),
    "interpolation's gradient twice": ("interpolate", "interpolate",
                                               "return resample(rows.T, gy, columns.T)\n\n\nclass",
                                               "return 2 * resample(rows.T, gy, columns.T)\n\n\nclass"),
    "RoI pooling: = for += where RoIs overlap": ("roi", "roi", "add_at(gx, ((first[some] + offset[some]) * C + channel)"
                                                 ".ravel(), g[some].ravel())",
                                                 "gx[((first[some] + offset[some]) * C + channel)"
                                                 ".ravel()] = g[some].ravel()"),
    "RoI pooling rounds half to even": ("roi", "roi", "(whole + np.sign(v) * (abs(v - whole) >= 0.5)).astype(int)",
                                        "np.round(v).astype(int)"),
    "RoIAlign: one RoI's rows overwrite": ("roi", "roi", "gx[picture, begin:end, columns[r]] += B[r].T @ lines",
                                           "gx[picture, begin:end, columns[r]] = B[r].T @ lines"),
    "Winograd: two rows subtracted, not added": ("conv", "winograd", "xp.add(d[1], d[2], out=planes[1])",
                                                 "xp.subtract(d[1], d[2], out=planes[1])"),
    "Winograd: y1 with the last product added": ("conv", "winograd", "xp.subtract(p1.reshape", "xp.add(p1.reshape"),
    "Winograd: a half lost in the weight's gradient": ("conv", "winograd", "(a[1] - a[2]) / 2", "a[1] - a[2]"),
    "nearest unpooling: = for += over a block": ("unpool", "unpool", "gx += last(gy[:, :, i::sh, j::sw])",
                                                 "gx[...] = last(gy[:, :, i::sh, j::sw])"),
    "bed of nails: another corner backward": ("unpool", "unpool", "return gy[:, :, ::sh, ::sw]",
                                              "return gy[:, :, sh - 1::sh, sw - 1::sw]"),
    "max unpooling: what did not stay has a gradient": ("unpool", "unpool", "xp.where(stays, gx, 0)",
                                                        "xp.where(stays, gx, gx)"),
    "smooth L1: a lost sign for the target": ("loss_elementwise", "loss_elementwise", "return g, -g", "return g, g"),
}


class Mutant:
    """``with Mutant(family, file, old, new) as cases``: the family's cases on the changed code; all restored after."""

    def __init__(self, family: str, file: str, old: str, new: str):
        self.family, self.file, self.old, self.new = family, file, old, new

    def __enter__(self):
        self.modules = {n: sys.modules.get(n) for n in (f"minicv.ops.{self.file}", f"minicv.ops.{self.family}")}
        self.attributes = {n: vars(minicv.ops)[n] for n in (self.file, self.family) if n in vars(minicv.ops)}
        self.tensor = dict(vars(Tensor))  # some families hang operators on it
        for name in dict.fromkeys((self.file, self.family)):
            path = FOLDER / f"{name}.py"
            source = path.read_text()
            if name == self.file:
                assert source.count(self.old) >= 1, f"{path.name} has changed: {self.old!r} is not there"
                source = source.replace(self.old, self.new)
            module = types.ModuleType(f"minicv.ops.{name}")
            module.__package__, module.__file__ = "minicv.ops", str(path)
            sys.modules[module.__name__] = module
            if isinstance(self.attributes.get(name), types.ModuleType):  # as `from . import depthwise` finds it
                setattr(minicv.ops, name, module)
            exec(compile(source, str(path), "exec"), vars(module))
            if name == "winograd":
                module.CHANNELS = module.PIXELS = 1  # else no case is large enough for it
        return module.CASES

    def __exit__(self, *error):
        sys.modules.update({n: m for n, m in self.modules.items() if m is not None})
        for name, value in self.attributes.items():
            setattr(minicv.ops, name, value)
        for name, value in self.tensor.items():
            if vars(Tensor).get(name) is not value:
                setattr(Tensor, name, value)


def noticed(cases: list) -> str:
    """The first case, and check, that fails; "" if none does."""
    for case in cases:
        for check in (lambda case: harness.check_loop(case, "numpy", "float64"), harness.check_gradient):
            try:
                check(case)
            except AssertionError as error:  # a mutant that only crashes shows nothing of the checks
                return f"{case}: {error}"
    return ""


def test_there_are_enough():
    assert len(MUTATIONS) >= 25


@pytest.mark.parametrize("family", sorted({m[0] for m in MUTATIONS.values()}))
def test_without_a_mutation_nothing_is_noticed(family):
    with Mutant(family, family, "import", "import") as cases:
        assert noticed(cases) == ""


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mutation_is_noticed(name):
    with Mutant(*MUTATIONS[name]) as cases:
        assert noticed(cases), f"{name}: no case noticed it"
