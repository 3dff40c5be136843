"""
Selective search: boxes from the picture itself
===============================================

Where may an object be? A sliding window asks everywhere, in every size and shape. Selective search (Uijlings et al.,
IJCV 2013) lets the picture answer: it groups pixels into regions and regions into larger ones, and every region met on
the way gives a box. R-CNN, SPPNet and Fast R-CNN stand on it. Beside it: `minicv/detection/graph_segmentation.py` and
`selective_search.py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("14_selective_search", __doc__)

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
# Pixels of the smallest region: by default k. In pictures of 128 pixels, 50 or 100 would be whole objects.
MIN_SIZE, KS = (None, (150, 500, 1500)) if lesson.data else (20, (20, 100, 500))


def pictures(count, seed):
    """Generated scenes, or pictures of a real data set."""
    if lesson.data:
        real = open_dataset(lesson.data, "val")
        return [real[(seed + i) % len(real)] for i in range(count)]
    return list(open_dataset("boxes", "val", count=count, size=128, seed=seed, objects=(2, 6)))


def regions_of(mean_colours, regions):
    """Each region in its mean colour, white lines between them."""
    sums = [np.bincount(regions.ravel(), channel.ravel()) for channel in mean_colours]
    flat = (np.array(sums) / np.bincount(regions.ravel()))[:, regions]
    return np.where(label_edges(regions), 1, flat).astype(np.float32)


# %%
# Step 1: small regions
# ---------------------
# Felzenszwalb and Huttenlocher's graph segmentation: neighbouring pixels join if their colours differ less than what
# their regions have inside, plus k / size. A larger k prefers larger regions.

sample = max(pictures(12, lesson.seed), key=lambda s: len(s.boxes))
image = sample.image
maps = {k: graph_segmentation(convert_color(image, "HSV"), k, min_size=MIN_SIZE) for k in KS}
print("regions:", ", ".join(f"k = {k}: {m.max() + 1}" for k, m in maps.items()))

figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.4))
draw_image(axes[0], image, f"a picture with {len(sample.boxes)} objects")
for ax, (k, regions) in zip(axes[1:], maps.items(), strict=True):
    draw_image(ax, regions_of(image, regions), f"k = {k}: {regions.max() + 1} regions")
figure.suptitle("Step 1: graph segmentation", fontsize=11)
figure.tight_layout()
lesson.save(figure, "1_regions")

# %%
# Step 2: grouping
# ----------------
# The most similar neighbours join, again and again. Similar means: colour, texture, size (small ones first), fill (no
# holes). Here are the four parts for the first pair that joins, computed from the definition.

regions = maps[KS[0]]
hsv = convert_color(image, "HSV")
colour, texture = color_histograms(hsv, regions), texture_histograms(hsv, regions)
hierarchy = group_regions(regions, colour, texture, "CTSF")
i, j = hierarchy.merges[0]
size, boxes = np.bincount(regions.ravel()), region_boxes(regions)
around = np.concatenate([np.minimum(boxes[i], boxes[j])[:2], np.maximum(boxes[i], boxes[j])[2:]])
filled = (around[2] - around[0]) * (around[3] - around[1])
parts = {"colour": sum(min(a, b) for a, b in zip(colour[i], colour[j], strict=True)),
         "texture": sum(min(a, b) for a, b in zip(texture[i], texture[j], strict=True)),
         "size": 1 - (size[i] + size[j]) / regions.size,
         "fill": 1 - (filled - size[i] - size[j]) / regions.size}
print(f"regions {i} and {j} join first: " + " + ".join(f"{v:.3f} ({k})" for k, v in parts.items())
      + f" = {sum(parts.values()):.4f}; group_regions gives {hierarchy.similarity[0]:.4f}; of {len(neighbor_pairs(regions))} pairs")


def level(left):
    """The map when so many regions are left."""
    name = np.arange(2 * len(colour) - 1)
    for m, (i, j) in enumerate(hierarchy.merges[:len(colour) - left]):
        name[name == i] = name[name == j] = len(colour) + m
    return np.unique(name[:len(colour)], return_inverse=True)[1][regions]


best = box_iou(sample.boxes, hierarchy.boxes)  # of every object and every region's box
figure, axes = plt.subplots(2, 4, figsize=(12.5, 7.2))
for ax, left in zip(axes[0], (len(colour), max(len(colour) // 4, 9), 8, 3), strict=True):
    draw_image(ax, regions_of(image, level(left)), f"{left} regions")
for ax, which, title in zip(axes[1], (slice(0, len(colour)), slice(len(colour), -8), slice(-8, None)),
                            ("boxes of the first regions", "boxes on the way", "the last eight"), strict=False):
    draw_image(ax, image, title)
    draw_boxes(ax, hierarchy.boxes[which], color=BLUE, width=0.9)
draw_image(axes[1, 3], image, f"the best box for each object: mean IoU {best.max(1).mean():.2f}")
draw_boxes(axes[1, 3], sample.boxes, color="k", style=":", width=1)
draw_boxes(axes[1, 3], hierarchy.boxes[best.argmax(1)], color=ORANGE, texts=[f"{v:.2f}" for v in best.max(1)])
figure.suptitle("Step 2: grouping, from many regions to one", fontsize=11)
figure.tight_layout()
lesson.save(figure, "2_grouping")

# %%
# Step 3: diversity
# -----------------
# One grouping makes one mistake and misses an object for good. So there are several: other colour spaces, other
# similarities, other k. "single" is one grouping, "fast" 8, "quality" 80. Boxes are ranked by i times a random number,
# where i counts back from the whole picture, so that large ones do not all come first.

COUNTS = (10, 30, 100, 300, 1000, 2000)
test = pictures(3 if lesson.quick else 12 if lesson.data else 24, lesson.seed + 100)
modes = ("single", "fast") if lesson.quick or lesson.data else ("single", "fast", "quality")
curves, seconds, number = {}, {}, {}
for mode in modes:
    judge, start, n = ProposalRecall(COUNTS), time.process_time(), []
    for s in test:
        found = selective_search(s.image, mode, seed=lesson.seed, min_size=MIN_SIZE)
        judge.update(found, s)
        n.append(len(found))
    seconds[mode], number[mode] = (time.process_time() - start) / len(test), np.mean(n)
    curves[mode] = judge
    print(f"{mode}: {len(MODES[mode][0]) * len(MODES[mode][1]) * len(MODES[mode][2])} groupings, {number[mode]:.0f} boxes, "
          f"{seconds[mode]:.2f} s of one core, recall {judge.recall()[-1]:.3f}, MABO {judge.mabo()[-1]:.3f}")

# %%
# Against sliding windows (claim D1)
# ----------------------------------
# Windows of all sizes from 12 pixels on and three shapes, ``step`` of their side apart. A coarse grid has few windows,
# a fine one many: each grid is a point of the curve. MABO is the mean, over the classes, of the objects' best IoU.

H, W = test[0].image.shape[1:]
smallest = 12.0 if not lesson.data else 24.0
grid = []
for step in (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.09)[:6 if lesson.data else 8]:
    judge = ProposalRecall((10**6,))
    for s in test:
        windows = sliding_windows(s.image.shape[1:], step, smallest)
        judge.update(windows, s)
    grid.append((len(windows), judge.recall()[0], judge.mabo()[0]))
    print(f"windows {step:.2f} of their side apart: {len(windows):6d} boxes, recall {grid[-1][1]:.3f}, "
          f"MABO {grid[-1][2]:.3f}")
n_windows, recall_windows, mabo_windows = np.array(grid).T


def boxes_for(goal, counts, values):
    """How many boxes reach the goal, between the points of the curve; NaN if none does."""
    rising = np.maximum.accumulate(values)
    if rising[-1] < goal:
        return np.nan
    k = int(np.argmax(rising >= goal))
    if k == 0 or rising[k] == rising[k - 1]:
        return float(counts[k])
    part = (goal - rising[k - 1]) / (rising[k] - rising[k - 1])
    return float(np.exp(np.log(counts[k - 1]) + part * (np.log(counts[k]) - np.log(counts[k - 1]))))


counts = np.minimum(COUNTS, number["fast"])
searched, slid = boxes_for(0.9, counts, curves["fast"].recall()), boxes_for(0.9, n_windows, recall_windows)
mabo, used = curves["fast"].mabo()[-1], min(2000, number["fast"])
mabo_slid = np.interp(np.log(used), np.log(n_windows), mabo_windows)  # with as many; at least the coarsest grid

figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.7))
for mode, colour_, style in zip(modes, (GREEN, BLUE, "k"), ("s-.", "o-", "^:"), strict=False):
    x = np.minimum(COUNTS, number[mode])
    for ax, values in zip(axes, (curves[mode].recall(), curves[mode].mabo()), strict=False):
        ax.plot(x, values, style, color=colour_, label=f"selective search, {mode}", lw=2, ms=5)
for ax, values, name in zip(axes, (recall_windows, mabo_windows), ("recall at IoU 0.5", "MABO"), strict=False):
    ax.plot(n_windows, values, "D--", color=ORANGE, label="sliding windows", lw=2, ms=5)
    ax.set(xscale="log", xlabel="boxes per picture", ylabel=name, ylim=(0, 1.03))
    ax.grid(alpha=0.3)
axes[0].axhline(0.9, color="0.5", lw=1)
axes[1].legend(fontsize=8, loc="lower right")
overlaps = curves["fast"].best_overlaps()[0]
windows_best = np.concatenate([box_iou(s.boxes, sliding_windows((H, W), 0.25, smallest)).max(1) for s in test])
limits = np.linspace(0.5, 1, 51)
axes[2].plot(limits, [(overlaps[-1] >= v).mean() for v in limits], color=BLUE, lw=2,
             label=f"selective search, {min(2000, number['fast']):.0f} boxes")
axes[2].plot(limits, [(windows_best >= v).mean() for v in limits], "--", color=ORANGE, lw=2,
             label=f"sliding windows, {len(sliding_windows((H, W), 0.25, smallest))} boxes")
axes[2].set(xlabel="IoU that is asked for", ylabel="recall", ylim=(0, 1.03))
axes[2].legend(fontsize=8, loc="lower left")
axes[2].grid(alpha=0.3)
figure.suptitle("Step 3 and what it is worth: how many boxes cover the objects, and how well", fontsize=11)
figure.tight_layout()
lesson.save(figure, "3_recall")

# %%
# Time: a picture of 500 x 375 pixels, the size of PASCAL VOC's.

large = open_dataset("boxes", "val", count=1, size=(375, 500), seed=lesson.seed, objects=(8, 12))[0]
start = time.process_time()
found = selective_search(large.image, "single" if lesson.quick else "fast")
taken = time.process_time() - start

ratio = slid / searched
lesson.claim("D1", "Uijlings et al., sec. 1", "selective search needs far fewer boxes than a sliding window for the same "
             "recall", f"recall 0.9 at IoU 0.5: {searched:.0f} boxes against {slid:.0f}, {ratio:.1f} times as many; MABO "
             f"{mabo:.3f} with {used:.0f} boxes, sliding windows {mabo_slid:.3f} with {max(used, n_windows.min()):.0f} and "
             f"{mabo_windows[-1]:.3f} with {n_windows[-1]:.0f}", ratio > 5 and mabo > mabo_slid)
lesson.claim("D1b", "Uijlings et al., table 5", "diversity: several groupings find more than one",
             "; ".join(f"{mode}: recall {curves[mode].recall()[-1]:.3f}, MABO {curves[mode].mabo()[-1]:.3f} with "
                       f"{number[mode]:.0f} boxes" for mode in modes),
             curves["fast"].recall()[-1] >= curves["single"].recall()[-1]
             and curves["fast"].mabo()[-1] > curves["single"].mabo()[-1])
lesson.claim("D1c", "the floor set for this package", "recall at IoU 0.5 with 2000 boxes at least 0.9; a 500 x 375 picture "
             "in at most 10 s on one core", f"recall {curves['fast'].recall()[-1]:.3f}; {taken:.1f} s"
             f"{' (single mode)' if lesson.quick else ''}, {len(found)} boxes",
             curves["fast"].recall()[-1] >= 0.9 and taken <= 10)
lesson.finish()
