"""
YOLO: one look, one grid, no proposals
======================================

Redmon, Divvala, Girshick and Farhadi, "You Only Look Once: Unified, Real-Time Object Detection" (CVPR 2016): a grid of
cells, each responsible for the object whose center lies in it (sec. 2), and a loss of five squared errors, eq. (3). We
measure claim D7: YOLO is faster than Faster R-CNN and less accurate, and its grid misses small objects in groups. Beside
it: `minicv/models/detection/yolo.py`.
"""

# %%
from minicv.course.lessons import Lesson, best_time

lesson = Lesson("19_yolo", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models, no_grad
from minicv.data import open_dataset
from minicv.detection import box_iou
from minicv.models.detection.yolo import assign_cells
from minicv.nn import evaluating
from minicv.training.detection import DetectionConfig, evaluate_detector, train_detector
from minicv.viz import draw_boxes, draw_image, draw_predictions, grouped_bars, plot_losses
from minicv.viz.boxes import class_color

# %%
# The images are generated: discs, squares and crosses of all sizes, crowded on purpose, because YOLO's grid is about crowds.

SIZE = 56
SCENES = {"size": SIZE, "objects": (2, 9), "radius": (0.06, 0.28), "crowding": 0.8, "strength": 0.15, "contrast": 0.5,
          "noise": 0.02, "class_names": ("disc", "square", "cross"), "seed": lesson.seed, "keep": True}
train, test = (open_dataset("shape-boxes", split, count=count, **SCENES)
               for split, count in (("train", 16 if lesson.quick else 100), ("test", 8 if lesson.quick else 60)))

# %%
# 1. The grid (sec. 2, fig. 2)
# ----------------------------
# An image of 56 x 56 pixels has S x S = 7 x 7 cells of 8 x 8. The cell that holds an object's center learns its class and
# four numbers for its box: x and y of the center, as shares of the cell, and the square roots of w and h, as shares of the
# image. If two centers share a cell, the second object is lost.

minicv.seed(lesson.seed)
yolo = models.build("yolo", num_classes=3, image_size=SIZE, layers="3x16 max 3x32 max 3x64 max 3x128")
S = yolo.S
CELL = SIZE / S
sample = max(list(train)[:40], key=lambda s: len(s.boxes))
_, target = yolo.example(sample)
cells = assign_cells([target], S)
for n in range(len(cells.label)):
    x, y, w, h = cells.box[n]
    print(f"row {cells.i[n]}, column {cells.j[n]}: x {x:.2f} y {y:.2f} of the cell, sqrt(w) {w:.2f} sqrt(h) {h:.2f} of "
          f"the image, {train.class_names[cells.label[n]]}")
objects = sum(len(s.boxes) for s in train)
lost = objects - sum(len(assign_cells([yolo.example(s)[1]], S).label) for s in train)
print(f"of {objects} objects {lost} share their cell with one before them and cannot be learned at all")

# %%
# Drawn on the image: the grid, the boxes with their centers (+), and each responsible cell in the color of its class.


def tint_cell(ax, row, column, label, alpha):
    ax.add_patch(plt.Rectangle((column * CELL, row * CELL), CELL, CELL, color=class_color(label), alpha=alpha, lw=0))


figure, ax = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
draw_image(ax, sample.image, "cells that hold a center, and their boxes")
ax.vlines(np.arange(1, S) * CELL, 0, SIZE, color="w", lw=0.6)
ax.hlines(np.arange(1, S) * CELL, 0, SIZE, color="w", lw=0.6)
for i, j, label in zip(cells.i, cells.j, cells.label, strict=True):
    tint_cell(ax, i, j, label, 0.6)
draw_boxes(ax, sample.boxes, sample.labels)
ax.plot(*((sample.boxes[:, :2] + sample.boxes[:, 2:]).T / 2), "k+")
lesson.save(figure, "grid")

# %%
# Only the colored cells learn an object; all others learn that they hold none.
#
# 2. The loss (eq. (3)), term by term
# -----------------------------------
# Errors of boxes count five times; errors of the confidence of empty boxes count half, because there are so many of them. The
# network is trained until it knows these few images by heart: what it still misses, it misses because of the grid.

TERMS = {"center": "center: x, y", "size": "size: roots of w, h", "object": "confidence, object",
         "no_object": "confidence, no object", "class": "class"}
config = DetectionConfig(steps=20 if lesson.quick else 300, batch=16, optimizer="adam", lr=0.002, weight_decay=0.0,
                         warmup=20, flip=False, seed=lesson.seed)
start = time.perf_counter()
history = list(train_detector(yolo, train, config))
trained = {"YOLO": time.perf_counter() - start}
print(f"YOLO: {yolo.num_parameters():,} parameters, {config.steps} steps of {config.batch} in {trained['YOLO']:.0f} s; "
      + ", ".join(f"{name} {history[0][name]:.2f} -> {np.mean([h[name] for h in history[-20:]]):.2f}" for name in TERMS))

figure, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
plot_losses(ax, history, TERMS, window=15)
ax.set(yscale="log", title="the five terms of eq. (3), for an image")
lesson.save(figure, "loss")

# %%
# The terms of boxes and classes fall from the start. That of an object's confidence first rises, because its target is the IoU
# of the predicted box, which is small at first.
#
# 3. From 98 boxes to detections (fig. 2)
# ---------------------------------------
# The network predicts all of its boxes at once: B = 2 for each of 49 cells. A box's score for a class is its confidence C
# times its cell's class probability, eq. (1); NMS drops the duplicates. From left to right: the objects; all boxes, drawn as
# wide as C; each cell in the color of its likeliest class, the stronger the more probable; detections scoring above 0.25.


def draw_steps(axes, sample):
    """The four panels of fig. 2 for an image, in a row of axes."""
    with evaluating(yolo), no_grad():
        grid = yolo(yolo.batch([yolo.normalize(sample.image)])).numpy()[0]
    boxes, _ = yolo.boxes_and_scores(grid)
    C = grid[..., 4:5 * yolo.B:5].reshape(-1).clip(0, 1)
    draw_image(axes[0], sample.image, f"{len(sample.boxes)} objects")
    draw_boxes(axes[0], sample.boxes, sample.labels)
    draw_image(axes[1], sample.image, f"{len(boxes)} boxes, as wide as confident")
    for k in np.argsort(C):
        draw_boxes(axes[1], boxes[[k]], color="k", width=0.1 + 3 * C[k])
    draw_image(axes[2], sample.image, "each cell's class")
    for i, j in np.ndindex(S, S):
        p = grid[i, j, 5 * yolo.B:]
        tint_cell(axes[2], i, j, p.argmax(), 0.7 * float(np.clip(p.max(), 0, 1)))
    found = yolo.predict([sample.image])[0]
    found = found[found.scores > 0.25]
    draw_predictions(axes[3], sample.image, found, test.class_names, f"{len(found)} found")


# %%
# Three crowded images that the network has learned.

shown = sorted(list(train)[:30], key=lambda s: -len(s.boxes))[:3]
figure, axes = plt.subplots(len(shown), 4, figsize=(13, 3.4 * len(shown)), layout="constrained", squeeze=False)
for row, s in zip(axes, shown, strict=True):
    draw_steps(row, s)
lesson.save(figure, "boxes")

# %%
# The confident boxes sit where objects are; cells between objects have classes, too, but no confident box uses them.
#
# 4. Beside Faster R-CNN, on the same images
# ------------------------------------------
# Faster R-CNN's map has a place every 4 pixels, with three anchors each, and one set of weights for all places.

minicv.seed(lesson.seed)
faster = models.build("faster_rcnn", num_classes=3, min_size=SIZE, max_size=SIZE, cut_at="relu3_2",
                      anchor_scales=(8.0, 16.0, 32.0), anchor_ratios=(1.0,), hidden=128, rois_per_image=32,
                      post_nms_top_n=(128, 64), pre_nms_top_n=(300, 200), rpn_min_size=2.0)
config = config.replace(steps=20 if lesson.quick else 500, batch=2)
start = time.perf_counter()
for _ in train_detector(faster, train, config):
    pass
trained["Faster R-CNN"] = time.perf_counter() - start
nets = {"YOLO": yolo, "Faster R-CNN": faster}
speed = {name: 1000 * np.mean([best_time(lambda net=net, s=s: net.predict([s.image])) for s in list(test)[:20]])
         for name, net in nets.items()}
known, new = ({name: evaluate_detector(net, data)["mAP@0.5"] for name, net in nets.items()} for data in (train, test))
for name in nets:
    print(f"{name}: {speed[name]:.1f} ms an image, mAP {known[name]:.3f} on the images it learned, {new[name]:.3f} on "
          f"others, trained in {trained[name]:.0f} s")

# %%
# On which objects do they differ? For every learned object we note whether it was found, and whether it shares its cell.


def recalled(net, samples):
    """Which objects have a detection of their class with an IoU of at least 0.5."""
    hits = []
    for s, found in zip(samples, net.predict([s.image for s in samples]), strict=True):
        iou = box_iou(s.boxes, found.boxes) * (s.labels[:, None] == found.labels)
        hits.append(iou.max(axis=1, initial=0) >= 0.5)
    return np.concatenate(hits)


def cell_mates(s):
    """How many other objects have their center in an object's cell."""
    row, column = np.floor((s.boxes[:, 1::2].mean(1), s.boxes[:, 0::2].mean(1)) / np.float32(CELL)).astype(int)
    cell = row * S + column
    return (cell[:, None] == cell).sum(axis=1) - 1


side = np.concatenate([np.sqrt(np.prod(s.boxes[:, 2:] - s.boxes[:, :2], axis=1)) for s in train])
edges = np.quantile(side, [0, 1 / 3, 2 / 3, 1])
group = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, 2)
shared = np.concatenate([cell_mates(s) for s in train]) > 0

