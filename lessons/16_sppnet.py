"""
SPPNet: the convolutions once, a vector of one length for every box
====================================================================

He, Zhang, Ren and Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition" (ECCV 2014).
R-CNN runs its convolutions for every box, though boxes overlap. SPPNet runs them once, finds each box's window on the
map (app. A), and pools it to 50 bins whatever its size (sec. 2.2). We measure claim D3: a fixed length for any input,
and the speed against R-CNN with the same boxes. Beside it: `minicv/models/detection/sppnet.py` and `rcnn.py`.
"""

# %%
from minicv.course.lessons import Lesson, best_time, compare

lesson = Lesson("16_sppnet", __doc__)

import dataclasses
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import models, no_grad
from minicv.data import open_dataset
from minicv.detection.selective_search import selective_search
from minicv.models.detection.sppnet import map_windows, pool_windows
from minicv.training.detection import CachedProposals, DetectionConfig, evaluate_detector
from minicv.training.svm import fine_tune, fit_svm_detector
from minicv.viz import PALETTE, draw_boxes, draw_image

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255

# %%
# The images are those of lesson 15: generated discs, squares and crosses, with proposals from selective search.

SCENES = {"size": 64, "objects": (1, 4), "radius": (0.12, 0.3), "crowding": 0.2, "strength": 0.15, "contrast": 0.5,
          "noise": 0.02, "class_names": ("disc", "square", "cross"), "seed": lesson.seed, "keep": True}
train, test = (open_dataset("shape-boxes", split, count=count, **SCENES)
               for split, count in (("train", 10 if lesson.quick else 200), ("test", 4 if lesson.quick else 60)))
propose = CachedProposals(lambda image: selective_search(image, "fast", max_boxes=120, min_side=5, min_size=15))

# %%
# 1. One length for any size (sec. 2.2)
# -------------------------------------
# A fully connected layer fixes its input's length; convolutions do not. Between them stands the pyramid: the largest
# value in each of 1x1, 2x2, 3x3 and 6x6 bins, which makes 50 numbers for each channel. Four sizes of images go in; watch
# that the vectors that come out are equally long.

minicv.seed(lesson.seed)
NETWORK = {"num_classes": 3, "cut_at": "relu3_2", "min_size": 64, "max_size": 64, "hidden": 128, "rois_per_image": 32}
model = models.build("sppnet", **NETWORK).eval()
lengths = {}
for H, W in ((64, 64), (48, 160), (75, 33), (224, 180)):
    with no_grad():
        x = model.backbone(lesson.tensor(np.zeros((1, 3, H, W), np.float32)))
        lengths[H, W] = F.spatial_pyramid_pool(x, model.config.levels).shape[1]
    print(f"an image of {H} x {W}: a map of {x.shape[2]} x {x.shape[3]} x {x.shape[1]}, a vector of {lengths[H, W]}")

# %%
# 2. From a box to a window (app. A)
# ----------------------------------
# A column of the map belongs to a box if the center of its receptive field lies inside the box. Here neighboring columns
# are 4 pixels of the image apart. Pooling a window is pooling the piece of the map that it cuts out: the loop below does so
# box by box, and must agree with `pool_windows`, which takes all windows at once.

sample = max(list(train)[:20], key=lambda s: len(s.boxes))
with no_grad():
    x = model.backbone(model.batch([model.normalize(sample.image)]))
windows = map_windows(sample.boxes, model.stride, x.shape[2:], model.center_offset)
together = pool_windows(x, [windows], model.config.levels).numpy()
largest = 0.0
for r, (left, top, right, bottom) in enumerate(windows.astype(int)):
    piece = x[:, :, top:bottom + 1, left:right + 1]
    largest = max(largest, abs(F.spatial_pyramid_pool(piece, model.config.levels).numpy()[0] - together[r]).max())
print(f"{len(windows)} windows, pooled together and one by one: largest difference {largest}")

# %%
# Left: the objects' boxes and, dotted, their windows, drawn at the size of the pixels that they stand for. The other panels
# show one window, that of the largest box, on the map (the mean of its channels, bright is large), cut into the bins of
# each level of the pyramid.


