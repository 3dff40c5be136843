"""Weights that PyTorch saved, read without PyTorch: ``.safetensors`` and ``.pth`` files.

What ``torch.save(model.state_dict(), path)`` writes is a pickle with the numbers beside it. A pickle is a program for a
small stack machine, and what makes it dangerous is that one instruction fetches any function of any module by name
(GLOBAL) and another calls it (REDUCE): a file can run whatever it likes. The machine here is our own. It knows the
instructions that a table of tensors needs, and instead of looking names up it has a list of the few it accepts, each
with a stand-in that only notes what was asked for. Everything else is an error that says what the file wanted.

The numbers, in the zip format (PyTorch 1.6 and later): one uncompressed entry data/KEY per storage, beside data.pkl.
In the older format, which files of before 2020 have: after four pickles (a magic number, a version, the machine, the
table) comes a fifth with the storages' keys, then each storage as its length in int64 and its numbers.
"""
from __future__ import annotations

import io
import os
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from safetensors import safe_open

from ..nn import Module
from .checkpoint import OPTIMIZER, CheckpointError
from .old_names import OLD_FORMAT, rename_arrays

MAGIC = 0x1950a86a20f9469cfc6c  # the first pickle of the older format
SAVE = "save the weights with torch.save(model.state_dict(), path)"
SAFE = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}  # what NumPy has, too
DTYPES = {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
          "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?"}


def load_pretrained(model: Module, path: str | os.PathLike) -> None:
    """Fill a model with the weights of a file, by name. Raises ``CheckpointError`` if they do not fit, and for damage.

    The file is PyTorch's or a checkpoint of minicv. PyTorch's counters ``num_batches_tracked``, the state of minicv's
    optimizer and what the model lists as ``NOT_LOADED`` are passed over.
    """
    passed_over = (OPTIMIZER, *getattr(model, "NOT_LOADED", ()))
    state = {name: array for name, array in read_weights(path).items()
             if not name.endswith("num_batches_tracked") and not name.startswith(passed_over)}
    try:
        model.load_state_dict(state)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}{hint(list(state))}") from error


def hint(names: list[str]) -> str:
    """What to save in place of weights whose names do not fit, where the names tell."""
    for prefix, save in (("module.", "model.module.state_dict()"), ("_orig_mod.", "model._orig_mod.state_dict()")):
        if names and all(name.startswith(prefix) for name in names):
            return f". Every name begins with {prefix!r}: save {save} instead"
    return ""


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a ``.safetensors`` file or of a state_dict saved by ``torch.save``, by name. Nothing is executed.

    Arrays may share memory, as the tensors did, and may be read-only. Raises ``CheckpointError`` naming the file for
    one that is missing, damaged, of another format, or holds anything but numbers by name.
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
    except Exception as error:  # damage makes zipfile, pickletools and NumPy raise nearly anything
        raise CheckpointError(f"{path}: no readable weights: {error or type(error).__name__}") from error


def _read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    with safe_open(path, "numpy") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
        unknown = sorted({kind for kind in kinds.values() if kind not in SAFE})
        if unknown:
            raise ValueError(f"numbers of type {', '.join(unknown)} are not read, convert the tensors to float32 first")
        state = {name: file.get_tensor(name) for name in kinds}
        return rename_arrays(state) if (file.metadata() or {}).get("format") == OLD_FORMAT else state


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
        table = _checked(run(io.BytesIO(archive.read(tables[0]))))
        return {name: _view(name, t, storage(t.storage)) for name, t in table.items()}


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    if run(file) != MAGIC:
        raise ValueError("a pickle, but not one of torch.save's")
    run(file)  # the format's version, 1001 ever since
    order = "little" if run(file)["little_endian"] else "big"
    table, keys, arrays = _checked(run(file)), run(file), {}
    dtypes = {t.storage.key: t.storage.dtype for t in table.values()}
    for key in keys:
        nbytes = int.from_bytes(file.read(8), order) * np.dtype(dtypes[key]).itemsize
        left = os.fstat(file.fileno()).st_size - file.tell()
        if nbytes > left:
            raise ValueError(f"cut short: the next {nbytes} bytes should be numbers, {left} are left")
        arrays[key] = _numbers(file.read(nbytes), dtypes[key], order)
    return {name: _view(name, t, arrays[t.storage.key]) for name, t in table.items()}


def _numbers(content: bytes, dtype: str, order: str) -> np.ndarray:
    """Stored bytes as an array of the machine's own byte order."""
    stored = np.frombuffer(content, np.dtype(dtype).newbyteorder(order))
    return stored.astype(dtype, copy=False)


