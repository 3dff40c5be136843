"""
Faster R-CNN: a network that proposes
=====================================

Selective search takes longer than the network that looks at its boxes. Faster R-CNN (Ren et al., NIPS 2015) lets a few
layers on the same map propose: nine *anchors* stand at every place, and each learns whether an object is near, and how to
move onto it (claims D5, D6). Beside it: `minicv/models/detection/rpn.py` and `faster_rcnn.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare, every

lesson = Lesson("18_faster_rcnn", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models, no_grad
from minicv.data import open_dataset
from minicv.data.augment.detection import resize
from minicv.detection import box_iou
from minicv.detection.selective_search import selective_search
from minicv.metrics import ProposalRecall
from minicv.nn import evaluating
from minicv.training.detection import DetectionConfig, evaluate_detector, train_detector
from minicv.viz import PALETTE, draw_boxes, draw_image, overlay_heat_map

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255


class Some:
    """The first pictures of a split, read once, made smaller if they are large."""

    def __init__(self, split, count):
        data = open_dataset(lesson.data, split) if lesson.data else open_dataset(
            "boxes", split, count=count, seed=lesson.seed, size=96, objects=(1, 6), radius=(0.08, 0.35),
            ratio=(0.4, 2.5), strength=0.15, contrast=0.5, noise=0.02, class_names=("disc", "square", "cross"))
        self.class_names, self.num_classes = data.class_names, data.num_classes
        self.samples = [data[i] for i in range(min(count, len(data)))]
        if lesson.data:
            self.samples = [resize(s, tuple(round(n * 128 / min(s.image.shape[1:])) for n in s.image.shape[1:]))
                            for s in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


train, test = Some("train", 8 if lesson.quick else 150), Some("test", 4 if lesson.quick else 40)
side = min(train[0].image.shape[1:])
steps = 6 if lesson.quick else 450
config = DetectionConfig(steps=steps, batch=4, optimizer="adam", lr=0.002, warmup=20, weight_decay=0.0,
                         seed=lesson.seed)
SCALES, RATIOS = (12.0, 24.0, 48.0), (0.5, 1.0, 2.0)


def build(scales=SCALES, ratios=RATIOS, seed=lesson.seed):
    minicv.seed(seed)
    return models.build("faster_rcnn", num_classes=train.num_classes, short=side, long=2 * side, scales=scales,
                        ratios=ratios, rois_per_image=32)


# %%
# 1. Nine anchors at every place, 54 channels (sec. 3.1)
# ------------------------------------------------------
# Three scales times three ratios. The RPN's two outputs have 2k scores and 4k offsets.

model = build()
sample = max(list(train)[:12], key=lambda s: len(s.boxes))
picture, (pixels, target) = sample.image, model.example(sample)
x = model.batch([pixels])
size = model.trunk(x).shape[2:]
anchors, k = model.rpn.anchors(size), len(model.rpn.base)
channels = len(model.rpn.score.weight), len(model.rpn.offset.weight)
print(f"a map of {size[0]} x {size[1]} places, {len(anchors)} anchors, {channels} channels")

# %%
# 2. Every anchor's IoU, label and share of the loss, before and after training
# -----------------------------------------------------------------------------
# For each place, the best of its nine anchors: what it overlaps, what it is to learn, and how much of the loss it is.
# All anchors are looked at here, not only the 256 that a training step draws.


@no_grad()
def shares(model):
    """Each anchor's part of the class loss, (A,): 0 where it is neither; and its probability of an object."""
    with evaluating(model):
        score, _ = model.rpn(model.trunk(x))
    s = score.numpy()[0]
    probability = 1 / (1 + np.exp(s[:, 0] - s[:, 1]))
    loss = np.where(labels == 1, -np.log(probability + 1e-12), np.where(labels == 0, -np.log(1 - probability + 1e-12), 0))
    return loss / loss.sum(), probability


chosen = model.rpn.targets(anchors, target, np.random.default_rng(lesson.seed))
labels, iou = chosen.labels, box_iou(anchors, target.boxes).max(axis=1)
print(f"{(labels == 1).sum()} positive anchors, {(labels == 0).sum()} negative, {(labels == -1).sum()} neither; drawn: "
      f"{len(chosen.positive)} and {len(chosen.negative)}")
before, p_before = shares(model)

start = time.perf_counter()
losses = list(train_detector(model, train, config))
print(f"joint training: {steps} steps, {(time.perf_counter() - start) / steps * 1000:.0f} ms each")
after, p_after = shares(model)


