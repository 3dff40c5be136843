"""
Faster R-CNN: a network that proposes
=====================================

Selective search takes longer than the network that looks at its boxes. Faster R-CNN (Ren et al., NIPS 2015) lets a few
layers on the same map propose boxes, the region proposal network (RPN). Nine *anchors* stand at every place of the map;
each learns whether an object is near, and how to move onto it (claims D5, D6). Beside it:
`minicv/models/detection/rpn.py` and `faster_rcnn.py`.
"""

# %%
from minicv.course.lessons import Lesson, all_hold, compare

lesson = Lesson("18_faster_rcnn", __doc__, needs="boxes")

import dataclasses
import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models, no_grad
from minicv.data.augment.detection import resize_shorter_side
from minicv.detection import box_iou
from minicv.detection.selective_search import selective_search
from minicv.metrics import ProposalRecall
from minicv.nn import evaluating
from minicv.training.detection import DetectionConfig, evaluate_detector, train_detector
from minicv.viz import PALETTE, draw_boxes, draw_heat_map, draw_image, draw_predictions

BLUE, ORANGE, GREEN, PINK = PALETTE[[5, 1, 3, 7]] / 255

# %%
# The images are generated, with up to six objects of many sizes and shapes. `--data` takes a real data set instead.

SCENES = {"size": 96, "objects": (1, 6), "radius": (0.08, 0.35), "ratio": (0.4, 2.5), "strength": 0.15, "contrast": 0.5,
          "noise": 0.02, "class_names": ("disc", "square", "cross")}

train, test = (lesson.detection_set(split, count, lambda sample: resize_shorter_side(sample, 128), **SCENES)
               for split, count in (("train", 8 if lesson.quick else 150), ("test", 4 if lesson.quick else 40)))
side = min(train[0].image.shape[1:])
steps = 6 if lesson.quick else 450
config = DetectionConfig(steps=steps, batch=4, optimizer="adam", lr=0.002, warmup=20, weight_decay=0, seed=lesson.seed)

# %%
# 1. Nine anchors at every place, 54 channels (sec. 3.1)
# ------------------------------------------------------
# An anchor is a box of fixed size and shape, centered at a place of the map: three scales (the side of a square, in pixels)
# times three ratios (height to width) make k = 9. For each place the RPN has 2k scores, object or not, and 4k box deltas,
# the regression targets of lesson 13.

SCALES, RATIOS = (12.0, 24.0, 48.0), (0.5, 1.0, 2.0)


def build(scales=SCALES, ratios=RATIOS, seed=lesson.seed):
    minicv.seed(seed)
    return models.build("faster_rcnn", num_classes=train.num_classes, min_size=side, max_size=2 * side,
                        anchor_scales=scales, anchor_ratios=ratios, rois_per_image=32)


model = build()
sample = max(list(train)[:12], key=lambda s: len(s.boxes))
image, (pixels, target) = sample.image, model.example(sample)
x = model.batch([pixels])
size = model.backbone(x).shape[2:]
anchors, k = model.rpn.anchors(size), len(model.rpn.base)
channels = [len(layer.weight) for layer in (model.rpn.score, model.rpn.box_deltas)]
print(f"a map of {size[0]} x {size[1]} places, {len(anchors)} anchors, {channels} channels")

# %%
# 2. What each anchor is to learn
# -------------------------------
# An anchor is positive if its IoU with an object is at least 0.7, or the highest that the object has; negative if its IoU
# with every object is below 0.3; anything between is neither and is not trained on. A training step draws up to 256 anchors
# of an image, at most half of them positive; here we look at all.

chosen = model.rpn.targets(anchors, target, np.random.default_rng(lesson.seed))
labels, iou = chosen.labels, box_iou(anchors, target.boxes).max(axis=1)
print(f"{(labels == 1).sum()} positive anchors, {(labels == 0).sum()} negative, {(labels == -1).sum()} neither; drawn: "
      f"{len(chosen.positive)} and {len(chosen.negative)}")

