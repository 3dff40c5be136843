"""
Mask R-CNN: class, box and mask together
========================================

Mask R-CNN (He et al., ICCV 2017) adds a third branch to Faster R-CNN: a small network that draws a mask in every box. For
that, the map has to be read where the box is: RoI pooling's rounding moves a box by up to half a place of the map, which
a class does not mind and a mask does. *RoIAlign* rounds nothing (claim D8). Beside it: `minicv/ops/roi.py` and
`minicv/models/detection/mask_rcnn.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare, every

lesson = Lesson("20_mask_rcnn", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import Tensor, models
from minicv import ops as F
from minicv.data import open_dataset
from minicv.data.augment.detection import resize
from minicv.models.detection.mask_rcnn import mask_targets, paste_masks
from minicv.training.detection import DetectionConfig, evaluate_detector, train_detector
from minicv.viz import PALETTE, draw_boxes, draw_image, overlay_masks
from minicv.viz.pixel_grid import draw_bin, draw_pixels

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255

# %%
# 1. Where does a bin look? (sec. 3)
# ----------------------------------
# A map on which every place holds its own column: reading it in a box tells where one has read. The box is moved to the
# right by a tenth of a place at a time. RoIAlign follows; RoI pooling stays, and then jumps.

columns = np.broadcast_to(np.arange(16) + 0.5, (1, 1, 16, 16)).astype(np.float32)
moved = np.arange(0, 3, 0.1)
boxes = np.array([[0, 3 + d, 3, 10 + d, 10] for d in moved], np.float32)
# a bin's mean column: of RoIAlign directly; of RoI pooling the middle of the largest and the smallest that it sees
align = F.roi_align(Tensor(columns), boxes, 7, sampling_ratio=2, aligned=True).data[:, 0, 3, 3]
pool = (F.roi_pool(Tensor(columns), boxes, 7).data - F.roi_pool(Tensor(-columns), boxes, 7).data)[:, 0, 3, 3] / 2
exact = 3 + moved + 3.5
off = {"RoIAlign": np.abs(align - exact).max(), "RoI pooling": np.abs(pool - exact).max()}
print("the middle bin's column, against where it should be: at most", ", ".join(f"{n} {v:.2f}" for n, v in off.items()))

figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for ax, name, ends in ((axes[0], "RoI pooling: ends rounded, the last place taken in", (4, 3, 12, 11)),
                       (axes[1], "RoIAlign: the box as it is", (3.6, 3, 10.6, 10))):
    draw_pixels(ax, np.add.outer(np.arange(16), np.arange(16)) % 2 * 0.15 + 0.7, name, vmin=0, vmax=1)
    draw_bin(ax, (3, 10), (3.6, 10.6), GREEN, inset=0)
    x1, y1, x2, y2 = ends
    for p in range(8):
        ax.plot([x1 + p * (x2 - x1) / 7] * 2, [y1, y2], color=ORANGE, lw=0.8)
        ax.plot([x1, x2], [y1 + p * (y2 - y1) / 7] * 2, color=ORANGE, lw=0.8)
axes[2].plot(moved, align - exact, color=BLUE, marker="o", ms=3, label="RoIAlign")
axes[2].plot(moved, pool - exact, color=ORANGE, marker="s", ms=3, label="RoI pooling")
axes[2].set(xlabel="box moved by (places of the map)", ylabel="error of the middle bin (places)",
            title="At stride 8 a place is 8 pixels", ylim=(-0.1, 1.4))
axes[2].legend(loc="upper center", ncols=2)
lesson.save(figure, "where_bins_look")

# %%
# 2. What the mask branch is to learn
# -----------------------------------
# The object's mask, cut out by the RoI and sampled at 28x28; pasted back, it is nearly the object again. So 28x28 costs
# little: what is lost here no network can win back.


class Some:
    """The first pictures of a split with masks, read once."""

    def __init__(self, split, count):
        data = open_dataset(lesson.data, split) if lesson.data else open_dataset(
            "shape-boxes", split, count=count, seed=lesson.seed, size=64, objects=(1, 4), radius=(0.14, 0.34), crowding=0.2,
            strength=0.15, contrast=0.5, noise=0.02, class_names=("disc", "star", "cross"))
        self.class_names, self.num_classes = data.class_names, data.num_classes
        self.samples = [data[i] for i in range(min(count, len(data)))]
        if lesson.data:
            self.samples = [resize(s, (96, 96)) for s in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


train, test = Some("train", 8 if lesson.quick else 150), Some("test", 4 if lesson.quick else 50)
sample = max(list(train)[:8], key=lambda s: len(s.boxes))
R = np.arange(len(sample.boxes))
cut = mask_targets(sample.masks, R, sample.boxes, 28)
back = paste_masks(cut.astype(np.float32), sample.boxes, sample.image.shape[1:])
overlap = (back & sample.masks).sum((1, 2)) / (back | sample.masks).sum((1, 2))
print("IoU of the masks after 28 x 28 and back:", ", ".join(f"{v:.3f}" for v in overlap))
figure, axes = plt.subplots(1, 1 + min(len(R), 4), figsize=(2.6 * (1 + min(len(R), 4)), 3), layout="constrained")
draw_image(axes[0], overlay_masks(sample.image, sample.masks), "picture and masks")
draw_boxes(axes[0], sample.boxes, color=GREEN, width=0.8)
for ax, m, iou in zip(axes[1:], cut, overlap, strict=False):
    draw_pixels(ax, m.astype(float), f"28 x 28; pasted back IoU {iou:.2f}")
lesson.save(figure, "targets")

# %%
# 3. RoIAlign against RoI pooling, with masks and without (claim D8)
# ------------------------------------------------------------------
# Networks alike but for one thing: RoIAlign, RoI pooling instead, or no mask branch at all; each from the same first
# weights and pictures, with several seeds.

side, seeds = min(train[0].image.shape[1:]), 1 if lesson.quick else 3
steps = 6 if lesson.quick else 180


def trained(pool, masks, seed):
    """Mask R-CNN, or without its mask branch Faster R-CNN: the same first weights, steps and RoIs."""
    minicv.seed(lesson.seed + seed)
    model = models.build("mask_rcnn" if masks else "faster_rcnn", num_classes=train.num_classes, min_size=side,
                         max_size=2 * side, roi_pooling=pool, rois_per_image=16, post_nms_top_n=(64, 32), nms_iou=0.5)
    config = DetectionConfig(steps=steps, batch=4, optimizer="adam", lr=0.002, warmup=20, weight_decay=0.0,
                             seed=lesson.seed + seed)
    start = time.perf_counter()
    losses = list(train_detector(model, train, config))
    result = evaluate_detector(model, test)
    names = ("mAP@0.5", "COCO AP", "mask AP", "mask AP50", "mask AP75")
    print(f"  {pool}, {'masks' if masks else 'boxes only'}, seed {seed}: {time.perf_counter() - start:.0f} s,",
          ", ".join(f"{name} {result[name]:.3f}" for name in names if name in result))
    return model, losses, result


runs = {(pool, masks): [trained(pool, masks, s) for s in range(seeds)]
        for pool, masks in (("align", True), ("pool", True), ("align", False))}


def numbers(pool, masks, name):
    return np.array([result[name] for _, _, result in runs[pool, masks]])


def text(values):
    return f"{values.mean():.3f} +- {values.std():.3f}"


measures = ("mask AP", "mask AP50", "mask AP75")
aligned, pooled = ({name: numbers(pool, True, name) for name in measures} for pool in ("align", "pool"))
margin = {name: aligned[name] - pooled[name] for name in measures}
better, holds_better = compare(margin["mask AP"])
strict, holds_strict = compare(margin["mask AP75"] - margin["mask AP50"])
lesson.claim("D8a", "Mask R-CNN, table 2c", "RoIAlign beats RoI pooling for masks, most where overlaps must be high",
             "RoIAlign against RoI pooling: " + ", ".join(f"{name} {text(aligned[name])} against {text(pooled[name])}"
                                                          for name in measures)
             + f"; mask AP {better}, the margin at AP75 against that at AP50 {strict} ({seeds} seeds); a bin is off by up "
             f"to {off['RoI pooling']:.2f} places of the map instead of {off['RoIAlign']:.2f}",
             every((holds_better, holds_strict)))
with_masks, only = (numbers("align", masks, "COCO AP") for masks in (True, False))
helped, holds = compare(with_masks - only)
lesson.claim("D8b", "Mask R-CNN, table 5", "one network learns class, box and mask together, and the masks help the boxes",
             f"box AP {text(with_masks)} with the mask branch, {text(only)} without: {helped} ({seeds} seeds); masks at "
             f"{text(aligned['mask AP'])}", holds)

# %%
# 4. What it finds
# ----------------
# After so short a training scores are low; drawn is what has more than 0.3.

model, losses, _ = runs["align", True][0]
figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
window = np.ones(min(20, steps)) / min(20, steps)
for name, colour in zip(("rpn_class", "rpn_box", "class", "box", "mask"), PALETTE[[2, 3, 5, 1, 7]] / 255, strict=True):
    ax.plot(np.convolve([step[name] for step in losses], window, "valid"), color=colour, label=name)
ax.set(xlabel="step", ylabel="loss (mean of 20 steps)", title="Five terms, one training", ylim=(0, None))
ax.legend()
lesson.save(figure, "losses")

figure, axes = plt.subplots(3, 4, figsize=(11, 8.8), layout="constrained")
for column, sample in zip(axes.T, test, strict=False):
    draw_image(column[0], overlay_masks(sample.image, sample.masks, sample.labels), f"truth: {len(sample.boxes)}")
    for ax, pool in zip(column[1:], ("align", "pool"), strict=True):
        found = runs[pool, True][0][0].predict([sample.image])[0]
        found = found[found.scores > 0.3]
        draw_image(ax, overlay_masks(sample.image, found.masks, found.labels),
                     f"{'RoIAlign' if pool == 'align' else 'RoI pooling'}: {len(found)}")
        draw_boxes(ax, found.boxes, found.labels, [f"{test.class_names[k]} {s:.2f}" for k, s in
                                                   zip(found.labels, found.scores, strict=True)], width=1)
lesson.save(figure, "found")
lesson.finish()
