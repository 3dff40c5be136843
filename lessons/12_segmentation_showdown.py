"""
All segmentation networks on the same images
============================================

FCN, DeconvNet, U-Net, PSPNet, DeepLabv3 and v3+, all of them narrow and trained on the same generated scenes for the same
number of steps: their parameters, work, time, mean IU and borders, and what each of them draws. Lessons 07 to 11 look at each
by itself.
"""

# %%
from minicv.course.lessons import Lesson, all_hold, compare

lesson = Lesson("12_segmentation_showdown", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models
from minicv.data.generated.street_scenes import StreetScenes
from minicv.metrics import ConfusionMatrix
from minicv.metrics.boundary import BoundaryFScore
from minicv.models.summary import summarize
from minicv.training.segmentation import SegmentationConfig, train_segmentation
from minicv.viz import PALETTE, segmentation_sheet

ORANGE, BLUE = PALETTE[[1, 5]] / 255

# %%
# 1. The networks
# ---------------
# The scenes have nine classes in images of 64x64. All backbones are narrow: VGG16 with 8 channels in its first layer,
# ResNets with 8 and one block per layer, a U-Net with 8. None was trained before. The learning rates of FCN and DeconvNet
# are those of lesson 09, chosen for scenes like these; PSPNet and DeepLab have the rates of the heads in lessons 10 and 11;
# U-Net's was not tuned (lesson 08, on cells, has 0.003). A better rate may change a network's place.

train = StreetScenes(16 if lesson.quick else 120, 64, 2 * lesson.seed, keep=True)
test = StreetScenes(6 if lesson.quick else 40, 64, 2 * lesson.seed + 1, keep=True)
FCN = {"width": 8, "pooled": 1, "hidden": 64, "dropout": 0.0}
BACKBONE = {"backbone_options": {"width": 8, "layers": (1, 1, 1, 1)}, "dropout": 0.0}
UNET = {"in_channels": 3, "width": 8, "depth": 3, "padding": "same", "dropout": 0.0}
NETWORKS = {  # name, options, learning rate
    "FCN-32s": ("fcn32s", FCN, 0.005), "FCN-8s": ("fcn8s", FCN, 0.005),
    "DeconvNet": ("deconvnet", {"width": 8, "convs": (1, 2, 2, 2), "hidden": 64, "side": 2}, 0.02),
    "U-Net": ("unet", UNET, 0.004), "PSPNet": ("pspnet", {**BACKBONE, "channels": 32}, 0.004),
    "DeepLabv3": ("deeplabv3", {**BACKBONE, "channels": 24, "rates": (1, 2, 3)}, 0.004),
    "DeepLabv3+": ("deeplabv3plus", {**BACKBONE, "channels": 24, "rates": (1, 2, 3), "decoder_channels": 32}, 0.004)}

# %%
# All train alike: whole images, four a step, without augmentation. A seed stands for first weights and for an order of the
# images.

steps, seeds = (6, 1) if lesson.quick else (190, 3)


def trained(name, seed):
    """Return a network after training, and the seconds that it took."""
    model, options, lr = NETWORKS[name]
    minicv.seed(lesson.seed + seed)
    net, start = models.build(model, num_classes=train.num_classes, **options), time.perf_counter()
    losses = list(train_segmentation(net, train, SegmentationConfig(
        steps=steps, batch=4, optimizer="adam", lr=lr, warmup=10, augment=False, seed=lesson.seed + seed)))
    seconds = time.perf_counter() - start
    print(f"  {name}, seed {seed}: loss {np.mean(losses[-20:]):.2f} after {seconds:.0f} s")
    return net, seconds


def measure(net):
    """Return mean IU and boundary F-score (one pixel of tolerance) in %, and the label maps."""
    regions, borders = ConfusionMatrix(test.num_classes, test.ignore_index), BoundaryFScore(test.num_classes, 1.0)
    labels = [result.labels for result in net.predict([sample.image for sample in test])]
    for each, sample in zip(labels, test, strict=True):
        regions.update(each, sample.label)
        borders.update(each, sample.label)
    return 100 * regions.mean_iu, 100 * borders.mean, labels


# %%
# 2. The table
# ------------
# We train and measure every network with every seed. Multiply-accumulates (MACs) and milliseconds are those of predicting
# one image; the seconds are those of the training. Mean IU is the mean over the classes of intersection over union; the
# boundary F-score compares only the borders.

MS, SECONDS, IU, BORDER = range(4)
table, drawn = {}, {}
for name in NETWORKS:
    measured = []
    for seed in range(seeds):
        net, seconds = trained(name, seed)
        iu, border, drawn[name] = measure(net)
        start = time.perf_counter()
        net.predict([sample.image for sample in test])
        measured.append((1e3 * (time.perf_counter() - start) / len(test), seconds, iu, border))
    table[name] = (net.num_parameters() / 1e3, summarize(net, (3, 64, 64)).macs / 1e6, np.array(measured))


def text(name, k):
    values = table[name][2][:, k]
    return f"{values.mean():.1f}" + (f" +- {values.std():.1f}" if seeds > 1 else "")


# %%
# The table, a row for each network:

print(f"{'':11s} {'1000 parameters':>15s} {'M MACs':>8s} {'ms':>6s} {'training, s':>12s} {'mean IU, %':>14s} "
      f"{'boundary F, %':>14s}")
for name, (parameters, macs, values) in table.items():
    ms, seconds = values[:, (MS, SECONDS)].mean(axis=0)
    print(f"{name:11s} {parameters:15.0f} {macs:8.1f} {ms:6.1f} {seconds:12.0f} {text(name, IU):>14s} "
          f"{text(name, BORDER):>14s}")

# %%
# The same as a figure: both measures against the work. Orange networks scale a coarse grid of scores up at once; blue ones
# go back to fine maps step by step. Bars are standard deviations over the seeds. Do the blue ones lie above, and on which
# side more?

coarse = ("FCN-32s", "PSPNet", "DeepLabv3")  # grids of 32, 8 and 8 pixels, scaled up at once
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, k, title in ((axes[0], IU, "mean IU, %"), (axes[1], BORDER, "boundary F-score, %")):
    for (name, (_, macs, values)), marker in zip(table.items(), "sovDP^X", strict=True):  # names would overlap
        ax.errorbar(macs, values[:, k].mean(), values[:, k].std(), fmt=marker, color=ORANGE if name in coarse else BLUE,
                    capsize=3, label=name)
    ax.set(xlabel="million MACs per image", ylabel=title, xlim=(0, 1.3 * max(row[1] for row in table.values())))
    ax.margins(y=0.15)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False,
              title="orange: scaled up at once\nblue: step by step")
