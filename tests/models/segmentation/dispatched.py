"""Is a network the same with every operation computed by PyTorch? One model, one graph, weights and dropout alike."""
from __future__ import annotations

import numpy as np

import minicv
from minicv import Tensor
from minicv.autograd import substitute
from tests.oracle import require

TOLERANCE = 1e-9  # relative to the largest value, in float64: rounding, 1e-16, grown by some 25 layers of batch norm


def lively(model, dtype=np.float64, seed=0):
    """No parameter 0 or the same as another: zero scores and new batch norms would hide mistakes."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        spread = 0.1 if p.ndim == 1 else 0.3 * p.data.std() if p.data.any() else 0.3
        p.data = (p.data + spread * rng.standard_normal(p.shape)).astype(dtype)
    for _, module, name in list(model.named_buffers()):
        array = getattr(module, name)
        setattr(module, name, (array + rng.uniform(0.1, 0.5, array.shape)).astype(dtype))
    return model


def run(model, x, label):
    """Scores, the gradients of input and parameters, and the buffers after one step of training or evaluation."""
    minicv.seed(7)  # dropout
    image = Tensor(x, requires_grad=True)
    scores = model(image)
    model.zero_grad()
    scores.backward(np.random.default_rng(1).standard_normal(scores.shape))
    result = {"scores": scores.data, "gradient of the input": image.grad}
    result |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    loss, = model.losses(Tensor(x), label).values()
    result["loss"] = loss.data
    return result | {name: getattr(module, attribute) for name, module, attribute in model.named_buffers()}


def check_dispatched(model, shape, train):
    """All of ``run`` by minicv's operations against PyTorch's, in float64."""
    require("torch")
    from tests.oracle_ops import TABLE
    rng = np.random.default_rng(0)
    lively(model).train(train)
    x = rng.standard_normal(shape)
    label = rng.integers(0, model.num_classes, (shape[0], *shape[2:]))
    label[:, :2] = 255
    buffers = [(module, name, getattr(module, name).copy()) for _, module, name in model.named_buffers()]
    ours = run(model, x, label)
    for module, name, array in buffers:
        setattr(module, name, array)
    with substitute(TABLE):
        theirs = run(model, x, label)
    largest = max(abs(g).max() for what, g in theirs.items() if what.startswith("gradient"))
    for what, expected in theirs.items():
        assert expected is not None and np.asarray(expected).any(), f"{what} is 0, which shows nothing"
        # of a bias before batch norm, whose gradient is rounding, the error counts beside those of the others
        error = abs(ours[what] - expected).max() / max(abs(expected).max(), 1e-3 * largest)
        assert error < TOLERANCE, f"{what}: {error:.1e}"


def check_strict_step(make, shape):
    """A step of training, from loss to gradients, on the strict device: the same numbers as with NumPy (float64)."""
    from tests import strict_device  # noqa: F401 - makes the device "strict" known
    x = np.random.default_rng(0).standard_normal(shape)
    gradients = []
    for device in ("numpy", "strict"):
        minicv.seed(0)
        model = lively(make()).to(device)
        minicv.seed(1)
        label = np.random.default_rng(1).integers(0, model.num_classes, (shape[0], *shape[2:]))
        loss, = model.losses(Tensor(x).to(device), Tensor(label).to(device)).values()
        loss.backward()
        gradients.append([minicv.backend.to_numpy(p.grad) for p in model.parameters()])
    largest = max(abs(g).max() for g in gradients[0])
    for here, there in zip(*gradients, strict=True):
        assert here.any()
        np.testing.assert_allclose(here, there, rtol=0, atol=TOLERANCE * max(abs(here).max(), 1e-3 * largest))
