"""Module: a network of named parts with their parameters. A part or a parameter may have several names (tied)."""
from __future__ import annotations

import contextlib
import reprlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Tensor
from ..backend import Array


class Parameter(Tensor):
    """A tensor to be trained: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, array: Array):
        super().__init__(array, requires_grad=True)


def some(names: list[str], most: int = 5) -> str:
    """Return the first of the names, and the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class Module:
    """Base of layers and networks. Write ``__init__`` and ``forward``; call the module to run it.

    Parameters, Modules, and arrays registered with ``register_buffer`` (saved but not trained, like running averages)
    belong to the module that has them as attributes. Their names, joined with dots, are the keys of ``state_dict``, as
    in PyTorch.
    """

    training = True

    def forward(self, *args: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def register_buffer(self, name: str, array: Array) -> None:
        """Add the array ``self.NAME``, which is saved with the parameters but not trained."""
        self.__dict__.setdefault("_buffers", []).append(name)
        setattr(self, name, array)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) of the modules directly inside this one, in the order of definition, each once."""
        seen: set[Module] = set()
        for name, value in vars(self).items():
            if isinstance(value, Module) and value not in seen:
                seen.add(value)
                yield name, value

    def children(self) -> Iterator[Module]:
        """Yield the modules directly inside this one."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Yield (dotted name, module) of this module ("") and of all inside it, outer ones first.

        A module with several names comes once, under its first, or with ``remove_duplicate=False`` under each. A module
        that refers back to an outer one does not make the walk endless.
        """
        return self._walk(prefix, remove_duplicate, set())

    def _walk(self, prefix: str, remove_duplicate: bool, passed: set[Module]) -> Iterator[tuple[str, Module]]:
        if self in passed:
            return
        passed.add(self)
        yield prefix, self
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield from value._walk(f"{prefix}.{name}" if prefix else name, remove_duplicate, passed)
        if not remove_duplicate:
            passed.remove(self)  # from now on, only the modules around this one are barred

    def modules(self) -> Iterator[Module]:
        """Yield this module and all inside it, outer ones first, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, Parameter) in the order of definition.

        A tied parameter comes once, or with ``remove_duplicate=False`` under each of its names. ``recurse=False``: only
        those of this module itself.
        """
        seen: set[Parameter] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and not (remove_duplicate and value in seen):
                    seen.add(value)
                    yield f"{path}.{name}" if path else name, value

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Array]]:
        """Yield (dotted name, array) of every buffer, as ``named_parameters`` does of the parameters."""
        return ((path, getattr(module, name))
                for path, module, name in self._buffer_places(prefix, recurse, remove_duplicate))

    def _buffer_places(self, prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Module, str]]:
        """Yield (dotted name, module, attribute) of every buffer."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name in vars(module).get("_buffers", ()):
                array = getattr(module, name)
                if not (remove_duplicate and id(array) in seen):
                    seen.add(id(array))
                    yield f"{path}.{name}" if path else name, module, name

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield all parameters, each once, in the order of definition."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Array]:
        """Yield all buffers, each once, in the order of definition."""
        return (array for _, array in self.named_buffers(recurse=recurse))

    def num_parameters(self) -> int:
        """Return how many numbers the parameters hold."""
        return sum(p.size for p in self.parameters())

    def zero_grad(self) -> None:
        """Delete all gradients."""
        for p in self.parameters():
            p.grad = None

    def train(self, mode: bool = True) -> Module:
        """Set training mode (dropout drops, batch norm uses the batch) here and in all modules inside; return self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Set evaluation mode; return the module."""
        return self.train(False)

    def to(self, device: str) -> Module:
        """Move all parameters and buffers to ``"numpy"`` or ``"cupy"``, in place; return the module."""
        for p in self.parameters():
            p.data, p.grad = backend.to_device(p.data, device), None
        self._set_buffers({name: backend.to_device(array, device) for name, array in self.named_buffers()})
        return self

    def _set_buffers(self, new: dict[str, Array]) -> None:
        """Replace buffers by name. Modules that shared an array share the new one."""
        places = {n: (m, a, getattr(m, a)) for n, m, a in self._buffer_places(remove_duplicate=False)}
        replaced = {id(places[name][2]): array for name, array in new.items()}
        for module, attribute, old in places.values():
            setattr(module, attribute, replaced.get(id(old), old))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers as NumPy arrays, by dotted name; tied ones under each name."""
        state = {name: backend.to_numpy(p.data).copy() for name, p in self.named_parameters(remove_duplicate=False)}
        for name, array in self.named_buffers(remove_duplicate=False):
            state[name] = backend.to_numpy(array).copy()
        return state

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Load values by name. ``ValueError`` names what is missing, unexpected, or has another shape.

        Tied names must have equal values in the state. Unless everything fits, nothing changes.
        """
        parameters = dict(self.named_parameters(remove_duplicate=False))
        buffers = dict(self.named_buffers(remove_duplicate=False))
        own = {name: value.shape for name, value in [*parameters.items(), *buffers.items()]}
        state = {name: value.data if isinstance(value, Tensor) else value for name, value in state.items()}
        for name, value in state.items():
            if getattr(value, "dtype", np.dtype(object)).kind not in "fiub":
                raise TypeError(f"{type(self).__name__}.load_state_dict: {name} must be an array of numbers, got "
                                f"{getattr(value, 'dtype', type(value).__name__)}")
        wrong = [f"{what} {some(sorted(names))}" for what, names in (
            ("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())) if names]
        wrong += [f"{name}: {tuple(state[name].shape)} in the state, {shape} in the model"
                  for name, shape in own.items() if name in state and tuple(state[name].shape) != shape]
        first: dict[int, str] = {}  # id of a parameter or buffer: its first name
        for name, value in [*parameters.items(), *buffers.items()]:
            tied = first.setdefault(id(value), name)
            if tied != name and not wrong and not np.array_equal(state[tied], state[name], equal_nan=True):
                wrong.append(f"{tied} and {name} are one array in the model and differ in the state")
        if wrong:
            shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            raise ValueError(f"{type(self).__name__}.load_state_dict: the state does not fit the model: {shown}")
        for name, p in self.named_parameters():
            new = backend.xp_of(p.data).empty_like(p.data)  # of the same memory layout, see init.khwc_layout
            new[...] = backend.to_device(np.array(state[name], dtype=p.dtype), p.device)
            p.data, p.grad = new, None
        self._set_buffers({name: backend.to_device(np.array(state[name], dtype=buffers[name].dtype),
                                                   backend.device_of(buffers[name]))
                           for name, _ in self.named_buffers()})

    @reprlib.recursive_repr("...")
    def __repr__(self) -> str:
        inside = [f"  ({n}): {v!r}".replace("\n", "\n  ") for n, v in vars(self).items() if isinstance(v, Module)]
        return f"{type(self).__name__}({self.extra_repr()}" + ("\n" + "\n".join(inside) + "\n)" if inside else ")")

    def extra_repr(self) -> str:
        """Return what ``repr`` shows between the parentheses."""
        return ""


class Sequential(Module):
    """Modules one after the other, named "0", "1", ..."""

    def __init__(self, *modules: Module):
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def __iter__(self) -> Iterator[Any]:
        return (v for v in vars(self).values() if isinstance(v, Module))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, i: int) -> Any:
        return list(self)[i]

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x


class ModuleList(Sequential):
    """A list of modules, named "0", "1", ...; it has no forward."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__(*modules)

    def forward(self, *args: Any) -> Any:
        raise TypeError("ModuleList has no forward: call its modules")


_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Set ``model`` to evaluation mode inside the ``with`` block; then restore the mode of each of its modules.

    One thread at a time: threads that prepare examples may ask the same RPN for proposals, and one must not restore the
    modes while another computes.
    """
    with _one_at_a_time:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
