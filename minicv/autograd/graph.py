"""The backward walk: the chain rule, from a result back to the leaves that it was computed from.

``walk``, with ``order`` and ``calls``, which sort what it visits, is the whole algorithm. The rest makes it safe and
frugal: ``backward`` checks its arguments, adds to ``.grad`` and reports each complete gradient; ``differentiate`` calls
one ``Function.backward``, checks its gradients, and frees what it saved; ``has_own_memory`` avoids copies.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .. import backend
from ..backend import Array
from . import versions
from .tensor import Tensor

if TYPE_CHECKING:
    from .function import Function

_receiving = threading.Lock()  # walks in other threads may end at the same leaf


def walk(tensor: Tensor, grad: Array, receive: Callable[[Tensor, Array], None]) -> None:
    """Pass ``grad`` = dL/d(tensor) back, call by call; call ``receive(leaf, dL/d(leaf))`` once for each leaf.

    Each use of a call's result, or of a leaf, contributes a gradient, and dL/dx is the sum of these contributions. In
    the reverse of ``order``, all uses of x come before x, so its sum is complete when the walk reaches it.
    """
    gradients: dict[Function | Tensor, Array] = {tensor.node or tensor: grad}  # x -> the sum of what has reached it
    for x in reversed(order(tensor)):  # a loop, not recursion, so no graph is too deep
        gx = gradients.pop(x)
        if isinstance(x, Tensor):
            receive(x, gx)
            continue
        for argument, g in differentiate(x, gx):
            gradients[argument] = gradients[argument] + g if argument in gradients else g


def order(tensor: Tensor) -> list[Function | Tensor]:
    """The calls and leaves behind the tensor: calls in the order they were made, each leaf before its first use.

    So every call comes after its arguments, and the walk completes the gradient of a leaf as early as possible.
    """
    arguments_first = (x for call in calls(tensor) for x in (*(call.edges or ()), call) if x is not None)
    return list(dict.fromkeys(arguments_first)) or [tensor]


def calls(tensor: Tensor) -> list[Function]:
    """All calls behind the tensor, in the order they were made; their ``edges`` lead to the leaves."""
    found: set[Function] = set()
    pending: list = [tensor.node] if tensor.node else []
    while pending:
        call = pending.pop()
        if call not in found:
            found.add(call)
            pending += [x for x in call.edges or () if x is not None and not isinstance(x, Tensor)]
    return sorted(found, key=lambda call: call.number)


# ---------------------------------------------------------------------------------------------------------
# Around the walk
# ---------------------------------------------------------------------------------------------------------
@np.errstate(all="ignore")  # as forward
def backward(tensor: Tensor, grad: Array | None = None, ready: Callable[[Tensor], None] | None = None) -> None:
    """``tensor.backward()``: add dL/d(leaf), L the loss, to the ``.grad`` of every leaf that requires a gradient.

    ``grad`` is dL/d(tensor), an array of its shape; without it L is this tensor, which must have one element. The walk
    frees what the operations have saved, so a second call raises ``RuntimeError``: run forward again. ``ready(leaf)``
    is called as soon as the gradient of a leaf is complete, while the walk continues: processes that share a batch then
    start to sum the gradients of the last layers (``training/parallel.py``).
    """
    if not tensor.requires_grad:
        raise RuntimeError("backward: nothing that this tensor was computed from requires a gradient "
                           "(requires_grad=True on a leaf, outside no_grad)")
    if grad is None:
        if tensor.size != 1:
            raise ValueError(f"backward: the tensor has shape {tensor.shape}, so pass grad= of that shape; "
                             "only a tensor of one element can do without")
        grad = backend.xp_of(tensor.data).ones_like(tensor.data)
    if not backend.is_array(grad) or backend.device_of(grad) != tensor.device:
        raise TypeError(f"backward(grad): must be an array on {tensor.device}, as the tensor's data; got a "
                        f"{type(grad).__name__}")
    expect_fit("backward(grad)", grad, tensor)

    def receive(leaf: Tensor, gradient: Array) -> None:
        if leaf.dtype.kind != "f":
            raise TypeError(f"backward: requires_grad was set on a leaf of {leaf.dtype} {leaf.shape}, and only floats "
                            "have gradients; convert it first, t.astype('float32')")
        with _receiving:
            leaf.grad = as_array(gradient if leaf.grad is None else leaf.grad + gradient)
        if ready:
            ready(leaf)
    walk(tensor, grad if tensor.node else grad.copy(order="K"), receive)  # the caller may write to grad later


Tensor.backward = backward


def differentiate(call: Function, gy: Array) -> list[tuple[Function | Tensor, Array]]:
    """(argument, its gradient) for each argument of the call that needs one: ``call.backward(gy)``, checked.

    A write to a leaf's ``.grad`` must not change another array, so a leaf receives a copy where necessary.
    """
    name = f"{call.name()}.backward"
    if call.edges is None:
        raise RuntimeError(f"backward: the graph through {call.name()} was walked before and its saved arrays are "
                           "gone; run forward again (or add the losses and walk once)")
    versions.check(call.name(), call.noted)
    gy = as_array(gy)
    results = call.backward(gy)
    results = results if isinstance(results, tuple) else (results,)
    call.expect_finite("backward", results)
    if len(results) != len(call.edges):
        raise ValueError(f"{name}: {len(results)} gradients for {len(call.edges)} arguments")
    found = []
    for argument, g in zip(call.edges, results, strict=True):
        if argument is not None:
            expect_fit(name, g, argument)
            if isinstance(argument, Tensor) and not has_own_memory(g, [gy, *results, *call.saved]):
                g = g.copy(order="K")
            found.append((argument, g))
    call.edges, call.saved, call.noted = None, (), ()  # the walk no longer needs them: free the memory
    return found


def expect_fit(sender: str, g: Array | None, x: Function | Tensor) -> None:
    """Raise ``ValueError`` unless the gradient ``g`` has the shape and dtype of ``x``."""
    if g is None:
        raise ValueError(f"{sender}: None as the gradient of an argument that requires one, of shape {x.shape}")
    if g.shape != x.shape or g.dtype != x.dtype:
        raise ValueError(f"{sender}: the gradient has shape {g.shape} and dtype {g.dtype}, the argument "
                         f"has {x.shape} and {x.dtype}")


def as_array(g: Array) -> Array:
    """``g`` as an array: arithmetic on 0-d arrays returns NumPy numbers."""
    return g if g.ndim else backend.xp_of(g).asarray(g)


def has_own_memory(g: Array, others: list) -> bool:
    """Whether ``g`` is a whole array, with its axes in any order, and the only one of ``others`` in that memory."""
    memory = versions.owner(g)
    return (type(memory) is type(g) and memory.size == g.size and memory.flags.owndata
            and sum(memory is versions.owner(other) for other in others) == 1)
