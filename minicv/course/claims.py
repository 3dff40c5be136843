"""What the documents and papers claim, and what the lessons found: ``minicv claims`` and the page of the documentation.

A lesson that has run leaves ``lessons/out/NN_topic.json``, or, quick, ``NN_topic_quick.json``, which does not count.
``minicv claims --keep`` writes them to ``docs/claims.json``, which the documentation shows where no lesson has run.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..data.errors import DataError
from ..data.files.text import read_json
from ..errors import UserError
from ..files import atomic_write, to_json
from . import lessons

KEPT = Path(__file__).resolve().parents[2] / "docs" / "claims.json"
WRITTEN = {"lesson": str, "quick": bool, "claims": list, "date": str, "seed": int, "data": str | None,
           "seconds": int | float}  # of what kind each is
VERDICTS = {True: "holds", False: "does not hold here", None: "cannot be told here"}

TEXT = """
A Convolution arithmetic
A1 Dilation widens the receptive field of a 3x3 convolution at the same parameters and operations.
A2 A depthwise separable convolution has K*K*C + C*M parameters instead of K*K*C*M, and fewer operations.
A3 A transposed convolution multiplies by the transpose of the convolution's matrix; it is no inverse.
A4 Bilinear interpolation is a transposed convolution with a fixed kernel.
A5 Max unpooling keeps the places that nearest and bed-of-nails unpooling lose.
A6 Upsampling: by unpooling, by a transposed convolution, or by interpolation and then a convolution.
F From a classifier to dense prediction
F1 A fully connected layer as a convolution: as many parameters, the same output, a grid of outputs on larger pictures.
F2 The convolutional way is more than 5 times faster than patch by patch.
F3 Shift-and-stitch gives what removing the stride and rarefying the filters gives.
F4 Patchwise training is loss sampling; whole pictures converge as fast by samples and faster by time.
F5 Skips sharpen: FCN-32s, then 16s, then 8s.
F6 Fine-tuning everything is better than the output layer only, and than training from scratch.
F7 VGG16 is a better backbone of an FCN than AlexNet or GoogLeNet.
F8 Without pooling, pixelwise networks cost far more and see less context.
F9 Mirroring, jitter and class balancing bring an FCN nothing noticeable.
F10 Fully connected layers fix the size of the input, 1x1 convolutions do not.
S Segmentation networks
S1 DeconvNet recovers finer structures than FCN-32s.
S2 U-Net's tiles, mirrored at the borders, join without seams.
S3 The weight map separates cells that touch.
S4 Elastic deformation is what lets U-Net learn from few pictures.
S5 Skips that concatenate (U-Net) against skips that add (FCN).
S6 PSPNet's rows: a pyramid beats global pooling alone, the average the maximum; reducing dimensions helps.
S7 Global context mends mismatched relations, confused categories and inconspicuous things.
S8 Atrous convolution keeps a denser map at the same parameters.
S9 ASPP is better than a single rate on objects of several sizes.
S10 DeepLabv3+ is better than v3 through its decoder, most at borders.
S11 Unlike a sliding patch, U-Net computes no pixel's neighbourhood twice.
S12 The size of a patch trades context against localisation; U-Net need not choose.
D Detection
D1 Selective search needs far fewer boxes than a sliding window for the same recall.
D2 R-CNN needs three trainings, much time and much storage.
D3 Spatial pyramid pooling gives a fixed length for any size; the convolutions run once per picture.
D4 RoI pooling: the worked example; Fast R-CNN trains in one stage.
D5 An RPN's proposals are cheaper and better than selective search.
D6 54 channels for nine anchors; anchors of several scales and ratios raise the recall.
D7 YOLO is faster and less accurate than Faster R-CNN; its grid misses small crowded objects.
D8 Mask R-CNN learns class, box and mask together; RoIAlign is better than RoI pooling for masks.
D9 The whole family on the same pictures.
M Measuring
M1 Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU can disagree.
M2 AP by VOC's 11 points, by VOC's whole curve and by COCO's rules differ on the same detections.
M3 PQ; semantic, instance and panoptic answers to one picture differ.
M4 Pixel error, Rand error and warping error can disagree.
"""
TOPICS = {line[0]: line[2:] for line in TEXT.strip().splitlines() if line[1] == " "}
CLAIMS = dict(line.split(" ", 1) for line in TEXT.strip().splitlines() if line[1] != " ")  # id: in words


class Found(NamedTuple):
    """A claim as a lesson measured it: its number, who makes it, in the lesson's words; and by which run."""

    id: str
    source: str
    claim: str
    found: str
    holds: bool | None
    run: dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    """What one lesson noted. Raises ``DataError`` for a file that no lesson wrote."""
    try:
        return checked(read_json(path))
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: this is not what a lesson writes ({reason:.200}); run the lesson again") from None


def read_kept(path: Path) -> list[dict[str, Any]]:
    """The runs of ``docs/claims.json``, each as a lesson noted it. Raises ``DataError`` for anything else."""
    try:
        return [checked(run) for run in read_json(path)]
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: not the runs of lessons ({reason:.200}); restore it from the repository") from None


