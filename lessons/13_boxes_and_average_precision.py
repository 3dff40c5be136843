"""
Boxes and average precision: how a detector is judged
=====================================================

A detector returns boxes, classes and scores. This lesson goes from two boxes to one number: IoU, box regression targets,
non-maximum suppression, then average precision step by step, by the rules of PASCAL VOC (Everingham et al., 2010) and of
COCO (Lin et al., 2014). No network is trained here. The "detectors" are the ground truth with errors added, so we know
what is wrong with each. Beside it: `minicv/detection/boxes.py`, `nms.py` and `minicv/metrics/detection.py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("13_boxes_and_average_precision", __doc__, needs="boxes")

import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np

from minicv.data import open_dataset
from minicv.data.errors import DataWarning
from minicv.detection import Detections, box_iou, decode_boxes, encode_boxes, nms
from minicv.metrics import CocoEvaluator, VOCEvaluator
from minicv.metrics.detection import IOU_THRESHOLDS, average_precision, precision_envelope
from minicv.viz import PALETTE, draw_boxes, draw_image, grouped_bars

BLUE, ORANGE, GREEN, PINK = PALETTE[[5, 1, 3, 7]] / 255
warnings.simplefilter("ignore", DataWarning)

# %%
# The images are generated scenes with two to six objects. With `--data` they are the first images of a real data set.


def load_samples(count, seed):
    if lesson.data:
        real = open_dataset(lesson.data, "val")
        return [real[(seed * count + i) % len(real)] for i in range(count)], real.class_names
    scenes = open_dataset("shape-boxes", "val", count=count, size=128, seed=seed, objects=(2, 6))
    return list(scenes), scenes.class_names


# %%
# Two boxes: intersection over union
# ----------------------------------
# A box is (x1, y1, x2, y2) in pixels, with continuous coordinates: its width is x2 - x1. Intersection over union (IoU) is
# the area that two boxes share, divided by the area that they cover together: 1 for equal boxes, 0 for boxes apart. We
# compute it by hand for a box P and a box G, and compare it with `box_iou`.

a, b = np.array([10, 12, 50, 42.0]), np.array([24, 20, 60, 56.0])
width, height = max(min(a[2], b[2]) - max(a[0], b[0]), 0), max(min(a[3], b[3]) - max(a[1], b[1]), 0)
common = width * height
union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
print(f"intersection {width:g} x {height:g} = {common:g}, union {union:g}, IoU {common / union:.4f}; "
      f"box_iou: {box_iou(a[None], b[None])[0, 0]:.4f}")

# %%
# IoU judges a small box more harshly. On the right, a square of 16, 32 or 96 pixels is compared with a copy of itself
# that has slipped to the right. Watch where each curve falls below the gray line, the IoU of 0.5 that VOC asks for.

figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.3), width_ratios=[1, 1.3], layout="constrained")
draw_image(axes[0], np.ones((3, 64, 72)), f"IoU = {common:g} / {union:g} = {common / union:.2f}")
axes[0].add_patch(plt.Rectangle((24, 20), width, height, color="0.8"))
draw_boxes(axes[0], [a], color=BLUE, texts=["P"])
draw_boxes(axes[0], [b], color=ORANGE, texts=["G"], style="--")
for side, color, style in ((16, ORANGE, "-"), (32, GREEN, "--"), (96, BLUE, ":")):
    shift = np.linspace(0, 20, 81)
    moved = np.stack([shift, 0 * shift, shift + side, 0 * shift + side], axis=1)
    iou = box_iou(moved, np.array([[0, 0, side, side]], float))[:, 0]
    axes[1].plot(shift, iou, linestyle=style, color=color, lw=2, label=f"{side} pixels wide")
axes[1].axhline(0.5, color="0.6", lw=1)
axes[1].set(xlabel="box moved to the right by (pixels)", ylabel="IoU", ylim=(0, 1), title="One slip, three sizes")
axes[1].legend(fontsize=8)
lesson.save(figure, "iou")

# %%
# A slip of 6 pixels costs the box of 16 pixels its match: its IoU is below 0.5. The box of 96 pixels hardly notices it.
#
# Regression targets: what a box regressor learns
# -----------------------------------------------
# A network moves a proposal P onto an object G by four numbers that do not depend on the size of P (R-CNN, app. C). With
# the centers (P_x, P_y), (G_x, G_y) and the widths and heights P_w, P_h, G_w, G_h, they are t_x = (G_x - P_x) / P_w and
# t_w = log(G_w / P_w), and likewise t_y and t_h. Decoding them must give G back.

t = encode_boxes(b[None], a[None])
print(f"from P {a} to G {b}: t = {t[0].round(3)}; and back: {decode_boxes(t, a[None])[0]}")

# %%
# Non-maximum suppression
# -----------------------
# A detector finds one object many times. Non-maximum suppression (NMS) keeps the box with the highest score, drops every
# box that overlaps it by more than a threshold, here an IoU of 0.3, and repeats with the rest. Fourteen noisy copies of
# the true boxes stand in for a detector's output; the loop below must keep the same boxes as `nms`.

rng = np.random.default_rng(lesson.seed)
some, names = load_samples(12, lesson.seed)
scene = max(some, key=lambda sample: len(sample.boxes))
at = rng.integers(0, len(scene.boxes), 14)
sides = np.tile(scene.boxes[:, 2:] - scene.boxes[:, :2], 2)[at]
many = (scene.boxes[at] + rng.normal(0, 0.09, (14, 4)) * sides).astype(np.float32)
scores = rng.uniform(0.2, 1, 14)
keep = nms(many, scores, 0.3)
left, by_hand = sorted(range(14), key=lambda i: -scores[i]), []
while left:
    best, *left = left
    by_hand.append(best)
    left = [i for i in left if box_iou(many[[best]], many[[i]])[0, 0] <= 0.3]
print(f"of 14 boxes stay {keep.tolist()}; by hand {by_hand}")

figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
draw_image(axes[0], scene.image, "14 detections")
draw_boxes(axes[0], many, color=BLUE, width=1.2)
draw_image(axes[1], scene.image, f"after NMS: {len(keep)} are left")
draw_boxes(axes[1], many[keep], color=BLUE, texts=[f"{scores[i]:.2f}" for i in keep])
lesson.save(figure, "nms")

# %%
# Each detected object keeps one box, the one with the highest score, which is not always the best placed.
#
# Detectors whose errors we know
# ------------------------------
# To see what a measure rewards, we build detectors from the truth. ``jitter`` is the standard deviation of each side, as
# a share of the box; ``miss`` the share of objects not found; ``extra`` the mean number of false boxes in an image.
# Scores of right boxes tend to be higher, but not always.


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
# Average precision: right or wrong
# ---------------------------------
# Sort the detections of one class from all images by falling score (here all classes count as one). A detection is right if
# the object that it overlaps most has IoU >= 0.5 and was not found before; a second box on an object is wrong.

few, _ = load_samples(3, lesson.seed + 1)
given = [detector(sample, np.random.default_rng([lesson.seed, 3, i]), 0.16, 0.15, 1.7) for i, sample in enumerate(few)]
table, taken = [], [set() for _ in few]
ranked = sorted([(found.scores[d], i, d) for i, found in enumerate(given) for d in range(len(found))], reverse=True)
for score, i, d in ranked:
    iou = box_iou(given[i].boxes[[d]], few[i].boxes)[0]
    g = iou.argmax()
    table.append((i, d, score, iou[g], right := iou[g] >= 0.5 and g not in taken[i]))
    if right:
        taken[i].add(g)

figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), layout="constrained")
for n, (ax, sample, found) in enumerate(zip(axes, few, given, strict=True)):
    draw_image(ax, sample.image, f"image {n}: rank and IoU of each detection")
    draw_boxes(ax, sample.boxes, color="k", width=1, style=":")
    for rank, (i, d, _, iou, right) in enumerate(table, 1):
        if i == n:
            color, style = (BLUE, "-") if right else (ORANGE, "--")
            draw_boxes(ax, found.boxes[[d]], color=color, style=style, texts=[f"{rank}: {iou:.2f}"])
lesson.save(figure, "ranked")

# %%
# The truth is dotted, right detections are blue, wrong ones orange and dashed. A dotted box without a blue one was missed.
#
# Average precision: the curve
# ----------------------------
# Go down the list. Precision is the number right so far, divided by the detections so far; recall is the number right so
# far, divided by the objects. Recall can only rise; precision falls with each wrong detection.

objects = sum(len(sample.boxes) for sample in few)
right_so_far, precision, recall = 0, [], []
print(f"\n{objects} objects\n rank    image  score   IoU  right?  precision  recall")
for rank, (i, _, score, iou, right) in enumerate(table, 1):
    right_so_far += right
    precision.append(right_so_far / rank)
    recall.append(right_so_far / objects)
    print(f"{rank:5d} {i:8d} {score:6.2f} {iou:5.2f}  {'yes' if right else 'no ':6s} {precision[-1]:10.2f} "
          f"{recall[-1]:7.2f}")

# %%
# Average precision: one number
# -----------------------------
# Average precision (AP) is the area under this curve, after its zigzag is removed: at each recall, take the best precision
# at this recall or a higher one. VOC since 2010 takes the exact area, VOC before took the mean at the 11 recalls 0, 0.1,
# ..., 1, COCO takes 101 recalls.

ap = sum((r - last) * max(precision[n:]) for n, (last, r) in enumerate(zip([0, *recall], recall, strict=False)))
at_11 = [max((p for p, r in zip(precision, recall, strict=True) if r >= k / 10), default=0) for k in range(11)]
curves = np.array(precision), np.array(recall)
ap_exact, ap_11 = average_precision(*curves), average_precision(*curves, 11)
print(f"AP by hand: {ap:.4f} exact, {sum(at_11) / 11:.4f} from 11 points; average_precision: {ap_exact:.4f}, "
      f"{ap_11:.4f}, from 101 points {average_precision(*curves, 101):.4f}")
envelope = precision_envelope(curves[0])

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
ax.step([0, *recall], [envelope[0], *envelope], where="pre", color=PINK, lw=2, label="best precision from here on")
ax.plot(recall, precision, ".-", color="0.35", lw=1, label="after each detection (numbers: rank)")
ax.plot(np.arange(11) / 10, at_11, "o", mfc="none", color=GREEN, ms=8, label="the 11 points")
for rank, (p, r, row) in enumerate(zip(precision, recall, table, strict=True), 1):
    ax.text(r + 0.012, p - 0.045, rank, fontsize=7, color=BLUE if row[4] else "#a05a00")
ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05),
       title=f"AP {ap:.3f} exact, {sum(at_11) / 11:.3f} from 11 points")
ax.legend(fontsize=8, loc="lower left")
lesson.save(figure, "average_precision")

# %%
# Each wrong detection (orange rank) draws the gray curve straight down; the pink line ignores such a dip if a later point
# is higher. AP is the area under the pink line. The green circles sample it at only 11 places, so their mean differs.

lesson.claim("M2", "VOC, sec. 4.2", "the two AP of VOC follow from one list of right and wrong",
             f"by hand {ap:.6f} and {sum(at_11) / 11:.6f}; package {ap_exact:.6f} and {ap_11:.6f}",
             abs(ap - ap_exact) < 1e-9 and abs(sum(at_11) / 11 - ap_11) < 1e-9)

# %%
# The same detections, three rules (claim M2)
# -------------------------------------------
# COCO computes AP at ten IoU thresholds, 0.5 to 0.95, and takes the mean: a box must also be well placed. So two detectors
# can change places: a "loose" one finds nearly every object, but roughly; a "tight" one misses more, but its boxes fit.

KINDS = {"loose": {"jitter": 0.09, "miss": 0.05}, "tight": {"jitter": 0.02, "miss": 0.25}}
seeds, count = (2, 20) if lesson.quick else (8, 80)
results = np.zeros((seeds, len(KINDS), 3))  # VOC exact, VOC 11 points, COCO
by_iou = np.zeros((seeds, len(KINDS), len(IOU_THRESHOLDS)))
for s, (n, options) in itertools.product(range(seeds), enumerate(KINDS.values())):
    samples, names = load_samples(count, lesson.seed + 100 + s)
    voc, old, coco = VOCEvaluator(len(names)), VOCEvaluator(len(names), points=11), CocoEvaluator(len(names))
    for i, sample in enumerate(samples):
        found = detector(sample, np.random.default_rng([lesson.seed, s, n, i]), **options)
        for evaluator in (voc, old, coco):
            evaluator.update(found, sample)
    results[s, n] = voc.mean_ap, old.mean_ap, np.nanmean(coco.ap())
    by_iou[s, n] = [np.nanmean(coco.ap(threshold=t)) for t in IOU_THRESHOLDS]
    if s == n == 0:
        shown = coco
mean, spread = results.mean(0), results.std(0)
for kind, m, d in zip(KINDS, mean, spread, strict=True):
    print(f"{kind}: VOC {m[0]:.3f} +- {d[0]:.3f}, VOC of 11 points {m[1]:.3f} +- {d[1]:.3f}, "
          f"COCO {m[2]:.3f} +- {d[2]:.3f}")

# %%
# Left: COCO's ten precision-recall curves of the loose detector for one class, one for each IoU threshold. Middle: mAP, the
# mean AP over the classes, against the threshold. Right: mAP by each rule. Error bars are deviations over the seeds.

figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.7), layout="constrained")
for t, threshold in enumerate(IOU_THRESHOLDS):
    axes[0].plot(np.linspace(0, 1, 101), shown.precision(0)[t], color=plt.get_cmap("cividis")(t / 10), lw=1.8,
                 label=f"{threshold:.2f}")
axes[0].set(xlabel="recall", ylabel="precision", ylim=(0, 1.05), title=f"loose detector, {names[0]}")
axes[0].legend(fontsize=7, title="IoU threshold", title_fontsize=7, loc="upper left", bbox_to_anchor=(1, 1.02))
for n, (kind, color, style) in enumerate(zip(KINDS, (BLUE, ORANGE), ("o-", "s--"), strict=True)):
    axes[1].errorbar(IOU_THRESHOLDS, by_iou[:, n].mean(0), by_iou[:, n].std(0), fmt=style, color=color, label=kind)
axes[1].set(xlabel="IoU threshold", ylabel="mAP", ylim=(0, 1), title="mAP against the threshold")
grouped_bars(axes[2], ["VOC, exact", "VOC, 11 points", "COCO"], dict(zip(KINDS, mean, strict=True)),
             dict(zip(KINDS, spread, strict=True)))
axes[2].set(ylabel="mAP", ylim=(0, 1.15), title="one pair of detectors, three rules")
axes[1].legend(fontsize=8)
lesson.save(figure, "three_rules")

# %%
# At an IoU of 0.5 the loose detector wins, because it finds more. From about 0.7 on its boxes no longer count, and the
# tight one wins. VOC looks only at 0.5; COCO averages over all thresholds, so its order is the reverse.

gap = np.abs(results[..., 0] - results[..., 1])
same_order = (results[:, 0, 0] > results[:, 1, 0]) == (results[:, 0, 1] > results[:, 1, 1])
lesson.claim("M2b", "VOC 2010, on its exact area", "11 points are coarse: they move AP, but change no ranking",
             f"mean AP moves by {gap.mean():.4f}, at most {gap.max():.4f}; the two detectors keep their order in "
             f"{same_order.sum()} of {seeds} seeds", gap.max() > 0 and same_order.all())
flips = (results[:, 0, 0] > results[:, 1, 0]) & (results[:, 0, 2] < results[:, 1, 2])
lesson.claim("M2c", "COCO, on its ten IoUs", "VOC AP and COCO AP rank the same detections differently: COCO asks for "
             "exact boxes", f"loose {mean[0, 0]:.3f} against tight {mean[1, 0]:.3f} by VOC, {mean[0, 2]:.3f} against "
             f"{mean[1, 2]:.3f} by COCO; the order is reversed in {flips.sum()} of {seeds} seeds", flips.all())
lesson.finish()
