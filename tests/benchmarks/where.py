"""Where the time of a training step goes: ``python -m tests.benchmarks.where [MODEL...]``.

"fingerprints" is the time that ``minicv/autograd/versions.py`` takes to notice changed arrays.
"""
from __future__ import annotations

import sys
import time
from collections import Counter

from minicv.autograd import Function, versions

from .steps import CASES, with_minicv

STEPS = 20


def shares(case: dict) -> tuple[float, list[tuple[str, float]]]:
    """Milliseconds of a step, and each operation's forward and backward in it, the largest first."""
    spent: Counter[str] = Counter()
    step = with_minicv(case)[0]["step"]

    def timed(f, name):
        def call(*args, **options):
            start = time.perf_counter()
            try:
                return f(*args, **options)
            finally:
                spent[name] += time.perf_counter() - start
        return call

    def every(cls):
        return [cls, *(sub for direct in cls.__subclasses__() for sub in every(direct))]

    names = {(cls, way): f"{cls.__name__} {way}" for cls in every(Function)[1:] for way in ("forward", "backward")
             if way in vars(cls)}
    names |= dict.fromkeys([(versions, "marks"), (versions, "check")], "fingerprints")
    originals = {(owner, way): vars(owner)[way] for owner, way in names}
    for (owner, way), original in originals.items():
        setattr(owner, way, timed(original, names[owner, way]))
    try:
        for _ in range(5):
            step()
        spent.clear()
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        total = time.perf_counter() - start
    finally:
        for (owner, way), original in originals.items():
            setattr(owner, way, original)
    spent["optimizer, engine, the rest"] = total - sum(spent.values())
    return 1e3 * total / STEPS, [(name, 1e3 * t / STEPS) for name, t in spent.most_common()]


if __name__ == "__main__":
    for each in CASES:
        if each["preset"] == "compact" and (not sys.argv[1:] or each["model"] in sys.argv[1:]):
            total, parts = shares(each)
            print(f"{each['model']}: {total:.1f} ms a step")
            for name, ms in [*parts[:8], *(part for part in parts[8:] if part[0] == "fingerprints")]:
                print(f"  {name:<34} {ms:7.2f} ms  {ms / total:5.1%}")
