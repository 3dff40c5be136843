"""What gcc and g++ make: three libraries from this folder, and one from the source of each of CuPy's kernels.

All lie in a folder that is kept: ``HOSTCUPY_CACHE``, by default ``hostcupy`` among the user's caches. A name contains a
hash of what went in, so nothing there is out of date; it may be removed at any time.
"""
from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import subprocess
import sysconfig
import threading
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("HOSTCUPY_CACHE") or Path.home() / ".cache" / "hostcupy")
FLAGS = {"driver": ["gcc", "-O2", "-w", "-I" + sysconfig.get_paths()["include"]],
         "cublas": ["g++", "-O3", "-w", "-std=c++17", f"-I{HERE}/include", "-Wl,-soname,libcublas.so.12"],
         "nccl": ["g++", "-O2", "-w", "-std=c++17", "-Wl,-soname,libnccl.so.2"]}
SOURCES = {"driver": "driver.c", "cublas": "cublas.cpp", "nccl": "nccl.cpp"}


def run(command: list[str]) -> str:
    """What the command writes; an error with the compiler's own words if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"hostcupy: {' '.join(map(str, command))}\n{done.stderr[:4000]}")
    return done.stdout


def made(name: str, content: str, command: list[str]) -> str:
    """Path of the file that the command makes, ``-o PATH`` added, of what ``content`` says; made if it is not there."""
    stem, ending = name.split(".", 1)
    path = CACHE / f"{stem}-{hashlib.sha256(content.encode()).hexdigest()[:24]}.{ending}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{os.getpid()}-{threading.get_ident()}-{path.name}")  # others may make it, too
        source = draft.with_suffix(".cpp")
        source.write_text(content)
        run([*(source if part == "SOURCE" else part for part in command), "-o", draft])
        source.unlink()
        draft.replace(path)
    return str(path)


@functools.cache
def library(name: str) -> str:
    """Path of the stand-in for the driver, cuBLAS or NCCL."""
    source = (HERE / SOURCES[name]).read_text()
    command = [*FLAGS[name], "-fPIC", "-shared", HERE / SOURCES[name]]
    if name == "driver":
        return made("driver.so", source, command)
    others = "".join(f'extern "C" int {f}() {{ return refuse("{f}"); }}\n' for f in left_out(name, source))
    refuse = 'static int refuse(const char *name) { fprintf(stderr, "hostcupy has no %s\\n", name); return 15; }\n'
    version = CACHE / f"{name}.map"  # cuBLAS's functions have a version
    CACHE.mkdir(parents=True, exist_ok=True)
    version.write_text("libcublas.so.12 { global: *; };")
    command += [f"-Wl,--version-script={version}"] if name == "cublas" else []
    return made(f"{name}.so", f"#include <cstdio>\n{refuse}{others}// {hashlib.sha256(source.encode()).hexdigest()}\n",
                [*command, "SOURCE"])


def left_out(name: str, source: str) -> list[str]:
    """The library's functions that CuPy wants to find and that its stand-in here does not have."""
    folder = Path(importlib.util.find_spec("cupy").origin).parents[1] / "cupy_backends" / "cuda" / "libs"
    wanted = run(["nm", "-D", "--undefined-only", next(folder.glob(f"{name}.*.so"))])
    defined = set(re.findall(rf"\b({name}\w+)\(", source))
    defined |= {f"cublas{t}gemm{ending}" for t in "SD" for ending in ("_v2", "Batched")}  # by a macro
    return sorted(set(re.findall(rf"\b{name}\w+", wanted)) - defined)


# ---------------------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------------------
def kernel_names(source: str) -> list[str]:
    return re.findall(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(', source)


@functools.cache
def words() -> str:
    """Everything that a kernel may be compiled with: a change of it makes all kernels anew."""
    files = [HERE / "cuda.h", *sorted((HERE / "include").rglob("*.*h"))]
    return "".join(path.read_text() for path in files) + importlib.util.find_spec("cupy").origin


@functools.cache
def flags() -> tuple[str, ...]:
    """g++ with a precompiled header: it takes a third of the time."""
    include = Path(importlib.util.find_spec("cupy").origin).parent / "_core" / "include"
    common = ["g++", "-std=c++17", "-O1", "-w", "-fpermissive", "-fPIC",
              f"-I{HERE}/include", f"-I{HERE}", f"-I{include}"]
    headers = "".join(f"#include <{name}>\n" for name in ("cuda.h", "cupy/complex.cuh", "cupy/carray.cuh",
                                                         "cupy/atomics.cuh", "cupy/math_constants.h"))
    text = f"#pragma once\n{headers}// {hashlib.sha256(words().encode()).hexdigest()}\n"
    compiled = made("cuda.h.gch", text, [*common, "-x", "c++-header", "SOURCE"])
    Path(compiled.removesuffix(".gch")).write_text(text)
    return (*common, "-include", compiled.removesuffix(".gch"))


def kernels(source: str, names: dict[str, str]) -> str:
    """Path of a library with CuPy's kernels; ``names``: {a kernel: the name of the function that launches it}."""
    text = re.sub(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w ]+?)\s+(\w+)\[\];",
                  r"\1 *\2 = (\1 *)hostcupy_shared_memory;", source)
    synchronizes = "true" if re.search("__sync|__shfl|_REDUCE", source) else "false"
    for kernel, name in names.items():
        text = text.replace(f" {kernel}(", f" {kernel}_kernel(") if kernel == name else text
        body = kernel + "_kernel" if kernel == name else kernel
        text += (f'\nextern "C" void {name}(void **parameters, const dim3 *grid, const dim3 *block) '
                 f"{{ hostcupy::launch<&{body}>(parameters, *grid, *block, {synchronizes}); }}")
    key = hashlib.sha256(words().encode()).hexdigest()
    return made("kernel.so", f"{text}\n// {key}\n", [*flags(), "-shared", "SOURCE"])
