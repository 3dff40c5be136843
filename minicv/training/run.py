"""A training run in a folder: watched, saved as it goes, and able to go on after any end.

    last.safetensors    weights, optimiser and step: the run goes on from here (--resume)
    best.safetensors    the same, when it was best
    metrics.jsonl       a line of JSON every few steps
    curve.png           the losses drawn
"""
from __future__ import annotations

import contextlib
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
from .loop import Losses, Training, fetch

EVERY = 10  # steps to a line in metrics.jsonl


class Diverged(UserError, RuntimeError):
    """The loss is no longer a finite number; the message names the step and what may help."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the state of the run was saved; the message says how to go on."""


class Run:
    """``Run(training, folder).run()`` trains to the config's last step.

    ``validate(model)`` is a number, the higher the better, asked ten times in a run; without one the run is best where
    the mean loss is lowest. ``save_every``: seconds between saves. ``about`` is kept in the files: what the data were.
    """

    def __init__(self, training: Training, folder: Path, about: dict[str, Any] | None = None, quiet: bool = False,
                 save_every: float = 60.0, validate: Callable[[Module], float] | None = None):
        self.training, self.folder, self.quiet, self.save_every = training, Path(folder), quiet, save_every
        self.validate, self.about = validate, {**(about or {}), "config": vars(training.task.config)}
        self.lines: list[dict] = []
        self.recent: list[Losses] = []  # of the steps since the last line
        self.best, self.best_by, self.seconds = -np.inf, "validation" if validate else "loss", 0.0
        self.steps_before = training.task.config.steps  # of the run that is continued

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def resume(self) -> None:
        """Continue from ``last.safetensors``, perhaps with more steps than before: the schedule is then that over all
        steps, from here on. ``CheckpointError`` if the file is not this run's, or metrics.jsonl is damaged."""
        lines = read_metrics(self.metrics) if self.metrics.exists() else []
        info = load_training(self.last, self.training, self.about)
        self.seconds, self.steps_before = info.get("seconds", 0.0), info["config"]["steps"]
        if info.get("best") is not None and info.get("best_by") == self.best_by:
            self.best = info["best"]
        self.lines = [line for line in lines if line["step"] <= self.training.step]  # later steps are done again

    def run(self, finish: Callable[[], bool] | None = None) -> list[dict]:
        """Train; the lines of metrics.jsonl. ``Diverged`` as soon as a loss is not finite.

        ``finish`` trains what the steps did not, and says whether there was anything; the curve is drawn after it.
        """
        training, config, leader = self.training, self.training.task.config, self.training.group.rank == 0
        if leader:
            self.folder.mkdir(parents=True, exist_ok=True)
        start = self.saved = time.perf_counter()
        before = self.seconds
        bar = tqdm(total=config.steps * config.batch, initial=training.step * config.batch, unit="image",
                   disable=self.quiet or not leader)
        with warnings.catch_warnings(), bar:
            # A run that diverges is reported once, below, not by every operation that it overflows in.
            warnings.filterwarnings("ignore", "(overflow|invalid value) encountered", RuntimeWarning)
            with after_a_step() as asked:
                for losses in training:
                    self.seconds = before + time.perf_counter() - start
                    self.note(losses, bar)
                    stop = training.group.sum(np.array([len(asked)]))[0] > 0  # any process: all stop after this step
                    if leader and (self.due() or stop):
                        self.save()
                    if stop:
                        raise Interrupted(f"interrupted after step {training.step} of {config.steps}; {self.last} is "
                                          "saved: rerun with --resume to continue")
        if leader:
            self.save()
        training.group.barrier()
        if leader:
            if finish is not None and finish():
                self.save()
            self.draw()
        return self.lines

    def note(self, losses: Losses, bar: tqdm) -> None:
        """Watch one step."""
        step, config = self.training.step, self.training.task.config
        self.recent.append(losses)
        bar.update(config.batch)
        if losses.floats is not None:  # at hand, without waiting for a device
            self.check()
        if step % EVERY == 0 or step == config.steps:
            self.check()
            means = {name: float(np.mean([each.get(name, 0.0) for each in self.recent])) for name in losses}
            lr = self.training.optimizer.groups[0]["lr"]
            self.lines.append({"step": step, **means, "lr": lr, "seconds": round(self.seconds, 2), "memory": memory()})
            bar.set_postfix(loss=f"{self.mean_loss():.4f}", lr=f"{lr:.2g}", memory=f"{memory() / 2**20:.0f}M")
            self.recent.clear()
        if self.validate and self.training.group.rank == 0 and step % max(1, config.steps // 10) == 0:
            self.check()
            value = self.validate(self.training.model)
            if not np.isfinite(value):
                warnings.warn("validation: the split val has nothing to measure", RuntimeWarning, stacklevel=2)
            self.training.model.train()
            self.lines.append({"step": step, "validation": value})
            if value > self.best:
                self.best = value
                self.write("best.safetensors")

    def check(self) -> None:
        """``Diverged`` if a loss since the last line is not finite."""
        fetch(self.recent)
        for step, losses in enumerate(self.recent, start=self.training.step - len(self.recent)):
            if not np.isfinite(losses["total"]):
                raise Diverged(f"the loss became {losses['total']} at step {step}; a smaller learning rate than "
                               f"{self.training.task.config.lr} may help")

    def mean_loss(self) -> float:
        """Over the last 100 steps that have a line."""
        return float(np.mean([line["total"] for line in self.lines[-100 // EVERY:] if "total" in line] or [np.inf]))

    def due(self) -> bool:
        return time.perf_counter() - self.saved >= self.save_every

    def save(self) -> None:
        """Write the checkpoints and metrics.jsonl, each whole or not at all."""
        self.check()
        if not self.validate and -self.mean_loss() > self.best:
            self.best = -self.mean_loss()
            self.write("best.safetensors")
        with atomic_write(self.metrics) as temporary:
            temporary.write_text("".join(to_json(line) + "\n" for line in self.lines), encoding="utf-8")
        self.write("last.safetensors")
        self.saved = time.perf_counter()

    def draw(self) -> None:
        """Draw curve.png; a warning where that fails, because nothing depends on it."""
        try:
            from ..viz.curves import loss_curve
            with atomic_write(self.folder / "curve.png") as temporary:
                loss_curve(self.lines).savefig(temporary, format="png")
        except Exception as error:
            warnings.warn(f"{self.folder / 'curve.png'}: not drawn ({error})", RuntimeWarning, stacklevel=2)

    def write(self, name: str) -> None:
        best = float(self.best) if np.isfinite(self.best) else None
        save_training(self.folder / name, self.training, **self.about, seconds=round(self.seconds, 2), best=best,
                      best_by=self.best_by)


@contextlib.contextmanager
def after_a_step() -> Iterator[list[int]]:
    """Inside, Ctrl-C is noted in the list, to be heeded between two steps; a second one ends the program at once.

    In the middle of a step some weights, or batch norm's statistics, are already those of the next one: what was saved
    then would not go on bit for bit.
    """
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread is told of signals
        yield asked
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def read_metrics(path: Path) -> list[dict]:
    """The lines of metrics.jsonl; the last one may be torn. ``CheckpointError`` for one that no run wrote: steps never
    fall, and all else are numbers or null."""
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


def memory() -> int:
    """The most bytes that this process has held so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
