"""What every lesson script needs: its options, a folder for figures, and the table of claims at its end."""
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
from ..autograd import Tensor, plain
from ..errors import UserError, blame_user, suggest
from ..files import atomic_write, count_of, print_anything, to_json
from ..version import __version__

if TYPE_CHECKING:
    from ..data import Subset
    from ..nn import Module

PACKAGE = Path(__file__).resolve().parents[1]
# In a checkout the lessons are beside the package; setup.cfg installs them below share/minicv.
LESSONS_DIR = next((folder for folder in (PACKAGE.parent / "lessons", *(
    parent / "share" / "minicv" / "lessons" for parent in PACKAGE.parents)) if any(folder.glob("00_*.py"))),
    PACKAGE.parent / "lessons")
MAX_SECONDS = 90.0  # for a full lesson on two cores
VERDICTS = {True: "holds", False: "does not hold here", None: "undecided here"}

# The classifiers of lesson 05: options of models.build, and of training.train_classifier for 4000 images of 64 x 64.
# They have no dropout, because each trains for 15 seconds only, too short to overfit.
CLASSIFIERS: dict[str, tuple[dict, dict]] = {
    "alexnet": ({"dropout": 0.0}, {"steps": 1000, "batch": 32, "lr": 0.001}),
    "vgg16": ({"dropout": 0.0}, {"steps": 500, "batch": 16, "lr": 0.004}),
    "googlenet": ({"dropout": 0.0}, {"steps": 350, "batch": 32, "lr": 0.02}),
    "resnet18": ({}, {"steps": 600, "batch": 16, "lr": 0.006}),
}


@dataclasses.dataclass
class Claim:
    """A claim of a paper, and what was found here. ``holds``: None if this scale does not decide it."""

    id: str
    source: str
    claim: str
    found: str
    holds: bool | None

    def verdict(self) -> str:
        return VERDICTS[self.holds]


class Lesson:
    """``lesson = Lesson("08_unet")`` at the top of a script reads its command line; ``lesson.finish()`` ends it.

    ``quick``: only try the lesson, in a few seconds. ``data``: the data set that replaces generated data, or None; the
    lesson uses the part ``needs`` of its samples, such as "boxes". Figures and claims go to ``out_folder()``.
    """

    def __init__(self, name: str, description: str = "", *, needs: str | None = None):
        parser = argparse.ArgumentParser(prog=f"{name}.py", description=description)
        parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("MINICV_QUICK")),
                            help="spend a few seconds, to see that it runs; the claims then mean little")
        parser.add_argument("--data", metavar="NAME:PATH", help="use a real data set instead of generated images")
        parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default: 0)")
        script = Path(sys.argv[0]).stem == name  # not in a notebook or the documentation's gallery
        options = parser.parse_args(None if script else [])
        if options.data is not None and needs is None:
            parser.error("--data is not for this lesson, which reads no data set")
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
        """Return a Tensor of an array on the device in use, which is also that of new parameters."""
        return Tensor(backend.to_device(np.asarray(array)))

    def detection_set(self, split: str, count: int, transform: Callable[[Any], Any], **shapes: Any) -> Subset:
        """Return the first ``count`` samples of a split of ``data``, or generated images of shapes if that is None.

        ``transform`` changes each sample of ``data``; ``shapes`` are the options of the generated images.
        """
        from ..data import Subset, open_dataset
        if not self.data:
            return Subset(open_dataset("shape-boxes", split, count=count, seed=self.seed, **shapes), range(count))
        real = open_dataset(self.data, split)
        return Subset(real, range(min(count, len(real))), transform)

    def save(self, figure: Any, name: str) -> None:
        """Write a figure to ``out``/LESSON_NAME.png and print the path."""
        from ..viz.fonts import set_fonts
        set_fonts(figure)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{self.name}_{name}.png"
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=110, bbox_inches="tight", format="png")
        print(f"figure: {path}")

    def claim(self, id: str, source: str, claim: str, found: str, holds: bool | None) -> None:
        """Record a claim: its id, who makes it, its words; what was found; whether it holds, None if undecided."""
        self.claims.append(Claim(id, source, claim, found, None if holds is None else bool(holds)))

    def finish(self) -> None:
        """Print the claims and write them to ``out``/LESSON.json, or LESSON_quick.json for a quick run.

        An ``impossible_number`` ends the lesson with exit code 1, and nothing is written.
        """
        from ..backend.machine import describe_machine
        seconds = time.perf_counter() - self.start
        print(f"\nClaims measured by {self.name} ({'quick, only a try; ' if self.quick else ''}seed {self.seed}, "
              f"{self.data or 'generated data'}, {seconds:.0f} s):")
        for c in self.claims:
            print(f"  {c.id}  {c.claim} ({c.source})\n      found: {c.found}\n      -> {c.verdict()}")
        wrong = [f"{c.id}: {reason}" for c in self.claims if (reason := impossible_number(c.found))]
        if wrong:
            raise SystemExit(f"{self.name}: impossible numbers, so no claim is recorded: {'; '.join(wrong)}. "
                             "If they come from timings, these were disturbed by other programs; "
                             "run the lesson again on an idle machine")
        self.out.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.out / claims_file(self.name, self.quick)) as temporary:
            temporary.write_text(to_json(
                {"lesson": self.name, "quick": self.quick, "seed": self.seed, "data": self.data, "seconds": seconds,
                 "date": time.strftime("%Y-%m-%d"), "machine": describe_machine(), "version": __version__,
                 "claims": [dataclasses.asdict(c) for c in self.claims]}, indent=1), encoding="utf-8")