def _checked(table: Any) -> dict[str, StoredTensor]:
    """The table, if it is a state_dict."""
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
    """The tensor as a view of its storage's numbers."""
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
# The stack machine
# ---------------------------------------------------------------------------------------------------------
@dataclass
class Storage:
    """Numbers kept beside the pickle under a key."""

    dtype: str
    key: str


@dataclass
class StoredTensor:
    """Which numbers of a storage make up a tensor; offset and strides in numbers."""

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
    """A name that the pickle has asked for; never the object of that name."""

    name: str


def ordered_dict(pairs: list | None = None) -> dict:
    """A dict from [[key, value], ...], as Python 2 wrote it. The list is used up: many dicts of one list would fill
    the memory from a small file."""
    made: dict = {}
    update(made, [part for pair in pairs or () for part in pair])
    if pairs:
        pairs.clear()
    return made


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": ordered_dict,
    "torch._utils._rebuild_tensor": lambda storage, offset, size, stride: StoredTensor(storage, offset, size, stride),
    "torch._utils._rebuild_tensor_v2": lambda *args: StoredTensor(*args[:4]),  # then: requires_grad, hooks
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch.nn.parameter.Parameter": lambda data, *rest: data,
    "torch.Size": lambda size: size,
}
KNOWN = {*CALLS, *(f"torch.{name}" for name in DTYPES)}


def update(target: Any, items: list) -> None:
    """target[key] = value, for key, value, key, value ..."""
    if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(k, str | int) for k in items[::2]):
        raise ValueError("damaged: entries of something that is no table")
    target.update(zip(items[::2], items[1::2], strict=True))


def known(module: Any, name: Any) -> Global:
    """The stand-in of a global; ``ValueError`` naming it if it is not on the list."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("damaged: a global without a name")
    full = f"{module}.{name}"
    if full not in KNOWN:
        hint = ("; numbers of this type are not read, convert the tensors to float32 first" if "Storage" in name else
                f", which no table of weights needs: refused, and not run; {SAVE}, not the whole model")
        raise ValueError(f"the file asks for {full[:200]}{hint}")
    return Global(full)


def call(function: Global, args: tuple) -> Any:
    """What the accepted functions give."""
    if not isinstance(function, Global) or function.name not in CALLS or not isinstance(args, tuple):
        raise ValueError("damaged: it calls what is no function")
    try:
        return CALLS[function.name](*args)
    except TypeError as error:
        raise ValueError(f"damaged: {function.name} with arguments that it does not take") from error


def persistent(reference: Any) -> Storage:
    """("storage", type, key, device, length) or, in the older format, ("storage", ..., length, view)."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise ValueError("damaged: a reference to something that is no storage")
    kind, key = reference[1], reference[2]
    if not isinstance(kind, Global) or kind.name in CALLS or not isinstance(key, str):
        raise ValueError("damaged: a storage without a type or key")
    if reference[5:] not in ((), (None,)):
        raise ValueError("a storage that is a view of another, as PyTorch before 0.4 wrote; save it anew")
    return Storage(DTYPES[kind.name.removeprefix("torch.")], key)


def run(stream: BinaryIO) -> Any:
    """What the pickle at the stream's position builds. The stream is left behind it."""
    stack: list = []
    marks: list[int] = []  # where in the stack a MARK was set
    memo: dict[int, Any] = {}

    def since_mark() -> list:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    def pop(count: int) -> list:
        if count > len(stack) - (marks[-1] if marks else 0):
            raise ValueError("damaged: the pickle takes more from its stack than there is")
        items = stack[len(stack) - count:]
        del stack[len(stack) - count:]
        return items

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return pop(1)[0]
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE" | (
                    "BINSTRING" | "SHORT_BINSTRING"):
                stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[opcode.name]())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(int(opcode.name[-1]))))
            case "APPEND" | "APPENDS":
                items = pop(1) if opcode.name == "APPEND" else since_mark()
                if not isinstance(stack[-1], list):
                    raise ValueError("damaged: it appends to what is no list")
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = pop(2) if opcode.name == "SETITEM" else since_mark()
                update(stack[-1], items)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(known(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(known(*pop(2)))
            case "REDUCE" | "NEWOBJ":
                stack.append(call(*pop(2)))
            case "BUILD":  # attributes, as a state_dict's _metadata: not needed
                pop(1)
            case "BINPERSID":
                stack.append(persistent(pop(1)[0]))
            case _:
                raise ValueError(f"the pickle instruction {opcode.name}, which torch.save does not write for weights")
    raise ValueError("damaged: a pickle without an end")
