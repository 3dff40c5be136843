"""``--hostcupy`` says what it lacks."""
import importlib.util

from tests import hostcupy


def test_without_a_compiler_or_cupy_it_says_so(monkeypatch):
    monkeypatch.setattr(hostcupy.shutil, "which", lambda program: None if program == "g++" else program)
    assert hostcupy.missing() == "hostcupy: g++ is not installed"
    monkeypatch.setattr(hostcupy.shutil, "which", lambda program: program)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert hostcupy.missing() == "hostcupy: CuPy is not installed: pip install 'cupy-cuda12x==14.*'"