def impossible_number(found: str) -> str | None:
    """Return why a text has an impossible number, or None: a time below 0, a share above 100%, NaN, infinity.

    A difference has a sign, as in "+120%", and may be larger.
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
    """Test whether the mean of ``differences``, one for each seed with all else equal, exceeds ``needed``.

    Returns a text and a verdict. The text is the mean and its standard error, "+1.2 +- 0.3". The verdict is that of
    Student's one-sided t-test at 5%: True if the mean is larger, False if it is smaller, None if undecided or with one
    seed. The test asks for 6.3 standard errors with two seeds, 2.9 with three, 2.4 with four.
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


def all_hold(verdicts: Iterable[bool | None]) -> bool | None:
    """Return the verdict on a claim in parts: True if all are True, False if any is False, else None.

    By chance, one of k parts is False up to k times as often as a single part; all k are True no more often.
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
    """Return where lessons write: the folder named by MINICV_LESSONS_OUT, or ``lessons/out`` in the checkout, or, for
    installed lessons, in the current folder."""
    here = Path("lessons").resolve() if LESSONS_DIR.parent.parent.name == "share" else LESSONS_DIR
    return Path(os.environ.get("MINICV_LESSONS_OUT") or here / "out")


def claims_file(name: str, quick: bool) -> str:
    """Return the name of the file in which a lesson's run records its claims."""
    return f"{name}{'_quick' if quick else ''}.json"


def weights_file(name: str, quick: bool = False) -> Path:
    """Return the file of a classifier's weights, which lesson 05 writes and ``pretrained`` reads."""
    return out_folder() / "weights" / f"{name}{'_quick' if quick else ''}.safetensors"


def pretrained(name: str, quick: bool = False) -> Module:
    """Return a compact classifier, one of CLASSIFIERS, that was trained on generated images.

    Lesson 05 writes its weights. If it has not run, train the network now, for 15 seconds (``quick``: for one, which
    teaches it little), and keep the weights.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"pretrained: no classifier {name!r}; there are: {', '.join(CLASSIFIERS)}")
    from .. import models
    from ..data import ShapeImages
    from ..training import load_checkpoint, save_checkpoint
    from ..training.classification import train_classifier
    path = weights_file(name, quick)
    if not path.exists():
        options, config = CLASSIFIERS[name]
        backend.seed(0)
        model = models.build(name, **options)
        images = ShapeImages(100 if quick else 4000)
        steps = 10 if quick else config["steps"]
        print(f"training {name}, because lesson 05 has not written {path}", flush=True)
        for _ in train_classifier(model, *images.arrays(), **{**config, "steps": steps}):
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, model, images=len(images), steps=steps)
    return load_checkpoint(path, expect=name)[0]


def is_called(lesson: str, name: str) -> bool:
    """Return whether ``name`` fits a lesson: its number, its name or the start of that."""
    wanted = f"{int(name):02d}_" if name.isdecimal() else Path(name).stem
    return lesson.startswith(wanted) or lesson[3:].startswith(wanted)


def find(names: list[str] | None = None) -> list[Path]:
    """Return the lesson scripts in order: all, or those of ``names``, each a number, a name or the start of one."""
    scripts = sorted(LESSONS_DIR.glob("[0-9][0-9]_*.py"))
    if not scripts:
        raise UserError(f"no lessons in {LESSONS_DIR}; reinstall minicv, or use a checkout installed with "
                        "`pip install -e .`")
    if not names:
        return scripts
    chosen = []
    for name in names:
        found = [p for p in scripts if is_called(p.stem, name)]
        if not found:
            raise UserError(f"no lesson {name!r}; {suggest(name, [p.stem for p in scripts])}")
        chosen += [p for p in found if p not in chosen]
    return chosen


def title(path: Path) -> str:
    """Return a lesson's title, the first line of its docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem).splitlines()[0].rstrip(".")


