"""The backward walk over the graph of calls."""
from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .. import backend
from ..backend import Array
from . import versions
from .tensor import Tensor

if TYPE_CHECKING:
    from .function import Function


@np.errstate(all="ignore")  # as forward
def backward(tensor: Tensor, grad: Array | None = None, ready: Callable[[Tensor], None] | None = None) -> None:
    """The chain rule, last call first; see ``Tensor.backward``. ``ready(leaf)``: called once its gradient is complete.

    Calls are numbered as they are made, and a call can only use results of earlier ones. So the pending call with the
    highest number has received all of its gradient: everything that used its result has a higher number and is done.
    A heap gives that order without recursion, however deep the graph.
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
    gradients: dict[Function, Array] = {}  # of pending calls: dL/d(their result), complete so far
    uses = Counter(e for node in calls(tensor) for e in node.edges or () if isinstance(e, Tensor)) if ready else None
    heap: list[tuple[int, Function]] = []

    def send(edge: Tensor | Function, g: Array, sender: str, own: bool = False) -> None:
        if g is None:
            raise ValueError(f"{sender}: None as the gradient of an argument that requires one, of shape {edge.shape}")
        if g.shape != edge.shape or g.dtype != edge.dtype:
            raise ValueError(f"{sender}: the gradient has shape {g.shape} and dtype {g.dtype}, the argument "
                             f"has {edge.shape} and {edge.dtype}")
        leaf = isinstance(edge, Tensor)
        before = edge.grad if leaf else gradients.get(edge)
        total = backend.xp_of(g).asarray(g if before is None else before + g)  # NumPy makes numbers of 0-d arrays
        if leaf and edge.dtype.kind != "f":
            raise TypeError(f"backward: requires_grad was set on a leaf of {edge.dtype} {edge.shape}, and only floats "
                            "have gradients; convert it first, t.astype('float32')")
        if leaf:  # whoever writes into .grad must not change what another tensor, or the caller, holds
            edge.grad = total if own or before is not None else total.copy(order="K")
            if ready:
                uses[edge] -= 1
                if uses[edge] < 1:
                    ready(edge)
            return
        gradients[edge] = total
        if before is None:
            heapq.heappush(heap, (-edge.order, edge))

    send(tensor.node or tensor, grad, "backward(grad)")
    while heap:
        node = heapq.heappop(heap)[1]
        if node.edges is None:
            raise RuntimeError(f"backward: the graph through {node.name()} was walked before and its saved arrays are "
                               "gone; run forward again (or add the losses and walk once)")
        gy = gradients.pop(node)
        if node.noted:
            versions.check(node.name(), node.noted)
        results = node.backward(gy)
        results = results if isinstance(results, tuple) else (results,)
        node.expect_finite("backward", results)
        if len(results) != len(node.edges):
            raise ValueError(f"{node.name()}.backward: {len(results)} gradients for {len(node.edges)} arguments")
        for edge, g in zip(node.edges, results, strict=True):
            if edge is not None:
                own = g is not None and has_own_memory(g, [gy, *results, *node.saved])
                send(edge, g, f"{node.name()}.backward", own)
        node.edges, node.saved, node.noted = None, (), ()


def has_own_memory(g: Array, others: list) -> bool:
    """Whether ``g`` is all of an array, in any order of its axes, in which only one of ``others`` lies: itself."""
    memory = versions.owner(g)
    return (type(memory) is type(g) and memory.size == g.size and memory.flags.owndata
            and sum(memory is versions.owner(other) for other in others) == 1)


def calls(tensor: Tensor) -> list[Function]:
    """Every call that the tensor was computed by, in the order they were made. Leaves are found at their ``edges``."""
    found, pending = set(), [tensor.node] if tensor.node else []
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += [e for e in node.edges or () if e is not None and not isinstance(e, Tensor)]
    return sorted(found, key=lambda node: node.order)
