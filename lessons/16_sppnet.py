"""
SPPNet: the convolutions once, a vector of one length for every box
====================================================================

He, Zhang, Ren and Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition" (ECCV 2014).
R-CNN runs its convolutions for every box, though boxes overlap. SPPNet runs them once, finds each box's window on the
map (app. A), and pools it to 50 bins whatever its size (sec. 2.2). Claim D3 is measured: a fixed length for any input,
and the speed against R-CNN with the same boxes. Beside it: `minicv/models/detection/sppnet.py` and `rcnn.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare

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

SCENES = {"size": 64, "objects": (1, 4), "radius": (0.12, 0.3), "crowding": 0.2, "strength": 0.15, "contrast": 0.5,
          "noise": 0.02, "class_names": ("disc", "square", "cross"), "seed": lesson.seed, "keep": True}
train, test = (open_dataset("boxes", split, count=count, **SCENES)
               for split, count in (("train", 10 if lesson.quick else 200), ("test", 4 if lesson.quick else 60)))
propose = CachedProposals(lambda image: selective_search(image, "fast", max_boxes=120, min_side=5, min_size=15))

# %%
# 1. One length for any size (sec. 2.2)
# -------------------------------------
# A fully connected layer fixes its input's length; convolutions do not. Between them stands the pyramid: the largest
# value in each of 1x1, 2x2, 3x3 and 6x6 bins, 50 for each channel.

minicv.seed(lesson.seed)
NETWORK = {"num_classes": 3, "stage": "relu3_2", "short": 64, "long": 64, "hidden": 128, "rois_per_image": 32}
model = models.build("sppnet", **NETWORK).eval()
lengths = {}
for H, W in ((64, 64), (48, 160), (75, 33), (224, 180)):
    with no_grad():
        x = model.trunk(lesson.tensor(np.zeros((1, 3, H, W), np.float32)))
        lengths[H, W] = F.spatial_pyramid_pool(x, model.levels).shape[1]
    print(f"a picture of {H} x {W}: a map of {x.shape[2]} x {x.shape[3]} x {x.shape[1]}, a vector of {lengths[H, W]}")

# %%
# 2. From a box to a window (app. A)
# ----------------------------------
# A column of the map belongs to a box if the centre of what it sees lies inside. Here every column covers 4 pixels.
# Pooling a window is pooling the piece of the map that it cuts out: the loop below does so, box by box.

sample = max(list(train)[:20], key=lambda s: len(s.boxes))
with no_grad():
    x = model.trunk(model.batch([model.pixels(sample.image)]))
windows = map_windows(sample.boxes, model.stride, x.shape[2:], model.offset)
together = pool_windows(x, [windows], model.levels).numpy()
largest = 0.0
for r, (left, top, right, bottom) in enumerate(windows.astype(int)):
    piece = x[:, :, top:bottom + 1, left:right + 1]
    largest = max(largest, abs(F.spatial_pyramid_pool(piece, model.levels).numpy()[0] - together[r]).max())
print(f"{len(windows)} windows, pooled together and one by one: largest difference {largest}")

figure, axes = plt.subplots(1, 5, figsize=(13, 3.1), layout="constrained")
draw_image(axes[0], sample.image, "boxes and their windows (dotted)")
draw_boxes(axes[0], sample.boxes, color=ORANGE)
around = (windows + [0, 0, 1, 1]) * model.stride
draw_boxes(axes[0], around, color="k", style=":", width=1.2)
big = int(np.argmax(np.prod(sample.boxes[:, 2:] - sample.boxes[:, :2], axis=1)))
left, top, right, bottom = windows[big].astype(int)
activity = x.numpy()[0].mean(axis=0)
for ax, n in zip(axes[1:], model.levels, strict=True):
    ax.imshow(activity, cmap="gray", extent=(0, x.shape[3], x.shape[2], 0))
    h, w = bottom - top + 1, right - left + 1
    for p in range(n):
        for q in range(n):  # the bins of roi_pool: neighbours may share a row
            y1, y2 = top + p * h // n, top - -(p + 1) * h // n
            x1, x2 = left + q * w // n, left - -(q + 1) * w // n
            draw_boxes(ax, [[x1 + 0.08, y1 + 0.08, x2 - 0.08, y2 - 0.08]], color=BLUE if (p + q) % 2 else ORANGE,
                       width=1.2)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{n} x {n} bins of {w} x {h} pixels of the map", fontsize=9)
lesson.save(figure, "pyramid")

# %%
# 3. Three trainings, as R-CNN's
# ------------------------------
# Both networks learn from the same pictures and proposals: fine-tuning, then SVMs, then box regressions. In several
# sizes (sec. 2.3): each step of the second SPPNet's fine-tuning scales its pictures by 0.75, 1 or 1.33. SVMs and
# regressions learn from the pictures as they are, for both.

RCNN = {"num_classes": 3, "side": 32, "context": 2.25, "rois_per_image": 32, "backbone_options": {
    "depth": 11, "width": 8, "hidden": 128, "pooled": 1, "batch_norm": True, "dropout": 0.0}}
plans = {"R-CNN": ("rcnn", RCNN), "SPPNet": ("sppnet", NETWORK),
         "SPPNet, many sizes": ("sppnet", {**NETWORK, "sizes": (0.75, 1.0, 1.33)})}
steps, seeds = (10, 1) if lesson.quick else (250, 3)


def three_trainings(name, seed):
    """The network, and what its trainings took."""
    kind, options = plans[name]
    minicv.seed(lesson.seed + seed)
    net = models.build(kind, **options)
    config = DetectionConfig(steps=steps, batch=2, optimizer="adam", lr=0.002, weight_decay=0.0, warmup=20,
                             seed=lesson.seed + seed)
    start = time.perf_counter()
    fine_tune(net, train, config, propose)
    seconds = time.perf_counter() - start
    net.sizes = (1.0,)
    with tempfile.TemporaryDirectory() as folder:
        took = dataclasses.replace(fit_svm_detector(net, train, folder, propose), fine_tuning=seconds)
    print(f"{name}, seed {seed}: fine-tuning {took.fine_tuning:.1f} s ({steps} steps), features {took.features:.1f} s, "
          f"{took.nbytes / 1e6:.0f} MB, SVMs {took.svms:.1f} s, regressions {took.regressors:.1f} s", flush=True)
    return net, took


# %%
# Test pictures made smaller or larger: who has seen several sizes should mind less.

factors = (0.67, 0.8, 1.0, 1.25, 1.5)
net, took = three_trainings("R-CNN", 0)
trained, mean_ap = {"R-CNN": took}, {"R-CNN": evaluate_detector(net, test, proposer=propose)["mAP@0.5"]}
by_size = {}
for name in ("SPPNet", "SPPNet, many sizes"):
    by_size[name] = np.zeros((seeds, len(factors)))
    for seed in range(seeds):
        net, trained[name] = three_trainings(name, seed)
        for k, factor in enumerate(factors):
            net.short = net.long = round(64 * factor)
            by_size[name][seed, k] = evaluate_detector(net, test, proposer=propose)["mAP@0.5"]
    mean_ap[name] = by_size[name][:, factors.index(1.0)].mean()
print("mAP: " + ", ".join(f"{name} {value:.3f}" for name, value in mean_ap.items()))

# %%
# 4. Seconds against the number of boxes
# --------------------------------------
# A larger picture, and the compact presets of both: the same VGG11, which R-CNN runs for every warp of 64 x 64 pixels.

pair = {"R-CNN": models.build("rcnn", num_classes=3), "SPPNet": models.build("sppnet", num_classes=3)}
image, rng = open_dataset("boxes", "test", count=1, size=192)[0].image, np.random.default_rng(lesson.seed)
counts, seconds = (1, 10, 100) if lesson.quick else (1, 3, 10, 30, 100, 300), {"R-CNN": [], "SPPNet": []}
for count in counts:
    corner, side = rng.uniform(0, 120, (count, 2)), rng.uniform(24, 72, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    for name, net in pair.items():
        times = []
        for _ in range(2):
            start = time.perf_counter()
            net.features(image, boxes)
            times.append(time.perf_counter() - start)
        seconds[name].append(min(times))
ratio = np.array(seconds["R-CNN"]) / seconds["SPPNet"]
print("features of boxes, R-CNN against SPPNet: " + ", ".join(f"{c}: {r:.1f} times" for c, r in
                                                              zip(counts, ratio, strict=True)))

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for name, colour in (("R-CNN", ORANGE), ("SPPNet", BLUE)):
    axes[0].loglog(counts, seconds[name], "o-", color=colour, label=name)
axes[0].set(xlabel="boxes in a picture", ylabel="seconds", title="features of all boxes of a picture")
axes[0].legend()
for name, colour, mark in (("SPPNet", BLUE, "o-"), ("SPPNet, many sizes", GREEN, "s--")):
    axes[1].plot(factors, by_size[name].mean(axis=0), mark, color=colour, label=name)
    axes[1].fill_between(factors, by_size[name].min(axis=0), by_size[name].max(axis=0), color=colour, alpha=0.2)
axes[1].plot([1.0], [mean_ap["R-CNN"]], "D", color=ORANGE, label="R-CNN")
axes[1].set(xlabel="size of the test pictures, times 64 pixels", ylabel="mAP@0.5", ylim=(0, 1),
            title=f"{len(test)} test pictures, {seeds} trainings of each SPPNet")
axes[1].legend()
lesson.save(figure, "speed_and_sizes")

# %%
# The claims
# ----------

lesson.claim("D3", "SPPNet, sec. 2.2", "pyramid pooling gives vectors of one length for pictures of any size",
             f"{len(lengths)} sizes of pictures, lengths {sorted(set(lengths.values()))} = 50 bins x "
             f"{model.trunk.channels} channels; windows pooled together and one by one differ by {largest:.1g}",
             set(lengths.values()) == {50 * model.trunk.channels} and largest == 0)
lesson.claim("D3b", "SPPNet, sec. 4.3 (24 to 102 times)", "the convolutions run once per picture, so it is many times "
             "faster than R-CNN with the same boxes",
             f"{counts[-1]} boxes: {seconds['R-CNN'][-1]:.2f} s against {seconds['SPPNet'][-1]:.3f} s, {ratio[-1]:.0f} "
             f"times; with one box {ratio[0]:.1f} times", ratio[-1] > 5 and ratio[-1] > ratio[0])
lesson.claim("D3c", "SPPNet, table 9", "at about the same accuracy, or a better one",
             "mAP " + ", ".join(f"{name} {value:.3f}" for name, value in mean_ap.items())
             + f" (one training of R-CNN, {seeds} of SPPNet, {steps} steps each; R-CNN runs all of VGG11 with 8 channels at "
             f"first, SPPNet a part of it with 16); trained in {trained['R-CNN'].seconds:.0f} and "
             f"{trained['SPPNet'].seconds:.0f} s",
             None if lesson.quick else mean_ap["SPPNet"] > mean_ap["R-CNN"] - 0.05)
other = np.array(factors) != 1
gain, holds = compare((by_size["SPPNet, many sizes"] - by_size["SPPNet"])[:, other].mean(axis=1))
lesson.claim("D3d", "SPPNet, sec. 2.3", "training in several sizes helps at other sizes",
             "; ".join(f"{name}: mAP " + " ".join(f"{v:.2f}" for v in values.mean(axis=0)) for name, values in by_size.items())
             + f" at {factors} times the size; mean over the sizes other than 1: {gain} ({seeds} seeds)", holds)
lesson.finish()
