"""What every lesson script needs: its options, a place for figures, and the table of claims at its end."""
from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend
from ..autograd import plain
from ..errors import UserError
from ..files import atomic_write, print_anything, to_json

if TYPE_CHECKING:
    from .. import Tensor
    from ..nn import Module

LIMIT = 90.0  # seconds that a full lesson may take on two cores
FOLDER = Path(__file__).resolve().parents[2] / "lessons"  # beside the package, in a checkout

# The classifiers of lesson 05: options of models.build, and of training.train_classifier for 4000 pictures of 64 x 64.
# Without dropout, because each trains for a quarter of a minute: that is too little to learn by heart.
CLASSIFIERS: dict[str, tuple[dict, dict]] = {
    "alexnet": ({"dropout": 0.0}, {"steps": 1000, "batch": 32, "lr": 0.001}),
    "vgg16": ({"dropout": 0.0}, {"steps": 500, "batch": 16, "lr": 0.004}),
    "googlenet": ({"dropout": 0.0}, {"steps": 350, "batch": 32, "lr": 0.02}),
    "resnet18": ({}, {"steps": 600, "batch": 16, "lr": 0.006}),
}


@dataclasses.dataclass
class Claim:
    """A claim of a paper, and what was found here. ``holds`` None: this scale cannot tell."""

    id: str
    source: str
    claim: str
    found: str
    holds: bool | None

    def verdict(self) -> str:
        return {True: "holds", False: "does not hold here", None: "cannot be told here"}[self.holds]


