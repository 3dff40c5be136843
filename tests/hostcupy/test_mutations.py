"""A test of hostcupy: ten mistakes that NumPy does not notice and CuPy does; ``pytest -m gpu --hostcupy``."""
import os

import pytest

from tests import harness, hostcupy
from tests.fast.test_gpu_numbers import P
from tests.mutations import Mutation
from tests.test_mutations import Mutant

MUTATIONS = [
    Mutation("a list in a ufunc", "loss_elementwise", "ops/loss_elementwise",
             "ctx.save(-y * (short > 0))",
             "ctx.save(-y * xp_of(x).logical_and(short > 0, [True]))"),
    Mutation("a list in where", "roi", "ops/roi",
             "xp.where(arg < 0, 0, gy)",
             "xp.where(arg < 0, [0.0], gy)"),
    Mutation("indices made on the host", "adaptive_pool", "ops/adaptive_pool",
             "plane = xp.arange(",
             "plane = np.arange("),
    Mutation("a host array in a product", "roi", "ops/roi",
             "xp.asarray(A, x.dtype), xp.asarray(B, x.dtype)",
             "np.asarray(A, x.dtype), xp.asarray(B, x.dtype)"),
    Mutation("a dtype without an atomic maximum", "unpool", "ops/unpool",
             "last = xp.zeros(N * C * OH * OW, np.int64)",
             "last = xp.zeros(N * C * OH * OW, np.int16)"),
    Mutation("a dtype that CuPy lacks", "norm", "ops/norm",
             "xp.moveaxis(x, 1, -1).astype(np.float64)",
             "xp.moveaxis(x, 1, -1).astype(np.longdouble).astype(np.float64)"),
    Mutation("a keyword that CuPy's max lacks", "reduce", "ops/reduce",
             "return x.max(axis=over, keepdims=True)",
             "return x.max(axis=over, keepdims=True, initial=-np.inf)"),
    Mutation("a keyword that CuPy's sum lacks", "softmax", "ops/softmax",
             "p = e / e.sum(axis=dim, keepdims=True)",
             "p = e / e.sum(axis=dim, keepdims=True, where=True)"),
    Mutation("a value that the processor waits for", "unpool", "ops/unpool",
             "return y.reshape(N, C, OH, OW)",
             "return y.reshape(N, C, OH, OW) if y.size and y[0] else y.reshape(N, C, OH, OW)"),
]
WIDENED = Mutation("an int that widens float32 in CuPy 13", "loss_elementwise", "ops/loss_elementwise",
                   "return reduce_loss(xp_of(x).maximum(short, 0), float(x.size), reduction)",
                   "return reduce_loss(xp_of(x).maximum(short, 0), x.size, reduction)")


def notices(cases: list, device: str) -> str:
    """What the first case that fails on the device says; "" if none does."""
    for case in sorted(cases, key=lambda case: sum(a.size for a in case.arrays() if a is not None)):
        try:
            with harness.on_storey("plain"):
                harness.check_loop(case, device, "float32")
                if device == "cupy":
                    arrays = harness.on(device, case.arrays())
                    with hostcupy.count() as counts:
                        run = harness.Run(case, arrays, cotangent=lambda y: harness.backend.xp_of(y).ones_like(y))
                    assert counts.waits == 0, f"{case}: {run.outputs[0].shape} after {counts.waits} waits"
        except Exception as error:  # AssertionError, or what CuPy raises
            return f"{case}: {error!r}"
    return ""


@pytest.mark.gpu
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_only_cupy_notices(mutation):
    if not os.environ.get("HOSTCUPY"):
        pytest.skip("counts waits: pytest -m gpu --hostcupy")
    with Mutant(mutation) as cases:
        assert notices(cases, "numpy") == ""
        assert notices(cases, "cupy")


def test_the_other_promotion_is_noticed_by_the_strict_device():
    x = harness.backend.to_device(harness.np.ones(P, "float32"), "strict")
    with Mutant(WIDENED), harness.on_storey("plain"), pytest.raises(TypeError, match="CuPy 13 widens float32"):
        import minicv.ops.loss_elementwise as changed
        changed.hinge_loss(harness.Tensor(x), harness.Tensor(x))
