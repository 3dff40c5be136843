"""
R-CNN: every box by itself, and three trainings
===============================================

Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies for accurate object detection and semantic segmentation"
(CVPR 2014), step by step: boxes from selective search, a warp for each (app. A), a network that is fine-tuned on them
(sec. 2.3), one SVM per class with hard negatives (app. B), and a regression that moves the boxes (app. C). Claim D2 is
measured: three separate trainings, slow, and hungry for storage. Beside it: `minicv/models/detection/rcnn.py`,
`svm_detector.py` and `minicv/training/svm.py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("15_rcnn", __doc__)

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import Tensor, models, no_grad
from minicv.backend import to_numpy
from minicv.data import open_dataset
from minicv.data.readers.detection import DetectionPictures
from minicv.detection import box_iou, match_proposals
from minicv.detection.ridge import BoxRegressors
from minicv.detection.selective_search import selective_search
from minicv.models.backbones.classifier import normalise
from minicv.models.detection.rcnn import warp, with_context
from minicv.nn import evaluating
from minicv.training.detection import CachedProposals, DetectionConfig, evaluate_detector
from minicv.training.svm import extract_features, fine_tune, fit_box_regressors, fit_svms
from minicv.viz import PALETTE, draw_boxes, draw_image

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255

# %%
# 1. Pictures and proposals
# -------------------------
# Generated pictures of discs, squares and crosses; or, with `--data bccd:PATH`, blood cells. Selective search says where
# to look. What it finds is kept, since every training below asks for the same boxes.


class Some:
    """The first pictures of a data set, read once, and made smaller if they are large."""

    def __init__(self, data, count):
        from minicv.data.augment.detection import resize
        self.class_names, self.num_classes = data.class_names, data.num_classes
        self.samples = [data[i] for i in range(min(count, len(data)))]
        if isinstance(data, DetectionPictures):
            self.samples = [resize(s, tuple(round(n * 100 / min(s.image.shape[1:])) for n in s.image.shape[1:]))
                            for s in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


def pictures(split, count):
    if lesson.data:
        return Some(open_dataset(lesson.data, split), count)
    scenes = {"size": 64, "objects": (1, 4), "radius": (0.12, 0.3), "crowding": 0.2, "strength": 0.15, "contrast": 0.5,
              "noise": 0.02}
    return Some(open_dataset("boxes", split, count=count, seed=lesson.seed, class_names=("disc", "square", "cross"),
                             **scenes), count)


train, test = pictures("train", 10 if lesson.quick else 200), pictures("test", 4 if lesson.quick else 60)
propose = CachedProposals(lambda image: selective_search(image, "fast", max_boxes=120, min_side=5, min_size=15))
start = time.perf_counter()
counts = [len(propose(sample.image)) for sample in [*train, *test]]
seconds = {"proposals": (time.perf_counter() - start) / len(counts)}
print(f"{len(train)} training pictures, {np.mean(counts):.0f} proposals each, {seconds['proposals']:.2f} s a picture")

# %%
# 2. The warp (app. A)
# --------------------
# Whatever its shape, a box becomes a square, with some of its surroundings around it: 16 of 227 pixels in the paper, 2.25
# of 32 here. What lies outside the picture has the mean colour.

minicv.seed(lesson.seed)
model = models.build("rcnn", num_classes=train.num_classes, side=32, context=2.25, rois_per_image=32, backbone_options={
    "depth": 11, "width": 8, "hidden": 128, "pooled": 1, "batch_norm": True, "dropout": 0.0})
sample = max(list(train)[:10], key=lambda s: len(s.boxes))
labels, _ = match_proposals(propose(sample.image), sample.boxes, background_iou=(0.0, 0.5))
shown = np.concatenate([np.flatnonzero(labels == 1)[:4], np.flatnonzero(labels == 0)[:3]])
boxes = propose(sample.image)[shown]
warps = warp(Tensor(sample.image[None] - 0.5), [boxes], 32, 2.25).numpy() + 0.5

figure, axes = plt.subplots(2, 4, figsize=(10, 5.8), layout="constrained")
draw_image(axes[0, 0], sample.image, "orange: of an object; dotted: with context")
colours = [ORANGE if labels[k] == 1 else BLUE for k in shown]
for box, around, colour in zip(boxes, with_context(boxes, 32, 2.25), colours, strict=True):
    draw_boxes(axes[0, 0], [box], color=colour, width=1.2)
    draw_boxes(axes[0, 0], [around], color=colour, style=":", width=0.8)
best = box_iou(boxes, sample.boxes).max(axis=1)
for ax, pixels, iou, box, colour in zip(axes.flat[1:], warps, best, boxes, colours, strict=False):
    w, h = box[2:] - box[:2]
    draw_image(ax, pixels, f"{w:.0f} x {h:.0f} pixels, IoU {iou:.2f}")
    draw_boxes(ax, [[2.25, 2.25, 29.75, 29.75]], color=colour, width=1.2)
for ax in axes.flat[1 + len(shown):]:
    ax.set_axis_off()
figure.suptitle("Every box becomes a picture of 32 x 32", fontsize=11)
lesson.save(figure, "warps")

# %%
# 3. First training: the network (sec. 2.3)
# -----------------------------------------
# Softmax over the classes and background; a quarter of each batch has an IoU of at least 0.5 with an object. The paper
# begins with a network that was trained on ImageNet; this one begins at random.

config = DetectionConfig(steps=10 if lesson.quick else 500, batch=2, optimizer="adam", lr=0.002, weight_decay=0.0,
                         warmup=20, seed=lesson.seed)
start = time.perf_counter()
losses = fine_tune(model, train, config, propose)
seconds["1 fine-tuning"] = time.perf_counter() - start
model.svm = False
found = {"softmax": evaluate_detector(model, test, proposer=propose)["mAP@0.5"]}
print(f"cross entropy {losses[0]:.2f} -> {np.mean(losses[-20:]):.2f}; mAP with softmax {found['softmax']:.3f}")

# %%
# From now on the network does not change. Its features of all boxes are written to disk, because both other trainings go
# through them again and again: fc7 of all boxes for the SVMs, pool5 only of those that the regressions learn from.

folder = tempfile.TemporaryDirectory()
start = time.perf_counter()
cache = extract_features(model, train, folder.name, propose)
seconds["features"] = time.perf_counter() - start
files = len(list(Path(folder.name).iterdir()))
passes = sum(len(boxes) for boxes, in cache.each("boxes"))
picture_bytes = sum(s.image.size for s in train)  # 8 bits a channel
print(f"{passes} boxes through the network in {seconds['features']:.1f} s; {files} files, {cache.nbytes / 1e6:.1f} MB; "
      f"the pictures themselves: {picture_bytes / 1e6:.1f} MB")

# %%
# 4. Second training: an SVM for each class, with hard negatives (sec. 2.3, app. B)
# ---------------------------------------------------------------------------------
# Positive are the objects alone, negative are boxes with less than 0.3. Most negatives are easy and need not be kept:
# only those with a score above -1 have a say in where the plane lies.

start = time.perf_counter()
histories = fit_svms(model, cache, retrain_limit=500)
seconds["2 SVMs"] = time.perf_counter() - start
model.svm = True
found["SVMs"] = evaluate_detector(model, test, proposer=propose)["mAP@0.5"]
for name, history in zip(train.class_names, histories, strict=True):
    last = history[-1]
    print(f"{name}: {last.seen} negatives, trained {len(history)} times, {last.kept} in memory at the end, "
          f"{last.support} of them within the margin")

# %%
# 5. Third training: move the boxes (app. C)
# ------------------------------------------
# A ridge regression for each class learns from all proposals with an IoU of more than 0.6, on the features of pool5.

start = time.perf_counter()
pairs = fit_box_regressors(model, cache)
seconds["3 regressions"] = time.perf_counter() - start
found["SVMs and moved boxes"] = evaluate_detector(model, test, proposer=propose)["mAP@0.5"]

fitted, before, after = BoxRegressors(*map(to_numpy, (model.box_weight, model.box_bias))), [], []
for s in test:
    iou = box_iou(propose(s.image), s.boxes)
    near = np.flatnonzero(iou.max(axis=1, initial=0) > model.regression_iou)
    if len(near):
        of, boxes = iou[near].argmax(axis=1), propose(s.image)[near]
        x = model.features(s.image, boxes).pool5
        moved = np.stack([fitted.boxes(x[[r]], boxes[[r]], s.labels[of[r]])[0] for r in range(len(near))])
        before.append(iou[near].max(axis=1))
        after.append(box_iou(moved, s.boxes)[np.arange(len(near)), of])
before, after = np.concatenate(before), np.concatenate(after)
print(f"{pairs.sum()} pairs; IoU of test proposals near objects {before.mean():.3f} -> {after.mean():.3f}; mAP: "
      + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
axes[0].plot(np.convolve(losses, np.ones(5) / 5, "valid"), color=BLUE)
axes[0].set(xlabel="step", ylabel="cross entropy", ylim=(0, None), title="1. fine-tuning (mean of 5 steps)")
for k, (name, history) in enumerate(zip(train.class_names, histories, strict=True)):
    axes[1].plot([h.seen for h in history], [h.kept for h in history], "o-", color=PALETTE[[5, 1, 3, 7][k % 4]] / 255,
                 label=name)
axes[1].plot([0, histories[0][-1].seen], [0, histories[0][-1].seen], ":", color="k", label="if all were kept")
axes[1].set(xlabel="negatives seen", ylabel="negatives in memory", title="2. hard negatives")
axes[1].set_ylim(0, 1.4 * max(h.kept for history in histories for h in history))
axes[1].legend()
axes[2].scatter(before, after, s=8, color=GREEN)
axes[2].plot([0.6, 1], [0.6, 1], "k:")
axes[2].set(xlabel="IoU of a proposal", ylabel="IoU when moved", title="3. box regression: better above the line")
lesson.save(figure, "three_trainings")

# %%
# 6. What it finds, and what it costs
# -----------------------------------

figure, axes = plt.subplots(1, 4, figsize=(11, 3.1))
for ax, s in zip(axes, test, strict=False):
    got = model.predict([s.image], [propose(s.image)])[0]
    got = got[got.scores > 0]
    draw_image(ax, s.image, f"{len(s.boxes)} objects, {len(got)} found")
    draw_boxes(ax, s.boxes, color="k", style=":", width=1)
    draw_boxes(ax, got.boxes, got.labels, [f"{test.class_names[k]} {v:.1f}" for k, v in
                                           zip(got.labels, got.scores, strict=True)], width=1.3)
figure.suptitle("Test pictures: found (in colour) and true boxes (dotted)", fontsize=11)
figure.tight_layout()
lesson.save(figure, "found")

timed = list(test)[:4 if lesson.quick else 20]
start = time.perf_counter()
for s in timed:
    model.predict([s.image], [propose(s.image)])
per_picture = (time.perf_counter() - start) / len(timed)
with no_grad(), evaluating(model):  # the same convolutions, once over the whole picture
    model.net.stages(lesson.tensor(normalise(timed[0].image)[None]))  # the first time asks for memory
    start = time.perf_counter()
    for s in timed:
        model.net.stages(lesson.tensor(normalise(s.image)[None]))
    once = (time.perf_counter() - start) / len(timed)
boxes_per_picture = np.mean([len(propose(s.image)) for s in timed])
steps = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items() if name != "proposals")
lesson.claim("D2", "R-CNN; Fast R-CNN, sec. 1.1",
             "three separate trainings, slow, needs storage: the convolutions run for every box, and the features of all "
             "boxes lie on disk",
             f"{boxes_per_picture:.0f} passes of the convolutions a picture, {per_picture:.2f} s, against {once:.3f} s "
             f"for one pass over the picture; {cache.nbytes / len(train) / 1e3:.0f} kB of features a picture of "
             f"{picture_bytes / len(train) / 1e3:.0f} kB; trainings: {steps}",
             per_picture > 5 * once and cache.nbytes > picture_bytes)
lesson.claim("D2b", "R-CNN, app. B (54.2 against 50.9)", "SVMs score better than the softmax they were tuned with",
             f"mAP {found['softmax']:.3f} with softmax, {found['SVMs']:.3f} with SVMs (one training)",
             None if lesson.quick else found["SVMs"] > found["softmax"])
lesson.claim("D2c", "R-CNN, app. C and table 2 (54.2 to 58.5)", "box regression puts boxes in better places",
             f"mean IoU of proposals near objects {before.mean():.3f} -> {after.mean():.3f}; mAP {found['SVMs']:.3f} -> "
             f"{found['SVMs and moved boxes']:.3f}",
             None if lesson.quick else after.mean() > before.mean() and found["SVMs and moved boxes"] > found["SVMs"])
lesson.finish()
