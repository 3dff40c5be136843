"""Import matplotlib even if the environment names a backend that cannot be used.

A notebook passes MPLBACKEND to every command that it starts, and matplotlibrc may name a window toolkit. The command
may lack the package or a screen; drawing to a file needs neither.
"""
from __future__ import annotations

import contextlib
import os
import sys
from types import ModuleType


def import_matplotlib() -> ModuleType:
    """Import matplotlib, whatever MPLBACKEND says; a plain import fails for an unknown name."""
    chosen = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if chosen is not None:
            os.environ["MPLBACKEND"] = chosen
    if chosen:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = chosen
    return matplotlib


def import_pyplot() -> ModuleType:
    """Import matplotlib.pyplot with the user's backend, so that a notebook shows figures; with Agg if that fails."""
    import_matplotlib()
    import matplotlib.pyplot as plt
    if not plt.get_fignums():  # no figure has tried the backend yet
        try:
            plt.switch_backend(plt.get_backend())
        except Exception:  # anything that a toolkit raises without its packages or a screen
            plt.switch_backend("agg")
    return plt