def bins_of(window, n):
    """The n x n bins of a window (left, top, right, bottom), as boxes (x1, y1, x2, y2) in pixels of the map."""
    left, top, right, bottom = window.astype(int)
    h, w = bottom - top + 1, right - left + 1
    return np.array([[left + q * w // n, top + p * h // n, left - -(q + 1) * w // n, top - -(p + 1) * h // n]
                     for p in range(n) for q in range(n)])


figure, axes = plt.subplots(1, 5, figsize=(13, 3.1), layout="constrained")
draw_image(axes[0], sample.image, "boxes and their windows (dotted)")
draw_boxes(axes[0], sample.boxes, color=ORANGE)
draw_boxes(axes[0], (windows + [0, 0, 1, 1]) * model.stride, color="k", style=":", width=1.2)
window = windows[np.argmax(np.prod(sample.boxes[:, 2:] - sample.boxes[:, :2], axis=1))]
activity = x.numpy()[0].mean(axis=0)
for ax, n in zip(axes[1:], model.config.levels, strict=True):
    draw_image(ax, (activity - activity.min())[None] / np.ptp(activity), f"{n} x {n} bins")
    bins = bins_of(window, n) + [0.08, 0.08, -0.08, -0.08]
    for k, color in enumerate((BLUE, ORANGE)):
        draw_boxes(ax, bins[np.indices((n, n)).sum(axis=0).ravel() % 2 == k], color=color, width=1.2)
lesson.save(figure, "pyramid")

# %%
# Where the window's width does not divide by n, neighboring bins share a row or column of the map, so no value is left out.
#
# 3. Three trainings, as R-CNN's
# ------------------------------
# Both networks learn from the same images and proposals: fine-tuning, then SVMs, then box regressions. A second SPPNet is
# fine-tuned in several sizes (sec. 2.3): each step scales its images by 0.75, 1 or 1.33. SVMs and regressions learn from the
# images as they are, for all three.

RCNN = {"num_classes": 3, "warp_size": 32, "context": 2.25, "rois_per_image": 32, "backbone_options": {
    "depth": 11, "width": 8, "hidden": 128, "pooled": 1, "batch_norm": True, "dropout": 0.0}}
plans = {"R-CNN": ("rcnn", RCNN), "SPPNet": ("sppnet", NETWORK),
         "SPPNet, many sizes": ("sppnet", {**NETWORK, "image_scales": (0.75, 1.0, 1.33)})}
steps, seeds = (10, 1) if lesson.quick else (250, 3)


def three_trainings(name, seed):
    """The network, and what its trainings cost."""
    kind, options = plans[name]
    minicv.seed(lesson.seed + seed)
    net = models.build(kind, **options)
    config = DetectionConfig(steps=steps, batch=2, optimizer="adam", lr=0.002, weight_decay=0.0, warmup=20,
                             seed=lesson.seed + seed)
    start = time.perf_counter()
    fine_tune(net, train, config, propose)
    seconds = time.perf_counter() - start
    net.image_scales = (1.0,)
    with tempfile.TemporaryDirectory() as folder:
        costs = dataclasses.replace(fit_svm_detector(net, train, folder, propose), fine_tuning=seconds)
    print(f"{name}, seed {seed}: fine-tuning {costs.fine_tuning:.1f} s ({steps} steps), features {costs.features:.1f} s, "
          f"{costs.nbytes / 1e6:.0f} MB, SVMs {costs.svms:.1f} s, regressions {costs.regressors:.1f} s", flush=True)
    return net, costs


# %%
# R-CNN is trained once, each SPPNet with every seed. Both SPPNets are then tested on images made smaller or larger: the one
# that has seen several sizes should lose less.

factors = (0.67, 0.8, 1.0, 1.25, 1.5)
net, costs = three_trainings("R-CNN", 0)
trained, mean_ap = {"R-CNN": costs}, {"R-CNN": evaluate_detector(net, test, proposer=propose)["mAP@0.5"]}
by_size = {}
for name in ("SPPNet", "SPPNet, many sizes"):
    by_size[name] = np.zeros((seeds, len(factors)))
    for seed in range(seeds):
        net, trained[name] = three_trainings(name, seed)
        for k, factor in enumerate(factors):
            net.min_size = net.max_size = round(64 * factor)
            by_size[name][seed, k] = evaluate_detector(net, test, proposer=propose)["mAP@0.5"]
    mean_ap[name] = by_size[name][:, factors.index(1.0)].mean()
print("mAP: " + ", ".join(f"{name} {value:.3f}" for name, value in mean_ap.items()))

# %%
# Lines are means over the trainings, bands their range; the diamond is R-CNN, at the size that all were trained on.

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, color, mark in (("SPPNet", BLUE, "o-"), ("SPPNet, many sizes", GREEN, "s--")):
    ax.plot(factors, by_size[name].mean(axis=0), mark, color=color, label=name)
    ax.fill_between(factors, by_size[name].min(axis=0), by_size[name].max(axis=0), color=color, alpha=0.2)
ax.plot([1.0], [mean_ap["R-CNN"]], "D", color=ORANGE, label="R-CNN")
ax.set(xlabel="size of the test images, times 64 pixels", ylabel="mAP at IoU 0.5", ylim=(0, 1),
       title=f"{len(test)} test images; trainings of each SPPNet: {seeds}")
ax.legend()
lesson.save(figure, "sizes")

# %%
# In the full run both curves are highest at size 1. Where the bands overlap, the two SPPNets cannot be told apart.
#
# 4. Seconds against the number of boxes
# --------------------------------------
# A larger image of 192 x 192 pixels, and the compact presets of both networks: the same VGG11, which R-CNN runs for every
# warp of 64 x 64 pixels. Both axes are logarithmic; look at how the lines rise with the number of boxes.

pair = {"R-CNN": models.build("rcnn", num_classes=3), "SPPNet": models.build("sppnet", num_classes=3)}
image, rng = open_dataset("shape-boxes", "test", count=1, size=192)[0].image, np.random.default_rng(lesson.seed)
counts, seconds = (1, 10, 100) if lesson.quick else (1, 3, 10, 30, 100, 300), {"R-CNN": [], "SPPNet": []}
for count in counts:
    corner, side = rng.uniform(0, 120, (count, 2)), rng.uniform(24, 72, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    for name, net in pair.items():
        seconds[name].append(best_time(lambda net=net, boxes=boxes: net.features(image, boxes), repeats=2))
ratio = np.array(seconds["R-CNN"]) / seconds["SPPNet"]
print("features of boxes, R-CNN against SPPNet: " + ", ".join(f"{c}: {r:.1f} times" for c, r in
                                                              zip(counts, ratio, strict=True)))
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, color in (("R-CNN", ORANGE), ("SPPNet", BLUE)):
    ax.loglog(counts, seconds[name], "o-", color=color, label=name)
ax.set(xlabel="boxes in an image", ylabel="seconds", title="features of all boxes of an image")
ax.legend()
lesson.save(figure, "speed")

# %%
# R-CNN's time grows with every box. SPPNet pays for the whole image at once and little for a box, so it is slower for one
# box and many times faster for hundreds.
#
# The claims
# ----------
# The speed and the fixed length are measured directly; for accuracy, R-CNN has one training and each SPPNet several.

lesson.claim("D3", "SPPNet, sec. 2.2", "pyramid pooling gives vectors of one length for images of any size",
             f"{len(lengths)} sizes of images, lengths {sorted(set(lengths.values()))} = 50 bins x "
             f"{model.backbone.out_channels} channels; windows pooled together and one by one differ by {largest:.1g}",
             set(lengths.values()) == {50 * model.backbone.out_channels} and largest == 0)
lesson.claim("D3b", "SPPNet, sec. 4.3 (24 to 102 times)", "the convolutions run once per image, so it is many times "
             "faster than R-CNN with the same boxes",
             f"{counts[-1]} boxes: {seconds['R-CNN'][-1]:.2f} s against {seconds['SPPNet'][-1]:.3f} s, {ratio[-1]:.0f} "
             f"times; with one box {ratio[0]:.1f} times", ratio[-1] > 5 and ratio[-1] > ratio[0])
lesson.claim("D3c", "SPPNet, table 9", "at about the same accuracy, or a better one",
             "mAP " + ", ".join(f"{name} {value:.3f}" for name, value in mean_ap.items())
             + f" (one training of R-CNN, {seeds} of SPPNet, {steps} steps each; R-CNN runs all of VGG11 with 8 channels at "
             f"first, SPPNet a part of it with 16); trained in {trained['R-CNN'].seconds:.0f} and "
             f"{trained['SPPNet'].seconds:.0f} s",
             None if lesson.quick else mean_ap["SPPNet"] > mean_ap["R-CNN"] - 0.05)

# %%
# Whether several sizes help is decided by the mean over all sizes but 1, one difference for each seed. In the full run the
# difference cannot be told from chance, so the claim is undecided; whether a longer training would decide it is open.

other = np.array(factors) != 1
gain, holds = compare((by_size["SPPNet, many sizes"] - by_size["SPPNet"])[:, other].mean(axis=1))
lesson.claim("D3d", "SPPNet, sec. 2.3", "training in several sizes helps at other sizes",
             "; ".join(f"{name}: mAP " + " ".join(f"{v:.2f}" for v in values.mean(axis=0)) for name, values in by_size.items())
             + f" at {factors} times the size; mean over the sizes other than 1: {gain} ({seeds} seeds)", holds)
lesson.finish()