class Lesson:
    """``lesson = Lesson("08_unet")`` at the top of a script reads its command line; ``lesson.finish()`` ends it.

    ``quick``: a few seconds' worth, for tests. ``data``: a data set's spec instead of generated data, or None. Figures
    and claims go to ``lessons/out``, or to the folder named by MINICV_LESSONS_OUT.
    """

    def __init__(self, name: str, description: str = ""):
        parser = argparse.ArgumentParser(prog=f"{name}.py", description=description)
        parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("MINICV_QUICK")),
                            help="a few seconds' worth, to see that it runs; the claims then mean little")
        parser.add_argument("--data", metavar="NAME:PATH", help="a real data set instead of generated pictures")
        parser.add_argument("--seed", type=int, default=0)
        script = Path(sys.argv[0]).stem == name  # not in a notebook or the documentation's gallery
        options = parser.parse_args(None if script else [])
        print_anything()
        self.name, self.quick, self.data, self.seed = name, options.quick, options.data, options.seed
        self.out = out_folder()
        self.claims: list[Claim] = []
        self.start = time.perf_counter()
        if script:  # a figure goes to a file; whatever the environment says, that needs no screen
            from ..viz.pyplot import import_matplotlib
            os.environ["MPLBACKEND"] = "agg"
            import_matplotlib().use("agg")

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array as a Tensor on the device in use, where new parameters lie, too."""
        from .. import Tensor
        return Tensor(backend.to_device(np.asarray(array)))

    def save(self, figure: Any, name: str) -> None:
        """Write a figure to ``out``/LESSON_NAME.png and say so."""
        from ..viz.fonts import set_fonts
        set_fonts(figure)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{self.name}_{name}.png"
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=110, bbox_inches="tight", format="png")
        print(f"figure: {path}")

    def claim(self, id: str, source: str, claim: str, found: str, holds: bool | None) -> None:
        """Note a claim: its number in the list, who makes it, in words; the number found; whether it holds."""
        self.claims.append(Claim(id, source, claim, found, None if holds is None else bool(holds)))

    def finish(self) -> None:
        """Print the claims and keep them: ``out``/LESSON.json, or LESSON_quick.json, which replaces no full run's.

        The lesson ends with exit code 1, and keeps nothing, where a number found is ``impossible``.
        """
        from .. import __version__
        from ..cli import doctor
        seconds = time.perf_counter() - self.start
        print(f"\nClaims measured by {self.name} ({'quick, so only a try; ' if self.quick else ''}seed {self.seed}, "
              f"{self.data or 'generated data'}, {seconds:.0f} s):")
        for c in self.claims:
            print(f"  {c.id}  {c.claim} ({c.source})\n      found: {c.found}\n      -> {c.verdict()}")
        wrong = [f"{c.id}: {reason}" for c in self.claims if (reason := impossible(c.found))]
        if wrong:
            raise SystemExit(f"{self.name}: numbers that cannot be, so nothing is noted: {'; '.join(wrong)}")
        self.out.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.out / notes(self.name, self.quick)) as temporary:
            temporary.write_text(to_json(
                {"lesson": self.name, "quick": self.quick, "seed": self.seed, "data": self.data, "seconds": seconds,
                 "date": time.strftime("%Y-%m-%d"), "machine": doctor.machine(), "version": __version__,
                 "claims": [dataclasses.asdict(c) for c in self.claims]}, indent=1), encoding="utf-8")


def impossible(found: str) -> str | None:
    """Why a text tells of a wrong measurement, or None: a negative time, a share above 100%, NaN, infinity.

    Differences and growth are written with their sign, as in "+120%".
    """
    for pattern, reason in ((r"(?<![\w.])-\d[\d.,]*\s?(?:ns|us|ms|s|seconds|min|minutes|h)\b", "a time below 0"),
                            (r"(?<![\w.])-\d[\d.,]*\s?(?:times|bytes|kB|MB|GB)\b", "a ratio or a size below 0"),
                            (r"(?<![\w.+-])(?:[1-9]\d{3,}|[2-9]\d\d|1(?!00(?:\.0*)?\s?%)\d\d)(?:\.\d+)?\s?%|"
                             r"(?<![\w.+-])100\.0*[1-9]\d*\s?%", "a share above 100%"),
                            (r"(?i)(?<![\w.])[+-]?(?:nan|inf|infinity)(?![\w.])", "not a number")):
        match = re.search(pattern, found)
        if match:
            return f"{match[0]!r} is {reason}"
    return None


def compare(differences: Sequence[float], needed: float = 0.0) -> tuple[str, bool | None]:
    """Whether something is better by more than ``needed``, from one difference for each seed, everything else alike.

    ("+1.2 +- 0.3", the mean and its standard error; True, or False, where a mean so far from ``needed`` on this side
    comes about by chance in less than 5% of cases; else, or with one seed, None). This is Student's t-test: it asks for
    6.3 standard errors with two seeds, 2.9 with three, 2.4 with four.
    """
    from scipy import stats
    d = np.asarray(differences, float)
    if d.ndim != 1 or not d.size:
        raise ValueError(f"compare: needs one difference for each seed, got shape {d.shape}")
    if len(d) == 1:
        return f"{d[0]:+.3g} (one seed)", None
    error = d.std(ddof=1) / math.sqrt(len(d))
    far = abs(d.mean() - needed) > stats.t.ppf(0.95, len(d) - 1) * error
    return f"{d.mean():+.3g} +- {error:.2g}", bool(d.mean() > needed) if far else None


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """Of a claim in parts: True if all of them are True, False if any is False, else None.

    Chance makes one of k parts False up to k times as often as a single one, and all of them True no more often.
    """
    verdicts = list(verdicts)
    return False if False in verdicts else None if None in verdicts or not verdicts else True


def best_time(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the seconds of the fastest of ``repeats`` calls: other work on the machine only makes a call slower."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def out_folder() -> Path:
    """Where lessons write: ``lessons/out``, or the folder named by MINICV_LESSONS_OUT."""
    return Path(os.environ.get("MINICV_LESSONS_OUT") or FOLDER / "out")


def notes(name: str, quick: bool) -> str:
    """The file in which a lesson's run notes its claims."""
    return f"{name}{'_quick' if quick else ''}.json"


def weights_file(name: str, quick: bool = False) -> Path:
    """Where lesson 05 keeps what a classifier has learned, and ``pretrained`` looks for it."""
    return out_folder() / "weights" / f"{name}{'_quick' if quick else ''}.safetensors"


