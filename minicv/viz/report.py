"""The page that ``minicv evaluate --report`` writes: what a network does well and badly, with pictures, in one file."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics.checks import mean_without_nan
from ..metrics.detection import IOU_THRESHOLDS
from ..metrics.detection_analysis import COLUMNS, DetectionAnalysis, JudgedImage
from ..metrics.detection_errors import KINDS
from ..metrics.segmentation_analysis import JudgedLabels, SegmentationAnalysis
from . import html
from .dataset import shorten
from .evaluation import (
    KIND_COLORS,
    KIND_WORDS,
    color_text,
    draw_ap_by_iou,
    draw_precision_recall,
    error_marks,
    render_errors,
    render_label_errors,
)
from .predictions import label_colors
from .pyplot import import_matplotlib

MEANINGS = {
    "class": "well placed on an object of another class (IoU 0.5 or more)",
    "location": "on an object of its class, but badly placed (IoU 0.1 to 0.5)",
    "both": "badly placed on an object of another class",
    "duplicate": "well placed, but the object has a better scored detection",
    "background": "where no object is (IoU 0.1 or less)",
    "missed": "an object that no detection is about",
}
SUMMARY = ("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100", "ARsmall", "ARmedium",
           "ARlarge")
MOST_CONFUSIONS = 10
MOST_LISTED = 24  # errors of an image
MOST_CLASSES = 20  # of a confusion matrix
MOST_LETTERS = 40  # of the name of an image
NAMES = {"mean_iu": "mean IU", "frequency_weighted_iu": "frequency-weighted IU", "boundary_f_score": "boundary F-score",
         "rand_f_score": "Rand F-score"}


def detection_page(analysis: DetectionAnalysis, dataset: Any, title: str) -> str:
    """Return the report of a detector. dataset: the images that ``analysis`` has seen, in the same order."""
    names, ap = analysis.class_names, analysis.measures()
    rows = [[prefix, *(ap[f"{prefix} {name}"] for name in SUMMARY)]
            for prefix, _ in analysis.evaluators()]
    return html.page(title, [
        f"<p>{analysis.images:,} images, {int(analysis.coco.objects.sum()):,} objects in {len(names)} "
        f"{'class' if len(names) == 1 else 'classes'}. Mean average precision by PASCAL VOC's rules (IoU 0.5): "
        f"<b>{html.number(ap['mAP@0.5'])}</b>.</p>",
        html.table(["", *SUMMARY], [["boxes" if name == "COCO" else "masks", *row] for name, *row in rows]),
        '<p class="small">By COCO\'s rules. AP: average precision, the mean over the IoUs 0.5, 0.55, ... 0.95; AP50, '
        "AP75: at one IoU. AR1, AR10, AR100: average recall with at most so many detections of a class per image. "
        "small, medium, large: objects of less than 32 x 32, up to 96 x 96, and more pixels. A dash: no such object."
        "</p>",
        "<h2>Classes</h2>", _classes(analysis),
        "<h2>Precision and recall</h2>", _curves(analysis),
        "<p>A curve that ends early: the rest of the objects is never found, whatever the score. One that starts low: "
        "the best scored detections are wrong.</p>",
        "<h2>What goes wrong</h2>", *_errors(analysis),
        "<h2>Confusions</h2>", *_confusions(analysis),
        "<h2>The worst images</h2>", *_worst_detections(analysis, dataset)])


def _classes(analysis: DetectionAnalysis) -> str:
    rows, columns = analysis.class_rows(), ["objects", "AP@0.5", *COLUMNS]
    if analysis.with_masks:
        columns += [f"mask {name}" for name in ("AP", "AP50", "AP75")]
    total = ["mean", sum(row["objects"] for row in rows),
             *(mean_without_nan([row[name] for row in rows]) for name in columns[1:])]
    return html.table(["class", *columns], [[row["class"], *(row[name] for name in columns)] for row in rows], total)


def _curves(analysis: DetectionAnalysis) -> str:
    import_matplotlib()
    from matplotlib.figure import Figure
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_precision_recall(left, analysis.curves(0.5), "IoU 0.5")
    draw_precision_recall(middle, analysis.curves(0.75), "IoU 0.75")
    by_iou = {"boxes" if name == "COCO" else "masks": line for name, line in analysis.ap_by_iou().items()}
    draw_ap_by_iou(right, IOU_THRESHOLDS.tolist(), by_iou)
    return html.chart(figure, "Precision over recall at IoU 0.5 and 0.75, and average precision by IoU")


def _errors(analysis: DetectionAnalysis) -> list[str]:
    ap50, costs = analysis.costs.costs()
    rows = [[KIND_WORDS[kind], MEANINGS[kind], kind, analysis.error_counts.get(kind, 0), costs[kind]] for kind in KINDS]
    return [
        f"<p>Of the detections with a score of {analysis.score:g} or more, {analysis.right:,} are right. The others, "
        "and the objects that were missed, by kind:</p>",
        html.table(["kind", "meaning", "in TIDE", "count", "costs AP50"], rows, text=(1, 2)),
        '<p class="small">The kinds and their costs are those of TIDE (Bolya et al., ECCV 2020). The last column is '
        f"the AP50 ({html.number(ap50)} now) that would be gained if this kind alone were corrected; it counts "
        "detections of every score. The costs do not add up, because one error can hide another.</p>"]


def _confusions(analysis: DetectionAnalysis) -> list[str]:
    names = analysis.class_names
    found = [(count, i, j) for (i, j), count in np.ndenumerate(analysis.matrix) if count and i != j]
    words = []
    for count, i, j in sorted(found, key=lambda each: -each[0])[:MOST_CONFUSIONS]:
        words.append(f"{names[i]} missed: {count:,}" if j == len(names) else
                     f"nothing taken for {names[j]}: {count:,}" if i == len(names) else
                     f"{names[i]} taken for {names[j]}: {count:,}")
    return [f"<p>Rows: the objects. Columns: what they were found as, at IoU 0.5 and with a score of "
            f"{analysis.score:g} or more, in percent of the row. (nothing): detections without an object at that IoU."
            "</p>",
            *_matrix(analysis.matrix, [*names, "(nothing)"], [*names, "missed"], "count"),
            f"<p>Most frequent: {html.escape('; '.join(words) or 'none')}.</p>"]


def _matrix(counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], last: str) -> list[str]:
    """Return a confusion matrix; of many classes, those with the most confusions, and the others as one."""
    wrong = counts - np.diag(counts.diagonal())
    per_class = wrong.sum(axis=0) + wrong.sum(axis=1)
    if len(counts) <= MOST_CLASSES + 2:
        return [html.matrix(counts, rows, columns, last)]
    special = rows[-1] != columns[-1]  # "(nothing)" and "missed" are no class
    chosen = np.sort(np.argsort(-per_class[:len(counts) - special], kind="stable")[:MOST_CLASSES])
    if special:
        chosen = np.append(chosen, len(counts) - 1)
    others = np.setdiff1d(np.arange(len(counts)), chosen)
    few = np.block([[counts[np.ix_(chosen, chosen)], counts[np.ix_(chosen, others)].sum(axis=1, keepdims=True)],
                    [counts[np.ix_(others, chosen)].sum(axis=0), counts[np.ix_(others, others)].sum()]])
    name = f"{len(others)} others"
    return [f"<p>The {MOST_CLASSES} classes with the most confusions; <code>--json FILE</code> writes all.</p>",
            html.matrix(few, [*(rows[k] for k in chosen), name], [*(columns[k] for k in chosen), name], last)]


def _worst_detections(analysis: DetectionAnalysis, dataset: Any) -> list[str]:
    if not analysis.worst:
        return ["<p>No image has an error.</p>"]
    legend = " ".join(_mark(KIND_COLORS[kind], KIND_WORDS[kind]) for kind in KINDS)
    figures = []
    for judged in analysis.worst:
        truth = dataset[judged.index]
        figures.append(f"<figure><figcaption>{_image_caption(judged)}</figcaption>"
                       + html.picture(render_errors(truth, judged, analysis.class_names), judged.name)
                       + f'<div class="small">{_listed(judged, truth, analysis.class_names)}</div></figure>')
    return [f"<p>Those with the most errors among detections with a score of {analysis.score:g} or more. Thin and "
            f"green: right. Numbered: {legend}. A loose box has the true one beside it, thin.</p>",
            '<div class="grid">', *figures, "</div>"]


def _image_caption(judged: JudgedImage) -> str:
    right = int(judged.verdicts.found.sum())
    counts = [f"{count} {KIND_WORDS[kind]}" for kind, count in judged.verdicts.counts().items() if count]
    return f"<b>{html.escape(shorten(judged.name, MOST_LETTERS))}</b>: {right} right; {', '.join(counts)}"


def _listed(judged: JudgedImage, truth: Any, class_names: Sequence[str]) -> str:
    marks = error_marks(judged, truth, class_names)
    words = [_mark(KIND_COLORS[kind], str(n)) + html.escape(text)
             for n, (kind, _, text) in enumerate(marks[:MOST_LISTED], 1)]
    return " &nbsp; ".join(words) + (f" and {len(marks) - MOST_LISTED} more" if len(marks) > MOST_LISTED else "")


def _mark(color: Sequence[int], text: str) -> str:
    return f'<span class="mark" style="{color_text(color)}">{html.escape(text)}</span>'


# ---------------------------------------------------------------------------------------------------------
# Labels
# ---------------------------------------------------------------------------------------------------------
def segmentation_page(analysis: SegmentationAnalysis, dataset: Any, title: str) -> str:
    """Return the report of a network that labels pixels. dataset: the images that ``analysis`` has seen, in order."""
    measures = {name: value for name, value in analysis.measures().items() if not name.startswith("iu ")}
    columns = ("pixels", "predicted", "accuracy", "IU")
    rows = [[row["class"], *(float(row[name]) for name in columns)] for row in analysis.class_rows()]
    return html.page(title, [
        f"<p>{analysis.images:,} images, {int(analysis.matrix.matrix.sum()):,} pixels with a class.</p>",
        html.table(["measure", "value"], [[NAMES.get(name, name.replace("_", " ")), value]
                                          for name, value in measures.items()]),
        "<h2>Classes</h2>", html.table(["class", *columns], rows),
        '<p class="small">pixels: the share of the class in the truth; predicted: in the prediction. accuracy: the '
        "share of its pixels that were found. IU: intersection over union, which also counts pixels of other classes "
        "that were taken for it (FCN, sec. 5). A dash: no such pixel.</p>",
        "<h2>Confusions</h2>", *_label_confusions(analysis),
        "<h2>The worst images</h2>", *_worst_labels(analysis, dataset)])


def _label_confusions(analysis: SegmentationAnalysis) -> list[str]:
    names, counts = analysis.class_names, analysis.matrix.matrix
    pairs: Counter[tuple[int, int]] = Counter({(i, j): int(n) for (i, j), n in np.ndenumerate(counts) if n and i != j})
    words = [f"{names[i]} taken for {names[j]}: {n / counts.sum():.2%} of all pixels"
             for (i, j), n in pairs.most_common(MOST_CONFUSIONS)]
    return ["<p>Rows: the truth. Columns: the prediction, in percent of the row, that is of the pixels of the class."
            "</p>", *_matrix(counts, names, names, "pixels"),
            f"<p>Most frequent: {html.escape('; '.join(words) or 'none')}.</p>"]


def _worst_labels(analysis: SegmentationAnalysis, dataset: Any) -> list[str]:
    colors, bare = label_colors(analysis.class_names)
    legend = " ".join(html.escape(f"{name} (not tinted)") if bare and k == 0 else _mark(colors[k].tolist(), name)
                      for k, name in enumerate(analysis.class_names))
    figures = []
    for judged in analysis.worst:
        picture = render_label_errors(dataset[judged.index], judged.labels, analysis.class_names)
        figures.append(f"<figure><figcaption>{_labels_caption(judged, analysis.class_names)}</figcaption>"
                       + html.picture(picture, judged.name) + "</figure>")
    return ["<p>Those with the lowest mean IU over the classes in the image. From left to right: the image, the truth, "
            "the prediction, and the wrong pixels in red. Void is nearly white.</p>",
            f'<p class="small">Classes: {legend}</p>', *figures]


def _labels_caption(judged: JudgedLabels, class_names: Sequence[str]) -> str:
    words = [f"{class_names[i]} taken for {class_names[j]}: {share:.1%}" for share, i, j in judged.confusions
             if share >= 0.0005]
    return (f"<b>{html.escape(shorten(judged.name, MOST_LETTERS))}</b>: mean IU {judged.mean_iu:.3f}; "
            + html.escape("; ".join(words) or "no pixel is wrong"))
