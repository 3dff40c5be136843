"""Weights saved by PyTorch, read without PyTorch: ``.safetensors`` and ``.pth`` files.

``torch.save(model.state_dict(), path)`` writes a pickle, and the numbers beside it. A pickle is a program for a small
stack machine. It is dangerous: one instruction (GLOBAL) fetches any function of any module by name and another (REDUCE)
calls it, so a file can run any code. ``WeightsUnpickler`` is Python's machine without that danger. It knows only the
instructions that a table of tensors needs. GLOBAL returns a name from a short list instead of an object; REDUCE builds
only records of this module. Everything else is an error that names what the file asked for.

In the zip format (PyTorch 1.6 and later) the numbers of each storage are an uncompressed entry data/KEY beside
data.pkl. In the older format, of files before 2020, four pickles (a magic number, a version, the byte order, the
table) are followed by a fifth with the keys of the storages, then by each storage: its length in int64 and its numbers.
"""
from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from safetensors import safe_open

from ..nn import Module
from .checkpoint import OPTIMIZER, CheckpointError
from .old_names import OLD_FORMAT, rename_arrays

MAGIC = 0x1950a86a20f9469cfc6c  # the first pickle of the older format
SAVE = "save the weights with torch.save(model.state_dict(), path)"
NUMPY_DTYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}  # of safetensors
DTYPES = {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
          "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?"}


def load_pretrained(model: Module, path: str | os.PathLike) -> None:
    """Load the weights of a file, by name, into a model. Raises ``CheckpointError`` if they do not fit or are damaged.

    The file is PyTorch's or a checkpoint of minicv. PyTorch's counters ``num_batches_tracked``, the state of minicv's
    optimizer and the names that the model lists as ``IGNORED_WEIGHTS`` are ignored.
    """
    ignored = (OPTIMIZER, *getattr(model, "IGNORED_WEIGHTS", ()))
    state = {name: array for name, array in read_weights(path).items()
             if not name.endswith("num_batches_tracked") and not name.startswith(ignored)}
    try:
        model.load_state_dict(state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}{wrapper_hint(list(state))}") from error


def wrapper_hint(names: list[str]) -> str:
    """Return what to save instead, if all names of weights that do not fit have the prefix of a wrapper."""
    for prefix, save in (("module.", "model.module.state_dict()"), ("_orig_mod.", "model._orig_mod.state_dict()")):
        if names and all(name.startswith(prefix) for name in names):
            return f". Every name begins with {prefix!r}: save {save} instead"
    return ""


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.safetensors`` file or of a state_dict saved by ``torch.save``, by name.

    Nothing in the file is executed. Arrays may share memory, as the tensors did, and may be read-only. Raises
    ``CheckpointError`` if the file is missing, damaged, of another format, or holds anything but tensors by name.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
            file.seek(0)
            if start[8:] == b"{":  # eight bytes of length, then JSON
                return _read_safetensors(path)
            if start.startswith(b"PK"):
                return _read_zip(file)
            if start.startswith(b"\x80"):
                return _read_legacy(file)
        raise ValueError(f"neither a safetensors file nor one written by torch.save; {SAVE}")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # damage makes zipfile, pickle and NumPy raise nearly anything
        raise CheckpointError(f"{path}: no readable weights: {error or type(error).__name__}") from error


def _read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    with safe_open(path, "numpy") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
        unknown = sorted({kind for kind in kinds.values() if kind not in NUMPY_DTYPES})
        if unknown:
            raise ValueError(f"numbers of type {', '.join(unknown)} are not read, convert the tensors to float32 first")
        state = {name: file.get_tensor(name) for name in kinds}
        metadata = file.metadata() or {}
        old = metadata.get("format") == OLD_FORMAT
        return rename_arrays(state, json.loads(metadata["recipe"])["model"]) if old else state


