"""The pickle in a file of ``torch.save``, read without running anything that it names.

``torch.save(model.state_dict(), path)`` writes a pickle, and the numbers beside it. A pickle is a program for a small
stack machine. It is dangerous: one instruction (GLOBAL) fetches any function of any module by name and another (REDUCE)
calls it, so a file can run any code. ``WeightsUnpickler`` is Python's machine without that danger. It knows only the
instructions that tables of tensors need. GLOBAL returns a name from a short list instead of an object; REDUCE builds
only records of this module. Everything else is an error that names what the file asked for.
"""
from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

SAVE = "save the weights alone, with torch.save(model.state_dict(), path)"
BFLOAT16 = "bf2"  # the upper half of a float32; NumPy has no such type
DTYPES = {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": BFLOAT16,
          "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
          "BoolStorage": "?"}


@dataclass
class Storage:
    """The key of numbers beside the pickle, and their dtype."""

    dtype: str
    key: str


@dataclass
class StoredTensor:
    """Which numbers of a storage make up a tensor; offset and strides are counted in numbers."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        valid = isinstance(self.storage, Storage) and isinstance(self.size, tuple) and isinstance(self.stride, tuple)
        if not valid or len(self.size) != len(self.stride) or len(self.size) > 32 or not all(
                type(n) is int and 0 <= n < 1 << 48 for n in (self.offset, *self.size, *self.stride)):
            raise ValueError("a tensor's description is damaged")


@dataclass
class Global:
    """The name of an object that the pickle asks for; never the object."""

    name: str


def ordered_dict(pairs: list | None = None) -> dict:
    """Return a dict of [[key, value], ...], as Python 2 wrote it. Empties the list, because a small file could
    otherwise fill the memory with many dicts of the same list."""
    made: dict = {}
    update(made, [part for pair in pairs or () for part in pair])
    if pairs:
        pairs.clear()
    return made


CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": ordered_dict,
    "torch._utils._rebuild_tensor": lambda storage, offset, size, stride: StoredTensor(storage, offset, size, stride),
    "torch._utils._rebuild_tensor_v2": lambda *args: StoredTensor(*args[:4]),  # then: requires_grad, hooks
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch.nn.parameter.Parameter": lambda data, *rest: data,
    "torch.Size": lambda size: size,
    "argparse.Namespace": lambda: None,  # torchvision's training scripts save their arguments beside the weights
    "collections.Counter": lambda counts=None: None,  # of a scheduler
}
KNOWN = {*CONSTRUCTORS, *(f"torch.{name}" for name in DTYPES)}


def update(target: Any, items: list) -> None:
    """Set target[key] = value for items = [key, value, key, value, ...]; keys are checked before they are hashed."""
    if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(k, str | int) for k in items[::2]):
        raise ValueError("damaged: entries of something that is not a table")
    target.update(zip(items[::2], items[1::2], strict=True))


class Instructions(dict):
    """Methods of an unpickler by instruction code; any other instruction is an error that names it."""

    def __missing__(self, code: int) -> None:
        name = next((op.name for op in pickletools.opcodes if op.code == chr(code)), f"{code:#x}")
        raise ValueError(f"the pickle instruction {name}, which torch.save does not write for weights")


class WeightsUnpickler(pickle._Unpickler):
    """Python's unpickler, restricted to tables of tensors.

    Its base is the unpickler written in Python, whose instructions can be removed and replaced one by one. The one in
    C, ``pickle.Unpickler``, allows that for GLOBAL and persistent ids only: a small file could still fill the memory.
    """

    stack: list[Any]
    append: Any
    pop_mark: Any
    read: Any
    storages: dict[str, str]  # key and dtype of those that the pickle refers to
    dispatch = Instructions((code, pickle._Unpickler.dispatch[code]) for code in (getattr(pickle, name)[0] for name in (
        "PROTO", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
        "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT",
        "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "BINPUT", "LONG_BINPUT", "MEMOIZE",
        "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "BINPERSID")))

    def find_class(self, module: str, name: str) -> Global:
        full = f"{module}.{name}"
        if full not in KNOWN:
            raise ValueError(f"the file asks for {full[:200]}" + (
                "; numbers of this type are not read, convert the tensors to float32 first" if "Storage" in name else
                f", as whole models and other objects do: refused, and not run; {SAVE}"))
        return Global(full)

    def persistent_load(self, reference: Any) -> Storage:
        """("storage", type, key, device, length), in the older format followed by a view."""
        if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
            raise ValueError("damaged: a reference to something that is not a storage")
        kind, key = reference[1], reference[2]
        if not isinstance(kind, Global) or kind.name in CONSTRUCTORS or not isinstance(key, str):
            raise ValueError("damaged: a storage without a type or key")
        if reference[5:] not in ((), (None,)):
            raise ValueError("a storage that is a view of another, as PyTorch before 0.4 wrote; save it again")
        self.storages[key] = DTYPES[kind.name.removeprefix("torch.")]
        return Storage(self.storages[key], key)

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or function.name not in CONSTRUCTORS or not isinstance(args, tuple):
            raise ValueError("damaged: it calls something that is not a function")
        try:
            self.append(CONSTRUCTORS[function.name](*args))
        except TypeError as error:
            raise ValueError(f"damaged: {function.name} with arguments that it does not take") from error
    dispatch[pickle.REDUCE[0]] = dispatch[pickle.NEWOBJ[0]] = load_reduce

    def load_build(self) -> None:  # sets attributes, such as a state_dict's _metadata: not needed
        self.stack.pop()
    dispatch[pickle.BUILD[0]] = load_build

    def load_frame(self) -> None:  # the length of the next piece: not needed
        self.read(8)
    dispatch[pickle.FRAME[0]] = load_frame

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        update(self.stack[-1], [key, value])
    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        items = self.pop_mark()
        update(self.stack[-1], items)
    dispatch[pickle.SETITEMS[0]] = load_setitems


def unpickle(stream: BinaryIO, storages: dict[str, str] | None = None) -> Any:
    """Return what the pickle at the stream's position builds; the stream is left behind it.

    ``storages``, if given, is filled with the key and dtype of every storage that the pickle refers to.
    """
    machine = WeightsUnpickler(stream, encoding="latin-1")
    machine.storages = {} if storages is None else storages
    try:
        return machine.load()
    except (pickle.UnpicklingError, EOFError, IndexError, AttributeError) as error:
        reasons = {EOFError: "pickle exhausted before seeing STOP",
                   IndexError: "the pickle takes more from its stack than it holds",
                   AttributeError: "it appends to something that is not a list"}
        raise ValueError(f"damaged: {reasons.get(type(error), error)}") from error
