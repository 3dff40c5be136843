"""
YOLO: one look, one grid, no proposals
======================================

Redmon, Divvala, Girshick and Farhadi, "You Only Look Once: Unified, Real-Time Object Detection" (CVPR 2016): a grid of
cells, each answering for the object whose centre lies in it (sec. 2), and a loss of five squared errors, eq. (3). Claim
D7 is measured: faster than Faster R-CNN and less accurate, and its grid misses small objects in groups. Beside it:
`minicv/models/detection/yolo.py`.
"""

# %%
from minicv.course.lessons import Lesson

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
from minicv.viz import PALETTE, draw_boxes, draw_image
from minicv.viz.boxes import class_color

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255
TERMS = {"center": "center: x, y", "size": "size: roots of w, h", "object": "confidence, object",
         "no_object": "confidence, no object", "class": "class"}

SCENES = {"size": 56, "objects": (2, 9), "radius": (0.06, 0.28), "crowding": 0.8, "strength": 0.15, "contrast": 0.5,
          "noise": 0.02, "class_names": ("disc", "square", "cross"), "seed": lesson.seed, "keep": True}
train, test = (open_dataset("shape-boxes", split, count=count, **SCENES)
               for split, count in (("train", 16 if lesson.quick else 100), ("test", 8 if lesson.quick else 60)))

# %%
# 1. The grid (sec. 2, fig. 2)
# ----------------------------
# A picture of 56 pixels, 7 x 7 cells of 8. The cell with an object's centre learns five numbers for it, of which the
# first four say where it is; if two centres share a cell, the second object is lost.

minicv.seed(lesson.seed)
yolo = models.build("yolo", num_classes=3, image_size=56, layers="3x16 max 3x32 max 3x64 max 3x128")
S = yolo.S
sample = max(list(train)[:40], key=lambda s: len(s.boxes))
_, target = yolo.example(sample)
cells = assign_cells([target], S)
for n in range(len(cells.label)):
    x, y, w, h = cells.box[n]
    print(f"row {cells.i[n]}, column {cells.j[n]}: x {x:.2f} y {y:.2f} of the cell, sqrt(w) {w:.2f} sqrt(h) {h:.2f} of "
          f"the picture, {train.class_names[cells.label[n]]}")
objects = sum(len(s.boxes) for s in train)
lost = objects - sum(len(assign_cells([yolo.example(s)[1]], S).label) for s in train)
print(f"of {objects} objects {lost} share their cell with one before them and cannot be learned at all")

# %%
# 2. The loss (eq. (3)), term by term
# -----------------------------------
# Errors of boxes count five times, those of the confidence of empty boxes half, because there are so many of them. The
# network is to learn these few pictures by heart: then what it still misses, it misses because of the grid.

config = DetectionConfig(steps=20 if lesson.quick else 300, batch=16, optimizer="adam", lr=0.002, weight_decay=0.0,
                         warmup=20, flip=False, seed=lesson.seed)
start = time.perf_counter()
history = list(train_detector(yolo, train, config))
trained = {"YOLO": time.perf_counter() - start}
print(f"YOLO: {yolo.num_parameters():,} parameters, {config.steps} steps of {config.batch} in {trained['YOLO']:.0f} s; "
      + ", ".join(f"{name} {history[0][name]:.2f} -> {np.mean([h[name] for h in history[-20:]]):.2f}" for name in TERMS))

figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.8), layout="constrained", width_ratios=(1, 1.6))
draw_image(axes[0], sample.image, "cells that hold a centre, and their boxes")
for k in range(1, S):
    axes[0].axhline(k * 56 / S, color="w", lw=0.6)
    axes[0].axvline(k * 56 / S, color="w", lw=0.6)
for i, j, label in zip(cells.i, cells.j, cells.label, strict=True):
    axes[0].add_patch(plt.Rectangle((j * 56 / S, i * 56 / S), 56 / S, 56 / S, color=class_color(label), alpha=0.6))
