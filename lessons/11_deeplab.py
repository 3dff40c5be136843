"""
DeepLab: dilated convolutions, at several rates, and a decoder
==============================================================

Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017, v3): denser maps with
the same weights, and several rates side by side. Chen et al., "Encoder-Decoder with Atrous Separable Convolution" (ECCV 2018,
v3+): a decoder. Beside it: `minicv/models/segmentation/deeplab.py`.
"""

# %%
from minicv.course.lessons import Lesson, all_hold, compare

lesson = Lesson("11_deeplab", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import models, no_grad
from minicv.data import standardize
from minicv.data.generated.street_scenes import CLASSES, THINGS, StreetScenes
from minicv.metrics import ConfusionMatrix
from minicv.metrics.boundary import BoundaryFScore
from minicv.metrics.object_size import ObjectSizeScores
from minicv.models.summary import summarize
from minicv.optim import Adam, LambdaLR, poly
from minicv.training.segmentation import SegmentationConfig, train_segmentation
from minicv.viz import plot_means, segmentation_sheet

# %%
# 1. Scenes, and a backbone with weights for every output stride (v3, sec. 3.1)
# -----------------------------------------------------------------------------
# The scenes hold nine classes, objects of many sizes, and poles of one or two pixels. The output stride is the number of
# image pixels per position of the last map. We train the backbone, a narrow ResNet, once, at output stride 16. Then the
# same weights run at 32, 16 and 8.

size = 48 if lesson.quick else 96
train = StreetScenes(24 if lesson.quick else 300, size, 2 * lesson.seed, keep=True)
test = StreetScenes(8 if lesson.quick else 80, size, 2 * lesson.seed + 1, keep=True)
SMALL = {"num_classes": len(CLASSES), "backbone_options": {"width": 8, "layers": (1, 1, 1, 1)}, "channels": 24}
PLUS = {"low_channels": 12, "decoder_channels": 32}
STRIDES = (32, 16, 8)


def network(seed=0, decoder=False, **options):
    minicv.seed(lesson.seed + seed)
    return models.build("deeplabv3plus" if decoder else "deeplabv3", **{**SMALL, **(PLUS if decoder else {}), **options})


start = time.perf_counter()
first = network(output_stride=16, auxiliary=0.4)
config = SegmentationConfig(steps=10 if lesson.quick else 450, batch=8, optimizer="adam", lr=0.003, warmup=10,
                            augment=False, seed=lesson.seed)
losses = list(train_segmentation(first, train, config))
print(f"backbone: {first.backbone.num_parameters():,} parameters, loss {np.mean(losses[-20:]):.2f} after {len(losses)} steps, "
      f"{time.perf_counter() - start:.0f} s")

# %%
# Where a stride is left out, the convolutions behind it are dilated. They should then compute the same numbers at more
# places: every fourth number of the map at output stride 8 is a number of the map at 32.


@no_grad()
def maps_of(dataset, output_stride):
    """Return the backbone's low and last maps, (count, C, h, w) each, of all images, at an output stride."""
    backbone = network(output_stride=output_stride).backbone.eval()
    backbone.load_state_dict(first.backbone.state_dict())
    images = np.stack([standardize(dataset[i].image) for i in range(len(dataset))])
    parts = [backbone.feature_maps(lesson.tensor(images[i:i + 10])) for i in range(0, len(dataset), 10)]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in ("low", "last")}


maps = {(dataset, n): maps_of(dataset, n) for dataset in (train, test) for n in STRIDES}
train_labels, test_labels = (np.stack([dataset[i].label for i in range(len(dataset))]) for dataset in (train, test))
dense, coarse = maps[test, 8]["last"], maps[test, 32]["last"]
same = np.abs(dense[:, :, ::4, ::4] - coarse).max() / np.abs(coarse).max()
lesson.claim("S8b", "DeepLabv3, sec. 3.1", "the same weights compute the same numbers at more places",
             f"every 4th number of the map at output stride 8 against those at 32: apart by {same:.0e} of the largest",
             same < 1e-4)

# %%
# 2. The heads, trained and measured
# ----------------------------------
# Different heads are trained on these maps, and that is all that differs below. The backbone stays as it is, so its maps
# were computed once. A seed stands for first weights and for an order of the images.

steps, seeds = (4, 1) if lesson.quick else (200, 3)


def scores(net, maps, some):
    """Return the scores (N, K, H, W) for some of the images that the maps belong to."""
    chosen = {name: lesson.tensor(values[some]) for name, values in maps.items()}
    return F.interpolate(net.decode(chosen), (size, size), mode="bilinear")


