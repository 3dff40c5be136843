"""The files that minicv writes itself, and lists of downloads, for ``tests/fuzz_structure.py``."""
from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from minicv import training
from minicv.course import claims
from minicv.data.download import read_manifest
from minicv.training.checkpoint import checksum
from minicv.training.run import read_metrics
from tests import fuzz
from tests.fuzz_structure import Change, Reader, json_changes, json_values


def manifest_changes(content: bytes) -> Iterator[Change]:
    """The fields of every line, and what ``line_changes`` does to lines that ``read`` compares."""
    rows = [line.split("\t") for line in content.decode().splitlines()]
    for y, row in enumerate(rows):
        for x in range(len(row)):
            for value in ("", "x", "-1", "1.5", "0" * 70, "../a", "/a", "a\\b", "a\0b", "a/./b", "9" * 13, "１", "狗",
                          "AB" * 32):
                new = [[*r] for r in rows]
                new[y][x] = value
                yield Change((y, x), value, fuzz_write("\n".join(map("\t".join, new))))
        for how, new in {"removed": rows[:y] + rows[y + 1:], "repeated": rows + [row], "tab": [*rows[:y], [*row, ""],
                         *rows[y + 1:]]}.items():
            yield Change((y,), how, fuzz_write("\n".join(map("\t".join, new))))
    for encoding in ("utf-8-sig", "utf-16"):
        yield Change((), encoding, fuzz_write(content.decode(), encoding), "same")


def fuzz_write(text: str, encoding: str = "utf-8") -> Callable[[Path, Path], None]:
    return lambda folder, file: file.write_bytes(text.encode(encoding))


def read_files(folder, file, change, before):
    _, files = read_manifest(file, "BCCD/")
    assert all((folder / f.path).resolve().is_relative_to(folder.resolve()) for f in files)
    assert len({f.path for f in files}) == len(files)
    if before is not None:
        rows = [before[y - 1] for y in range(1, 5) if change.place[:1] != (y,)]
        assert set(rows) <= set(files), "a line is lost"
    return files


def metadata_changes(content: bytes) -> Iterator[Change]:
    """Every value of the description and of the notes in a checkpoint's header, with a checksum that fits."""
    def put(folder, file, name, value):
        with safe_open(file, "numpy") as old:
            metadata, state = old.metadata(), {key: old.get_tensor(key) for key in old.keys()}  # noqa: SIM118
        metadata[name] = value
        metadata["checksum"] = checksum(metadata["build_args"] + metadata["info"], state)
        save_file(state, file, metadata)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8:8 + length])["__metadata__"]
    for name in ("build_args", "info"):
        for place, how, new, expected in json_values(json.loads(metadata[name])):
            if expected != "same" and "<" not in how:  # floats in place of ints are other values here
                text = json.dumps(new)
                yield Change((name, *place), how, functools.partial(put, name=name, value=text), None)


def header_changes(content: bytes) -> Iterator[Change]:
    """Every value of a safetensors file's header."""
    length = int.from_bytes(content[:8], "little")
    for place, how, new, _ in json_values(json.loads(content[8:8 + length])):
        text = json.dumps(new).encode()
        yield Change(place, how, lambda folder, file, text=text: file.write_bytes(
            len(text).to_bytes(8, "little") + text + content[8 + length:]))


def read_model(folder, file, change, before):
    model, info = training.load_checkpoint(file)
    assert isinstance(info, dict)
    if before is not None:
        for name, value in before.state_dict().items():
            np.testing.assert_array_equal(model.state_dict()[name], value)
    return model


def read_state(folder, file, change, before):
    run = training.Run(fuzz.job(), folder, quiet=True)
    run.resume()
    assert type(run.training.step) is int and 0 <= run.training.step <= 4 and run.seconds >= 0
    return run.training.model


def metrics_changes(content: bytes) -> Iterator[Change]:
    """Every value of the first two lines, and every line."""
    lines = [json.loads(line) for line in content.decode().splitlines()]
    for place, how, new, expected in json_values(lines):
        if isinstance(new, list) and "<" not in how and expected != "refused":
            text = "".join(json.dumps(line) + "\n" for line in new)
            yield Change(place, how, fuzz_write(text))
    yield Change((), "torn", fuzz_write(content.decode() + '{"step": 30, "tot'), "same")
    yield Change((), "BOM", fuzz_write(content.decode(), "utf-8-sig"), "same")
    yield Change((), "UTF-16", fuzz_write(content.decode(), "utf-16"), "refused")


def make_metrics(folder: Path) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": step, "total": 2.5, "lr": 0.01}) + "\n"
                                                  for step in (10, 20, 30)))
    return folder / "metrics.jsonl"


def read_lines(folder, file, change, before):
    lines = read_metrics(file)
    assert all(type(line["step"]) is int and all(v is None or type(v) in (int, float) for v in line.values())
               for line in lines)
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    if before is not None and change.place:
        assert all(line in lines for k, line in enumerate(before) if k != change.place[0]), "a line is lost"
    return lines


def claims_changes(content: bytes) -> Iterator[Change]:
    """As ``json_changes``; but no lesson writes 0.0 for a seed, or more about a claim."""
    for change in json_changes(content):
        yield change._replace(expected=None) if change.place and change.expected == "same" else change


def read_claims(folder, file, change, before):
    text = claims.table(claims.load_runs(folder))
    assert "claims measured" in text
    return text


OWN_FILES = {
    "manifest": Reader(fuzz.make_manifest, manifest_changes, read_files),
    "checkpoint, metadata": Reader(fuzz.make_checkpoint, metadata_changes, read_model, training.CheckpointError),
    "checkpoint, header": Reader(fuzz.make_checkpoint, header_changes, read_model, training.CheckpointError),
    "run, metadata": Reader(fuzz.make_run, metadata_changes, read_state, training.CheckpointError),
    "metrics.jsonl": Reader(make_metrics, metrics_changes, read_lines, training.CheckpointError),
    "claims": Reader(fuzz.make_claims, claims_changes, read_claims),
}