def checked(run: Any) -> dict[str, Any]:
    """A run, if it is one; ``ValueError``, ``LookupError`` or ``TypeError`` if not."""
    for name, kind in WRITTEN.items():
        if not isinstance(run[name], kind) or isinstance(run[name], bool) != (kind is bool):
            raise ValueError(f"{name} is {run[name]!r}")
    if not 0 <= run["seconds"] < 1e9 or not isinstance(run.get("machine"), str | None):
        raise ValueError("a time or a machine that cannot be")
    for claim in run["claims"]:
        if set(claim) != {"id", "source", "claim", "found", "holds"} or not isinstance(claim["holds"], bool | None) \
                or not all(isinstance(value, str) for key, value in claim.items() if key != "holds"):
            raise ValueError(f"a claim that is none: {claim}")
    return run


def runs(folder: Path | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """The runs of lessons in ``folder`` (default: ``lessons/out``), in order: the full ones, or the quick ones.

    Without a folder, a lesson that has not run in full here is taken from ``docs/claims.json``.
    """
    found = {}
    if folder is None and not quick and KEPT.exists():
        found = {run["lesson"]: run for run in read_kept(KEPT)}
    for path in sorted((folder or lessons.out_folder()).glob("[0-9][0-9]_*.json")):
        run = read(path)
        if run["quick"] == quick and run["date"] >= found.get(run["lesson"], run)["date"]:
            found[run["lesson"]] = run
    return [found[name] for name in sorted(found)]


def collect(runs: Iterable[dict[str, Any]]) -> list[Found]:
    """The claims of several runs, in the order of their numbers."""
    return sorted((Found(**claim, run={k: v for k, v in run.items() if k != "claims"})
                   for run in runs for claim in run["claims"]), key=lambda f: (order(f.id), f.run["lesson"]))


def order(id: str) -> tuple:
    """A1 < A2 < A10 < F1: the order of TEXT; what is not in it comes last, by the alphabet."""
    match = re.fullmatch(r"([A-Z])(\d+)([a-z]?)", id)
    if not match:
        return len(TOPICS), id, 0, ""
    letter = match[1]
    return [*TOPICS, letter].index(letter), letter, int(match[2]), match[3]


def number(id: str) -> str:
    """The claim that a part belongs to: "S6" of "S6b"."""
    return re.sub(r"[a-z]$", "", id)


def keep(runs: Iterable[dict[str, Any]], path: Path | None = None) -> Path:
    """Write full runs to ``docs/claims.json``; return where.

    Raises ``UserError`` if there are none, for a quick one, and for one that does not say on which machine it was.
    """
    runs, path = list(runs), path or KEPT
    if not runs:
        raise UserError("keep: no lesson has run in full here; `minicv lessons run` runs them all")
    for what, wrong in (("a quick run", [run["lesson"] for run in runs if run["quick"]]),
                        ("numbers that cannot be", [run["lesson"] for run in runs for claim in run["claims"]
                                                    if lessons.impossible(claim["found"])]),
                        ("without its machine", [run["lesson"] for run in runs if not run.get("machine")])):
        if wrong:
            raise UserError(f"keep: {what}: {', '.join(wrong)}; run it again in full")
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def about(run: dict[str, Any]) -> str:
    """Which run it was, in a line: lesson, date, seed, data, seconds, machine."""
    return (f"{run['lesson']}, {run['date']}, seed {run['seed']}, {run['data'] or 'generated data'}, "
            f"{run['seconds']:.0f} s, {run.get('machine', 'machine not noted')}")


def table(runs: list[dict[str, Any]], ids: Iterable[str] = (), quick: bool = False) -> str:
    """What ``minicv claims`` prints, of full or quick runs. Raises ``UserError`` for a number that is no claim's."""
    found, wanted = collect(runs), list(ids)
    known = {*CLAIMS, *(f.id for f in found)}
    unknown = [id for id in wanted if id not in known]
    if unknown:
        raise UserError(f"no claim {', '.join(unknown)}; there are: {', '.join(sorted(known, key=order))}")
    lines = []
    for id in sorted({*CLAIMS, *(number(f.id) for f in found)}, key=order):
        some = [f for f in found if number(f.id) == id]
        if wanted and id not in wanted and not {f.id for f in some} & set(wanted):
            continue
        lines.append(f"{id}  {CLAIMS.get(id, '(not on the list of claims)')}")
        for f in some:
            if not wanted or id in wanted or f.id in wanted:
                lines += [f"    {f.id}: {f.claim} ({f.source})", f"      found: {f.found}",
                          f"      -> {VERDICTS[f.holds]} ({f.run['lesson']})"]
        if not some:
            lines.append(f"    no {'quick' if quick else 'full'} run has measured it yet")
    count = [sum(f.holds is verdict for f in found) for verdict in VERDICTS]
    measured = {number(f.id) for f in found} & CLAIMS.keys()
    lines += ["", f"{len(measured)} of {len(CLAIMS)} claims measured, in {len(found)} parts: {count[0]} hold, "
              f"{count[1]} do not hold here, {count[2]} cannot be told here", *(f"  {about(run)}" for run in runs)]
    if runs:
        lines.append(f"  total {sum(run['seconds'] for run in runs):.0f} s")
    return "\n".join(lines)
