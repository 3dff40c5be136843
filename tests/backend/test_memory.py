"""Free memory, and the peak of a piece of work."""
import numpy as np

from minicv.backend import memory

MiB = 2 ** 20


def test_free_and_peak_memory(monkeypatch, tmp_path):
    like = np.zeros(1)
    assert memory.free_memory(like) is None or memory.free_memory(like) > MiB
    peak = memory.peak_memory(lambda: np.zeros(10 * MiB, np.uint8) is np.zeros(20 * MiB, np.uint8), like)
    assert 30 * MiB <= peak < 31 * MiB
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_available", lambda: 100 * MiB)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{7 * MiB}\n")
    assert memory.free_memory(like) == 100 * MiB
    (tmp_path / "memory.max").write_text(f"{50 * MiB}\n")
    assert memory.free_memory(like) == 43 * MiB
