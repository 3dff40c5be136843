"""
Selective search: boxes from the image itself
=============================================

Where may an object be? A sliding window asks everywhere, in every size and shape. Selective search (Uijlings et al.,
IJCV 2013) lets the image answer: it groups pixels into regions and regions into larger ones, and every region on the way
gives a box. R-CNN, SPPNet and Fast R-CNN build on it. Beside it: `minicv/detection/graph_segmentation.py` and
`selective_py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("14_selective_search", __doc__, needs="boxes")

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np

from minicv.data import open_dataset
from minicv.data.errors import DataWarning
from minicv.detection import box_iou, sliding_windows
from minicv.detection.color import convert_color
from minicv.detection.graph_segmentation import graph_segmentation
from minicv.detection.selective_search import (
    MODES,
    color_histograms,
    group_regions,
    neighbor_pairs,
    region_boxes,
    selective_search,
    texture_histograms,
)
from minicv.metrics import ProposalRecall
from minicv.viz import PALETTE, draw_boxes, draw_image, label_edges

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255
warnings.simplefilter("ignore", DataWarning)

# %%
# The images are generated scenes of 128 x 128 pixels, or with `--data` those of a real data set. ``MIN_SIZE`` is the
# smallest region in pixels, by default k, the parameter of step 1: in images of 128 pixels, 50 or 100 pixels would be
# whole objects.

MIN_SIZE, KS = (None, (150, 500, 1500)) if lesson.data else (20, (20, 100, 500))


def load_images(count, seed):
    if lesson.data:
        real = open_dataset(lesson.data, "val")
        return [real[(seed + i) % len(real)] for i in range(count)]
    return list(open_dataset("shape-boxes", "val", count=count, size=128, seed=seed, objects=(2, 6)))


def paint_regions(image, regions):
    """Each region in its mean color, with white lines between them."""
    sums = [np.bincount(regions.ravel(), channel.ravel()) for channel in image]
    flat = (np.array(sums) / np.bincount(regions.ravel()))[:, regions]
    return np.where(label_edges(regions), 1, flat).astype(np.float32)


# %%
# Step 1: small regions
# ---------------------
# Felzenszwalb and Huttenlocher's graph segmentation joins two neighboring regions if the color difference between them is
# at most the difference inside each of them plus k / its size. A larger k therefore prefers larger regions: compare the
# three maps, in which every region has its mean color.

sample = max(load_images(12, lesson.seed), key=lambda s: len(s.boxes))
image = sample.image
maps = {k: graph_segmentation(convert_color(image, "HSV"), k, min_size=MIN_SIZE) for k in KS}
print("regions:", ", ".join(f"k = {k}: {m.max() + 1}" for k, m in maps.items()))

figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.5), layout="constrained")
draw_image(axes[0], image, f"an image with {len(sample.boxes)} objects")
for ax, (k, regions) in zip(axes[1:], maps.items(), strict=True):
    draw_image(ax, paint_regions(image, regions), f"k = {k}: {regions.max() + 1} regions")
lesson.save(figure, "1_regions")

# %%
# With the smallest k an object falls into many regions, with the largest it may melt into its background. No single k is
# right for all objects, so the next step starts from the small regions and joins them.
#
# Step 2: grouping
# ----------------
# The two most similar neighbors join, again and again, until one region is left. Similarity is the sum of four numbers in
# [0, 1]: color and texture (how far the histograms intersect), size (small regions first) and fill (no holes). Here they
# are computed from their definitions for the first pair that joins; their sum must equal what `group_regions` found.

regions = maps[KS[0]]
hsv = convert_color(image, "HSV")
color, texture = color_histograms(hsv, regions), texture_histograms(hsv, regions)
hierarchy = group_regions(regions, color, texture, "CTSF")
i, j = hierarchy.merges[0]
size, boxes = np.bincount(regions.ravel()), region_boxes(regions)
around = np.concatenate([np.minimum(boxes[i], boxes[j])[:2], np.maximum(boxes[i], boxes[j])[2:]])
filled = (around[2] - around[0]) * (around[3] - around[1])
parts = {"color": sum(min(a, b) for a, b in zip(color[i], color[j], strict=True)),
         "texture": sum(min(a, b) for a, b in zip(texture[i], texture[j], strict=True)),
         "size": 1 - (size[i] + size[j]) / regions.size,
         "fill": 1 - (filled - size[i] - size[j]) / regions.size}
print(f"regions {i} and {j} join first: " + " + ".join(f"{v:.3f} ({k})" for k, v in parts.items())
      + f" = {sum(parts.values()):.4f}; group_regions gives {hierarchy.similarity[0]:.4f}; "
      f"of {len(neighbor_pairs(regions))} pairs")

# %%
# Four moments of the grouping follow, from the regions of step 1 to the last three. Watch how parts of an object find each
# other before they join the background.


def regions_at(left):
    """The label map at the moment when ``left`` regions are left."""
    name = np.arange(2 * len(color) - 1)
    for m, (i, j) in enumerate(hierarchy.merges[:len(color) - left]):
        name[name == i] = name[name == j] = len(color) + m
    return np.unique(name[:len(color)], return_inverse=True)[1][regions]


figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.5), layout="constrained")
for ax, left in zip(axes, (len(color), max(len(color) // 4, 9), 8, 3), strict=True):
    draw_image(ax, paint_regions(image, regions_at(left)), f"{left} regions")
lesson.save(figure, "2_grouping")

# %%
# Every region of every moment contributes its bounding box. The first three panels show the boxes of the first regions, of
# those that arise on the way, and of the last eight. The fourth shows the best of all boxes (orange, with its IoU) for each
# object (dotted).

best = box_iou(sample.boxes, hierarchy.boxes)  # (objects, regions)
figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.5), layout="constrained")
for ax, which, title in zip(axes, (slice(0, len(color)), slice(len(color), -8), slice(-8, None)),
                            ("boxes of the first regions", "boxes on the way", "the last eight"), strict=False):
    draw_image(ax, image, title)
    draw_boxes(ax, hierarchy.boxes[which], color=BLUE, width=0.9)
draw_image(axes[3], image, f"the best box for each object: mean IoU {best.max(1).mean():.2f}")
draw_boxes(axes[3], sample.boxes, color="k", style=":", width=1)
draw_boxes(axes[3], hierarchy.boxes[best.argmax(1)], color=ORANGE, texts=[f"{v:.2f}" for v in best.max(1)])
lesson.save(figure, "2_boxes")

# %%
# One grouping already has a good box for most objects.
#
# Step 3: diversity
# -----------------
# A grouping that joins an object with its background too early loses the object for good. So selective search runs several:
# other color spaces, other similarities, other k. "single" is one grouping, "fast" 8, "quality" 80. The boxes are ranked by
# i times a random number, where i counts back from the whole image, so that large boxes do not all come first. We measure
# recall, the share of objects with a box of IoU 0.5 or more, and MABO, the best IoU of an object, averaged over the
# objects of a class and then over the classes.

COUNTS = (10, 30, 100, 300, 1000, 2000)
test = load_images(3 if lesson.quick else 12 if lesson.data else 24, lesson.seed + 100)
modes = ("single", "fast") if lesson.quick or lesson.data else ("single", "fast", "quality")
curves, seconds, number = {}, {}, {}
for mode in modes:
    curves[mode], start, n = ProposalRecall(COUNTS), time.process_time(), []
    for s in test:
        found = selective_search(s.image, mode, seed=lesson.seed, min_size=MIN_SIZE)
        curves[mode].update(found, s)
        n.append(len(found))
    seconds[mode], number[mode] = (time.process_time() - start) / len(test), np.mean(n)
    print(f"{mode}: {np.prod([len(part) for part in MODES[mode][:3]])} groupings, {number[mode]:.0f} boxes, "
          f"{seconds[mode]:.2f} s of one core, recall {curves[mode].recall()[-1]:.3f}, "
          f"MABO {curves[mode].mabo()[-1]:.3f}")

# %%
# Against sliding windows (claim D1)
# ----------------------------------
# The rival: windows of all sizes from 12 pixels on and of three shapes, ``step`` of their side apart. A coarse grid has few
# windows, a fine one many, so each step gives one point of a curve.

H, W = test[0].image.shape[1:]
smallest = 12.0 if not lesson.data else 24.0
grid = []
for step in (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.09)[:6 if lesson.data else 8]:
    coverage = ProposalRecall((10**6,))
    for s in test:
        windows = sliding_windows(s.image.shape[1:], step, smallest)
        coverage.update(windows, s)
    grid.append((len(windows), coverage.recall()[0], coverage.mabo()[0]))
    print(f"windows {step:.2f} of their side apart: {len(windows):6d} boxes, recall {grid[-1][1]:.3f}, "
          f"MABO {grid[-1][2]:.3f}")
n_windows, recall_windows, mabo_windows = np.array(grid).T

# %%
# Both curves, against the number of boxes on a logarithmic axis. The gray line marks a recall of 0.9: compare how many
# boxes each method needs to reach it.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
for ax, name, slid in zip(axes, ("recall", "mabo"), (recall_windows, mabo_windows), strict=True):
    for mode, color_, style in zip(modes, (GREEN, BLUE, "k"), ("s-.", "o-", "^:"), strict=False):
        ax.plot(np.minimum(COUNTS, number[mode]), getattr(curves[mode], name)(), style, color=color_,
                label=f"selective search, {mode}")
    ax.plot(n_windows, slid, "D--", color=ORANGE, label="sliding windows")
    ax.set(xscale="log", xlabel="boxes per image", ylabel={"recall": "recall at IoU 0.5"}.get(name, "MABO"), ylim=(0, 1.03))
axes[0].axhline(0.9, color="0.5", lw=1)
axes[1].legend(fontsize=8, loc="lower right")
lesson.save(figure, "3_recall")

# %%
# Selective search reaches the line with far fewer boxes. Its boxes also fit better, which the next figure shows: recall
# against the IoU that a box must reach, for a grid of windows a quarter of their side apart.

overlaps = curves["fast"].best_overlaps()[0]
windows_best = np.concatenate([box_iou(s.boxes, sliding_windows((H, W), 0.25, smallest)).max(1) for s in test])
limits = np.linspace(0.5, 1, 51)
figure, ax = plt.subplots(figsize=(5.5, 3.5), layout="constrained")
ax.plot(limits, [(overlaps[-1] >= v).mean() for v in limits], color=BLUE, lw=2,
        label=f"selective search, {min(2000, number['fast']):.0f} boxes")
ax.plot(limits, [(windows_best >= v).mean() for v in limits], "--", color=ORANGE, lw=2,
        label=f"sliding windows, {len(sliding_windows((H, W), 0.25, smallest))} boxes")
ax.set(xlabel="required IoU", ylabel="recall", ylim=(0, 1.03))
ax.legend(fontsize=8, loc="lower left")
lesson.save(figure, "3_overlap")

# %%
# The windows of a fixed grid rarely fit, so their recall falls early; the boxes of regions follow the objects.
#
# For the claims, how many boxes reach a recall of 0.9 is read off between the points of the curve.


def boxes_for(goal, counts, values):
    """How many boxes reach the goal, interpolated; NaN, which fails the lesson, if no number does."""
    rising = np.maximum.accumulate(values)
    if rising[-1] < goal:
        return np.nan
    k = int(np.argmax(rising >= goal))
    if k == 0 or rising[k] == rising[k - 1]:
        return float(counts[k])
    part = (goal - rising[k - 1]) / (rising[k] - rising[k - 1])
    return float(np.exp(np.log(counts[k - 1]) + part * (np.log(counts[k]) - np.log(counts[k - 1]))))


searched = boxes_for(0.9, np.minimum(COUNTS, number["fast"]), curves["fast"].recall())
slid = boxes_for(0.9, n_windows, recall_windows)
mabo, used = curves["fast"].mabo()[-1], min(2000, number["fast"])
mabo_slid = np.interp(np.log(used), np.log(n_windows), mabo_windows)  # with as many; at least the coarsest grid
lesson.claim("D1", "Uijlings et al., sec. 1", "selective search needs far fewer boxes than a sliding window for the same "
             "recall", f"recall 0.9 at IoU 0.5: {searched:.0f} boxes against {slid:.0f}, {slid / searched:.1f} times as "
             f"many; MABO {mabo:.3f} with {used:.0f} boxes, sliding windows {mabo_slid:.3f} with "
             f"{max(used, n_windows.min()):.0f} and {mabo_windows[-1]:.3f} with {n_windows[-1]:.0f}",
             slid / searched > 5 and mabo > mabo_slid)

# %%
# Last, the time for an image of 500 x 375 pixels, the size of PASCAL VOC's, on one core.

large = open_dataset("shape-boxes", "val", count=1, size=(375, 500), seed=lesson.seed, objects=(8, 12))[0]
start = time.process_time()
found = selective_search(large.image, "single" if lesson.quick else "fast")
taken = time.process_time() - start
fast, single = curves["fast"], curves["single"]
lesson.claim("D1b", "Uijlings et al., table 5", "diversity: several groupings find more than one",
             "; ".join(f"{mode}: recall {curves[mode].recall()[-1]:.3f}, MABO {curves[mode].mabo()[-1]:.3f} with "
                       f"{number[mode]:.0f} boxes" for mode in modes),
             fast.recall()[-1] >= single.recall()[-1] and fast.mabo()[-1] > single.mabo()[-1])
lesson.claim("D1c", "the floor set for this package", "recall at IoU 0.5 with 2000 boxes at least 0.9; a 500 x 375 image "
             "in at most 10 s on one core", f"recall {fast.recall()[-1]:.3f}; {taken:.1f} s"
             f"{' (single mode)' if lesson.quick else ''}, {len(found)} boxes",
             fast.recall()[-1] >= 0.9 and taken <= 10)
lesson.finish()