def pretrained(name: str, quick: bool = False) -> Module:
    """A compact classifier that was trained on generated pictures, to go on from its weights.

    ``name``: one of CLASSIFIERS. Lesson 05 leaves the weights behind; where it has not run, the network is trained now,
    in a quarter of a minute (``quick``: in a second, and knows little), and kept.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"pretrained: no classifier {name!r}; there are: {', '.join(CLASSIFIERS)}")
    from .. import models, seed
    from ..data import ShapeImages
    from ..training import load_checkpoint, save_checkpoint
    from ..training.classification import train_classifier
    path = weights_file(name, quick)
    if not path.exists():
        options, config = CLASSIFIERS[name]
        seed(0)
        model = models.build(name, **options)
        pictures = ShapeImages(100 if quick else 4000)
        steps = 10 if quick else config["steps"]
        print(f"training {name}, which lesson 05 has not left in {path}", flush=True)
        for _ in train_classifier(model, *pictures.arrays(), **{**config, "steps": steps}):
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, model, pictures=len(pictures), steps=steps)
    return load_checkpoint(path, expect=name)[0]


def find(names: list[str] | None = None) -> list[Path]:
    """The lesson scripts, in order; of ``names``, each of which may be a number, a name or the start of one."""
    every = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    if not every:
        raise UserError(f"no lessons in {FOLDER}: they come with the source, so run this in a checkout that is "
                         "installed with `pip install -e .`")
    if not names:
        return every
    chosen = []
    for name in names:
        wanted = f"{int(name):02d}_" if name.isdigit() else Path(name).stem
        found = [p for p in every if p.stem.startswith(wanted) or p.stem[3:].startswith(wanted)]
        if not found:
            raise UserError(f"no lesson {name!r}; there are: {', '.join(p.stem for p in every)}")
        chosen += [p for p in found if p not in chosen]
    return chosen


def title(path: Path) -> str:
    """A lesson's title: the first line of its docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem).splitlines()[0].rstrip(".")


def takes_data(path: Path) -> bool:
    """Whether a lesson looks at the data set that it is given, rather than drawing its own images."""
    return "lesson.data" in path.read_text(encoding="utf-8")


def run(names: list[str], quick: bool = False, data: str | None = None, seed: int | None = None) -> int:
    """Run lessons one after the other, each in a process of its own; print a table; return how many failed.

    Raises ``UserError`` for unknown names, and for ``data`` that a lesson would pass over.
    """
    rows, failed, total, out = [], 0, 0.0, out_folder()
    paths = find(names)
    if data is not None and not all(map(takes_data, paths)):
        raise UserError(f"--data is not for {', '.join(p.stem for p in paths if not takes_data(p))}; name lessons that "
                        f"read a data set: {', '.join(p.stem for p in find() if takes_data(p)) or 'none does'}")
    options = ["--quick"] * quick + ["--data", data] * (data is not None) + ["--seed", str(seed)] * (seed is not None)
    quick = quick or bool(os.environ.get("MINICV_QUICK"))
    environment = {**os.environ, "MINICV_BACKEND": backend.current_device(), "MINICV_PLAIN": str(int(plain.active())),
                   "PYTHONPATH": os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))}
    for path in paths:
        print(f"\n=== {path.stem}: {title(path)}", flush=True)
        noted = out / notes(path.stem, quick)
        noted.unlink(missing_ok=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(path), *options], check=False, env=environment)
        seconds = time.perf_counter() - start
        total += seconds
        good = done.returncode == 0 and noted.exists()
        failed += not good
        if good:
            claims = json.loads(noted.read_text(encoding="utf-8"))["claims"]
            count = {k: sum(c["holds"] is k for c in claims) for k in (True, False, None)}
            result = f"{len(claims)} claims: {count[True]} hold, {count[False]} do not" + (
                f", {count[None]} cannot be told" if count[None] else "")
        else:
            result = f"FAILED (exit code {done.returncode})" if done.returncode else "FAILED (it noted no claims)"
        if seconds > LIMIT and not quick:
            result += f" (longer than {LIMIT:.0f} s)"
        rows.append((path.stem, f"{seconds:6.1f} s", result))
    width = max(len(r[0]) for r in rows)
    print("\n" + "\n".join(f"{name:<{width}}  {time_}  {result}" for name, time_, result in rows))
    print(f"{len(rows)} lessons, {total:.0f} s, {failed} failed\nfigures: {out}")
    return failed
