"""One picture of a run while it trains: losses, learning rate, validation, and what the network predicts so far."""
from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..data import write_png
from ..nn import Module

SHARE = 0.02  # of the time of a run: drawing takes no more
RenderExamples = Callable[[Module], dict[str, list[np.ndarray]]]
"""From a model to rows of images, uint8 (H, W, 3), by their title, such as "truth" and "prediction"."""


class Monitor:
    """Draws a picture, seldom enough: after a drawing of t seconds it is due again t / ``SHARE`` seconds later.

    Nothing depends on the picture, so a failure is only a warning. The file is replaced as a whole.
    """

    def __init__(self, path: Path, examples: RenderExamples | None = None):
        self.path, self.examples, self.next = path, examples, 0.0

    def is_due(self) -> bool:
        return time.perf_counter() >= self.next

    def draw(self, lines: list[dict], model: Module) -> None:
        """Draw the lines of a metrics.jsonl, and the predictions of the model, whose mode and numbers do not change."""
        start = time.perf_counter()
        try:
            from ..viz.curves import render_training
            picture = render_training(lines, self.examples(model) if self.examples is not None else None)
            write_png(self.path, picture.transpose(2, 0, 1))
        except Exception as error:
            warnings.warn(f"{self.path}: not drawn ({error})", RuntimeWarning, stacklevel=2)
        self.next = time.perf_counter() + (time.perf_counter() - start) / SHARE
