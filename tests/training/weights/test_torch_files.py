import collections
import copyreg
import io
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from minicv.training import CheckpointError, read_weights
from minicv.training.weights.torch_files import write_torch
from minicv.training.weights.unpickler import Global, Storage, StoredTensor, unpickle
from tests.oracle import require


# ---------------------------------------------------------------------------------------------------------
# Files made by hand, so that the format is checked without PyTorch
# ---------------------------------------------------------------------------------------------------------
def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def number(n):
    return b"J" + struct.pack("<i", n)


def tensor(key, size, stride, offset=0, length=6, kind="torch\nFloatStorage"):
    """The instructions for one tensor: _rebuild_tensor_v2(storage, offset, size, stride, False, {})."""
    storage = b"(" + text("storage") + b"c" + kind.encode() + b"\n" + text(key) + text("cpu") + number(length) + b"tQ"
    sizes, strides = (b"(" + b"".join(map(number, v)) + b"t" for v in (size, stride))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + sizes + strides + b"\x89}tR"


def table(**tensors):
    return b"\x80\x02}(" + b"".join(text(name) + code for name, code in tensors.items()) + b"u."


def write_zip(path, pickled, storages, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in {**{f"data/{k}": v for k, v in storages.items()}, **entries}.items():
            archive.writestr(f"archive/{name}", content)
    return path


SIX = np.arange(6, dtype="<f4")  # 0 1 2 3 4 5


def test_a_file_made_by_hand(tmp_path):
    path = write_zip(tmp_path / "a.pth", table(
        rows=tensor("0", (2, 3), (3, 1)), columns=tensor("0", (3, 2), (1, 3)), last=tensor("0", (2,), (2,), 3),
        one=tensor("0", (), (), 4), none=tensor("0", (0, 3), (3, 1))), {"0": SIX.tobytes()})
    weights = read_weights(path)
    assert weights["rows"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["columns"].tolist() == [[0, 3], [1, 4], [2, 5]]  # element (a, b) is number 1 a + 3 b
    assert weights["last"].tolist() == [3, 5]  # from number 3 on, every other
    assert weights["one"].shape == () and weights["one"] == 4
    assert weights["none"].shape == (0, 3)
    assert all(array.dtype == np.float32 for array in weights.values())


def test_big_endian_numbers_are_turned_round(tmp_path):
    path = write_zip(tmp_path / "a.pth", table(x=tensor("0", (6,), (1,))), {"0": SIX.astype(">f4").tobytes()},
                     byteorder="big")
    assert read_weights(path)["x"].tolist() == [0, 1, 2, 3, 4, 5]
    assert read_weights(path)["x"].dtype == np.float32


def test_the_order_of_python_2_and_parameters(tmp_path):
    pairs = b"](](" + text("w") + tensor("0", (6,), (1,)) + b"e" + b"e"  # [["w", tensor]]
    ordered = b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R."
    path = write_zip(tmp_path / "a.pth", ordered, {"0": SIX.tobytes()})
    assert read_weights(path)["w"].tolist() == [0, 1, 2, 3, 4, 5]
    parameter = b"ctorch.nn.parameter\nParameter\n" + tensor("0", (6,), (1,)) + b"\x85R(\x88\x89}tb"
    path = write_zip(tmp_path / "b.pth", table(w=parameter), {"0": SIX.tobytes()})
    assert read_weights(path)["w"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("made", "message"), [
    (dict(x=tensor("0", (7,), (1,))), "x needs 7 numbers f4, its storage has 6 f4"),
    (dict(x=tensor("0", (2, 3), (3, 2))), "x needs 8 numbers f4, its storage has 6 f4"),
    (dict(x=tensor("0", (1,), (1,), 6)), "x needs 7 numbers"),
    (dict(x=tensor("0", (30000, 30000), (0, 0))), "x: 900000000 numbers from a storage of 6"),
    (dict(x=tensor("0", (-1,), (1,))), "a tensor's description is damaged"),
    (dict(x=tensor("0", (2, 3), (1,))), "a tensor's description is damaged"),
    (dict(x=tensor("0", (2,), (1,), -1)), "a tensor's description is damaged"),
    (dict(x=tensor("1", (6,), (1,))), "no item named 'archive/data/1'"),
    (dict(x=tensor("../data.pkl", (6,), (1,))), "no item named"),
    (dict(x=tensor("0", (6,), (1,)), y=tensor("0", (3,), (1,), kind="torch\nDoubleStorage")), "y needs 3 numbers f8"),
    (dict(x=tensor("0", (6,), (1,), kind="torch\nComplexFloatStorage")), "torch.ComplexFloatStorage; numbers of this"),
    (dict(x=tensor("0", (13,), (1,), kind="torch\nBFloat16Storage")), "x needs 13 numbers f4, its storage has 12 f4"),
    (dict(x=tensor("0", (6,), (1,), kind="collections\nOrderedDict")), "a storage without a type or key"),
    (dict(x=number(3)), "its entry 'x' is a int, not a tensor"),
])
def test_damaged_tables(tmp_path, made, message):
    path = write_zip(tmp_path / "a.pth", table(**made), {"0": SIX.tobytes()})
    with pytest.raises(CheckpointError, match=f"a.pth: .*{message}"):
        read_weights(path)


# ---------------------------------------------------------------------------------------------------------
# Malice
# ---------------------------------------------------------------------------------------------------------
class Malice:
    """Runs a command when unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def containers(tmp_path, pickled):
    """The pickle as a zip entry, by itself, and as the table of the older format."""
    start = b"".join(pickle.dumps(v, 2) for v in (0x1950a86a20f9469cfc6c, 1001, {"little_endian": True}))
    (tmp_path / "bare.pth").write_bytes(pickled)
    (tmp_path / "legacy.pth").write_bytes(start + pickled)
    return [write_zip(tmp_path / "zip.pth", pickled, {}), tmp_path / "bare.pth", tmp_path / "legacy.pth"]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, exec])
def test_nothing_is_executed(tmp_path, function, protocol):
    marker = tmp_path / "executed"
    command = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w').close()"
    for pickled in (pickle.dumps(Malice(function, command), protocol),
                    pickle.dumps({"x": [Malice(function, command)]}, protocol)):
        for path in containers(tmp_path, pickled):
            with pytest.raises(CheckpointError) as error:
                read_weights(path)
            assert str(path) in str(error.value)
            if protocol >= 2:
                name = f"{function.__module__}.{function.__name__}".replace("builtins", ".*builtin.*")
                assert re.search(f"asks for {name}", str(error.value))
            assert not marker.exists()
    pickle.loads(pickle.dumps(Malice(function, command), protocol))  # it is malice indeed
    assert marker.exists()


@pytest.mark.parametrize(("pickled", "message"), [
    (b"\x80\x02(iposix\nsystem\n.", "the pickle instruction INST"),
    (b"\x80\x02(cposix\nsystem\no.", "asks for posix.system"),
    (b"\x80\x02ctorch\nhub.load\n.", "asks for torch.hub.load"),
    (b"\x80\x04" + text("torch.serialization") + text("load") + b"\x93.", "asks for torch.serialization.load"),
    (b"\x80\x04]]\x93.", "STACK_GLOBAL requires str"),
    (b"\x80\x02\x82\x01.", "the pickle instruction EXT1"),
    (b"\x80\x02ctorch\nFloatStorage\n)R.", "it calls something that is not a function"),
    (b"\x80\x02X\x01\x00\x00\x00a)R.", "it calls something that is not a function"),
    (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "_rebuild_tensor_v2 with arguments that it does not take"),
    (b"\x80\x02Pkey\n.", "the pickle instruction PERSID"),
    (b"\x80\x02)Q.", "a reference to something that is not a storage"),
    (b"\x80\x02(" + text("module") + text("b") * 4 + b"tQ.", "a reference to something that is not a storage"),
    (b"\x80\x02})", "pickle exhausted before seeing STOP"),
    (b"\x80\x02}).", "holds a tuple, not a state_dict"),
    (b"\x80\x02.", "takes more from its stack than it holds"),
    (b"\x80\x02}N(\x85.", "takes more from its stack than it holds"),  # not across a mark
    (b"\x80\x02}" + text("a") + b"Ns.", "its entry 'a' is a NoneType"),
    (b"\x80\x02}(]Nu.", "entries of something that is not a table"),  # a list as a key
    (b"\x80\x02](NNu.", "entries of something that is not a table"),
    (b"\x80\x02})a.", "it appends to something that is not a list"),
    (b"\x80\x02}h\x05.", "Memo value not found at index 5"),
    (b"\x80\x02]K\x00Ns.", "entries of something that is not a table"),
    (b"\x80\x02ccodecs\nencode\n.", "asks for codecs.encode"),
    (b"\x80\x02cbuiltins\ngetattr\n.", "asks for builtins.getattr"),
    (b"\x80\x02c__builtin__\neval\n.", "asks for __builtin__.eval"),
    (b"\x80\x04" + text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93.", "asks for torch._u"),
    (b"\x80\x04" + text("torch") + text("Size.__class__.__base__") + b"\x93.", "asks for torch.Size.__class__"),
    (b"\x80\x02ctorch\nSize\n)\x85R)R.", "it calls something that is not a function"),  # the result of a call
    (b"\x80\x02ctorch\nSize\nK\x01R.", "it calls something that is not a function"),  # with arguments that are no tuple
    (b"\x80\x04ctorch\nSize\n)}\x92.", "the pickle instruction NEWOBJ_EX"),
    (b"\x80\x02(ctorch\nSize\no.", "the pickle instruction OBJ"),
    (b"\x80\x04\x8f.", "the pickle instruction EMPTY_SET"),
    (b"\x80\x05\x96" + b"\xff" * 6 + b"\x3f\x00.", "the pickle instruction BYTEARRAY8"),
    (b"\x80\x04\x8e" + b"\xff" * 6 + b"\x3f\x00.", "the pickle instruction BINBYTES8"),
    (b"\x80\x02\x8b\xff\xff\xff\x7f.", "the pickle instruction LONG4"),
    (b"\x80\x02\xff.", "the pickle instruction 0xff"),
])
def test_other_instructions(tmp_path, pickled, message):
    for path in containers(tmp_path, pickled):
        if path.name != "bare.pth":
            with pytest.raises(CheckpointError, match=f"{path.name}: .*{message}"):
                read_weights(path)


def test_no_attribute_is_set_and_no_method_is_called(tmp_path):
    """BUILD calls __setstate__, or fills __dict__ and sets attributes: of the name of a function, a table, a tensor."""
    state = b"}(" + text("__setstate__") + text("x") + text("__class__") + text("y") + text("name") + text(
        "collections.OrderedDict") + b"u"
    for target, expected in ((b"ctorch\nSize\n", Global("torch.Size")), (b"}", {}),
                             (b"ctorch\nSize\n))\x86\x85R", ((), ())),
                             (tensor("0", (), ()), StoredTensor(Storage("f4", "0"), 0, (), ()))):
        for attributes in (state, b"N" + state + b"\x86", state + state + b"\x86"):
            assert unpickle(io.BytesIO(b"\x80\x02" + target + attributes + b"b.")) == expected
    assert vars(Global("a")) == {"name": "a"} and not hasattr(Global, "__setstate__")


def test_extensions_that_the_program_has_registered_are_refused():
    """EXT fetches these without asking find_class, once they are in the cache."""
    copyreg.add_extension("os", "system", 1)
    copyreg._extension_cache[1] = os.system
    try:
        assert pickle.loads(b"\x80\x02\x82\x01.") is os.system
        for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
            with pytest.raises(ValueError, match="the pickle instruction EXT"):
                unpickle(io.BytesIO(b"\x80\x02" + code + b"."))
    finally:
        copyreg.remove_extension("os", "system", 1)
        copyreg.clear_extension_cache()


def test_every_instruction_is_known_or_refused():
    """Whatever the instruction, no object comes out that the file could not have spelled out."""
    for code in range(256):
        for before in (b"", b"}", b"](", b"ctorch\nSize\n", b"ctorch\nSize\n)", b"(" + text("a")):
            try:
                found = unpickle(io.BytesIO(b"\x80\x04" + before + bytes([code]) + b"\x01" * 9 + b"\n\n."))
            except (ValueError, TypeError, struct.error):
                continue
            assert type(found) in (dict, list, tuple, str, int, float, bool, type(None), Global), (code, found)


def test_small_files_cannot_fill_the_memory(tmp_path):
    frame = b"\x80\x04\x95" + b"\xff" * 6 + b"\x3f\x00}."  # a frame of 2^54 bytes
    assert read_weights(write_zip(tmp_path / "frame.pth", frame, {})) == {}
    giant = b"\x80\x02}r\xff\xff\xff\x7f."  # memo number 2^31 - 1: CPython's own machine would make a table as long
    assert read_weights(write_zip(tmp_path / "giant.pth", giant, {})) == {}
    laughs = b"\x80\x02}q\x01)q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Ns."  # a key with 2^60 leaves, never hashed
    with pytest.raises(CheckpointError, match="entries of something that is not a table"):
        read_weights(write_zip(tmp_path / "laughs.pth", laughs, {}))
    pairs = b"](" + b"".join(b"](" + number(i) + b"Ne" for i in range(1000)) + b"eq\x00"
    again = b"\x80\x02](" + pairs + b"ccollections\nOrderedDict\nh\x00\x85R" * 1000 + b"e."
    lists = unpickle(io.BytesIO(again))
    assert len(lists) == 1001 and len(lists[1]) == 1000 and not any(lists[2:])  # each pair is in one dict only
    bomb = write_zip(tmp_path / "bomb.pth", table(x=tensor("0", (1 << 22,), (1,))), {"0": bytes(1 << 24)},
                     compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed or overlap"):
        read_weights(bomb)


# ---------------------------------------------------------------------------------------------------------
# PyTorch's own files
# ---------------------------------------------------------------------------------------------------------
def a_state(torch):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(3, 2))
    numbers = torch.arange(100.0)
    return {**net.state_dict(), "window": numbers[3:43].reshape(5, 8).t()[1:5:2], "whole": numbers,
            "parameter": torch.nn.Parameter(torch.ones(2)), "empty": torch.zeros(0, 3), "scalar": torch.tensor(3.5),
            "bool": torch.tensor([True, False]), "half": torch.tensor([1.5]).half(),
            "brain": torch.tensor([1.5, -2.25, 3e38, 1e-40]).bfloat16(), "byte": torch.tensor([200]).byte(),
            "long": torch.tensor([[-2 ** 40]]), "double": torch.rand(3, dtype=torch.float64),
            "last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_what_torch_saves(tmp_path, as_zip, protocol, ordered):
    torch = require("torch")
    state = a_state(torch)
    state = collections.OrderedDict(state) if ordered else state
    path = tmp_path / "w.pth"
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
    weights = read_weights(path)
    assert list(weights) == [name for name in state if name != "1.num_batches_tracked"]
    for name in weights:
        t = state[name].detach()
        expected = (t.float() if t.dtype == torch.bfloat16 else t).numpy()
        np.testing.assert_array_equal(weights[name], expected)
        assert weights[name].dtype == expected.dtype, name


@pytest.mark.parametrize(("thing", "message"), [
    (lambda torch: torch.nn.Linear(2, 2), "asks for torch.nn.modules.linear.Linear"),
    (lambda torch: {"model": torch.nn.Linear(2, 2)}, r"save the weights alone, with torch.save\(model.state_dict"),
    (lambda torch: torch.zeros(3), r"holds one tensor, not a state_dict; save the weights alone, with torch.save\("),
    (lambda torch: [torch.zeros(3)], "holds a list, not a state_dict"),
    (lambda torch: {"epoch": 3, "model": [1]}, "its entry 'epoch' is a int, not a tensor"),
    (lambda torch: {"epoch": 3, "net": torch.nn.Linear(2, 2).state_dict()},
     r"its entry 'epoch' is a int, .*; save the entry 'net' alone, torch.save\(file\['net'\], path\)"),
    (lambda torch: {"state_dict": {"epoch": 3}}, "its entry 'epoch' is a int, not a tensor"),
    (lambda torch: {0: torch.zeros(3)}, "its entry '0' is under a int, not a tensor under a name"),
    (lambda torch: {"x": torch.zeros(3, dtype=torch.complex64)}, "asks for torch.ComplexFloatStorage"),
    (lambda torch: {"x": torch.zeros(1).expand(5)}, "x: 5 numbers from a storage of 1"),
])
@pytest.mark.parametrize("as_zip", [True, False])
def test_other_things_that_torch_saves(tmp_path, as_zip, thing, message):
    torch = require("torch")
    torch.save(thing(torch), tmp_path / "w.pth", _use_new_zipfile_serialization=as_zip)
    with pytest.raises(CheckpointError, match=f"w.pth: .*{message}"):
        read_weights(tmp_path / "w.pth")


def test_the_older_format_by_hand(tmp_path):
    parts = [pickle.dumps(v, 2) for v in (0x1950a86a20f9469cfc6c, 1001, {"little_endian": True})]
    start = b"".join(parts) + table(x=tensor("7", (2, 3), (3, 1))) + pickle.dumps(["7"], 2)
    path = tmp_path / "old.pth"
    path.write_bytes(start + struct.pack("<q", 6) + SIX.tobytes())
    assert read_weights(path)["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    for end, message in ((struct.pack("<q", 6) + SIX.tobytes()[:-1], "cut short: the next 24 bytes .* 23 are left"),
                         (struct.pack("<Q", 2 ** 63) + SIX.tobytes(), "cut short: the next 36893488147419103232 bytes"),
                         (struct.pack("<q", 5) + SIX.tobytes(), "x needs 6 numbers f4, its storage has 5"),
                         (b"", "x needs 6 numbers")):
        path.write_bytes(start + end)
        with pytest.raises(CheckpointError, match=f"old.pth: .*{message}"):
            read_weights(path)


def test_a_script_is_named(tmp_path):
    path = write_zip(tmp_path / "a.pth", table(), {}, **{"constants.pkl": b"\x80\x02)."})
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_weights(path)


def test_other_files(tmp_path):
    with pytest.raises(CheckpointError, match="none.pth: no such file"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=f"{tmp_path}: .*directory"):
        read_weights(tmp_path)
    np.savez(tmp_path / "a.npz", x=SIX)
    with pytest.raises(CheckpointError, match="a zip file with 0 entries data.pkl"):
        read_weights(tmp_path / "a.npz")
    for content in (b"", b"{}", b"PK\x03\x04", b"\x80", b"<html>not found</html>", bytes(100)):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match="x.pth: no readable weights: ."):
            read_weights(tmp_path / "x.pth")
    (tmp_path / "p.pth").write_bytes(pickle.dumps(1001, 2))
    with pytest.raises(CheckpointError, match="a pickle, but not one of torch.save's"):
        read_weights(tmp_path / "p.pth")


# ---------------------------------------------------------------------------------------------------------
# Damage
# ---------------------------------------------------------------------------------------------------------
def damaged(content, count, seed):
    """The content with 1 to 4 bytes changed, cut short, or with a piece taken out; ``count`` times."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        data = bytearray(content)
        at = int(rng.integers(len(data)))
        if i % 4 == 0:
            del data[at:]
        elif i % 4 == 1:
            del data[at:at + int(rng.integers(1, 9))]
        else:
            for place in rng.integers(len(data), size=int(rng.integers(1, 5))):
                data[place] = rng.integers(256) if i % 4 == 2 else data[place] ^ (1 << int(rng.integers(8)))
        yield bytes(data)


def read_or_refuse(path, content=None):
    """True if the weights were read. Any other error than CheckpointError comes through."""
    if content is not None:
        path.write_bytes(content)
    try:
        weights = read_weights(path)
    except CheckpointError as error:
        assert str(path) in str(error) and len(str(error)) < 1000
        return False
    assert all(isinstance(name, str) for name in weights)
    assert all(array.nbytes <= path.stat().st_size for array in weights.values())
    return True


def small_file(kind, tmp_path):
    path = tmp_path / "small"
    if kind == "safetensors":
        save_file({"a": SIX, "b": SIX.astype("f8").reshape(2, 3)}, path)
    elif kind == "zip by hand":
        write_zip(path, table(a=tensor("0", (6,), (1,)), b=tensor("0", (2, 3), (3, 1))), {"0": SIX.tobytes()})
    else:
        torch = require("torch")
        torch.save(a_state(torch), path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["zip by hand", "zip", "legacy", "safetensors"])
def test_damage_is_refused_or_harmless(tmp_path, kind):
    content = small_file(kind, tmp_path)
    assert read_or_refuse(tmp_path / "f", content)
    read = sum(read_or_refuse(tmp_path / "f", data) for data in damaged(content, 300, seed=1))
    if kind.startswith("zip"):  # checksums notice all but what does not matter, such as dates
        assert read < 150
    assert read_or_refuse(tmp_path / "f", content)


@pytest.mark.parametrize("by_hand", [True, False])
def test_damage_to_the_pickle_alone(tmp_path, by_hand):
    """The zip file is whole and its checksums are right: it is the stack machine that must cope."""
    with zipfile.ZipFile(io.BytesIO(small_file("zip by hand" if by_hand else "zip", tmp_path))) as archive:
        entries = {i.filename.split("/", 1)[1]: archive.read(i) for i in archive.infolist()}
    pickled = entries.pop("data.pkl")
    read = sum(read_or_refuse(write_zip(tmp_path / "f", data, {}, **entries)) for data in damaged(pickled, 300, seed=2))
    assert 0 < read < 100  # some changes only rename a weight


# ---------------------------------------------------------------------------------------------------------
# Written
# ---------------------------------------------------------------------------------------------------------
WRITTEN = {"conv.weight": SIX.reshape(1, 2, 3), "columns": SIX.reshape(2, 3).T, "one": np.array(3.5), "none": SIX[:0],
           "long": np.array([-2 ** 40]), "half": SIX.astype("f2"), "bool": np.array([True, False]),
           "big": SIX.astype(">f4"), "byte": np.arange(3, dtype="u1")}


def test_what_is_written_is_read_again(tmp_path):
    write_torch(tmp_path / "w.pth", WRITTEN)
    weights = read_weights(tmp_path / "w.pth")
    assert list(weights) == list(WRITTEN)
    for name, array in WRITTEN.items():
        np.testing.assert_array_equal(weights[name], array)
        assert weights[name].dtype == array.dtype.newbyteorder("="), name
    content = (tmp_path / "w.pth").read_bytes()
    write_torch(tmp_path / "w.pth", WRITTEN)
    assert (tmp_path / "w.pth").read_bytes() == content  # without the date


def test_torch_loads_what_is_written_without_running_anything(tmp_path):
    torch = require("torch")
    write_torch(tmp_path / "w.pth", WRITTEN)
    state = torch.load(tmp_path / "w.pth", weights_only=True)
    assert type(state) is collections.OrderedDict and list(state) == list(WRITTEN)
    for name, array in WRITTEN.items():
        np.testing.assert_array_equal(state[name].numpy(), array)
    for name, t in torch.load(tmp_path / "w.pth", weights_only=True, mmap=True).items():
        np.testing.assert_array_equal(t.numpy(), WRITTEN[name])


def test_types_that_torch_lacks_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="write_torch: PyTorch has no storage for complex128"):
        write_torch(tmp_path / "w.pth", {"x": np.zeros(1, complex)})
    assert list(tmp_path.iterdir()) == []


def test_large_numbers_in_the_pickle():
    from minicv.training.weights import torch_files
    for n in (0, 2 ** 31 - 1, 2 ** 31, 2 ** 40):
        assert unpickle(io.BytesIO(b"\x80\x02" + torch_files.number(n) + b".")) == n