# %%
# Recall of the learned objects, in three groups of size (the root of the box's area; each group is a third of the objects),
# then of those alone in their cell and those that share it.

recall = {}
for name, net in nets.items():
    hit = recalled(net, list(train))
    recall[name] = [*(hit[group == g].mean() for g in range(3)), hit[~shared].mean(), hit[shared].mean()]
kinds = [f"{a:.0f} to {b:.0f}\npixels" for a, b in zip(edges, edges[1:], strict=False)] + [
    f"alone in\ntheir cell ({(~shared).sum()})", f"sharing\na cell ({shared.sum()})"]
figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
grouped_bars(ax, kinds, {f"{name}, {speed[name]:.1f} ms": recall[name] for name in nets}, numbers="{:.2f}")
ax.set(ylim=(0, 1.3), ylabel="recall at IoU 0.5", title="objects of the images that both have learned")
lesson.save(figure, "recall")

# %%
# YOLO's recall drops for objects that share a cell far more than Faster R-CNN's, as its grid must.
#
# The claims
# ----------
# On new images YOLO finds little: its fully connected layers learn every place of the image by itself, from the few objects
# that were there, where the paper has 20,000 images and convolutions that know ImageNet.

lesson.claim("D7", "YOLO, Table 1 (63.4 at 45 frames a second; 73.2 at 7)",
             "YOLO is faster and less accurate than Faster R-CNN",
             ", ".join(f"{name} {speed[name]:.1f} ms, mAP {new[name]:.3f} on new images, {known[name]:.3f} on the "
                       f"{len(train)} it learned" for name in nets) + " (one training each)",
             None if lesson.quick else speed["YOLO"] < speed["Faster R-CNN"] and new["YOLO"] < new["Faster R-CNN"])
gap = [b - a for a, b in zip(recall["YOLO"], recall["Faster R-CNN"], strict=True)]
lesson.claim("D7b", "YOLO, sec. 2.4", "its grid misses small objects in groups",
             f"recall of learned objects, alone in their cell -> sharing it: YOLO {recall['YOLO'][3]:.2f} -> "
             f"{recall['YOLO'][4]:.2f}, Faster R-CNN {recall['Faster R-CNN'][3]:.2f} -> {recall['Faster R-CNN'][4]:.2f}; "
             f"the smallest third: {recall['YOLO'][0]:.2f} and {recall['Faster R-CNN'][0]:.2f}; {lost / objects:.0%} of "
             "all cannot be learned", None if lesson.quick else recall["YOLO"][4] < recall["YOLO"][3] and gap[4] > gap[3])
lesson.finish()
