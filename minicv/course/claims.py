"""What the papers claim and what the lessons measured, for ``minicv claims`` and for the documentation.

A full run of a lesson writes ``lessons/out/NN_topic.json``; a quick run writes ``NN_topic_quick.json``, which does not
count. ``minicv claims --keep`` collects the full runs in ``docs/claims.json``, which stands in for lessons that
have not run here.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..data.errors import DataError
from ..data.files.text import read_json
from ..errors import UserError, suggest
from ..files import atomic_write, to_json
from . import lessons

KEPT_FILE = lessons.LESSONS_DIR.parent / "docs" / "claims.json"  # in a checkout, and beside installed lessons
RUN_FIELDS = {"lesson": str, "quick": bool, "claims": list, "date": str, "seed": int, "data": str | None,
              "seconds": int | float}

TEXT = """
A Convolution arithmetic
A1 Dilation widens the receptive field of a 3x3 convolution at the same parameters and operations.
A2 A depthwise separable convolution has K*K*C + C*M parameters instead of K*K*C*M, and fewer operations.
A3 A transposed convolution multiplies by the transpose of the convolution's matrix; it is no inverse.
A4 Bilinear interpolation is a transposed convolution with a fixed kernel.
A5 Max unpooling keeps the places that nearest and bed-of-nails unpooling lose.
A6 Upsampling: by unpooling, by a transposed convolution, or by interpolation and then a convolution.
F From a classifier to dense prediction
F1 A fully connected layer as a convolution: as many parameters, the same output, a grid of outputs on larger images.
F2 Convolving the whole image is more than 5 times as fast as going patch by patch.
F3 Shift-and-stitch gives the same output as removing the stride and dilating the filters.
F4 Patchwise training is loss sampling; whole images converge as fast per sample and faster in time.
F5 Skips sharpen: FCN-32s, then 16s, then 8s.
F6 Fine-tuning all layers is better than fine-tuning the output layer only, and than training from scratch.
F7 VGG16 is a better backbone of an FCN than AlexNet or GoogLeNet.
F8 Without pooling, pixelwise networks cost far more and see less context.
F9 Flips, jitter and class balancing do not noticeably improve an FCN.
F10 Fully connected layers fix the size of the input, 1x1 convolutions do not.
S Segmentation networks
S1 DeconvNet recovers finer structures than FCN-32s.
S2 U-Net's tiles, mirrored at the borders, join without seams.
S3 The weight map separates cells that touch.
S4 Elastic deformation is what lets U-Net learn from few images.
S5 Skips that concatenate (U-Net) against skips that add (FCN).
S6 PSPNet: a pyramid beats global pooling alone, average beats max pooling, and reducing dimensions helps.
S7 Global context corrects mismatched relations, confused categories and inconspicuous objects.
S8 Atrous convolution keeps a denser map at the same parameters.
S9 ASPP is better than a single rate on objects of several sizes.
S10 DeepLabv3+ is better than v3 through its decoder, most at borders.
S11 Unlike a sliding patch, U-Net computes no pixel's neighborhood twice.
S12 The size of a patch trades context against localization; U-Net need not choose.
D Detection
D1 Selective search needs far fewer boxes than a sliding window for the same recall.
D2 R-CNN needs three trainings, much time and much storage.
D3 Spatial pyramid pooling gives a fixed length for any size; the convolutions run once per image.
D4 RoI pooling: the worked example; Fast R-CNN trains in one stage.
D5 An RPN's proposals are cheaper and better than selective search.
D6 54 channels for nine anchors; anchors of several scales and ratios raise the recall.
D7 YOLO is faster and less accurate than Faster R-CNN; its grid misses small crowded objects.
D8 Mask R-CNN learns class, box and mask together; RoIAlign is better than RoI pooling for masks.
D9 The whole family on the same images.
M Measuring
M1 Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU can disagree.
M2 AP by VOC's 11 points, by VOC's whole curve and by COCO's rules differ on the same detections.
M3 PQ; semantic, instance and panoptic answers for one image differ.
M4 Pixel error, Rand error and warping error can disagree.
"""
TOPICS = {line[0]: line[2:] for line in TEXT.strip().splitlines() if line[1] == " "}
CLAIMS = dict(line.split(" ", 1) for line in TEXT.strip().splitlines() if line[1] != " ")  # id: in words


class MeasuredClaim(NamedTuple):
    """A claim as a lesson measured it, with the run that did. ``source``: who makes the claim."""

    id: str
    source: str
    claim: str
    found: str
    holds: bool | None
    run: dict[str, Any]


def read_checked(path: Path, check: Callable[[Any], Any], fault: str, remedy: str) -> Any:
    """Return ``check`` of what a JSON file holds; where that fails, raise a ``DataError`` with the fault and remedy."""
    try:
        return check(read_json(path))
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: {fault} ({reason:.200}); {remedy}") from None


def load_kept() -> list[dict[str, Any]]:
    """Return the runs in ``docs/claims.json``; none if there is no such file."""
    return read_checked(KEPT_FILE, lambda runs: [check_run(run) for run in runs], "not the runs of lessons",
                        "restore it from the repository") if KEPT_FILE.exists() else []


def check_run(run: Any) -> dict[str, Any]:
    """Return a valid run; raise ``ValueError``, ``LookupError`` or ``TypeError`` for anything else."""
    for name, kind in RUN_FIELDS.items():
        if not isinstance(run[name], kind) or isinstance(run[name], bool) != (kind is bool):
            raise ValueError(f"{name} is {run[name]!r}")
    if not 0 <= run["seconds"] < 1e9 or not isinstance(run.get("machine"), str | None):
        raise ValueError("impossible seconds or machine")
    for claim in run["claims"]:
        if set(claim) != {"id", "source", "claim", "found", "holds"} or not isinstance(claim["holds"], bool | None) \
                or not all(isinstance(value, str) for key, value in claim.items() if key != "holds"):
            raise ValueError(f"not a claim: {claim}")
    return run


def load_runs(folder: Path | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """Return the full or the quick runs in ``folder`` (default: ``lessons/out``), sorted by lesson.

    Without a folder, ``docs/claims.json`` stands in for lessons that have not run in full here.
    """
    found: dict[str, dict[str, Any]] = {}
    if folder is None and not quick:
        found = {run["lesson"]: run for run in load_kept()}
    for path in sorted((folder or lessons.out_folder()).glob("[0-9][0-9]_*.json")):
        run = read_checked(path, check_run, "this is not what a lesson writes", "run the lesson again")
        if run["quick"] == quick and run["date"] >= found.get(run["lesson"], run)["date"]:
            found[run["lesson"]] = run
    return [found[name] for name in sorted(found)]


def measured_claims(runs: Iterable[dict[str, Any]]) -> list[MeasuredClaim]:
    """Return the claims of several runs, in the order of their ids."""
    return sorted((MeasuredClaim(**claim, run={k: v for k, v in run.items() if k != "claims"})
                   for run in runs for claim in run["claims"]), key=lambda f: (sort_key(f.id), f.run["lesson"]))


def sort_key(id: str) -> tuple:
    """Return a key that sorts A1 < A2 < A10 < F1, as in TEXT; ids that are not in TEXT come last, alphabetically."""
    match = re.fullmatch(r"([A-Z])(\d+)([a-z]?)", id)
    if not match:
        return len(TOPICS), id, 0, ""
    letter = match[1]
    return [*TOPICS, letter].index(letter), letter, int(match[2]), match[3]


def base_id(id: str) -> str:
    """Return the id of the claim that a part belongs to: "S6" for "S6b"."""
    return re.sub(r"[a-z]$", "", id)


def keep(runs: Iterable[dict[str, Any]], path: Path | None = None) -> Path:
    """Write full runs to ``docs/claims.json``, or to ``path``, and return the path.

    Raises ``UserError`` if there is no run, for a quick run, for impossible numbers, and for a run without its machine.
    """
    runs, path = list(runs), path or KEPT_FILE
    if not runs:
        raise UserError("keep: no lesson has run in full here; `minicv lessons run` runs them all")
    for reason, bad in (("quick run", [run["lesson"] for run in runs if run["quick"]]),
                        ("impossible numbers", [run["lesson"] for run in runs for claim in run["claims"]
                                                if lessons.impossible_number(claim["found"])]),
                        ("no machine", [run["lesson"] for run in runs if not run.get("machine")])):
        if bad:
            raise UserError(f"keep: {reason}: {', '.join(bad)}; run it again in full")
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def describe_run(run: dict[str, Any]) -> str:
    """Return a line about a run: lesson, date, seed, data, seconds, machine."""
    return (f"{run['lesson']}, {run['date']}, seed {run['seed']}, {run['data'] or 'generated data'}, "
            f"{run['seconds']:.0f} s, {run.get('machine', 'unknown machine')}")


def ids_of(name: str, found: list[MeasuredClaim]) -> list[str]:
    """Return the claim with an id, in any case, or those that a lesson measured; ``UserError`` for another name."""
    known = sorted({*CLAIMS, *(f.id for f in found)}, key=sort_key)
    ids = [id for id in known if id.lower() == name.lower()] or [
        f.id for f in found if lessons.is_called(f.run["lesson"], name)]
    if not ids:
        raise UserError(f"no claim {name}; {suggest(name, [*known, *sorted({f.run['lesson'] for f in found})])}")
    return ids


def table(runs: list[dict[str, Any]], ids: Iterable[str] = (), quick: bool = False) -> str:
    """Return what ``minicv claims`` prints for full or quick runs.

    ``ids``: claims, in any case, or lessons, which stand for what they measured. Raises ``UserError`` for another name.
    """
    found = measured_claims(runs)
    wanted = {id for name in ids for id in ids_of(name, found)}
    lines = []
    for id in sorted({*CLAIMS, *(base_id(f.id) for f in found)}, key=sort_key):
        some = [f for f in found if base_id(f.id) == id]
        if wanted and id not in wanted and not {f.id for f in some} & set(wanted):
            continue
        lines.append(f"{id}  {CLAIMS.get(id, '(not on the list of claims)')}")
        for f in some:
            if not wanted or id in wanted or f.id in wanted:
                lines += [f"    {f.id}: {f.claim} ({f.source})", f"      found: {f.found}",
                          f"      -> {lessons.VERDICTS[f.holds]} ({f.run['lesson']})"]
        if not some:
            lines.append(f"    no {'quick' if quick else 'full'} run has measured it yet")
    if wanted:
        shown = {f.run["lesson"] for f in found if f.id in wanted or base_id(f.id) in wanted}
        return "\n".join([*lines, *(f"  {describe_run(run)}" for run in runs if run["lesson"] in shown)])
    count = [sum(f.holds is verdict for f in found) for verdict in lessons.VERDICTS]
    measured = {base_id(f.id) for f in found} & CLAIMS.keys()
    lines += ["", f"{len(measured)} of {len(CLAIMS)} claims measured, in {len(found)} parts: {count[0]} hold, "
              f"{count[1]} do not hold here, {count[2]} undecided here", *(f"  {describe_run(run)}" for run in runs)]
    if runs:
        lines.append(f"  total {sum(run['seconds'] for run in runs):.0f} s")
    return "\n".join(lines)