# ---------------------------------------------------------------------------------------------------------
# The two formats
# ---------------------------------------------------------------------------------------------------------
def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries.values()) or sum(
                e.file_size for e in entries.values()) > os.fstat(file.fileno()).st_size:
            raise ValueError("its entries are compressed or overlap, which torch.save never does")
        tables = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(tables) != 1:
            raise ValueError(f"a zip file with {len(tables)} entries data.pkl, and torch.save writes one")
        folder = tables[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in entries:
            raise ValueError(f"a TorchScript program; {SAVE}")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in entries else b"little"
        arrays = {}

        def storage(s: Storage) -> np.ndarray:
            if s.key not in arrays:
                arrays[s.key] = _numbers(archive.read(f"{folder}data/{s.key}"), s.dtype, order.decode())
            return arrays[s.key]
        table = _checked(unpickle(io.BytesIO(archive.read(tables[0]))))
        return {name: _view(name, t, storage(t.storage)) for name, t in table.items()}


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    if unpickle(file) != MAGIC:
        raise ValueError("a pickle, but not one of torch.save's")
    unpickle(file)  # the format's version, always 1001
    order: Literal["little", "big"] = "little" if unpickle(file)["little_endian"] else "big"
    table, keys, arrays = _checked(unpickle(file)), unpickle(file), {}
    dtypes = {t.storage.key: t.storage.dtype for t in table.values()}
    for key in keys:
        nbytes = int.from_bytes(file.read(8), order) * np.dtype(dtypes[key]).itemsize
        left = os.fstat(file.fileno()).st_size - file.tell()
        if nbytes > left:
            raise ValueError(f"cut short: the next {nbytes} bytes should be numbers, {left} are left")
        arrays[key] = _numbers(file.read(nbytes), dtypes[key], order)
    return {name: _view(name, t, arrays[t.storage.key]) for name, t in table.items()}


def _numbers(content: bytes, dtype: str, order: Any) -> np.ndarray:
    """Return stored bytes as an array in the machine's byte order."""
    stored = np.frombuffer(content, np.dtype(dtype).newbyteorder(order))
    return stored.astype(dtype, copy=False)


def _checked(table: Any) -> dict[str, StoredTensor]:
    """Return the table if it is a state_dict; ``ValueError`` otherwise."""
    if not isinstance(table, dict):
        what = "one tensor" if isinstance(table, StoredTensor) else f"a {type(table).__name__}"
        raise ValueError(f"holds {what}, not a state_dict; {SAVE}")
    for name, t in table.items():
        if not isinstance(name, str) or not isinstance(t, StoredTensor):
            what = f"under a {type(name).__name__}" if isinstance(t, StoredTensor) else f"a {type(t).__name__}"
            alone = isinstance(t, dict) and t and all(isinstance(inner, StoredTensor) for inner in t.values())
            wrapped = f"; save that entry alone, torch.save(file[{name!r}], path)" if alone else f"; {SAVE}"
            raise ValueError(f"its entry {str(name)[:80]!r} is {what}, not a tensor under a name{wrapped}")
    return table


def _view(name: str, t: StoredTensor, numbers: np.ndarray) -> np.ndarray:
    """Return the tensor as a view of its storage's numbers."""
    count = int(np.prod(t.size, dtype=object))
    end = t.offset + 1 + sum((n - 1) * s for n, s in zip(t.size, t.stride, strict=True)) if count else 0
    if numbers.dtype != t.storage.dtype or end > len(numbers):
        raise ValueError(f"damaged: {name} needs {end} numbers {t.storage.dtype}, its storage has {len(numbers)} "
                         f"{numbers.dtype.str[1:]}")
    if count > len(numbers):  # a stride of 0 makes any size of a single number
        raise ValueError(f"{name}: {count} numbers from a storage of {len(numbers)}; save a .clone() of it")
    strides = [s * numbers.itemsize for s in t.stride]
    return np.ndarray(t.size, numbers.dtype, numbers, t.offset * numbers.itemsize if count else 0, strides)


# ---------------------------------------------------------------------------------------------------------
# The pickle
# ---------------------------------------------------------------------------------------------------------
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
    dispatch = Instructions((code, pickle._Unpickler.dispatch[code]) for code in (getattr(pickle, name)[0] for name in (
        "PROTO", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
        "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT",
        "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "BINPUT", "LONG_BINPUT", "MEMOIZE",
        "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "BINPERSID")))

    def find_class(self, module: str, name: str) -> Global:
        full = f"{module}.{name}"
        if full not in KNOWN:
            hint = ("; numbers of this type are not read, convert the tensors to float32 first" if "Storage" in name
                    else f", which no table of weights needs: refused, and not run; {SAVE}, not the whole model")
            raise ValueError(f"the file asks for {full[:200]}{hint}")
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
        return Storage(DTYPES[kind.name.removeprefix("torch.")], key)

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


def unpickle(stream: BinaryIO) -> Any:
    """Return what the pickle at the stream's position builds; the stream is left behind it."""
    try:
        return WeightsUnpickler(stream, encoding="latin-1").load()
    except (pickle.UnpicklingError, EOFError, IndexError, AttributeError) as error:
        reasons = {EOFError: "pickle exhausted before seeing STOP",
                   IndexError: "the pickle takes more from its stack than it holds",
                   AttributeError: "it appends to something that is not a list"}
        raise ValueError(f"damaged: {reasons.get(type(error), error)}") from error
