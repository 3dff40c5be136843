"""
Right by which measure? Pixels, classes, borders, pieces
========================================================

How good is a segmentation? FCN (Long et al., CVPR 2015, sec. 5) measures it by four numbers; the ISBI 2012 challenge,
which U-Net won, by three others. This lesson builds answers with known faults and asks which number notices which fault.
No network is trained. Beside it: `minicv/metrics/segmentation.py`, `boundary.py` and `membranes.py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("24_measures_of_segmentation", __doc__)

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

from minicv.data import Cells
from minicv.data.generated.street_scenes import GROUND, POLE, ROAD, SIGN, StreetScenes
from minicv.metrics import BoundaryFScore, ConfusionMatrix, connected_components, pixel_error, rand_error, warping_error
from minicv.viz import PALETTE, color_instances, grouped_bars, segmentation_sheet, show_images

seeds, count = (1, 2) if lesson.quick else (5, 6)  # each seed has images of its own

# %%
# 1. A hundred pixels, by hand (FCN, sec. 5)
# ------------------------------------------
# Ninety pixels are background, ten are an object. Answer A finds the object, and ten pixels too many. Answer B finds one pixel
# of it. Let n_ij be the number of pixels of class i that the answer calls j, and t_i = sum_j n_ij the pixels of class i. With
# two classes:
#
#     pixel accuracy             sum_i n_ii / sum_i t_i                       A  (80 + 10) / 100           B  (90 + 1) / 100
#     mean accuracy              1/2 sum_i n_ii / t_i                         A  (80/90 + 10/10) / 2       B  (1 + 1/10) / 2
#     mean IU                    1/2 sum_i n_ii / (t_i + sum_j n_ji - n_ii)   A  (80/90 + 10/20) / 2       B  (90/99 + 1/10) / 2
#     frequency-weighted IU      the same, weighted by t_i / 100              A  0.9 80/90 + 0.1 10/20     B  0.9 90/99 + 0.1/10
#
# B has one right pixel more, but the object is all but lost. Watch which measures prefer B.

NAMES = {"pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy", "mean_iu": "mean IU",
         "frequency_weighted_iu": "frequency-weighted IU"}
truth = np.repeat([0, 1], [90, 10])
answers = {"A": np.repeat([0, 1], [80, 20]), "B": np.repeat([0, 1], [99, 1])}
by_hand = {}
for name, answer in answers.items():
    matrix = ConfusionMatrix(2)
    matrix.update(answer, truth)
    by_hand[name] = {measure: getattr(matrix, measure) for measure in NAMES}
for measure, name in NAMES.items():
    print(f"{name:<22} A {by_hand['A'][measure]:.3f}   B {by_hand['B'][measure]:.3f}")

# %%
# Only pixel accuracy prefers B.
#
# 2. Scenes, segmented wrongly in four ways
# -----------------------------------------
# Generated street scenes, and four faults. Rare things (poles and signs) left out; the same drawn two pixels too fat; in the
# left half of every image, ground called road; and everything right, but three pixels too far to the right.


def without_rare(label):
    """Poles and signs become what is next to them."""
    gone = np.isin(label, (POLE, SIGN)) | (label == 255)
    i, j = ndimage.distance_transform_edt(gone, return_distances=False, return_indices=True)
    return label[i, j]


def fat(label):
    answer = without_rare(label)
    for k in (POLE, SIGN):
        answer[ndimage.binary_dilation(label == k, iterations=2)] = k
    return answer


def half_road(label):
    answer, left = np.where(label == 255, without_rare(label), label), label.shape[1] // 2
    answer[:, :left][answer[:, :left] == GROUND] = ROAD
    return answer


def shifted(label):
    return np.roll(np.where(label == 255, without_rare(label), label), 3, axis=1)


FAULTS = {"nothing rare": without_rare, "rare too fat": fat, "half: ground = road": half_road, "shifted": shifted}
# %%
# Each seed draws scenes of its own; all five measures of each fault are taken over them. The fifth is the boundary F-score,
# which asks whether the borders of the classes lie within one pixel of the true ones.

scores = {fault: [] for fault in FAULTS}  # for each seed: the four measures, and the boundary F-score
for seed in range(seeds):
    scenes = StreetScenes(count, 96, seeds * lesson.seed + seed, keep=True)
    for fault, make in FAULTS.items():
        matrix, borders = ConfusionMatrix(scenes.num_classes, 255), BoundaryFScore(scenes.num_classes, 1.0)
        for sample in scenes:
            matrix.update(make(sample.label), sample.label)
            borders.update(make(sample.label), sample.label)
        scores[fault].append([getattr(matrix, measure) for measure in NAMES] + [borders.mean])
scores = {fault: 100 * np.array(values) for fault, values in scores.items()}  # (seeds, 5)
MEASURES = [*NAMES.values(), "boundary F-score"]
best = {}  # by each measure, the mildest fault, or several if seeds differ
for k, name in enumerate(MEASURES):
    print(f"{name:<22} " + "   ".join(f"{fault} {v[:, k].mean():.1f}" for fault, v in scores.items()))
    best[name] = {max(FAULTS, key=lambda fault: scores[fault][seed, k]) for seed in range(seeds)}

# %%
# The claim asks both: by hand, whether each measure prefers A or B; and on the scenes, which fault each finds mildest.

hand = {measure: max("AB", key=lambda a: by_hand[a][measure]) for measure in NAMES}
lesson.claim("M1", "FCN, sec. 5", "pixel accuracy, mean accuracy, mean IU and frequency-weighted IU disagree",
             "by hand, 90 + 10 pixels: better is " + ", ".join(f"{hand[m]} by {name} ({by_hand['A'][m]:.2f}, "
                                                               f"{by_hand['B'][m]:.2f})" for m, name in NAMES.items())
             + "; on scenes the mildest fault is " + ", ".join(f"\"{' or '.join(sorted(best[name]))}\" by {name}"
                                                               for name in NAMES.values()) + f" ({seeds} seeds)",
             list(hand.values()) == ["B", "A", "A", "A"] and not best["pixel accuracy"] & best["mean IU"]
             and not best["mean accuracy"] & best["mean IU"])

# %%
# All measures of all faults, in percent: a group of bars for each measure, a bar for each fault, with the standard deviation
# over the seeds. Within a group, a low bar is a fault that the measure notices.

figure, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
grouped_bars(ax, MEASURES, {fault: v.mean(axis=0) for fault, v in scores.items()},
             {fault: v.std(axis=0) for fault, v in scores.items()})
ax.set(ylabel="%", title="Five measures of four faults", ylim=(0, 132), yticks=range(0, 101, 20))
ax.legend(fontsize=8, ncols=4, loc="upper center")
lesson.save(figure, "faults")

# %%
# Pixel accuracy hardly notices what is rare. Mean accuracy counts what a class misses, and not what it takes from others, so
# drawing too fat is cheap; IU counts both. The boundary F-score notices only where borders lie. The next figure shows the
# faults in one scene, beside the truth; the legend names the classes.

sample = scenes[0]
lesson.save(segmentation_sheet([sample.image], {"truth": [sample.label], **{fault: [make(sample.label)] for fault, make in
                                                                         FAULTS.items()}}, scenes.class_names),
            "scenes")

# %%
# 3. Cells, segmented wrongly in three ways (ISBI 2012; U-Net, sec. 4)
# --------------------------------------------------------------------
# Pixel error is the share of wrong pixels. The Rand error looks at all pairs of pixels: is a pair in one cell in the truth, but
# not in the answer, or the other way round? The warping error (Jain et al., CVPR 2010) lets borders move for free, and counts
# what is left where cells would have to merge, split, appear, or get a hole. Three faults: a gap of five pixels in some
# membranes, a hole of 3x3 pixels in the middle of every cell, and everything moved by one pixel.


def gaps(instances, rng):
    """A gap of five pixels in the membrane between every third pair of neighbors."""
    answer, pairs = instances > 0, {}
    for y, x in np.argwhere(~answer):
        near = np.unique(instances[max(y - 2, 0):y + 3, max(x - 2, 0):x + 3])
        near = tuple(near[near > 0])
        if len(near) == 2:
            pairs.setdefault(near, []).append((y, x))
    for places in list(pairs.values())[::3]:
        y, x = places[rng.integers(len(places))]
        answer[max(y - 2, 0):y + 3, max(x - 2, 0):x + 3] = True
    return answer


def specks(instances, rng):
    """A hole of 3x3 pixels in the middle of every cell."""
    answer = instances > 0
    depth = ndimage.distance_transform_edt(answer)
    for y, x in ndimage.maximum_position(depth, instances, range(1, instances.max() + 1)):
        answer[max(y - 1, 0):y + 2, max(x - 1, 0):x + 2] = False
    return answer


def moved(instances, rng):
    """Everything one pixel to the right, with the first column repeated."""
    return np.concatenate([instances[:, :1], instances[:, :-1]], axis=1) > 0


# %%
# Each fault is applied to generated cells and judged by the three errors. Which fault each error finds worst decides the claim.

CELL_FAULTS = {"moved by a pixel": moved, "gaps in membranes": gaps, "specks in cells": specks}
CELL_MEASURES = ("pixel error", "Rand error", "warping error")
errors = {fault: [] for fault in CELL_FAULTS}
for seed in range(seeds):
    rng = np.random.default_rng([lesson.seed, seed])
    cells = Cells(max(1, count // 2), 112, seeds * lesson.seed + seed, radius=(8, 13))
    for fault, make in CELL_FAULTS.items():
        each = []
        for cell in (cells[i] for i in range(len(cells))):
            answer, truth = make(cell.instances, rng), cell.instances > 0
            each.append((pixel_error(answer, truth), rand_error(connected_components(answer), cell.instances),
                         warping_error(answer, truth)))
        errors[fault].append(np.mean(each, axis=0))
errors = {fault: 100 * np.array(values) for fault, values in errors.items()}  # (seeds, 3)
worst = {name: {max(CELL_FAULTS, key=lambda fault: errors[fault][seed, k]) for seed in range(seeds)}
         for k, name in enumerate(CELL_MEASURES)}
lesson.claim("M4", "U-Net, table 1; Jain et al., 2010", "pixel error, Rand error and warping error disagree",
             "the worst fault is " + ", ".join(f"\"{' or '.join(sorted(worst[name]))}\" by {name}" for name in CELL_MEASURES)
             + "; in %: " + "; ".join(f"{fault} " + ", ".join(f"{v:.2f}" for v in values.mean(axis=0))
                                      for fault, values in errors.items()) + f" ({seeds} seeds)",
             all(len(w) == 1 for w in worst.values()) and len(set.union(*worst.values())) == 3)

# %%
# One panel for each error, one bar for each fault; note that the axes differ.

figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
for k, (ax, name) in enumerate(zip(axes, CELL_MEASURES, strict=True)):
    values = np.array([errors[fault][:, k] for fault in CELL_FAULTS])  # (faults, seeds)
    ax.bar(range(3), values.mean(axis=1), yerr=values.std(axis=1), color=PALETTE[[5, 1, 3]] / 255, capsize=3)
    ax.set(title=name, ylabel="%", ylim=(0, None))
    ax.set_xticks(range(3), [fault.replace(" ", "\n", 1) for fault in CELL_FAULTS], fontsize=8)
lesson.save(figure, "cell_faults")

# %%
# Each error has a worst fault of its own. A shift moves every border, which only the pixel error counts in full; a gap of a
# few pixels joins two cells, and all of their pairs are wrong; a hole changes what a cell is, however small it is.
#
# The faults in one image of cells: each connected region has a color of its own. Where a gap joins two cells, they share one.

cell, rng = cells[0], np.random.default_rng(lesson.seed)
lesson.save(show_images({"image": cell.image, "truth: cells": color_instances(cell.instances), **{
    fault: color_instances(connected_components(make(cell.instances, rng))) for fault, make in CELL_FAULTS.items()}},
    columns=5, size=2.2), "cells")
lesson.finish()
