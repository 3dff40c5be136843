"""Files of ``torch.save``, read and written without PyTorch.

In the zip format (PyTorch 1.6 and later) the numbers of each storage are an uncompressed entry data/KEY beside
data.pkl, the pickle of a table that says which storage, offset, size and strides make up each tensor:

    archive/data.pkl    {"conv.weight": tensor(storage "0", offset 0, size (64, 3, 7, 7), strides (147, 49, 7, 1)), ...}
    archive/data/0      the numbers of storage "0"
    archive/byteorder   "little" or "big"
    archive/version     "3"

In the older format, of files before 2020, four pickles (a magic number, a version, the byte order, the table) are
followed by a fifth with the keys of the storages, then by each storage: its length in int64 and its numbers.
"""
from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal

import numpy as np

from ...files import atomic_write
from .unpickler import BFLOAT16, DTYPES, SAVE, Storage, StoredTensor, unpickle

MAGIC = 0x1950a86a20f9469cfc6c  # the first pickle of the older format
WRAPPERS = ("state_dict", "model", "model_state_dict")  # under which training scripts save the weights


def read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    """Return the tensors of a file in the zip format, by name. ``ValueError`` for what is not a table of tensors."""
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
                arrays[s.key] = numbers(archive.read(f"{folder}data/{s.key}"), s.dtype, order.decode())
            return arrays[s.key]
        table = state_in(unpickle(io.BytesIO(archive.read(tables[0]))))
        return {name: view(name, t, storage(t.storage)) for name, t in table.items()}


def read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    """Return the tensors of a file in the older format, by name. ``ValueError`` as ``read_zip``."""
    if unpickle(file) != MAGIC:
        raise ValueError("a pickle, but not one of torch.save's")
    unpickle(file)  # the format's version, always 1001
    order: Literal["little", "big"] = "little" if unpickle(file)["little_endian"] else "big"
    dtypes: dict[str, str] = {}
    table, keys, arrays = state_in(unpickle(file, dtypes)), unpickle(file), {}
    for key in keys:
        nbytes = int.from_bytes(file.read(8), order) * item_size(dtypes[key])
        left = os.fstat(file.fileno()).st_size - file.tell()
        if nbytes > left:
            raise ValueError(f"cut short: the next {nbytes} bytes should be numbers, {left} are left")
        arrays[key] = numbers(file.read(nbytes), dtypes[key], order)
    return {name: view(name, t, arrays[t.storage.key]) for name, t in table.items()}


def item_size(dtype: str) -> int:
    """Return the bytes of a stored number."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def numbers(content: bytes, dtype: str, order: Any) -> np.ndarray:
    """Return stored bytes as an array in the machine's byte order; bfloat16 as float32."""
    if dtype == BFLOAT16:
        upper = np.frombuffer(content, np.dtype("u2").newbyteorder(order))
        return (upper.astype("u4") << 16).view("f4")
    return np.frombuffer(content, np.dtype(dtype).newbyteorder(order)).astype(dtype, copy=False)


def state_in(saved: Any) -> dict[str, StoredTensor]:
    """Return the state_dict in what was saved: the table itself, or one of its entries ``WRAPPERS``.

    ``ValueError`` if there is none.
    """
    if not isinstance(saved, dict):
        what = "one tensor" if isinstance(saved, StoredTensor) else f"a {type(saved).__name__}"
        raise ValueError(f"holds {what}, not a state_dict; {SAVE}")
    table = next((saved[name] for name in WRAPPERS if isinstance(saved.get(name), dict)), saved)
    for name, t in table.items():
        if not isinstance(name, str) or not isinstance(t, StoredTensor):
            what = f"under a {type(name).__name__}" if isinstance(t, StoredTensor) else f"a {type(t).__name__}"
            inner = [key for key, entry in table.items() if isinstance(entry, dict) and entry and all(
                isinstance(each, StoredTensor) for each in entry.values())]
            hint = f"save the entry {inner[0]!r} alone, torch.save(file[{inner[0]!r}], path)" if inner else SAVE
            raise ValueError(f"its entry {str(name)[:80]!r} is {what}, not a tensor under a name; {hint}")
    return table


def view(name: str, t: StoredTensor, stored: np.ndarray) -> np.ndarray:
    """Return the tensor as a view of its storage's numbers."""
    count = int(np.prod(t.size, dtype=object))
    end = t.offset + 1 + sum((n - 1) * s for n, s in zip(t.size, t.stride, strict=True)) if count else 0
    dtype = "f4" if t.storage.dtype == BFLOAT16 else t.storage.dtype
    if stored.dtype != dtype or end > len(stored):
        raise ValueError(f"damaged: {name} needs {end} numbers {dtype}, its storage has {len(stored)} "
                         f"{stored.dtype.str[1:]}")
    if count > len(stored):  # a stride of 0 makes any size of a single number
        raise ValueError(f"{name}: {count} numbers from a storage of {len(stored)}; save a .clone() of it")
    strides = [s * stored.itemsize for s in t.stride]
    return np.ndarray(t.size, stored.dtype, stored, t.offset * stored.itemsize if count else 0, strides)


# ---------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------
def write_torch(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as ``torch.save`` writes a state_dict, in the zip format; ``torch.load`` reads it.

    The pickle names three objects of PyTorch's, which ``torch.load(path, weights_only=True)`` allows. The file appears
    under its name only when it is complete. Raises ``ValueError`` for an array of a type that PyTorch lacks.
    """
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        def write(name: str, content: Any) -> None:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)  # with a fixed date
        write("data.pkl", pickled_table(state))
        write("byteorder", "little")
        for key, array in enumerate(state.values()):
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            write(f"data/{key}", little.reshape(-1).view(np.uint8))
        write("version", "3\n")


def pickled_table(state: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle, of protocol 2, of a state_dict whose tensors are stored in order under the keys 0, 1, ..."""
    parts = [b"\x80\x02", reference("collections", "OrderedDict"), b")R("]  # OrderedDict(), then a mark
    for key, (name, array) in enumerate(state.items()):
        parts += [text(name), tensor(str(key), array)]
    return b"".join([*parts, b"u."])  # set all items since the mark; the end


def tensor(key: str, array: np.ndarray) -> bytes:
    """Return the instructions for torch._utils._rebuild_tensor_v2(storage, offset, size, strides, False, {})."""
    native = array.dtype.newbyteorder("=")
    kind = next((name for name, dtype in DTYPES.items() if dtype != BFLOAT16 and np.dtype(dtype) == native), None)
    if kind is None:
        raise ValueError(f"write_torch: PyTorch has no storage for {array.dtype}")
    storage = b"(" + text("storage") + reference("torch", kind) + text(key) + text("cpu") + number(array.size) + b"tQ"
    strides = [int(np.prod(array.shape[i + 1:], dtype=object)) for i in range(array.ndim)]
    sizes = b"".join(b"(" + b"".join(map(number, each)) + b"t" for each in (array.shape, strides))
    rest = b"\x89" + reference("collections", "OrderedDict") + b")R"
    return reference("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + number(0) + sizes + rest + b"tR"


def reference(module: str, name: str) -> bytes:
    """Return the instruction GLOBAL, which names an object."""
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    """Return the instruction BINUNICODE."""
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    """Return the instruction BININT, or LONG1 for a number of more than 32 bits."""
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content