def needed_part(path: Path) -> str | None:
    """Return the part that a lesson needs of the samples of ``--data``; None if it only has images of its own."""
    found = re.search(r'^lesson = Lesson\(.*\bneeds="(\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    return found and found[1]


def check_data(spec: str, paths: list[Path]) -> None:
    """Read an image of ``--data``'s training split; ``UserError`` if that fails or it does not suit these lessons."""
    from ..data import open_dataset
    others = [path.stem for path in paths if not needed_part(path)]
    if others:
        raise UserError(f"--data is not for {', '.join(others)}; name lessons that read a data set: "
                        f"{', '.join(p.stem for p in find() if needed_part(p)) or 'none does'}")
    with blame_user(f"--data {spec}"):
        dataset = open_dataset(spec)
        if not len(dataset):
            raise UserError(f"--data {spec}: the split train has no image")
        sample = dataset[0]
        for path in paths:
            if getattr(sample, part := str(needed_part(path)), None) is None:
                raise UserError(f"--data {spec} is not for {path.stem}: its images have no {part}")


def run(names: list[str], quick: bool = False, data: str | None = None, seed: int | None = None) -> int:
    """Run lessons one by one, each in a process of its own; print a table; return how many failed.

    Raises ``UserError`` for unknown names, and for ``data`` that cannot be read or does not suit a lesson.
    """
    rows, failed, total, out = [], 0, 0.0, out_folder()
    paths = find(names)
    if data is not None:
        check_data(data, paths)
    options = ["--quick"] * quick
    for option, value in (("--data", data), ("--seed", seed)):
        options += [] if value is None else [option, str(value)]
    quick = quick or bool(os.environ.get("MINICV_QUICK"))
    environment = {**os.environ, "MINICV_BACKEND": backend.current_device(), "MINICV_PLAIN": str(int(plain.active())),
                   "PYTHONPATH": f"{PACKAGE.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)}
    for path in paths:
        print(f"\n=== {path.stem}: {title(path)}", flush=True)
        recorded = out / claims_file(path.stem, quick)
        recorded.unlink(missing_ok=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(path), *options], check=False, env=environment)
        seconds = time.perf_counter() - start
        total += seconds
        good = done.returncode == 0 and recorded.exists()
        failed += not good
        if good:
            claims = json.loads(recorded.read_text(encoding="utf-8"))["claims"]
            count = {k: sum(c["holds"] is k for c in claims) for k in (True, False, None)}
            result = f"{count_of(len(claims), 'claim')}: {count[True]} hold, {count[False]} do not" + (
                f", {count[None]} undecided" if count[None] else "")
        else:
            result = f"FAILED (exit code {done.returncode})" if done.returncode else "FAILED (it recorded no claims)"
        if seconds > MAX_SECONDS and not quick:
            result += f" (longer than {MAX_SECONDS:.0f} s)"
        rows.append((path.stem, f"{seconds:6.1f} s", result))
    width = max(len(r[0]) for r in rows)
    print("\n" + "\n".join(f"{name:<{width}}  {time_}  {result}" for name, time_, result in rows))
    print(f"{count_of(len(rows), 'lesson')}, {total:.0f} s, {failed} failed\nfigures: {out}")
    return failed