def trained(seed, output_stride=8, **options):
    net, rng = network(1 + seed, output_stride=output_stride, **options), np.random.default_rng([lesson.seed, seed])
    head = [p for name, p in net.named_parameters() if not name.startswith("backbone")]
    optimizer = Adam(head, lr=0.004)
    schedule = LambdaLR(optimizer, poly(steps, power=0.9))
    for _ in range(steps):
        some = rng.choice(len(train), 8, replace=False)
        labels = lesson.tensor(train_labels[some])
        loss = F.cross_entropy(scores(net, maps[train, output_stride], some), labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


# %%
# Five measures, in %: mean IU, the mean over the classes of intersection over union; the boundary F-score, which compares
# only borders, with a tolerance of one pixel; and the mean IU of small, middle and large objects.

MEAN_IU, BOUNDARY, SMALL_IU, MIDDLE_IU, LARGE_IU = range(5)
EDGES = (8 ** 2, 24 ** 2)  # pixels: an object below 8x8 is small, from 24x24 on it is large


@no_grad()
def measure(net, output_stride):
    """Return the five measures, and the labels of all test images."""
    labels = np.concatenate([scores(net, maps[test, output_stride], slice(i, i + 10)).numpy().argmax(axis=1)
                             for i in range(0, len(test), 10)])
    matrix, borders, by_size = (ConfusionMatrix(len(CLASSES), 255), BoundaryFScore(len(CLASSES), 1.0),
                                ObjectSizeScores(len(CLASSES), EDGES, THINGS))
    matrix.update(labels, test_labels)
    borders.update(labels, test_labels)
    for i, each in enumerate(labels):
        by_size.update(each, test_labels[i], test[i].instances)
    return 100 * np.array([matrix.mean_iu, borders.mean, *by_size.mean_iu]), labels


# %%
# `run` trains and measures a head once per seed. Two heads are compared by `gain`, seed by seed, with a t-test (`compare`).

found, drawn = {}, {}


def run(name, output_stride, **options):
    """Fill found[name], (seeds, 5), and drawn[name], the labels of the first seed."""
    results = [measure(trained(seed, output_stride, **options), output_stride) for seed in range(seeds)]
    found[name], drawn[name] = np.array([r[0] for r in results]), results[0][1]
    print(f"{name:22s} mean IU {text(found[name][:, MEAN_IU])}   boundary F {text(found[name][:, BOUNDARY])}   small, "
          "middle, large objects " + ", ".join(f"{v:.1f}" for v in found[name][:, SMALL_IU:].mean(axis=0)))


def text(values):
    return f"{values.mean():.2f} +- {values.std():.2f}"


def gain(better, worse, k):
    """Return the difference over the seeds, as text, and whether it is clear."""
    difference = found[better][:, k] - found[worse][:, k]
    return compare(difference) if np.isfinite(difference).all() else ("none to compare", None)  # no object of that size


# %%
# 3. Output stride 32, 16, 8 (v3, sec. 3.1; claim S8)
# ---------------------------------------------------
# ASPP (atrous spatial pyramid pooling) is a head of three dilated convolutions side by side. As in the paper, its rates are
# (r, 2r, 3r) at output stride 16 and doubled at 8, so that they reach equally far in the image. These images are small, so
# r is 1 instead of 6. At 32 the rates would have to be halved, but none can be below 1: all three are 1 and reach 32 pixels
# each, not 16, 32 and 48. So output stride 32 lacks the several rates as well as the dense map; between 16 and 8 only the
# map differs.

macs, parameters = {}, {}
for n in STRIDES:
    net = network(output_stride=n, rates=(1, 2, 3))
    summary = summarize(net, (3, size, size))
    macs[n], parameters[n] = summary.macs, summary.parameters
    run(f"v3, output stride {n}", n, rates=(1, 2, 3))
gains = {f"{n} over {2 * n}": gain(f"v3, output stride {n}", f"v3, output stride {2 * n}", MEAN_IU) for n in (16, 8)}
lesson.claim("S8", "DeepLabv3, sec. 3.1", "dilation keeps a denser map with the same parameters: better, for more work",
             "; ".join(f"output stride {n}: mean IU {text(found[f'v3, output stride {n}'][:, MEAN_IU])}, {macs[n] / 1e6:.0f} "
                       f"M MACs, {parameters[n]:,} parameters" for n in STRIDES) + "; " +
             ", ".join(f"{name} {t} points" for name, (t, _) in gains.items()) + f" ({seeds} seeds)",
             all_hold([len(set(parameters.values())) == 1, *(verdict for _, verdict in gains.values())]))

# %%
# 4. Several rates side by side (v3, sec. 3.3; claim S9)
# ------------------------------------------------------
# The same head with one rate three times has as many parameters and multiply-accumulates (MACs), but a single field of
# view. Rates are given for output stride 16; the map here has output stride 8.

rates = {"ASPP (1, 2, 3)": (1, 2, 3), "rate 1 only": (1, 1, 1), "rate 2 only": (2, 2, 2), "rate 3 only": (3, 3, 3)}
found["ASPP (1, 2, 3)"] = found["v3, output stride 8"]
singles = list(rates)[1:]
for name in singles:
    run(name, 8, rates=rates[name])
best = max(singles, key=lambda name: found[name][:, MEAN_IU].mean())
gains = {name: gain("ASPP (1, 2, 3)", name, MEAN_IU) for name in singles}
by_size = [gain("ASPP (1, 2, 3)", best, k)[0] for k in (SMALL_IU, MIDDLE_IU, LARGE_IU)]
lesson.claim("S9", "DeepLabv3, sec. 3.3", "several rates beat a single one on objects of several sizes",
             "mean IU against " + ", ".join(f"{name} {t}" for name, (t, _) in gains.items()) + " points; small, middle and "
             f"large objects, against the best of them, {best}: " + ", ".join(by_size) + f" ({seeds} seeds)",
             all_hold(verdict for _, verdict in gains.values()))

# %%
# On the left mean IU against the work, for the three output strides; on the right the mean IU of objects by size, for one
# rate and for several. Points are means and bars standard deviations over the seeds; a size that no test object has stays
# empty.

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained")
values = [found[f"v3, output stride {n}"][:, MEAN_IU] for n in STRIDES]
plot_means(axes[0], [macs[n] / 1e6 for n in STRIDES], {"v3": values})
for n, of_stride in zip(STRIDES, values, strict=True):
    axes[0].annotate(f"output stride {n}", (macs[n] / 1e6, of_stride.mean()), (7, 0), textcoords="offset points", fontsize=9, va="center")
axes[0].set(xlabel="million MACs per image", ylabel="mean IU, %", title="Same parameters, denser maps", xlim=(0, 1.5 * max(macs.values()) / 1e6))
plot_means(axes[1], range(3), {name: found[name][:, SMALL_IU:].T for name in rates}, shift=0.08, linestyle="")
axes[1].set(xticks=range(3), xticklabels=["small", "middle", "large"], xlabel="size of the object (8x8, 24x24 pixels)",
            ylabel="mean IU of things, %", title="One rate and several", xlim=(-0.3, 2.3))
lesson.save(figure, "strides_and_rates")

# %%
# In the full run denser maps are better at the same parameters. But rate 1 alone beats the three rates, so claim S9 does
# not hold here; in images of 96 pixels, rate 1 at output stride 8 may already reach far enough. Whether it does is open.
#
# 5. A decoder (v3+, sec. 3.1 and Fig. 2; claim S10)
# --------------------------------------------------
# At output stride 16, v3+ scales the encoder's map up, puts it beside a low-level map that is four times finer, and refines
# both by two 3x3 convolutions. In the paper this takes VOC from 85.7 to 87.8, with most of the gain near boundaries (sec.
# 4.4).

run("v3+, output stride 16", 16, decoder=True, rates=(1, 2, 3))
iu, better = gain("v3+, output stride 16", "v3, output stride 16", MEAN_IU)
borders, sharper = gain("v3+, output stride 16", "v3, output stride 16", BOUNDARY)
lesson.claim("S10", "DeepLabv3+, sec. 4.4", "the decoder of v3+ improves on v3, not least at boundaries",
             f"mean IU {iu} points, boundary F-score {borders} points, to {text(found['v3+, output stride 16'][:, BOUNDARY])}"
             f"; the best v3, at output stride 8, has {text(found['v3, output stride 8'][:, BOUNDARY])} ({seeds} seeds)",
             all_hold((better, sharper)))

# %%
# What three of the networks draw, each class in its color; the numbers are those of the legend, and white is void, which
# counts for nobody. Compare the borders from left to right.

shown = [1, 3, 5]
figure = segmentation_sheet([test[i].image for i in shown], {"truth": test_labels[shown], **{
    name: drawn[name][shown] for name in ("v3, output stride 32", "v3, output stride 8", "v3+, output stride 16")}}, CLASSES)
lesson.save(figure, "decoder")

# %%
# In the full run the decoder clearly improves both mean IU and the borders; its boundary F-score is the best of all.
lesson.finish()
