"""Is a network the same with every operation computed elsewhere: by PyTorch's, or on the strict device?

A *step* is a function of a model that returns numbers by name: losses, gradients, whatever counts. Weights, dropout and
all other random numbers are the same on both sides.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

import minicv
from minicv.autograd import substitute
from minicv.nn import Module
from minicv.optim import SGD
from tests.oracle import require

Step = Callable[[Module], dict[str, np.ndarray]]


def doubled(model):
    """The model in float64."""
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    for module, name in [(m, name) for m in model.modules() for name, _ in m.named_buffers(recurse=False)]:
        setattr(module, name, getattr(module, name).astype(np.float64))
    return model


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float, floor: float) -> None:
    """Each within ``tolerance``, relative to its largest value or ``floor``, whatever is larger.

    The floor is for what is nothing but rounding, as the gradient of a bias in front of a batch norm.
    """
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, err_msg=name,
                                   atol=tolerance * max(abs(array).max(initial=0), floor))


def ours_and_pytorchs(model: Module, step: Step) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The step by minicv's operations and by PyTorch's, from the same buffers on. Skips where PyTorch is absent."""
    require("torch")
    from tests.oracle_ops import TABLE
    buffers = [(module, name, array.copy()) for module in model.modules()
               for name, array in module.named_buffers(recurse=False)]
    ours = step(model)
    for module, name, array in buffers:
        setattr(module, name, array)
    with substitute(TABLE):
        return ours, step(model)


def numpys_and_the_strict_devices(make: Callable[[], Module], step: Step) -> tuple[dict[str, np.ndarray], ...]:
    """The step of two models made alike, one on the strict device, where an optimizer's step must be possible, too."""
    from tests import strict_device  # noqa: F401 - makes the device "strict" known
    found = []
    for device in ("numpy", "strict"):
        minicv.seed(0)
        model = make().to(device)
        found.append({name: minicv.backend.to_numpy(array) for name, array in step(model).items()})
        changed = [p for p in model.parameters() if p.grad is not None]
        assert changed and all(type(p.grad) is type(p.data) for p in changed)
        SGD(changed, 0.1).step()
    return tuple(found)