figure, axes = plt.subplots(1, 2, figsize=(8, 4.1), layout="constrained")
middle = (size[0] // 2 * size[1] + size[1] // 2) * k
draw_image(axes[0], image, "nine anchors at one place")
draw_boxes(axes[0], anchors[middle:middle + k], labels=np.arange(k) % 3, width=1.2)
draw_image(axes[1], image, "green: all positive anchors; blue: some negative ones")
draw_boxes(axes[1], anchors[chosen.negative[::max(1, len(chosen.negative) // 12)]], color=BLUE, width=0.7)
draw_boxes(axes[1], anchors[labels == 1], color=GREEN, width=1.4)
lesson.save(figure, "anchors")

# %%
# On the left each scale has its own color. On the right, the few positive anchors gather on the objects.
#
# Two heat maps show all places, each a rectangle drawn where its anchors are centered. The first gives the highest IoU that
# one of the nine anchors has with an object. In the second a place is bright (1) if one of them is neither.


def per_place(values):
    """The largest of the nine values at each place, (H, W)."""
    return values.reshape(*size, k).max(axis=2)


figure, axes = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
draw_heat_map(axes[0], image, per_place(iou), "highest IoU of the nine anchors", 0, 1)
draw_heat_map(axes[1], image, per_place((labels == -1).astype(float)), "1: some anchor is neither", 0, 1)
lesson.save(figure, "targets")

# %%
# The first map is brightest at the centers of objects; the second marks the objects and a margin around them.
#
# 3. What the network learns
# --------------------------
# Now the RPN is trained together with the detector. Before and after, we keep each anchor's probability of being on an
# object, P(object), and its share of the class loss.


@no_grad()
def loss_shares(model):
    """Each anchor's share of the class loss, (A,): 0 where it is neither; and its probability of an object."""
    with evaluating(model):
        score, _ = model.rpn(model.backbone(x))
    s = score.numpy()[0]
    probability = 1 / (1 + np.exp(s[:, 0] - s[:, 1]))
    loss = np.where(labels == 1, -np.log(probability + 1e-12), np.where(labels == 0, -np.log(1 - probability + 1e-12), 0))
    return loss / loss.sum(), probability


before, p_before = loss_shares(model)
start = time.perf_counter()
losses = list(train_detector(model, train, config))
print(f"joint training: {steps} steps, {(time.perf_counter() - start) / steps * 1000:.0f} ms each")
after, p_after = loss_shares(model)
for name, share in (("before", before), ("after", after)):
    print(f"{name} training: share of the positives, {(labels == 1).mean():.1%} of the anchors: "
          f"{share[labels == 1].sum():.1%}; of the 1% with the largest loss: {np.sort(share)[-len(share) // 100:].sum():.0%}")

# %%
# Again the largest value of the nine anchors at each place. Of an anchor's share of the loss the square root is shown, which
# makes small shares visible; note that its color bar has other ends after training than before.

figure, axes = plt.subplots(1, 4, figsize=(16, 3.6), layout="constrained")
for n, (name, share, p) in enumerate((("before", before, p_before), ("after", after, p_after))):
    draw_heat_map(axes[n], image, per_place(p), f"P(object), {name} training", 0, 1)
    draw_heat_map(axes[2 + n], image, per_place(np.sqrt(share)), f"root of the share of the loss, {name}", 0)
lesson.save(figure, "heat_maps")

# %%
# Before training P(object) is 0.5 everywhere, and the loss is spread over all anchors. Training raises P(object) on the objects
# and lowers it elsewhere; more than half of the remaining loss comes from 1% of the anchors, on and beside the objects.
#
# 4. Proposals: the RPN against selective search (claim D5)
# ---------------------------------------------------------
# Both propose boxes for the test images; we measure the recall at an IoU of 0.5 of the best 5, 10, ... 2000, and the fewest
# boxes that an image had, because recall cannot be compared where a method has run out of boxes.

counts, ten, fifty = (5, 10, 50, 300, 2000), 1, 2  # and where 10 and 50 are in it


def measure(propose):
    """Recall at ``counts``, milliseconds for an image, and the fewest boxes that an image had."""
    recall, start, fewest = ProposalRecall(counts), time.perf_counter(), np.inf
    for sample in test:
        boxes = propose(sample.image)
        recall.update(boxes, sample)
        fewest = min(fewest, len(boxes))
    return recall.recall(), (time.perf_counter() - start) / len(test) * 1000, fewest


curves, milliseconds = {}, {}
model.rpn.config = dataclasses.replace(model.rpn.config, pre_nms_top_n=(6000, 6000), post_nms_top_n=(2000, 2000))
for name, propose in (("RPN", model.propose), (
        "selective search", lambda image: selective_search(image, "fast", min_side=4, min_size=15))):
    curves[name], milliseconds[name], _ = measure(propose)

# %%
# The convolutions before the RPN belong to the detector anyway, so the RPN's own layers and its NMS are also timed alone.

with no_grad(), evaluating(model):
    times = []  # for each image: all, and the RPN's own layers and the NMS alone, from the same call
    for sample in test:
        start = time.perf_counter()
        features = model.backbone(model.batch([model.normalize(sample.image)]))
        halfway = time.perf_counter()
        model.proposals_from_map(features, [sample.image.shape[1:]])
        times.append((time.perf_counter() - start, time.perf_counter() - halfway))
milliseconds["RPN"], alone = 1000 * np.mean(times, axis=0)
for name, recall in curves.items():
    print(f"{name:<17} {milliseconds[name]:6.1f} ms an image; recall with {counts} boxes: {recall.round(3)}")
lesson.claim("D5a", "Faster R-CNN, sec. 1 and table 4", "the RPN's proposals are cheaper than selective search's",
             f"{alone:.0f} ms on the shared map ({milliseconds['RPN']:.0f} with it) against "
             f"{milliseconds['selective search']:.0f} ms", milliseconds["RPN"] < milliseconds["selective search"])

# %%
# In the full run the RPN is better with 5 and 10 boxes but not with 50, so the next claim does not hold here. Whether more
# than these 450 steps of training would change that is open.

lesson.claim("D5b", "Faster R-CNN, sec. 4, recall to IoU", "and better where only few are taken, here up to 50",
             f"recall with {', '.join(map(str, counts))} boxes: " + "; ".join(
                 f"{name} {', '.join(f'{v:.2f}' for v in c)}" for name, c in curves.items()) +
             f" (after {steps} steps on {len(train)} images)", None if lesson.quick else
             (curves["RPN"][:fifty + 1] > curves["selective search"][:fifty + 1]).all())

# %%
# 5. One, three or nine anchors (claim D6)
# ----------------------------------------
# RPNs trained alone, alike but for their anchors, with several seeds: one scale and ratio, three of either, all nine. One
# anchor a place makes far fewer boxes than nine, so they are compared where each has enough: at 10 and 50 boxes. (The
# paper's table 8 measures the mAP of detectors with 300: 65.8, 69.8 and 69.9% with 1, 3 scales and 9.)

sets = {"1 anchor": ((24.0,), (1.0,)), "3 scales": (SCALES, (1.0,)), "3 ratios": ((24.0,), RATIOS),
        "3 x 3 = 9": (SCALES, RATIOS)}
seeds = range(lesson.seed, lesson.seed + (1 if lesson.quick else 3))
recalls, nearest, fewest = {}, {}, np.inf
for name, (scales, ratios) in sets.items():
    recalls[name] = np.zeros((len(seeds), len(counts)))
    for n, seed in enumerate(seeds):
        rpn = build(scales, ratios, seed)
        rpn.set_trainable("backbone", "rpn")
        for _ in train_detector(rpn, train, config.replace(steps=max(4, steps * 2 // 9), seed=seed)):
            pass
        rpn.rpn.config = dataclasses.replace(rpn.rpn.config, pre_nms_top_n=(6000, 6000), post_nms_top_n=(2000, 2000))
        recalls[name][n], _, least = measure(rpn.propose)
        fewest = min(fewest, least)
    curves[name] = recalls[name].mean(axis=0)
    best = [box_iou(rpn.rpn.anchors(size), rpn.example(s)[1].boxes).max(axis=0, initial=0) for s in test]
    nearest[name] = np.concatenate(best).mean()
    print(f"{name:<10} best anchor of an object: mean IoU {nearest[name]:.2f}; recall with 10 and 50 boxes "
          f"{curves[name][ten]:.3f} and {curves[name][fifty]:.3f}")

# %%
# Left: the two methods. Right: the four sets of anchors. The number of boxes has a logarithmic axis.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
for ax, names in ((axes[0], ("RPN", "selective search")), (axes[1], tuple(sets))):
    for name, color, marker in zip(names, (BLUE, ORANGE, GREEN, PINK), "osv^", strict=False):
        ax.plot(counts, curves[name], color=color, marker=marker, label=name)
    ax.set(xscale="log", xlabel="boxes per image", ylim=(0, 1.02), xticks=counts, xticklabels=counts)
    ax.legend()
axes[0].set(ylabel="recall at IoU 0.5", title="where the boxes come from")
axes[1].set_title("anchors, the RPN trained alone")
lesson.save(figure, "recall")

# %%
# Nine anchors fit the objects better: the mean IoU of an object's best anchor rises. In the full run recall does not follow; at
# 50 boxes nine anchors are worse than one, so the claim does not hold here. The reason is open.

gain = {n: compare(recalls["3 x 3 = 9"][:, n] - recalls["1 anchor"][:, n]) for n in (ten, fifty)}
lesson.claim("D6", "Faster R-CNN, sec. 3.1 and table 8", "nine anchors need 18 + 36 = 54 channels; several scales and "
             "ratios raise recall", f"{channels[0]} + {channels[1]} = {sum(channels)} channels; recall with 10 and 50 "
             f"boxes (all have at least {fewest}): " + ", ".join(
                 f"{name} {curves[name][ten]:.3f} and {curves[name][fifty]:.3f}" for name in sets)
             + f"; nine against one {gain[ten][0]} and {gain[fifty][0]} ({len(seeds)} seeds); mean IoU of an object's best "
             "anchor " + ", ".join(f"{v:.2f}" for v in nearest.values()),
             all_hold([sum(channels) == 54, gain[ten][1], gain[fifty][1]]))

# %%
# 6. The whole detector
# ---------------------
# The 20 best proposals for one test image, and detections scoring above 0.3 on three, after a few seconds of training.

model.rpn.config = model.config
result = evaluate_detector(model, test)
print("detector:", ", ".join(f"{name} {value:.3f}" for name, value in result.items()))
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
draw_image(axes[0], test[0].image, "the 20 best proposals")
draw_boxes(axes[0], model.propose(test[0].image)[:20], color=BLUE, width=0.8)
for ax, sample in zip(axes[1:], test, strict=False):
    found = model.predict([sample.image])[0]
    found = found[found.scores > 0.3]
    draw_predictions(ax, sample.image, found, test.class_names, f"{len(sample.boxes)} objects, {len(found)} found")
lesson.save(figure, "found")
lesson.finish()
