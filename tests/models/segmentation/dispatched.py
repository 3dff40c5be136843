"""Is a network that labels pixels the same by PyTorch's operations, and on the strict device? See ``same.py``."""
from __future__ import annotations

import numpy as np

import minicv
from minicv import Tensor, nn, no_grad
from tests.models.same import assert_same, numpys_and_the_strict_devices, ours_and_pytorchs

TOLERANCE = 1e-9  # relative to the largest value, in float64: rounding, 1e-16, grown by some 25 layers of batch norm


def lively(model, dtype=np.float64, seed=0):
    """No parameter 0 or the same as another: zero scores and new batch norms would hide mistakes."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        spread = 0.1 if p.ndim == 1 else 0.3 * p.data.std() if p.data.any() else 0.3
        p.data = (p.data + spread * rng.standard_normal(p.shape)).astype(dtype)
    for module, name in [(m, name) for m in model.modules() for name, _ in m.named_buffers(recurse=False)]:
        array = getattr(module, name)
        setattr(module, name, (array + rng.uniform(0.1, 0.5, array.shape)).astype(dtype))
    return model


def example(model, shape):
    """Random images of this shape and labels of the output's size, some of them void."""
    x = np.random.default_rng(0).standard_normal(shape)
    sides = [model.output_size(n) for n in shape[2:]]
    label = np.random.default_rng(1).integers(0, model.num_classes, (shape[0], *sides))
    label[:, :max(1, sides[0] // 16)] = 255
    return x, label


def run(model, x, label):
    """Scores and their gradients, losses and theirs, and the buffers after these two passes."""
    minicv.seed(7)  # dropout
    image = Tensor(x, requires_grad=True)
    scores = model(image)
    model.zero_grad()
    scores.backward(np.random.default_rng(1).standard_normal(scores.shape))
    result = {"scores": scores.data, "gradient of the input": image.grad}
    result |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()
               if not name.startswith("auxiliary_head.")}  # on which scores do not depend
    model.zero_grad()
    losses = model.losses(Tensor(x), label)
    sum(losses.values()).backward()
    result |= {name: loss.data for name, loss in losses.items()}
    result |= {f"losses' gradient of {name}": p.grad for name, p in model.named_parameters()}
    return result | dict(model.named_buffers())


def settled(model, shape):
    """Running statistics as of other images, so that evaluating the deepest network is not all zeros."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with no_grad():
        model.train()(Tensor(np.random.default_rng(2).standard_normal(shape)))
    for norm in norms:
        norm.momentum = 0.1
    return model


def check_dispatched(model, shape, train):
    """All of ``run`` by minicv's operations against PyTorch's, in float64."""
    x, label = example(model, shape)
    model = settled(lively(model), shape).train(train)
    ours, theirs = ours_and_pytorchs(model, lambda model: run(model, x, label))
    for what, expected in theirs.items():
        assert expected is not None and np.asarray(expected).any(), f"{what} is 0, which shows nothing"
    of_losses = [what for what in theirs if what.startswith("losses' gradient")]
    for group in ([what for what in theirs if what not in of_losses], of_losses):
        largest = max(abs(theirs[what]).max() for what in group if "gradient" in what)
        assert_same({what: ours[what] for what in group}, {what: theirs[what] for what in group}, TOLERANCE,
                    1e-3 * largest)


def check_strict_step(make, shape):
    """A step of training, from losses to gradients, on the strict device: the same numbers as with NumPy (float64)."""
    def step(model):
        minicv.seed(1)  # dropout
        device = next(model.parameters()).device
        losses = model.losses(*(Tensor(a).to(device) for a in example(model, shape)))
        sum(losses.values()).backward()
        return {name: loss.data for name, loss in losses.items()} | {
            name: p.grad for name, p in model.named_parameters()}

    here, there = numpys_and_the_strict_devices(lambda: lively(make()), step)
    assert all(array.any() for array in here.values())
    assert_same(there, here, TOLERANCE, 1e-3 * max(abs(array).max() for array in here.values()))
