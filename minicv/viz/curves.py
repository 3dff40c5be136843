"""The curve of a training run."""
from __future__ import annotations

from typing import Any

from .images import PALETTE
from .pyplot import import_matplotlib


def loss_curve(lines: list[dict]) -> Any:
    """Losses and, where there are any, validation values against the step, from the lines of a metrics.jsonl.

    A figure for ``savefig``, which no window shows.
    """
    import_matplotlib()
    from matplotlib.figure import Figure
    losses = [line for line in lines if "total" in line]
    checks = [line for line in lines if line.get("validation") is not None]
    every = dict.fromkeys(name for line in losses for name in line)
    names = [name for name in every if name not in ("step", "lr", "seconds", "memory")]
    if len(names) == 2:  # one loss and its sum are the same
        names = ["total"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for name, color in zip(names, PALETTE[[5, 1, 2, 3, 6, 4, 7, 0]] / 255, strict=False):
        ax.plot([line["step"] for line in losses], [line.get(name, 0.0) for line in losses], color=color, label=name,
                lw=1.2)
    ax.set(xlabel="step", ylabel="loss", yscale="log", title="training loss")
    if len(names) > 1:
        ax.legend()
    if checks:
        right = ax.twinx()
        right.plot([line["step"] for line in checks], [line["validation"] for line in checks], "k.--", lw=1)
        right.set(ylabel="validation (dashed)", ylim=(0, 1))
    return figure