draw_boxes(axes[0], sample.boxes, sample.labels)
axes[0].plot(*((sample.boxes[:, :2] + sample.boxes[:, 2:]).T / 2), "k+")
width = 1 if lesson.quick else 15
for (name, text), colour, style in zip(TERMS.items(), PALETTE[[5, 1, 3, 7, 2]] / 255, ("-", "--", "-.", ":", "-"),
                                       strict=True):
    axes[1].semilogy(np.convolve([h[name] for h in history], np.ones(width) / width, "valid"), style, color=colour,
                     label=text)
axes[1].set(xlabel="step", ylabel="loss per picture", title="the five terms of eq. (3)")
axes[1].legend(fontsize=8)
lesson.save(figure, "grid_and_loss")

# %%
# 3. From 98 boxes to an answer (fig. 2)
# --------------------------------------
# The network says all of its boxes at once. A box counts by its confidence times its cell's class probability, eq. (1);
# NMS drops the doubles.

shown = sorted(list(train)[:30], key=lambda s: -len(s.boxes))[:3]
figure, axes = plt.subplots(len(shown), 4, figsize=(10.5, 2.75 * len(shown)), layout="constrained", squeeze=False)
for row, s in zip(axes, shown, strict=True):
    with evaluating(yolo), no_grad():
        grid = yolo(yolo.batch([yolo.normalize(s.image)])).numpy()[0]
    boxes, scores = yolo.boxes_and_scores(grid)
    C = grid[..., 4:5 * yolo.B:5].reshape(-1).clip(0, 1)
    draw_image(row[0], s.image, f"{len(s.boxes)} objects")
    draw_boxes(row[0], s.boxes, s.labels)
    draw_image(row[1], s.image, f"{len(boxes)} boxes, as wide as confident")
    for k in np.argsort(C):
        draw_boxes(row[1], boxes[[k]], color="k", width=0.1 + 3 * C[k])
    draw_image(row[2], s.image, "each cell's class")
    for i in range(S):
        for j in range(S):
            p = grid[i, j, 5 * yolo.B:]
            row[2].add_patch(plt.Rectangle((j * 56 / S, i * 56 / S), 56 / S, 56 / S, color=class_color(p.argmax()),
                                           alpha=0.7 * float(np.clip(p.max(), 0, 1)), lw=0))
    found = yolo.predict([s.image])[0]
    found = found[found.scores > 0.25]
    draw_image(row[3], s.image, "found, with a score above 0.25")
    draw_boxes(row[3], found.boxes, found.labels, [f"{test.class_names[k]} {v:.1f}" for k, v in
                                                   zip(found.labels, found.scores, strict=True)])
lesson.save(figure, "boxes")

# %%
# 4. Beside Faster R-CNN, on the same pictures
# --------------------------------------------
# Faster R-CNN's map has a place every 4 pixels, with three anchors each, and one set of weights for all places.

minicv.seed(lesson.seed)
faster = models.build("faster_rcnn", num_classes=3, min_size=56, max_size=56, cut_at="relu3_2",
                      anchor_scales=(8.0, 16.0, 32.0), anchor_ratios=(1.0,), hidden=128, rois_per_image=32,
                      post_nms_top_n=(128, 64), pre_nms_top_n=(300, 200), rpn_min_size=2.0)
config = config.replace(steps=20 if lesson.quick else 500, batch=2)
start = time.perf_counter()
for _ in train_detector(faster, train, config):
    pass
trained["Faster R-CNN"] = time.perf_counter() - start
nets = {"YOLO": yolo, "Faster R-CNN": faster}


def milliseconds(net):
    """Of a picture: the mean over 20 of the best of three, so that whatever else the machine does counts little."""
    best = []
    for s in list(test)[:20]:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            net.predict([s.image])
            times.append(time.perf_counter() - start)
        best.append(min(times))
    return 1000 * float(np.mean(best))


