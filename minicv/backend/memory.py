"""How much memory is free, and how much a piece of work needs."""
from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from .devices import Array, device_of, xp_of

CGROUP = Path("/sys/fs/cgroup")  # where Linux keeps a container's limits


def free_memory(like: Array) -> int | None:
    """Return the free bytes on the device of the array ``like``; None if the system does not report them."""
    if device_of(like) != "numpy":
        xp = xp_of(like)
        if not hasattr(xp, "get_default_memory_pool"):
            return None
        return xp.cuda.runtime.memGetInfo()[0] + xp.get_default_memory_pool().free_bytes()
    free = [_available(), _left_in_container()]
    return min((n for n in free if n is not None), default=None)


def _available() -> int | None:
    """Return Linux's estimate, which includes caches that can be dropped; elsewhere half of the machine's memory."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _left_in_container() -> int | None:
    """Return the bytes left until the limit of the container that runs this process; None without a limit."""
    for limit, used in (("memory.max", "memory.current"),
                        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            return max(0, int((CGROUP / limit).read_text()) - int((CGROUP / used).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def peak_memory(work: Callable[[], object], like: Array) -> int:
    """Return the most additional bytes that ``work`` holds at once on the device of the array ``like``."""
    if device_of(like) != "numpy":
        pool = xp_of(like).get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.used_bytes()
        work()
        return pool.total_bytes() - before  # freed blocks stay in the pool
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not tracing:
            tracemalloc.stop()
