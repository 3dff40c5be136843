"""
The whole family on the same images
===================================

R-CNN, SPPNet, Fast R-CNN, Faster R-CNN, Mask R-CNN and YOLO learn the same images, and are measured side by side (claim
D9): how often the convolutions run, what lies on disk, how long training and an image take, and how good the detections
are. From R-CNN to Faster R-CNN each network drops something that the one before needed: the convolutions for every box,
the second and third training, the search for proposals. Beside it: `minicv/models/detection/`, one file per paper.
"""

# %%
from minicv.course.lessons import Lesson, best_time

lesson = Lesson("21_detection_showdown", __doc__)

import dataclasses
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models, nn
from minicv.data import open_dataset
from minicv.detection.selective_search import selective_search
from minicv.training.detection import CachedProposals, DetectionConfig, evaluate_detector, train_detector
from minicv.training.svm import fit_svm_detector
from minicv.viz import PALETTE, draw_boxes, draw_image, overlay_masks

# %%
# The images are generated: one to four discs, squares and crosses on textured ground. Selective search proposes boxes for the
# networks that need them; its time for an image is measured once.

SCENES = {"size": 64, "objects": (1, 4), "radius": (0.12, 0.3), "crowding": 0.2, "strength": 0.15, "contrast": 0.5,
          "noise": 0.02, "class_names": ("disc", "square", "cross"), "seed": lesson.seed, "keep": True}
train, test = (open_dataset("shape-boxes", split, count=count, **SCENES)
               for split, count in (("train", 8 if lesson.quick else 200), ("test", 4 if lesson.quick else 80)))
propose = CachedProposals(lambda image: selective_search(image, "fast", max_boxes=120, min_side=5, min_size=15))


def seconds_for(call, inputs):
    """The mean over the inputs of the fastest of three calls."""
    return float(np.mean([best_time(lambda x=x: call(x)) for x in inputs]))


searching = seconds_for(propose.proposer, [s.image for s in list(test)[:4]])
count = np.mean([len(propose(s.image)) for s in [*train, *test]])
print(f"selective search: {count:.0f} boxes and {1000 * searching:.0f} ms an image")

# %%
# 1. The networks
# ---------------
# All backbones are VGG11's first convolutions with a quarter of the channels, at stride 4; R-CNN runs VGG11 with an eighth of
# them for each box. All train for the same number of steps, few enough for the lesson's time limit and far fewer than any of
# them could use. YOLO learns from 49 cells of an image instead of many boxes, so it takes 16 images a step instead of 2;
# its fully connected layers, which learn every place by itself, would need many more.

SHARED = {"num_classes": 3, "cut_at": "relu3_2", "min_size": 64, "max_size": 64, "hidden": 128, "rois_per_image": 32}
ANCHORS = {"anchor_scales": (10.0, 20.0, 40.0), "anchor_ratios": (1.0,), "pre_nms_top_n": (300, 150),
           "post_nms_top_n": (128, 64), "rpn_min_size": 3.0}
RCNN = {"num_classes": 3, "warp_size": 32, "context": 2.25, "rois_per_image": 32, "backbone_options": {
    "depth": 11, "width": 8, "hidden": 128, "pooled": 1, "batch_norm": True, "dropout": 0.0}}
YOLO = {"num_classes": 3, "image_size": 56, "layers": "3x16 max 3x32 max 3x64 max 3x128"}
STEPS = 8 if lesson.quick else 350
PLANS = {  # model, options, images in a step
    "R-CNN": ("rcnn", RCNN, 2), "SPPNet": ("sppnet", SHARED, 2), "Fast R-CNN": ("fast_rcnn", SHARED, 2),
    "Faster R-CNN": ("faster_rcnn", {**SHARED, **ANCHORS}, 2),
    "Mask R-CNN": ("mask_rcnn", {**SHARED, **ANCHORS, "mask_width": 16}, 2), "YOLO": ("yolo", YOLO, 16)}

# %%
# For each network we keep a row of a table. ``passes`` counts how many images go through its first convolution for each image
# in which it looks for objects: one for each box in R-CNN, one in all others.


@dataclasses.dataclass
class Row:
    """What is measured of a network; times in seconds."""

    passes: float = 0.0  # of the convolutions, for an image
    disk: int = 0  # bytes of features
    trainings: int = 1
    training: float = 0.0
    image: float = 0.0  # without proposals
    searching: float = 0.0  # for proposals, for an image
    mean_ap: float = 0.0


def count_passes(net):
    """How many images go through the first convolution for each image that is looked at."""
    layer, seen = next(m for m in net.modules() if isinstance(m, nn.Conv2d)), []
    forward = layer.forward
    layer.forward = lambda x: seen.append(len(x)) or forward(x)
    for s in list(test)[:4]:
        net.predict([s.image], [propose(s.image)] if net.needs_proposals else None)
    del layer.forward
    return sum(seen) / 4


# %%
# 2. Training and measuring
# -------------------------
# R-CNN and SPPNet have three trainings, with features on disk in between; the others have one.

nets, table = {}, {}
for name, (kind, options, batch) in PLANS.items():
    minicv.seed(lesson.seed)
    nets[name] = net = models.build(kind, **options)
    table[name] = row = Row()
    given = propose if net.needs_proposals else None
    config = DetectionConfig(steps=STEPS, batch=batch, optimizer="adam", lr=0.002, weight_decay=0.0, warmup=20,
                             seed=lesson.seed)
    start = time.perf_counter()
    for _ in train_detector(net, train, config, given):
        pass
    if kind in ("rcnn", "sppnet"):
        with tempfile.TemporaryDirectory() as folder:
            row.disk = fit_svm_detector(net, train, folder, given).nbytes
        row.trainings = 3
    row.training = time.perf_counter() - start
    row.mean_ap = evaluate_detector(net, test, proposer=given)["mAP@0.5"]
    row.passes, row.searching = count_passes(net), searching if given else 0.0
    row.image = seconds_for(lambda s, net=net, given=given: net.predict([s.image], given and [given(s.image)]),
                             list(test)[:8])
    print(f"{name:13} {row.trainings} trainings, {row.training:5.1f} s; {row.passes:4.0f} passes, {row.disk / 1e6:4.0f} MB "
          f"on disk; an image {1000 * row.image:6.1f} ms + {1000 * row.searching:4.0f} ms for proposals; mAP "
          f"{row.mean_ap:.3f}", flush=True)

