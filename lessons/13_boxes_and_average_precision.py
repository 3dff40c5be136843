"""
Boxes and average precision: how a detector is judged
=====================================================

A detector gives boxes, classes and scores. This lesson goes from two boxes to one number: IoU, offsets, non-maximum
suppression, then average precision step by step, by PASCAL VOC's rules (Everingham et al., 2010) and by COCO's (Lin et
al., 2014). No network is trained here: the "detectors" are made from the truth, so we know what is wrong with each.
Beside it: `minicv/detection/boxes.py`, `nms.py` and `minicv/metrics/detection.py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("13_boxes_and_average_precision", __doc__)

import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np

from minicv.data import open_dataset
from minicv.data.errors import DataWarning
from minicv.detection import Detections, box_iou, decode_boxes, encode_boxes, nms
from minicv.metrics import CocoEvaluator, VOCEvaluator
from minicv.metrics.detection import IOU_THRESHOLDS, average_precision, precision_envelope
from minicv.viz import PALETTE, draw_boxes, draw_image

BLUE, ORANGE, GREEN, PINK = PALETTE[[5, 1, 3, 7]] / 255
warnings.simplefilter("ignore", DataWarning)


def pictures(count, seed, split="val"):
    """Generated scenes, or the first pictures of a real data set."""
    if lesson.data:
        real = open_dataset(lesson.data, split)
        return [real[(seed * count + i) % len(real)] for i in range(count)], real.class_names
    scenes = open_dataset("boxes", split, count=count, size=128, seed=seed, objects=(2, 6))
    return list(scenes), scenes.class_names


# %%
# Two boxes: intersection over union
# ----------------------------------
# A box is (x1, y1, x2, y2) in pixels, continuous: its width is x2 - x1. Two boxes agree as much as their intersection
# is of their union. That punishes a small box more: 3 pixels aside are little for a large one.

a, b = np.array([10, 12, 50, 42.0]), np.array([24, 20, 60, 56.0])
width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
common = max(width, 0) * max(height, 0)
union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
print(f"intersection {width:g} x {height:g} = {common:g}, union {union:g}, IoU {common / union:.4f}; "
      f"box_iou: {box_iou(a[None], b[None])[0, 0]:.4f}")

# %%
# Offsets: what a regressor learns
# --------------------------------
# A network moves a proposal P to an object G by four numbers that do not depend on the size of P (R-CNN, app. C):
# t_x = (G_x - P_x) / P_w, t_w = log(G_w / P_w), and likewise for y and h.

t = encode_boxes(b[None], a[None])
print(f"from P {a} to G {b}: t = {t[0].round(3)}; and back: {decode_boxes(t, a[None])[0]}")

# %%
# Non-maximum suppression
# -----------------------
# A detector finds an object many times. Keep the highest score, drop what overlaps it by more than a threshold, go on.

rng = np.random.default_rng(lesson.seed)
some, names = pictures(12, lesson.seed)
scene = max(some, key=lambda sample: len(sample.boxes))
at = rng.integers(0, len(scene.boxes), 14)
side = np.tile(scene.boxes[:, 2:] - scene.boxes[:, :2], 2)[at]
many = (scene.boxes[at] + rng.normal(0, 0.09, (14, 4)) * side).astype(np.float32)
scores = rng.uniform(0.2, 1, 14)
keep = nms(many, scores, 0.3)
left, by_hand = sorted(range(14), key=lambda i: -scores[i]), []
while left:
    best, *left = left
    by_hand.append(best)
    left = [i for i in left if box_iou(many[[best]], many[[i]])[0, 0] <= 0.3]
print(f"of 14 boxes stay {keep.tolist()}; by hand {by_hand}")

figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.4), width_ratios=[1, 1.1, 1, 1])
draw_image(axes[0], np.ones((3, 64, 72)), f"IoU = {common:g} / {union:g} = {common / union:.2f}")
axes[0].add_patch(plt.Rectangle((24, 20), width, height, color="0.8"))
draw_boxes(axes[0], [a], color=BLUE, texts=["P"])
draw_boxes(axes[0], [b], color=ORANGE, texts=["G"], style="--")
for size, colour, style in ((16, ORANGE, "-"), (32, GREEN, "--"), (96, BLUE, ":")):
    shift = np.linspace(0, 20, 81)
    moved = np.stack([shift, 0 * shift, shift + size, 0 * shift + size], 1)
    axes[1].plot(shift, box_iou(moved, np.array([[0, 0, size, size]], float))[:, 0], style, color=colour, lw=2,
                 label=f"{size} pixels wide")
axes[1].axhline(0.5, color="0.6", lw=1)
axes[1].set(xlabel="moved to the right by (pixels)", ylabel="IoU", ylim=(0, 1))
axes[1].set_title("the same slip costs a small box more", fontsize=9)
axes[1].legend(fontsize=8)
draw_image(axes[2], scene.image, "14 answers")
draw_boxes(axes[2], many, color=BLUE, width=1.2)
draw_image(axes[3], scene.image, f"suppressed: {len(keep)} are left")
draw_boxes(axes[3], many[keep], color=BLUE, texts=[f"{scores[i]:.2f}" for i in keep])
figure.tight_layout()
lesson.save(figure, "boxes")

# %%
# Detectors whose faults we know
# ------------------------------
# ``jitter``: deviation of each side, as a share of the box. ``miss``: share of the objects not found. ``extra``: wrong
# boxes per picture. Right boxes tend to have higher scores, but not always.


def detector(sample, rng, jitter, miss=0.1, extra=1.0):
    R = len(sample.boxes)
    found = np.flatnonzero(rng.random(R) >= miss)
    size = np.tile(sample.boxes[:, 2:] - sample.boxes[:, :2], 2)
    boxes = (sample.boxes + rng.normal(0, jitter, (R, 4)) * size)[found]
    wrong = rng.poisson(extra)
    H, W = sample.image.shape[1:]
    corner, side = rng.uniform(0, 0.7, (wrong, 2)), rng.uniform(0.1, 0.3, (wrong, 2))
    boxes = np.concatenate([boxes, np.concatenate([corner, corner + side], 1) * [W, H, W, H]]).astype(np.float32)
    labels = np.concatenate([sample.labels[found], rng.integers(0, len(names), wrong)])
    scores = np.concatenate([rng.beta(4, 2, len(found)), rng.beta(2, 4, wrong)]).astype(np.float32)
    order = np.argsort(-scores)
    return Detections(boxes[order], scores[order], labels[order])


# %%
# Average precision, step by step
# -------------------------------
# All answers of one class (here: all classes taken as one), of all pictures, by falling score. An answer is right if
# the object that it overlaps most has IoU >= 0.5 and was not found before. Going down the list,
# precision = right so far / answers so far, recall = right so far / objects.

few, _ = pictures(3, lesson.seed + 1)
given = [detector(sample, np.random.default_rng([lesson.seed, 3, i]), 0.16, 0.15, 1.7) for i, sample in enumerate(few)]
objects = sum(len(sample.boxes) for sample in few)
table, taken = [], [set() for _ in few]
everything = [(found.scores[d], i, d) for i, found in enumerate(given) for d in range(len(found))]
for score, i, d in sorted(everything, reverse=True):
    iou = box_iou(given[i].boxes[[d]], few[i].boxes)[0]
    g = iou.argmax()
    right = iou[g] >= 0.5 and g not in taken[i]
    if right:
        taken[i].add(g)
    table.append((i, d, score, iou[g], right))
right_so_far, precision, recall = 0, [], []
print(f"\n{objects} objects\n rank  picture  score   IoU  right?  precision  recall")
for rank, (i, _, score, iou, right) in enumerate(table, 1):
    right_so_far += right
    precision.append(right_so_far / rank)
    recall.append(right_so_far / objects)
    print(f"{rank:5d} {i:8d} {score:6.2f} {iou:5.2f}  {'yes' if right else 'no ':6s} {precision[-1]:10.2f} "
          f"{recall[-1]:7.2f}")

# %%
# From the curve to a number. The zigzag is first made to fall: at each recall, the best precision at this recall or a
# higher one. Then VOC since 2010 takes the exact area, VOC before took the mean at 11 recalls, COCO takes 101.

ap, at_11 = 0.0, []
for n, r in enumerate(recall):
    ap += (r - (recall[n - 1] if n else 0)) * max(precision[n:])
for k in range(11):
    at_11.append(max((p for p, r in zip(precision, recall, strict=True) if r >= k / 10), default=0))
curves = np.array(precision), np.array(recall)
print(f"AP by hand: {ap:.4f} exact, {sum(at_11) / 11:.4f} from 11 points; average_precision: "
      f"{average_precision(*curves):.4f}, {average_precision(*curves, 11):.4f}, "
      f"from 101 points {average_precision(*curves, 101):.4f}")

figure, axes = plt.subplots(1, 4, figsize=(14, 3.7), width_ratios=[1, 1, 1, 1.35])
for n, (ax, sample, found) in enumerate(zip(axes, few, given, strict=False)):
    mine = {d: (rank, iou, right) for rank, (i, d, _, iou, right) in enumerate(table, 1) if i == n}
    draw_image(ax, sample.image, f"picture {n}: rank and IoU of each answer")
    draw_boxes(ax, sample.boxes, color="k", width=1, style=":")
    for d, (rank, iou, right) in mine.items():
        draw_boxes(ax, found.boxes[[d]], color=BLUE if right else ORANGE, style="-" if right else "--",
                   texts=[f"{rank}: {iou:.2f}"])
ax = axes[3]
ax.step([0, *recall], [precision_envelope(curves[0])[0], *precision_envelope(curves[0])], where="pre", color=PINK, lw=2, label="made to fall")
ax.plot(recall, precision, ".-", color="0.35", lw=1, label="after each answer")
ax.plot(np.arange(11) / 10, at_11, "o", mfc="none", color=GREEN, ms=8, label="the 11 points")
for rank, (p, r, row) in enumerate(zip(precision, recall, table, strict=True), 1):
    ax.text(r + 0.012, p - 0.045, rank, fontsize=7, color=BLUE if row[4] else "#a05a00")
ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05))
ax.set_title(f"AP {ap:.3f} exact, {sum(at_11) / 11:.3f} from 11 points", fontsize=9)
ax.legend(fontsize=8, loc="lower left")
figure.suptitle("Answers (blue: right, orange dashed: wrong), the truth (dotted), and precision over recall", fontsize=10)
figure.tight_layout()
lesson.save(figure, "step_by_step")

# %%
# The same answers, three rules (claim M2)
# ----------------------------------------
# COCO asks for ten IoUs, 0.5 to 0.95, and takes the mean: a box must also be well placed. So two detectors can change
# places. A "loose" one finds nearly everything, roughly; a "tight" one misses more, but its boxes are exact.

KINDS = {"loose": {"jitter": 0.09, "miss": 0.05}, "tight": {"jitter": 0.02, "miss": 0.25}}
seeds, count = (2, 20) if lesson.quick else (8, 80)
results = np.zeros((seeds, len(KINDS), 3))  # VOC exact, VOC 11 points, COCO
by_iou = np.zeros((seeds, len(KINDS), len(IOU_THRESHOLDS)))
for s, (n, options) in itertools.product(range(seeds), enumerate(KINDS.values())):
    samples, names = pictures(count, lesson.seed + 100 + s)
    voc, old, coco = VOCEvaluator(len(names)), VOCEvaluator(len(names), points=11), CocoEvaluator(len(names))
    for i, sample in enumerate(samples):
        found = detector(sample, np.random.default_rng([lesson.seed, s, n, i]), **options)
        for judge in (voc, old, coco):
            judge.update(found, sample)
    results[s, n] = voc.mean_ap, old.mean_ap, np.nanmean(coco.ap())
    by_iou[s, n] = [np.nanmean(coco.ap(threshold=t)) for t in IOU_THRESHOLDS]
    if s == n == 0:
        shown = coco

mean, spread = results.mean(0), results.std(0)
for kind, m, d in zip(KINDS, mean, spread, strict=True):
    print(f"{kind}: VOC {m[0]:.3f} +- {d[0]:.3f}, VOC of 11 points {m[1]:.3f} +- {d[1]:.3f}, "
          f"COCO {m[2]:.3f} +- {d[2]:.3f}")

figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.5))
for t, threshold in enumerate(IOU_THRESHOLDS):
    axes[0].plot(np.linspace(0, 1, 101), shown.precision(0)[t], color=plt.get_cmap("cividis")(t / 10), lw=1.8,
                 label=f"{threshold:.2f}")
axes[0].set(xlabel="recall", ylabel="precision", ylim=(0, 1.05))
axes[0].set_title(f"loose detector, {names[0]}: COCO's ten curves", fontsize=9)
axes[0].legend(fontsize=7, title="IoU", title_fontsize=7, loc="upper left", bbox_to_anchor=(1, 1.02))
for n, (kind, colour, style) in enumerate(zip(KINDS, (ORANGE, BLUE), ("o-", "s--"), strict=True)):
    axes[1].errorbar(IOU_THRESHOLDS, by_iou[:, n].mean(0), by_iou[:, n].std(0), fmt=style, color=colour, lw=2, ms=4,
                     label=kind)
    axes[2].bar(np.arange(3) + 0.38 * (n - 0.5), mean[n], 0.36, yerr=spread[n], color=colour, label=kind,
                hatch="//" if n else None, edgecolor="w")
axes[1].set(xlabel="IoU that is asked for", ylabel="mean AP", ylim=(0, 1))
axes[1].set_title("the stricter, the better for the tight one", fontsize=9)
axes[2].set(xticks=range(3), ylabel="mean AP", ylim=(0, 1))
axes[2].set_xticklabels(["VOC, exact", "VOC, 11 points", "COCO"])
axes[2].set_title("one pair of detectors, three rules", fontsize=9)
for ax in axes[1:]:
    ax.legend(fontsize=8)
figure.tight_layout()
lesson.save(figure, "three_rules")

found = f"by hand {ap:.6f} and {sum(at_11) / 11:.6f}; package {average_precision(*curves):.6f} and " \
        f"{average_precision(*curves, 11):.6f}"
lesson.claim("M2", "VOC, sec. 4.2", "the two AP of VOC follow from one list of right and wrong", found,
             abs(ap - average_precision(*curves)) < 1e-9 and abs(sum(at_11) / 11 - average_precision(*curves, 11)) < 1e-9)
gap = np.abs(results[..., 0] - results[..., 1])
same_order = (results[:, 0, 0] > results[:, 1, 0]) == (results[:, 0, 1] > results[:, 1, 1])
lesson.claim("M2b", "VOC 2010, on its exact area", "11 points are coarse: they move AP, but change no ranking",
             f"mean AP moves by {gap.mean():.4f}, at most {gap.max():.4f}; the two detectors keep their order in "
             f"{same_order.sum()} of {seeds} seeds", gap.max() > 0 and same_order.all())
flips = (results[:, 0, 0] > results[:, 1, 0]) & (results[:, 0, 2] < results[:, 1, 2])
lesson.claim("M2c", "COCO, on its ten IoUs", "VOC AP and COCO AP rank the same answers differently: COCO asks for "
             "exact boxes", f"loose {mean[0, 0]:.3f} against tight {mean[1, 0]:.3f} by VOC, {mean[0, 2]:.3f} against "
             f"{mean[1, 2]:.3f} by COCO; the order is reversed in {flips.sum()} of {seeds} seeds", flips.all())
lesson.finish()
