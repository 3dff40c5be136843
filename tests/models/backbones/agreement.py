"""Is a network the same function as its twin in plain PyTorch? Weights go over in a file, as a learner's would."""
from __future__ import annotations

import numpy as np

from minicv import Tensor
from minicv.training import load_pretrained
from tests.models.backbones.plain_torch import torch

TOLERANCE = 1e-9  # relative to the largest value, in float64: rounding, 1e-16, grown by 50 layers of batch norm


def names_and_shapes(ours) -> dict:
    shapes = {name: p.shape for name, p in ours.named_parameters()}
    return shapes | {name: array.shape for name, array in ours.named_buffers()}


def torch_names_and_shapes(make) -> dict:
    """Of the network that ``make`` builds, without memory for its weights."""
    with torch.device("meta"):
        state = make().state_dict()
    return {name: tuple(t.shape) for name, t in state.items() if not name.endswith("num_batches_tracked")}


def check_agreement(ours, theirs, shape, train, path):
    """Outputs, gradients of the input and of every parameter, and running averages; without dropout."""
    torch.manual_seed(0)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained, where new ones would be the identity
            module.weight.data.uniform_(0.5, 1.5), module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.save(theirs.state_dict(), path)
    load_pretrained(ours, path)
    theirs.double().train(train)
    ours.train(train)
    for module in ours.modules():
        for attribute in ("p", "dropout"):
            if hasattr(module, attribute):
                setattr(module, attribute, 0.0)
    for p in ours.parameters():
        p.data = p.data.astype(np.float64)
    for module, name in [(m, name) for m in ours.modules() for name, _ in m.named_buffers(recurse=False)]:
        setattr(module, name, getattr(module, name).astype(np.float64))

    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = theirs(x)
    cotangent = torch.randn_like(y)
    y.backward(cotangent)
    our_x = Tensor(x.detach().numpy(), requires_grad=True)
    our_y = ours(our_x)
    our_y.backward(cotangent.numpy())

    close("output", our_y.data, y)
    close("gradient of the input", our_x.grad, x.grad)
    parameters = dict(ours.named_parameters())
    assert parameters.keys() == {name for name, _ in theirs.named_parameters()}
    for name, p in theirs.named_parameters():
        close(f"gradient of {name}", parameters[name].grad, p.grad)
    state = theirs.state_dict()
    for name, array in ours.named_buffers():
        close(name, array, state[name])


def close(what, ours, theirs):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, what
    error = abs(ours - theirs).max() / max(abs(theirs).max(), 1e-3)  # a bias before batch norm has none
    assert error < TOLERANCE, f"{what}: {error:.1e}"