lesson.save(figure, "work")

# %%
# What they draw on three test images, with the last seed. Each class has its color and, on large regions, its number; white
# is void, which counts for nobody.

figure = segmentation_sheet([test[i].image for i in range(3)], {
    "truth": [test[i].label for i in range(3)], **{name: labels[:3] for name, labels in drawn.items()}}, test.class_names, size=1.4)
lesson.save(figure, "predictions")

# %%
# 3. Coarse or step by step? (claim W1)
# -------------------------------------
# All of these papers argue one thing: a coarse grid that is scaled up at once draws poor borders; the way back to fine maps
# step by step, with help from below, draws better ones. If so, each blue network beats each orange one. That makes twelve
# pairs, each compared seed by seed with a t-test (`compare`), and the claim falls with any pair that is clearly worse. In
# the full run five pairs are clearly better, none is worse, and seven cannot be told from chance with three seeds, so the
# verdict stays open.

fine = [name for name in NETWORKS if name not in coarse]
gains = {f"{a} over {b}": compare(table[a][2][:, BORDER] - table[b][2][:, BORDER]) for a in fine for b in coarse}
for name, (gain, verdict) in gains.items():
    print(f"{name:24s} {gain:>14s} points of boundary F: {'cannot be told' if verdict is None else verdict}")
better, worse, untold = ([name for name, (_, v) in gains.items() if v is kind] for kind in (True, False, None))
best = max(NETWORKS, key=lambda name: table[name][2][:, IU].mean())
lesson.claim("W1", "FCN, DeconvNet, U-Net, DeepLabv3+", "the way back to fine maps step by step draws better borders",
             "boundary F-score at once: " + ", ".join(f"{name} {text(name, BORDER)}" for name in coarse)
             + "; step by step: " + ", ".join(f"{name} {text(name, BORDER)}" for name in fine)
             + f"; of {len(gains)} pairs {len(better)} clearly better, {len(worse)} clearly worse"
             + "".join(f" ({name} {gains[name][0]})" for name in worse) + f", {len(untold)} cannot be told; best mean IU: "
             f"{best}, {text(best, IU)} ({seeds} seeds)", all_hold(verdict for _, verdict in gains.values()))
lesson.finish()
