"""Which matrix product OpenBLAS takes, and what minicv says to that."""
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from minicv.backend import blas

AVX2 = "fpu sse sse2 avx avx2 fma"
AVX512 = f"{AVX2} avx512f avx512bw avx512dq avx512vl avx512cd avx512_vnni"


def cpuinfo(vendor, flags, processors=2):
    return "\n".join(f"processor\t: {i}\nvendor_id\t: {vendor}\nmodel name\t: A: B\nflags\t\t: {flags}\nbugs\t\t:\n"
                     for i in range(processors))


@pytest.mark.parametrize("text, expected", [
    (cpuinfo("AuthenticAMD", AVX512), "SkylakeX"),  # Zen 4 and 5: OpenBLAS takes Haswell
    (cpuinfo("AuthenticAMD", AVX512, processors=1), "SkylakeX"),
    (cpuinfo("HygonGenuine", AVX512), "SkylakeX"),
    (cpuinfo("GenuineIntel", AVX512), None),  # OpenBLAS knows these
    (cpuinfo("AuthenticAMD", AVX2), None),  # SkylakeX's instructions would be illegal here
    (cpuinfo("AuthenticAMD", AVX512.replace("avx512vl", "")), None),
    (cpuinfo("AuthenticAMD", AVX512.replace("avx512f ", "")), None),
    ("processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x41\n", None),  # ARM
    ("", None), ("no colon here\n\nflags : " + AVX512, None), ("flags:\nvendor_id:\n", None)])
def test_recommended_kernel(text, expected):
    assert blas.recommended_kernel(text) == expected


def test_only_the_first_processor_counts():
    text = cpuinfo("AuthenticAMD", AVX2, 1) + "\n" + cpuinfo("AuthenticAMD", AVX512, 1)
    assert blas.recommended_kernel(text) is None


def test_without_cpuinfo_nothing_is_recommended(monkeypatch, tmp_path):
    monkeypatch.setattr(blas, "Path", lambda name: tmp_path / "not there")
    assert blas.recommended_kernel() is None


@pytest.mark.parametrize("recommended, loaded, already, expected", [
    ("SkylakeX", False, None, "SkylakeX"),
    ("SkylakeX", False, "Haswell", "Haswell"),  # the user has chosen
    ("SkylakeX", True, None, None),  # too late
    (None, False, None, None)])
def test_the_kernel_is_chosen_before_numpy_is_loaded(monkeypatch, recommended, loaded, already, expected):
    monkeypatch.setattr(blas, "recommended_kernel", lambda: recommended)
    monkeypatch.setattr(blas, "sys", SimpleNamespace(modules={"numpy": None} if loaded else {}))
    environ = {} if already is None else {"OPENBLAS_CORETYPE": already}
    monkeypatch.setattr(blas, "os", SimpleNamespace(environ=environ))
    blas.choose_kernel()
    assert environ.get("OPENBLAS_CORETYPE") == expected


@pytest.mark.skipif(blas.kernel() is None, reason="NumPy's BLAS here is not OpenBLAS")
def test_a_fresh_process_takes_the_recommended_kernel():
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    program = "import minicv; from minicv.backend import blas; print(blas.recommended_kernel(), blas.kernel())"
    answer = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    recommended, taken = answer.stdout.split()
    assert taken == (recommended if recommended != "None" else taken) and taken.isalnum()


@pytest.mark.skipif(blas.kernel() is None, reason="NumPy's BLAS here is not OpenBLAS")
def test_threads_of_openblas_are_set():
    import minicv.backend  # which sets one
    assert minicv.backend.workers._set_blas_threads is not None
    assert blas._library_function("get_num_threads")() == 1


def test_an_unknown_library_function():
    assert blas._library_function("no_such_function") is None


def test_another_blas_is_none(monkeypatch):
    monkeypatch.setattr(blas, "_library_function", lambda name: None)
    assert blas.kernel() is None and blas.thread_setter() is None