def per_place(values):
    """The largest of the nine at each place, (H, W)."""
    return values.reshape(*size, k).max(axis=2)


figure, axes = plt.subplots(2, 4, figsize=(14, 7.2), layout="constrained")
middle = (size[0] // 2 * size[1] + size[1] // 2) * k
draw_image(axes[0, 0], picture, "nine anchors at one place")
draw_boxes(axes[0, 0], anchors[middle:middle + k], labels=np.arange(k) % 3, width=1.2)
draw_image(axes[0, 1], overlay_heat_map(picture, per_place(iou), 0, 1), "highest IoU at each place: 0 to 1")
draw_image(axes[0, 2], picture, "green: all positive anchors; blue: 12 negative ones")
draw_boxes(axes[0, 2], anchors[chosen.negative[::max(1, len(chosen.negative) // 12)]], color=BLUE, width=0.7)
draw_boxes(axes[0, 2], anchors[labels == 1], color=GREEN, width=1.4)
draw_image(axes[0, 3], overlay_heat_map(picture, per_place((labels == -1).astype(float)), 0, 1), "an anchor that is neither")
for row, (name, share, p) in enumerate((("before", before, p_before), ("after", after, p_after))):
    draw_image(axes[1, 2 * row], overlay_heat_map(picture, per_place(p), 0, 1), f"P(object), {name} training")
    draw_image(axes[1, 2 * row + 1], overlay_heat_map(picture, per_place(np.sqrt(share)), 0), f"share of the loss (root), {name}")
lesson.save(figure, "anchors")
of_objects = [share[labels == 1].sum() for share in (before, after)]
hard = [np.sort(share)[-len(share) // 100:].sum() for share in (before, after)]
print(f"share of the positives, {(labels == 1).mean():.1%} of the anchors: {of_objects[0]:.1%} before training, "
      f"{of_objects[1]:.1%} after; of the 1% with the largest loss: {hard[0]:.0%} before, {hard[1]:.0%} after")

# %%
# 3. Proposals: the RPN against selective search (claim D5)
# ---------------------------------------------------------
# Recall on test pictures at an IoU of 0.5 against the number of boxes, and what a picture costs. The RPN's time is that of
# its own layers and the NMS; the convolutions before it are the detector's anyway, and are told apart.

counts = (5, 10, 50, 300, 2000)
curves, milliseconds = {}, {}


def measure(propose):
    """Recall at ``counts``, milliseconds of a picture, and the fewest boxes that one had."""
    recall, start, fewest = ProposalRecall(counts), time.perf_counter(), np.inf
    for sample in test:
        boxes = propose(sample.image)
        recall.update(boxes, sample)
        fewest = min(fewest, len(boxes))
    return recall.recall(), (time.perf_counter() - start) / len(test) * 1000, fewest


model.rpn.after, model.rpn.before = (2000, 2000), (6000, 6000)
for name, propose in (("RPN", model.propose), (
        "selective search", lambda image: selective_search(image, "fast", min_side=4, min_size=15))):
    curves[name], milliseconds[name], _ = measure(propose)
with no_grad(), evaluating(model):
    times = []  # of each picture: all, and the RPN's own layers and the NMS alone, from the same call
    for sample in test:
        start = time.perf_counter()
        features = model.trunk(model.batch([model.pixels(sample.image)]))
        middle = time.perf_counter()
        model.proposals(features, [sample.image.shape[1:]])
        times.append((time.perf_counter() - start, time.perf_counter() - middle))
milliseconds["RPN"], alone = 1000 * np.mean(times, axis=0)
for name, recall in curves.items():
    print(f"{name:<17} {milliseconds[name]:6.1f} ms a picture; recall", ", ".join(
        f"{n}: {r:.3f}" for n, r in zip(counts, recall, strict=True)))
ten, fifty = counts.index(10), counts.index(50)
lesson.claim("D5a", "Faster R-CNN, sec. 1 and table 4", "the RPN's proposals are cheaper than selective search's",
             f"{alone:.0f} ms on the shared map ({milliseconds['RPN']:.0f} with it) against "
             f"{milliseconds['selective search']:.0f} ms", milliseconds["RPN"] < milliseconds["selective search"])
lesson.claim("D5b", "Faster R-CNN, sec. 4, recall to IoU", "and better where only few are taken, here up to 50",
             f"recall with {', '.join(map(str, counts))} boxes: " + "; ".join(
                 f"{name} {', '.join(f'{v:.2f}' for v in c)}" for name, c in curves.items()) +
             f" (after {steps} steps on {len(train)} pictures)", None if lesson.quick else
             (curves["RPN"][:fifty + 1] > curves["selective search"][:fifty + 1]).all())

# %%
# 4. One, three or nine anchors (claim D6)
# ----------------------------------------
# RPNs trained alone, alike but for their anchors, with several seeds: one scale and ratio, three of either, all nine.
# One anchor a place makes far fewer boxes than nine, so they are compared where each has enough: at 10 and 50 boxes. (The
# paper's table 8 measures the mAP of detectors with 300: 65.8, 69.8 and 69.9 % with 1, 3 scales and 9.)

sets = {"1 anchor": ((24.0,), (1.0,)), "3 scales": (SCALES, (1.0,)), "3 ratios": ((24.0,), RATIOS),
        "3 x 3 = 9": (SCALES, RATIOS)}
seeds = range(lesson.seed, lesson.seed + (1 if lesson.quick else 3))
recalls, nearest, fewest = {}, {}, np.inf
for name, (scales, ratios) in sets.items():
    found = []
    for seed in seeds:
        rpn = build(scales, ratios, seed)
        rpn.learn("rpn")
        for _ in train_detector(rpn, train, config.replace(steps=max(4, steps * 2 // 9), seed=seed)):
            pass
        rpn.rpn.after, rpn.rpn.before = (2000, 2000), (6000, 6000)
        recall, _, least = measure(rpn.propose)
        found.append(recall)
        fewest = min(fewest, least)
    recalls[name] = np.array(found)  # (seeds, counts)
    curves[name] = recalls[name].mean(axis=0)
    best = [box_iou(rpn.rpn.anchors(size), rpn.example(s)[1].boxes).max(axis=0, initial=0) for s in test]
    nearest[name] = np.concatenate(best).mean()
    print(f"{name:<10} best anchor of an object: mean IoU {nearest[name]:.2f}; recall with 10 and 50 boxes "
          f"{curves[name][ten]:.3f} and {curves[name][fifty]:.3f}")
gain = {n: compare(recalls["3 x 3 = 9"][:, n] - recalls["1 anchor"][:, n]) for n in (ten, fifty)}
lesson.claim("D6", "Faster R-CNN, sec. 3.1 and table 8", "nine anchors need 18 + 36 = 54 channels; several scales and "
             "ratios raise recall", f"{channels[0]} + {channels[1]} = {sum(channels)} channels; recall with 10 and 50 "
             f"boxes (all have at least {fewest}): " + ", ".join(
                 f"{name} {curves[name][ten]:.3f} and {curves[name][fifty]:.3f}" for name in sets)
             + f"; nine against one {gain[ten][0]} and {gain[fifty][0]} ({len(seeds)} seeds); mean IoU of an object's best "
             "anchor " + ", ".join(f"{v:.2f}" for v in nearest.values()),
             every([sum(channels) == 54, gain[ten][1], gain[fifty][1]]))

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
for ax, chosen_names in ((axes[0], ("RPN", "selective search")), (axes[1], tuple(sets))):
    for name, colour, marker in zip(chosen_names, (BLUE, ORANGE, GREEN, PALETTE[7] / 255), "osv^", strict=False):
        ax.plot(counts, curves[name], color=colour, marker=marker, label=name)
    ax.set(xscale="log", xlabel="boxes per picture", ylim=(0, 1.02), xticks=counts, xticklabels=counts)
    ax.legend()
axes[0].set(ylabel="recall at IoU 0.5", title="where the boxes come from")
axes[1].set(title="anchors, the RPN trained alone")
lesson.save(figure, "recall")

# %%
# 5. The whole detector
# ---------------------
# Drawn is what scores more than 0.3, after a training of seconds.

model.rpn.before, model.rpn.after = (1000, 500), (256, 128)
result = evaluate_detector(model, test)
print("detector:", ", ".join(f"{name} {value:.3f}" for name, value in result.items()))
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
proposed = model.propose(test[0].image)[:20]
draw_image(axes[0], test[0].image, "the 20 best proposals")
draw_boxes(axes[0], proposed, color=BLUE, width=0.8)
for ax, sample in zip(axes[1:], test, strict=False):
    found = model.predict([sample.image])[0]
    found = found[found.scores > 0.3]
    draw_image(ax, sample.image, f"{len(sample.boxes)} objects, {len(found)} found")
    draw_boxes(ax, found.boxes, found.labels, [f"{test.class_names[c]} {s:.2f}" for c, s in
                                               zip(found.labels, found.scores, strict=True)])
lesson.save(figure, "found")
lesson.finish()
