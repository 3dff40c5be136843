"""
Semantic, instance, panoptic: three answers to one image
========================================================

Semantic segmentation gives each pixel a class: two things that touch become one blot. Instance segmentation gives each
thing a mask and a score: masks may overlap, and the sky has none. Panoptic segmentation (Kirillov et al., CVPR 2019)
asks for both at once: each pixel gets a class, and things are separated. Each has its own measure: mIoU, AP of masks,
and PQ = SQ x RQ. This lesson builds answers with known faults and asks which measure notices which. No network is trained.
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

# %%
# An image and its truth
# ----------------------
# The scenes have four classes: sky and ground are *stuff*, which has no separate objects; discs and squares are *things*,
# which are counted, and some of one class touch. ``segments`` numbers the parts of the image: 1 is the sky, 2 the ground, then
# the things. The last array returned is the class of each segment.

CLASSES = ("sky", "ground", "disc", "square")  # two of stuff, two of things
SIZE = (112, 144)


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
# Kirillov et al. combine an instance and a semantic answer. Things come in the order of their scores; each takes the pixels
# that are still free, unless less than half of its mask is. Where no thing is, the stuff of the semantic answer stays.


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
# Every answer is made from the truth: a semantic map (H, W), and masks with scores and classes. Each fault is a function. The
# first merges things that touch, as a semantic answer does: a mask is a connected region of pixels of one class. The second
# erodes every mask by two pixels; what a thing loses goes to the nearest stuff.


def merge_touching(semantic, masks, scores, labels, rng):
    pieces = [(k, *ndimage.label(semantic == k + 2)) for k in (0, 1)]
    masks = np.array([piece == n for _, piece, total in pieces for n in range(1, total + 1)])
    labels = np.array([k for k, _, total in pieces for _ in range(total)])
    return semantic, masks, rng.uniform(0.6, 1, len(masks)), labels


def nearest_stuff(semantic):
    """The semantic map with every thing replaced by the nearest stuff."""
    return semantic[tuple(ndimage.distance_transform_edt(semantic > 1, return_distances=False, return_indices=True))]


def erode_masks(semantic, masks, scores, labels, rng):
    masks = np.array([ndimage.binary_erosion(m, iterations=2) for m in masks])
    lost = (semantic > 1) & ~masks.any(axis=0)
    return np.where(lost, nearest_stuff(semantic), semantic), masks, scores, labels


# %%
# The third misses a third of the things. The fourth adds twelve guesses, discs at random places with low scores. The last
# calls the left half of the sky ground.


def miss_a_third(semantic, masks, scores, labels, rng):
    gone = rng.permutation(len(masks))[:max(len(masks) // 3, 1)]
    semantic = np.where(masks[gone].any(axis=0), nearest_stuff(semantic), semantic)
    return semantic, *(np.delete(part, gone, axis=0) for part in (masks, scores, labels))


def add_guesses(semantic, masks, scores, labels, rng):
    y, x = np.indices(SIZE)
    at, r = rng.uniform(0, SIZE, (12, 2)), rng.uniform(5, 12, 12)
    guesses = (y - at[:, :1, None]) ** 2 + (x - at[:, 1:, None]) ** 2 < r[:, None, None] ** 2
    masks, labels = np.concatenate([masks, guesses]), np.concatenate([labels, rng.integers(0, 2, 12)])
    return semantic, masks, np.concatenate([scores, rng.uniform(0.05, 0.4, 12)]), labels


def mistake_sky(semantic, masks, scores, labels, rng):
    return np.where((semantic == 0) & (np.arange(SIZE[1]) < SIZE[1] // 2), 1, semantic), masks, scores, labels


# %%
# ``answer`` applies a fault, or none, to the truth. Scores of true things are between 0.6 and 1.

FAULTS = {"none": None, "touching things merged": merge_touching, "borders 2 pixels off": erode_masks, "a third missed":
          miss_a_third, "12 low-scored guesses": add_guesses, "half the sky called ground": mistake_sky}


def answer(fault, segments, classes, rng):
    semantic, count = classes[segments - 1], len(classes) - 2
    parts = semantic, segments == np.arange(3, count + 3)[:, None, None], rng.uniform(0.6, 1, count), classes[2:] - 2
    semantic, masks, scores, labels = parts if FAULTS[fault] is None else FAULTS[fault](*parts, rng)
    return semantic, masks, scores.astype(np.float32), labels


# %%
# The three answers to one image, without faults. In the semantic answer things that touch are one blot of color. The instance
# answer has each thing with its score, and neither sky nor ground. The panoptic answer has both, and lines between segments.

rng = np.random.default_rng([lesson.seed, 5])
image, segments, classes = scene(rng)
semantic, masks, scores, labels = answer("none", segments, classes, rng)
blots = ndimage.label(semantic == 2)[1] + ndimage.label(semantic == 3)[1]
colors, things = PALETTE[[2, 3, 1, 7]], np.where(segments > 2, segments - 2, 0)
panoptic = np.where((segments > 2)[..., None], color_instances(things), colors[semantic])
figure, axes = plt.subplots(1, 4, figsize=(14.5, 3.3), layout="constrained")
draw_image(axes[0], image, "an image")
draw_image(axes[1], colors[semantic], f"semantic: 4 classes, {blots} blots of things")
draw_image(axes[2], overlay_masks(image, masks), f"instance: {len(masks)} masks with scores, no stuff")
draw_boxes(axes[2], boxes_of_masks(masks), color="k", width=0.8, texts=[f"{s:.2f}" for s in scores])
draw_image(axes[3], np.where(label_edges(segments)[..., None], 255, panoptic).astype(np.uint8),
             f"panoptic: {len(classes)} segments, every pixel in one")
lesson.save(figure, "three_answers")

# %%
# Panoptic quality, step by step
# ------------------------------
# A predicted and a true segment of one class match if their IoU is above 0.5. Two predicted segments cannot both do so with one
# true segment, so the matching is unique: no search is needed. We try it on an answer with three faults at once.

semantic = answer("borders 2 pixels off", segments, classes, rng)[0]
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

# %%
# For each class, TP is the number of matches, FP of predicted segments without a match, FN of true segments without one.
# Segmentation quality SQ is the mean IoU of the matches, recognition quality RQ = TP / (TP + FP / 2 + FN / 2), an F1 score, and
# PQ = SQ x RQ (Kirillov et al., eq. (2)).

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

# %%
# The truth and the answer, each with the numbers of its segments (colors are only there to separate them), and the IoU of
# every two segments of one class, darker for larger values. A green, bold number is above 0.5: a match.


def draw_segments(ax, parts, title):
    draw_image(ax, np.where(label_edges(parts)[..., None], 255, color_instances(parts)).astype(np.uint8), title)
    for n in range(1, parts.max() + 1):
        inner = ndimage.distance_transform_edt(np.pad(parts == n, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(inner.argmax(), inner.shape)
        ax.text(x, y, n, ha="center", va="center", fontsize=8, bbox={"fc": "w", "ec": "none", "pad": 0.8})


figure, axes = plt.subplots(1, 3, figsize=(14, 3.9), width_ratios=[1, 1, 1.25], layout="constrained")
draw_segments(axes[0], segments, "the truth")
draw_segments(axes[1], mixed, "the answer")
axes[2].imshow(iou, cmap="Greys", vmin=0, vmax=1.6, aspect="auto")
for (p, g), v in np.ndenumerate(iou):
    weight, color = ("bold", PALETTE[3] / 365) if v > 0.5 else (None, "k")
    axes[2].text(g, p, f"{v:.2f}" if v > 0.005 else "", ha="center", va="center", fontsize=8, weight=weight, color=color)
axes[2].set(xlabel="true segment", ylabel="answer's segment", title="IoU of segments of one class")
axes[2].set_xticks(range(len(classes)), [f"{n + 1}\n{CLASSES[k]}" for n, k in enumerate(classes)], fontsize=7)
axes[2].set_yticks(range(len(mixed_classes)), [f"{CLASSES[k]} {n + 1}" for n, k in enumerate(mixed_classes)], fontsize=7)
lesson.save(figure, "panoptic_quality")

# %%
# A row or column without a bold number is a false positive or a false negative. No row and no column has two.
#
# Which measure notices which fault? (claim M3)
# ---------------------------------------------
# Every fault is applied to many scenes, and judged by five measures. The semantic map gives mIoU, masks and scores give AP,
# and the combined answer gives PQ, SQ and RQ.

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

# %%
# One panel for each fault, one bar for each measure (mean over the seeds, and standard deviation). Compare every panel with
# the first, "none": a bar that is lower notices the fault.

figure, axes = plt.subplots(1, len(FAULTS), figsize=(15, 3.1), sharey=True, layout="constrained")
for f, (ax, fault) in enumerate(zip(axes, FAULTS, strict=True)):
    bars = ax.bar(range(5), mean[f], yerr=spread[f], color=PALETTE[[2, 1, 7, 3, 5]] / 255, edgecolor="k", linewidth=0.5)
    ax.bar_label(bars, [f"{v:.2f}" for v in mean[f]], label_type="center", fontsize=7)
    ax.set_xticks(range(5), ["mIoU", "AP", "PQ", "SQ", "RQ"], fontsize=8)
    ax.set_title(fault, fontsize=9)
axes[0].set(ylim=(0, 1.04), ylabel="measure")
lesson.save(figure, "faults")

# %%
# Merging leaves mIoU at 1, a wrong sky leaves AP at 1, and guesses hardly change AP. PQ drops in every panel. In the claims,
# the cost of a fault is the measure without it, minus the measure with it.

loss = table[:, :1] - table  # (seeds, fault, measure), what each fault costs
merged, rough, missed, guesses, stuff = (loss[:, f] for f in range(1, 6))


def text(values):
    return f"{values.mean():.3f} +- {values.std():.3f}"


lesson.claim("M3", "Kirillov et al., sec. 3", "a semantic answer cannot tell touching things apart, and mIoU does not "
             "notice; PQ and AP do", f"merging costs mIoU {text(merged[:, 0])}, AP {text(merged[:, 1])}, PQ "
             f"{text(merged[:, 2])} ({seeds} seeds)",
             (merged[:, 0] == 0).all() and (merged[:, 1:3] > 0.05).all())
lesson.claim("M3b", "Kirillov et al., sec. 1", "an instance answer knows no stuff: AP does not notice a wrong sky; mIoU and "
             "PQ do", f"half the sky wrong costs AP {text(stuff[:, 1])}, mIoU {text(stuff[:, 0])}, PQ {text(stuff[:, 2])}",
             (stuff[:, 1] == 0).all() and (stuff[:, [0, 2]] > 0.05).all())
lesson.claim("M3c", "Kirillov et al., sec. 4.3", "AP ranks by score and forgives low-scored guesses; PQ asks for one answer "
             "and does not", f"12 guesses an image cost AP {text(guesses[:, 1])}, PQ {text(guesses[:, 2])}",
             (guesses[:, 1] < 0.02).all() and (guesses[:, 2] > 0.1).all())
lesson.claim("M3d", "Kirillov et al., eq. (2)", "PQ = SQ x RQ tells two faults apart: bad borders lower SQ, missing things "
             "lower RQ", f"borders cost SQ {text(rough[:, 3])} and RQ {text(rough[:, 4])}; misses cost SQ "
             f"{text(missed[:, 3])} and RQ {text(missed[:, 4])}; PQ of the drawn answer {mean_by_hand:.6f} by hand, "
             f"{mean_by_package:.6f} by the package",
             abs(mean_by_hand - mean_by_package) < 1e-9 and (rough[:, 3] > rough[:, 4]).all() and (missed[:, 4] > missed[:, 3]).all())
lesson.finish()