def recalled(net, samples):
    """Which objects have a detection of their class with an IoU of at least 0.5."""
    hits = []
    for s, found in zip(samples, net.predict([s.image for s in samples]), strict=True):
        iou = box_iou(s.boxes, found.boxes) * (s.labels[:, None] == found.labels)
        hits.append(iou.max(axis=1, initial=0) >= 0.5)
    return np.concatenate(hits)


def cell_mates(s):
    """How many other objects have their centre in an object's cell."""
    row, column = np.floor((s.boxes[:, 1::2].mean(1), s.boxes[:, 0::2].mean(1)) / np.float32(56 / S)).astype(int)
    cell = row * S + column
    return (cell[:, None] == cell).sum(axis=1) - 1


speed = {name: milliseconds(net) for name, net in nets.items()}
known, new = ({name: evaluate_detector(net, data)["mAP@0.5"] for name, net in nets.items()} for data in (train, test))
for name in nets:
    print(f"{name}: {speed[name]:.1f} ms a picture, mAP {known[name]:.3f} on the pictures it learned, {new[name]:.3f} on "
          f"others, trained in {trained[name]:.0f} s")

side = np.concatenate([np.sqrt(np.prod(s.boxes[:, 2:] - s.boxes[:, :2], axis=1)) for s in train])
edges = np.quantile(side, [0, 1 / 3, 2 / 3, 1])
group = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, 2)
shared = np.concatenate([cell_mates(s) for s in train]) > 0
recall = {}
for name, net in nets.items():
    hit = recalled(net, list(train))
    recall[name] = [*(hit[group == g].mean() for g in range(3)), hit[~shared].mean(), hit[shared].mean()]
kinds = [f"{a:.0f} to {b:.0f}\npixels" for a, b in zip(edges, edges[1:], strict=False)] + [
    f"alone in\ntheir cell ({(~shared).sum()})", f"sharing\na cell ({shared.sum()})"]
figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
for shift, (name, colour) in zip((-0.2, 0.2), (("YOLO", BLUE), ("Faster R-CNN", ORANGE)), strict=True):
    bars = ax.bar(np.arange(5) + shift, recall[name], 0.38, color=colour, label=f"{name}, {speed[name]:.1f} ms")
    ax.bar_label(bars, [f"{v:.2f}" for v in recall[name]], fontsize=8)
ax.set(xticks=range(5), xticklabels=kinds, ylim=(0, 1.3), ylabel="recall at IoU 0.5",
       title="objects of the pictures that both have learned")
ax.legend(loc="upper left", fontsize=8, ncols=2)
lesson.save(figure, "recall")

# %%
# The claims
# ----------
# On other pictures YOLO finds little: its fully connected layers learn every place of the picture by itself, from the
# few objects that were there, where the paper has 20,000 pictures and convolutions that know ImageNet.

lesson.claim("D7", "YOLO, Table 1 (63.4 at 45 frames a second; 73.2 at 7)",
             "YOLO is faster and less accurate than Faster R-CNN",
             ", ".join(f"{name} {speed[name]:.1f} ms, mAP {new[name]:.3f} on new pictures, {known[name]:.3f} on the "
                       f"{len(train)} it learned" for name in nets) + " (one training each)",
             None if lesson.quick else speed["YOLO"] < speed["Faster R-CNN"] and new["YOLO"] < new["Faster R-CNN"])
gap = [b - a for a, b in zip(recall["YOLO"], recall["Faster R-CNN"], strict=True)]
lesson.claim("D7b", "YOLO, sec. 2.4", "its grid misses small objects in groups",
             f"recall of learned objects, alone in their cell -> sharing it: YOLO {recall['YOLO'][3]:.2f} -> "
             f"{recall['YOLO'][4]:.2f}, Faster R-CNN {recall['Faster R-CNN'][3]:.2f} -> {recall['Faster R-CNN'][4]:.2f}; "
             f"the smallest third: {recall['YOLO'][0]:.2f} and {recall['Faster R-CNN'][0]:.2f}; {lost / objects:.0%} of "
             "all cannot be learned", None if lesson.quick else recall["YOLO"][4] < recall["YOLO"][3] and gap[4] > gap[3])
lesson.finish()
