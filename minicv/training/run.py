"""A training run in a folder: monitored, saved as it goes, and resumable.

    last.safetensors    weights, optimizer and step; --resume continues from here
    best.safetensors    the same at the best step
    metrics.jsonl       one line of JSON every few steps
    curve.png           losses, learning rate, validation and example predictions, drawn again as the run goes on
"""
from __future__ import annotations

import contextlib
import itertools
import json
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from ..files import atomic_write, to_json
from ..nn import Module
from .checkpoint import CheckpointError, load_training, save_training
from .loop import Losses, Training, fetch_losses
from .monitor import Monitor, RenderExamples

LOG_EVERY = 10  # steps per line of metrics.jsonl
MEASURED = range(5, 20)  # steps of a session whose mean time gives the expected time; the first ones compile


class Diverged(UserError, RuntimeError):
    """The loss is not finite; the message names the step and what may help."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the run was saved; the message says how to continue."""


class Run:
    """``Run(training, folder).run()`` trains up to the last step of the configuration.

    ``validate(model)`` returns a score, higher is better, and is called ten times in a run; without it the best step is
    the one with the lowest mean loss. With a ``patience``, the run stops after so many scores in a row that are no
    better than the best before them; zeros before the first score above 0 do not count. ``save_every``: seconds between
    saves. ``metadata``, which describes the data, is stored in the checkpoints. ``examples(model)`` renders predictions
    for curve.png.
    """

    def __init__(self, training: Training, folder: Path, metadata: dict[str, Any] | None = None, quiet: bool = False,
                 *, save_every: float = 60.0, validate: Callable[[Module], float] | None = None,
                 patience: int | None = None, examples: RenderExamples | None = None):
        self.training, self.config, self.folder, self.quiet = training, training.config, Path(folder), quiet
        self.last_path, self.metrics_path = self.folder / "last.safetensors", self.folder / "metrics.jsonl"
        self.metadata = {**(metadata or {}), "config": vars(self.config)}
        self.save_every, self.validate, self.patience = save_every, validate, patience
        self.patience_from = 0  # scores at earlier steps do not count
        self.monitor = Monitor(self.folder / "curve.png", examples)
        self.lines: list[dict] = []  # of metrics.jsonl
        self.recent: list[Losses] = []  # of the steps since the last line
        self.best, self.best_by, self.seconds = -np.inf, "validation" if validate else "loss", 0.0
        self.previous_steps = self.config.steps  # in the configuration of the run that is resumed
        self.leader = training.group.rank == 0

    def resume(self) -> None:
        """Continue from ``last.safetensors``. With more steps than before, the learning rate follows the schedule of
        all steps from here on. Raises ``CheckpointError`` for the file of another run or a damaged metrics.jsonl."""
        lines = read_metrics(self.metrics_path) if self.metrics_path.exists() else []
        info = load_training(self.last_path, self.training, self.metadata)
        self.seconds, self.previous_steps = info.get("seconds", 0.0), info["config"]["steps"]
        if info.get("best") is not None and info.get("best_by") == self.best_by:
            self.best = info["best"]
        longer = self.config.steps > self.previous_steps
        self.patience_from = self.training.step if longer else info.get("patience_from", 0)
        self.lines = [line for line in lines if line["step"] <= self.training.step]  # later steps are repeated

    def run(self, finish: Callable[[], bool] | None = None) -> list[dict]:
        """Train; return the lines of metrics.jsonl. Raises ``Diverged`` as soon as a loss is not finite.

        ``finish`` trains what the steps do not train, and returns whether it changed the model.
        """
        if self.leader:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.saved = time.perf_counter()
        bar = tqdm(total=self.config.steps * self.config.batch, initial=self.training.step * self.config.batch,
                   unit="image", disable=self.quiet or not self.leader)
        with warnings.catch_warnings(), bar:
            # A run that diverges is reported once, below, not by every operation that overflows.
            warnings.filterwarnings("ignore", "(overflow|invalid value) encountered", RuntimeWarning)
            with defer_sigint() as signals:
                self.take_steps(bar, signals)
        if self.leader:
            self.save()
        self.training.group.barrier()
        if self.leader:
            if finish is not None and finish():  # what it trained belongs to the last weights
                self.save()
                self.write_checkpoint("best.safetensors")
            self.monitor.draw(self.lines, self.training.model)
        return self.lines

    def take_steps(self, bar: tqdm, signals: list[int]) -> None:
        """Take the steps that are left, and save between them; stop early if validation no longer rises.

        Raises ``Interrupted``, with everything saved, if a signal arrives at any process.
        """
        training, start, before = self.training, time.perf_counter(), self.seconds
        if self.stalled():
            return
        for taken, losses in enumerate(training):
            self.seconds = before + time.perf_counter() - start
            self.record(losses, bar)
            self.expect(taken, bar)
            flags = training.group.sum(np.array([len(signals), int(self.leader and self.stalled())]))
            if self.leader and (flags.any() or time.perf_counter() - self.saved >= self.save_every):
                self.save()
                if not flags.any() and self.monitor.is_due():
                    self.monitor.draw(self.lines, training.model)
            if flags[0] > 0:  # one process interrupted: all stop
                raise Interrupted(f"interrupted after step {training.step} of {self.config.steps}; {self.last_path} is "
                                  "saved: rerun with --resume to continue")
            if flags[1] > 0:
                return

    def expect(self, taken: int, bar: tqdm) -> None:
        """Print once, after the first steps of a session, how long the rest will take."""
        if taken == MEASURED.start:
            self.measured_from = self.seconds
        if taken == MEASURED.stop and not bar.disable:
            each = (self.seconds - self.measured_from) / len(MEASURED)
            left = self.config.steps - self.training.step
            bar.write(f"{each:.2f} s per step: {left} steps in about {max(round(each * left / 60), 1)} min"
                      + (", and the validations" if self.validate else ""))

    def stalled(self) -> bool:
        """Return whether the last ``patience`` scores are no better than the best before them, which is above 0."""
        if self.patience is None or self.training.step == self.config.steps:
            return False
        scores = [score if (score := line["validation"] or 0.0) > 0 else 0.0  # None or NaN: nothing to measure
                  for line in self.lines if "validation" in line and line["step"] > self.patience_from]
        scores = list(itertools.dropwhile(lambda score: score == 0, scores))
        return len(scores) > self.patience and max(scores[-self.patience:]) <= max(scores[:-self.patience])

    def record(self, losses: Losses, bar: tqdm) -> None:
        """Record the losses of a step; every ``LOG_EVERY`` steps write a line, and ten times in a run validate."""
        step, steps = self.training.step, self.config.steps
        self.recent.append(losses)
        bar.update(self.config.batch)
        if losses.floats is not None:  # readable without waiting for a device
            self.check_finite()
        if step % LOG_EVERY == 0 or step == steps:
            self.check_finite()
            means = {name: float(np.mean([each.get(name, 0.0) for each in self.recent])) for name in losses}
            lr, memory = self.training.optimizer.param_groups[0]["lr"], max_memory()
            self.lines.append({"step": step, **means, "lr": lr, "seconds": round(self.seconds, 2), "memory": memory})
            bar.set_postfix(loss=f"{self.mean_loss():.4f}", lr=f"{lr:.2g}", memory=f"{memory / 2**20:.0f}M")
            self.recent.clear()
        if self.validate and self.leader and step % max(1, steps // 10) == 0:
            self.check_finite()
            score = self.validate(self.training.model)
            if not np.isfinite(score):
                warnings.warn("validation: the split val has nothing to measure", RuntimeWarning, stacklevel=2)
            self.training.model.train()
            self.lines.append({"step": step, "validation": score})
            if score > self.best:
                self.best = score
                self.write_checkpoint("best.safetensors")

    def check_finite(self) -> None:
        """Raise ``Diverged`` if a loss since the last line is not finite."""
        fetch_losses(self.recent)
        for step, losses in enumerate(self.recent, start=self.training.step - len(self.recent)):
            if not np.isfinite(losses["total"]):
                raise Diverged(f"the loss became {losses['total']} at step {step}; a smaller learning rate than "
                               f"{self.config.lr} may help")

    def mean_loss(self) -> float:
        """Return the mean loss of the last 100 steps that have a line."""
        return float(np.mean([line["total"] for line in self.lines[-100 // LOG_EVERY:] if "total" in line] or [np.inf]))

    def save(self) -> None:
        """Write the checkpoints and metrics.jsonl, each atomically."""
        self.check_finite()
        if not self.validate and -self.mean_loss() > self.best:
            self.best = -self.mean_loss()
            self.write_checkpoint("best.safetensors")
        with atomic_write(self.metrics_path) as temporary:
            temporary.write_text("".join(to_json(line) + "\n" for line in self.lines), encoding="utf-8")
        self.write_checkpoint("last.safetensors")
        self.saved = time.perf_counter()

    def write_checkpoint(self, name: str) -> None:
        best = float(self.best) if np.isfinite(self.best) else None
        save_training(self.folder / name, self.training, **self.metadata, seconds=round(self.seconds, 2), best=best,
                      best_by=self.best_by, patience_from=self.patience_from)


@contextlib.contextmanager
def defer_sigint() -> Iterator[list[int]]:
    """Inside, append the first Ctrl-C to the list instead of raising; a second Ctrl-C ends the program at once.

    The caller handles it between two steps. In the middle of a step some weights or batch norm's statistics are those
    of the next step already, so a state saved there could not be resumed bit for bit.
    """
    signals: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield signals
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, before)


def read_metrics(path: Path) -> list[dict]:
    """Return the lines of metrics.jsonl, without a last line that is cut short.

    Raises ``CheckpointError`` for a line that no run writes: steps never decrease, other values are numbers or null.
    """
    lines, bad = [], "it is not text"
    try:
        written = path.read_text(encoding="utf-8-sig").splitlines()
        if written and not written[-1].endswith("}"):
            written.pop()
        for i, line in enumerate(written, start=1):
            bad = f"line {i} is not what a run writes"
            lines.append(json.loads(line))
            step = lines[-1]["step"]
            if type(step) is not int or step < max([1, *(before["step"] for before in lines[-2:-1])]) or not all(
                    value is None or isinstance(value, int | float) and not isinstance(value, bool)
                    for value in lines[-1].values()):
                raise ValueError
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: {bad}; repair or remove it, then --resume continues") from None
    return lines


def max_memory() -> int:
    """Return the most bytes that this process has used so far; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