# %%
# 3. Side by side
# ---------------
# Left: milliseconds for an image on a logarithmic axis, the network in color and the search for proposals hatched, with the
# number of passes beside it. Right: the mAP on test images, and how long the training took.

names, colors, places = list(table), PALETTE[[5, 2, 3, 1, 7, 6]] / 255, np.arange(len(table))[::-1]
network, search = (1000 * np.array([getattr(row, part) for row in table.values()]) for part in ("image", "searching"))
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=(1.2, 1))
axes[0].barh(places, network, color=colors)
bars = axes[0].barh(places, search, left=network, color="0.75", hatch="//", edgecolor="w")
axes[0].bar_label(bars, [f" passes: {row.passes:.0f}" for row in table.values()], fontsize=8)
axes[0].set(yticks=places, yticklabels=names, xscale="log", xlim=(0.5 * min(network), 5 * max(network + search)),
            xlabel="milliseconds for an image (hatched: proposals)", title="time")
bars = axes[1].barh(places, [row.mean_ap for row in table.values()], color=colors)
axes[1].bar_label(bars, [f" {row.mean_ap:.2f}, trained in {row.training:.0f} s" for row in table.values()], fontsize=8)
axes[1].set(yticks=places, yticklabels=[], xlim=(0, 1.6), xticks=np.linspace(0, 1, 6), xlabel="mAP at IoU 0.5", title="accuracy")
lesson.save(figure, "table")

# %%
# The search for proposals takes most of the time of every network that needs it. Two crowded test images follow, with the
# truth and what each network finds; colors are classes. Scores are not comparable, so each network has a threshold of its
# own: 0 for SVMs, 0.25 for YOLO, 0.5 for softmax.

THRESHOLDS = {"R-CNN": 0.0, "SPPNet": 0.0, "YOLO": 0.25}
shown = sorted(list(test)[:20], key=lambda s: -len(s.boxes))[:2]
figure, axes = plt.subplots(len(shown), 1 + len(nets), figsize=(15, 2.45 * len(shown)), layout="constrained")
for row, s in zip(axes, shown, strict=True):
    draw_image(row[0], s.image, "truth")
    draw_boxes(row[0], s.boxes, s.labels)
    for ax, (name, net) in zip(row[1:], nets.items(), strict=True):
        found = net.predict([s.image], [propose(s.image)] if net.needs_proposals else None)[0]
        found = found[found.scores > THRESHOLDS.get(name, 0.5)]
        draw_image(ax, s.image if found.masks is None else overlay_masks(s.image, found.masks, found.labels), name)
        draw_boxes(ax, found.boxes, found.labels, width=1.3)
lesson.save(figure, "found")

# %%
# The claims
# ----------
# Each step from R-CNN to Faster R-CNN should be faster at test time. The search for proposals counts only in the last step,
# which removes it: the other networks share it, and it would hide the time of the network itself.

whole = {name: r.image + r.searching for name, r in table.items()}
chain = ["R-CNN", "SPPNet", "Fast R-CNN", "Faster R-CNN"]
steps = list(zip(chain, chain[1:], strict=False))
faster_by = {b: table[a].image / table[b].image if table[b].searching else whole[a] / whole[b] for a, b in steps}
lesson.claim("D9", "the papers' own comparisons", "from R-CNN to Faster R-CNN each step is faster at test time",
             "; ".join(f"{a} -> {b} {faster_by[b]:.1f} times {'without' if table[b].searching else 'with'} proposals, training "
                       f"{table[a].training / table[b].training:.1f} times" for a, b in steps)
             + f" ({STEPS} steps of 2 images each, and the SVMs and regressions of the first two)",
             None if lesson.quick else all(v > 1 for v in faster_by.values()))

# %%
# Then what the architecture decides, whatever the training: passes, disk and search. Last the accuracy, after one training
# each.

lesson.claim("D9b", "Fast R-CNN, table 4; Faster R-CNN, table 5", "convolutions once instead of once per box, no features "
             "on disk from Fast R-CNN on, no search from Faster R-CNN on",
             "; ".join(f"{name} {r.passes:.0f} passes, {r.disk / 1e6:.0f} MB, search {1000 * r.searching:.0f} ms"
                       for name, r in table.items()),
             table["R-CNN"].passes > 10 and all(r.passes == 1 for n, r in table.items() if n != "R-CNN")
             and table["SPPNet"].disk > 0 and not any(table[n].disk for n in chain[2:]))
order = sorted(table, key=lambda n: -table[n].mean_ap)
lesson.claim("D9c", "Fast R-CNN, table 1; YOLO, table 1", "Faster R-CNN is more accurate than YOLO, YOLO is the fastest",
             "mAP " + ", ".join(f"{n} {table[n].mean_ap:.3f}" for n in order) + "; an image "
             + ", ".join(f"{n} {1000 * whole[n]:.0f} ms" for n in order) + " (one training each)",
             None if lesson.quick else table["Faster R-CNN"].mean_ap > table["YOLO"].mean_ap
             and min(whole, key=whole.get) == "YOLO")
lesson.finish()
