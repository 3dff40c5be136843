"""
Semantic, instance, panoptic: three answers to one picture
==========================================================

Semantic segmentation gives each pixel a class: two things that touch are one blot. Instance segmentation gives each
thing a mask and a score: masks may overlap, and the sky has none. Panoptic segmentation (Kirillov et al., CVPR 2019)
asks for both at once: each pixel gets a class, and things are told apart. Each has its own measure: mIoU, AP of masks,
and PQ = SQ x RQ. This lesson makes answers with known faults and asks which measure sees which. No network is trained.
Beside it: `minicv/metrics/panoptic.py`, `detection.py`, `segmentation.py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("22_semantic_instance_panoptic", __doc__)

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

from minicv.data.generated.shape_boxes import draw_shape_boxes, surface
from minicv.data.generated.shapes import random_color
from minicv.data.readers.detection import boxes_of_masks
from minicv.data.sample import DetectionSample
from minicv.detection import Detections
from minicv.metrics import CocoEvaluator, ConfusionMatrix, PanopticQuality
from minicv.viz import PALETTE, color_instances, draw_boxes, draw_image, label_edges, overlay_masks

CLASSES = ("sky", "ground", "disc", "square")  # two kinds of stuff, two of things
THINGS = np.array([False, False, True, True])
SIZE = (112, 144)
BLUE, ORANGE, GREEN, PINK, SKY = PALETTE[[5, 1, 3, 7, 2]] / 255

# %%
# A picture and its truth
# -----------------------
# Things of one class that touch, before sky and ground. ``segments``: 1 is the sky, 2 the ground, then the things.


def scene(rng):
    image, masks, labels = draw_shape_boxes(SIZE, rng, class_names=CLASSES[2:], objects=(4, 7), radius=(0.1, 0.22),
                                          crowding=0.75, visible=0.7)
    x = np.arange(SIZE[1])
    horizon = SIZE[0] * (0.5 + 0.08 * np.sin(x / 20 + rng.uniform(0, 6)))
    below = np.arange(SIZE[0])[:, None] + 0.5 > horizon
    high = random_color(rng)
    stuff = np.where(below, surface(random_color(rng, high), SIZE, rng, 0.2), surface(high, SIZE, rng, 0.2))
    segments = below + 1
    for number, mask in enumerate(masks, start=3):
        segments[mask] = number
    image = np.where(masks.any(axis=0), image, stuff.clip(0, 1)).astype(np.float32)
    return image, segments, np.array([0, 1, *(labels + 2)])


# %%
# From two answers to a panoptic one
# ----------------------------------
# Kirillov et al. combine an instance and a semantic answer: things in the order of their scores, each takes the pixels
# that are still free, unless too few are; where no thing is, the stuff of the semantic answer stays.


def combine(masks, scores, labels, semantic):
    segments, classes = np.zeros(semantic.shape, int), []
    for r in np.argsort(-scores, kind="stable"):
        free = masks[r] & (segments == 0)
        if free.sum() > 0.5 * masks[r].sum():
            classes.append(labels[r] + 2)
            segments[free] = len(classes)
    for k in (0, 1):
        rest = (semantic == k) & (segments == 0)
        if rest.any():
            classes.append(k)
            segments[rest] = len(classes)
    return segments, np.array(classes, int)


# %%
# Answers with one fault each
# ---------------------------
# Every one is made from the truth: a semantic map (H, W), and masks with scores and classes.

FAULTS = ("none", "touching things merged", "borders 2 pixels off", "a third missed", "12 low-scored guesses",
          "half the sky called ground")


def answer(fault, segments, classes, rng):
    semantic, count = classes[segments - 1], len(classes) - 2
    masks, labels = segments == np.arange(3, count + 3)[:, None, None], classes[2:] - 2
    scores = rng.uniform(0.6, 1, count)
    if fault == "touching things merged":  # all that a semantic answer can say: connected pixels of one class
        pieces = [(ndimage.label(semantic == k + 2), k) for k in (0, 1)]
        masks = np.array([piece == n for (piece, total), _ in pieces for n in range(1, total + 1)])
        labels = np.array([k for (_, total), k in pieces for _ in range(total)])
        scores = rng.uniform(0.6, 1, len(masks))
    elif fault == "borders 2 pixels off":
        masks = np.array([ndimage.binary_erosion(m, iterations=2) for m in masks])
        stuff = ndimage.distance_transform_edt(semantic > 1, return_distances=False, return_indices=True)
        lost = (semantic > 1) & ~masks.any(axis=0)
        semantic = np.where(lost, semantic[tuple(stuff)], semantic)  # what the things lose goes to the nearest stuff
    elif fault == "a third missed":
        gone = rng.permutation(count)[:max(count // 3, 1)]
        stuff = ndimage.distance_transform_edt(semantic > 1, return_distances=False, return_indices=True)
        semantic = np.where(masks[gone].any(axis=0), semantic[tuple(stuff)], semantic)
        masks, labels, scores = (np.delete(part, gone, axis=0) for part in (masks, labels, scores))
    elif fault == "12 low-scored guesses":
        y, x = np.indices(SIZE)
        at, r = rng.uniform(0, SIZE, (12, 2)), rng.uniform(5, 12, 12)
        guesses = (y - at[:, :1, None]) ** 2 + (x - at[:, 1:, None]) ** 2 < r[:, None, None] ** 2
        masks, labels = np.concatenate([masks, guesses]), np.concatenate([labels, rng.integers(0, 2, 12)])
        scores = np.concatenate([scores, rng.uniform(0.05, 0.4, 12)])
    elif fault == "half the sky called ground":
        semantic = np.where((semantic == 0) & (np.arange(SIZE[1]) < SIZE[1] // 2), 1, semantic)
    return semantic, masks, scores.astype(np.float32), labels


rng = np.random.default_rng([lesson.seed, 5])
image, segments, classes = scene(rng)
semantic, masks, scores, labels = answer("none", segments, classes, rng)
blots = ndimage.label(semantic == 2)[1] + ndimage.label(semantic == 3)[1]
figure, axes = plt.subplots(1, 4, figsize=(14.5, 3.5))
draw_image(axes[0], image, "a picture")
colours = PALETTE[[2, 3, 1, 7]]
draw_image(axes[1], colours[semantic], f"semantic: 4 classes, {blots} blots of things")
draw_image(axes[2], overlay_masks(image, masks), f"instance: {len(masks)} masks with scores, no stuff")
draw_boxes(axes[2], boxes_of_masks(masks), color="k", width=0.8, texts=[f"{s:.2f}" for s in scores])
things = np.where(segments > 2, segments - 2, 0)
panoptic = np.where((segments > 2)[..., None], color_instances(things), colours[semantic])
draw_image(axes[3], np.where(label_edges(segments)[..., None], 255, panoptic).astype(np.uint8),
             f"panoptic: {len(classes)} segments, every pixel in one")
figure.tight_layout()
lesson.save(figure, "three_answers")

# %%
# Panoptic quality, step by step
# ------------------------------
# A predicted and a true segment of one class match if their IoU is above 0.5. Two predicted segments cannot both have
# more than half in common with one true segment, so the matching is unique: no search is needed.

semantic = answer("borders 2 pixels off", segments, classes, rng)[0]  # an answer with several faults at once
_, masks, scores, labels = answer("touching things merged", segments, classes, rng)
masks = np.array([ndimage.binary_erosion(m, iterations=2) for m in masks])
_, guesses, low, kinds = (part[-1:] for part in answer("12 low-scored guesses", segments, classes, rng))
mixed, mixed_classes = combine(np.concatenate([masks, guesses]), np.concatenate([scores, low]),
                               np.concatenate([labels, kinds]), semantic)
iou = np.zeros((len(mixed_classes), len(classes)))
for p, g in np.ndindex(*iou.shape):
    if mixed_classes[p] == classes[g]:
        a, b = mixed == p + 1, segments == g + 1
        iou[p, g] = (a & b).sum() / (a | b).sum()
print("\nclass    sum of IoU  TP  FP  FN     SQ     RQ     PQ")
by_hand = []
for k, name in enumerate(CLASSES):
    matched = iou[mixed_classes == k][:, classes == k]
    TP, total = (matched > 0.5).sum(), matched[matched > 0.5].sum()
    FP, FN = (mixed_classes == k).sum() - TP, (classes == k).sum() - TP
    SQ, RQ = total / max(TP, 1), TP / (TP + FP / 2 + FN / 2)
    by_hand.append((SQ * RQ, SQ, RQ))
    print(f"{name:8s} {total:10.3f} {TP:3d} {FP:3d} {FN:3d} {SQ:6.3f} {RQ:6.3f} {SQ * RQ:6.3f}")
quality = PanopticQuality(len(CLASSES))
quality.update(mixed, mixed_classes, segments, classes)
mean_by_hand, mean_by_package = np.mean(by_hand, axis=0)[0], quality.mean().pq
print(f"mean PQ {mean_by_hand:.4f}; PanopticQuality: {mean_by_package:.4f}")

figure, axes = plt.subplots(1, 3, figsize=(14, 4), width_ratios=[1, 1, 1.25])
for ax, (parts, title) in zip(axes, ((segments, "the truth"), (mixed, "an answer, with numbers and colours of its own")), strict=False):
    draw_image(ax, np.where(label_edges(parts)[..., None], 255, color_instances(parts)).astype(np.uint8), title)
    for n in range(1, parts.max() + 1):
        inner = ndimage.distance_transform_edt(np.pad(parts == n, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(inner.argmax(), inner.shape)
        ax.text(x, y, n, ha="center", va="center", fontsize=8, bbox={"fc": "w", "ec": "none", "pad": 0.8})
axes[2].imshow(iou, cmap="Greys", vmin=0, vmax=1.6, aspect="auto")
for (p, g), v in np.ndenumerate(iou):
    if v > 0.005:
        axes[2].text(g, p, f"{v:.2f}", ha="center", va="center", fontsize=8, weight="bold" if v > 0.5 else None,
                     color=GREEN * 0.7 if v > 0.5 else "k")
axes[2].set(xlabel="true segment", ylabel="answer's segment")
axes[2].set_xticks(range(len(classes)), [f"{n + 1}\n{CLASSES[k]}" for n, k in enumerate(classes)], fontsize=7)
axes[2].set_yticks(range(len(mixed_classes)), [f"{CLASSES[k]} {n + 1}" for n, k in enumerate(mixed_classes)], fontsize=7)
axes[2].set_title("IoU of segments of one class; bold: above 0.5, a match", fontsize=9)
figure.tight_layout()
lesson.save(figure, "panoptic_quality")

# %%
# Which measure sees which fault? (claim M3)
# ------------------------------------------

NAMES = ("mIoU", "AP of masks", "PQ", "SQ", "RQ")
seeds, count = (2, 3) if lesson.quick else (6, 16)
table = np.zeros((seeds, len(FAULTS), len(NAMES)))
for s, (f, fault) in ((s, pair) for s in range(seeds) for pair in enumerate(FAULTS)):
    confusion, coco, quality = ConfusionMatrix(len(CLASSES)), CocoEvaluator(2, masks=True), PanopticQuality(len(CLASSES))
    for i in range(count):
        image, segments, classes = scene(np.random.default_rng([lesson.seed, s, i]))
        semantic, masks, scores, labels = answer(fault, segments, classes, np.random.default_rng([lesson.seed, s, i, 1]))
        true_masks = segments == np.arange(3, len(classes) + 1)[:, None, None]
        truth = DetectionSample(image, boxes_of_masks(true_masks), classes[2:] - 2, "", true_masks)
        confusion.update(semantic, classes[segments - 1])
        coco.update(Detections(boxes_of_masks(masks), scores, labels, masks), truth)
        quality.update(*combine(masks, scores, labels, semantic), segments, classes)
    table[s, f] = confusion.mean_iu, coco.summary()["AP"], *quality.mean()

mean, spread = table.mean(0), table.std(0)
print(f"\n{'fault':28s}" + "".join(f"{name:>18s}" for name in NAMES))
for fault, m, d in zip(FAULTS, mean, spread, strict=True):
    print(f"{fault:28s}" + "".join(f"{a:10.3f} +- {b:.3f}" for a, b in zip(m, d, strict=True)))

figure, axes = plt.subplots(1, len(FAULTS), figsize=(15, 3.1), sharey=True)
for f, (ax, fault) in enumerate(zip(axes, FAULTS, strict=True)):
    ax.bar(range(5), mean[f], yerr=spread[f], color=[SKY, ORANGE, PINK, GREEN, BLUE], edgecolor="k", linewidth=0.5)
    for x, v in enumerate(mean[f]):
        ax.text(x, 0.03, f"{v:.2f}", ha="center", fontsize=7, rotation=90, va="bottom")
    ax.set_xticks(range(5), ["mIoU", "AP", "PQ", "SQ", "RQ"], fontsize=8)
    ax.set_title(fault, fontsize=9)
axes[0].set(ylim=(0, 1.04), ylabel="measure")
figure.suptitle("Each fault as each measure sees it", fontsize=10)
figure.tight_layout()
lesson.save(figure, "faults")

loss = table[:, :1] - table  # (seeds, fault, measure), what each fault costs
merged, rough, missed, guesses, stuff = (loss[:, f] for f in range(1, 6))


def told(values):
    return f"{values.mean():.3f} +- {values.std():.3f}"


lesson.claim("M3", "Kirillov et al., sec. 3", "a semantic answer cannot tell touching things apart, and mIoU does not "
             "notice; PQ and AP do", f"merging costs mIoU {told(merged[:, 0])}, AP {told(merged[:, 1])}, PQ "
             f"{told(merged[:, 2])} ({seeds} seeds)",
             (merged[:, 0] == 0).all() and (merged[:, 1:3] > 0.05).all())
lesson.claim("M3b", "Kirillov et al., sec. 1", "an instance answer knows no stuff: AP does not notice a wrong sky; mIoU and "
             "PQ do", f"half the sky wrong costs AP {told(stuff[:, 1])}, mIoU {told(stuff[:, 0])}, PQ {told(stuff[:, 2])}",
             (stuff[:, 1] == 0).all() and (stuff[:, [0, 2]] > 0.05).all())
lesson.claim("M3c", "Kirillov et al., sec. 4.3", "AP ranks by score and forgives low-scored guesses; PQ asks for one answer "
             "and does not", f"12 guesses a picture cost AP {told(guesses[:, 1])}, PQ {told(guesses[:, 2])}",
             (guesses[:, 1] < 0.02).all() and (guesses[:, 2] > 0.1).all())
lesson.claim("M3d", "Kirillov et al., eq. (2)", "PQ = SQ x RQ tells two faults apart: bad borders lower SQ, missing things "
             "lower RQ", f"borders cost SQ {told(rough[:, 3])} and RQ {told(rough[:, 4])}; misses cost SQ "
             f"{told(missed[:, 3])} and RQ {told(missed[:, 4])}; PQ of the drawn answer {mean_by_hand:.6f} by hand, "
             f"{mean_by_package:.6f} by the package",
             abs(mean_by_hand - mean_by_package) < 1e-9 and (rough[:, 3] > rough[:, 4]).all() and (missed[:, 4] > missed[:, 3]).all())
lesson.finish()
