"""matplotlib where the environment names a backend that cannot be used.

A notebook hands MPLBACKEND to every command that it starts, and matplotlibrc may name a window toolkit; the command may
have neither the package nor a screen. Drawing to a file needs none of them.
"""
from __future__ import annotations

import contextlib
import os
import sys
from types import ModuleType


def import_matplotlib() -> ModuleType:
    """matplotlib, whatever MPLBACKEND says: its own import fails for a name that it does not know."""
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
    """matplotlib.pyplot with the backend that the user has chosen, so that a notebook shows its figures; or with Agg,
    where that one does not work."""
    import_matplotlib()
    import matplotlib.pyplot as plt
    if not plt.get_fignums():  # no figure has tried the backend yet
        try:
            plt.switch_backend(plt.get_backend())
        except Exception:  # whatever a toolkit raises that lacks its packages or a screen
            plt.switch_backend("agg")
    return plt
