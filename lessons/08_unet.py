"""
U-Net: cut images into cells, having seen only a few
====================================================

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015), step by step:
the network (Fig. 1), the loss and its weight map (eqs. (1) and (2)), tiles, the squares into which a large image is cut
(Fig. 2), and elastic deformation (sec. 3.1).
We measure its claims on generated images of touching cells or, with `--data isbi2012:PATH`, on the paper's electron
micrographs. Beside it: `minicv/models/segmentation/unet.py`.
"""

# %%
from minicv.course.lessons import Lesson, all_hold, compare

lesson = Lesson("08_unet", __doc__, needs="instances")

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models, nn, no_grad
from minicv.data import UNetAugment, elastic_displacement, open_dataset, warp, weight_map
from minicv.data.augment.crops import RandomCrops
from minicv.metrics import connected_components, pixel_error, rand_error
from minicv.metrics.instances import count_instances
from minicv.training import SegmentationConfig, train_segmentation
from minicv.training.evaluate import evaluate_segmentation
from minicv.viz import PALETTE, color_instances, plot_means, show_images
from minicv.viz.unet import draw_unet, feature_maps

ORANGE = PALETTE[1] / 255

# %%
# 1. The network (sec. 2, Fig. 1; claim S2)
# -----------------------------------------
# On the way down, each level has two 3x3 convolutions without padding ("valid" ones), which take 4 pixels off the side of a
# map, and a pooling that halves it; the next convolution doubles the channels. On the way up an up-convolution does the
# reverse, and the map that the same level had on the way down is cropped and put beside the result: the skip.
# `feature_maps` reads the maps off the layers in order.

paper = models.build("unet", "paper")
maps = feature_maps(paper, 572)
for level in range(paper.depth + 1):
    print(f"level {level}: " + "  ".join(f"{m.made_by} {m.side}x{m.channels}" for m in maps if m.level == level))

# %%
# The paper's figure 1, drawn from the model. A box is a map, with its channels above and its side below; the white part
# came over the skip. The input is a tile, a square cut from an image. Follow the sides: a tile of 572 pixels goes in, and the
# classes of the 388 x 388 pixels in its middle come out.

figure = plt.figure(figsize=(11, 5.6))
draw_unet(maps, figure.add_axes((0, 0, 1, 0.94)))
figure.suptitle("U-Net, drawn from the model: channels above a map, its side below")
lesson.save(figure, "network")

# %%
# The drawing is computed from the layers. Does a run agree? A network of the same plan with one channel is cheap enough to
# try. `lesson.claim` records the answer under an id, here S2; `minicv claims S3` shows the claim with the id S3.

thin = models.build("unet", "paper", width=1)
with no_grad():
    output = thin(lesson.tensor(np.zeros((1, 1, 572, 572), np.float32))).shape[2]
convs = sum(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in paper.modules())
lesson.claim("S2", "U-Net, sec. 2 and Fig. 1", "a tile of 572 gives 388; 23 convolutional layers",
             f"{maps[-1].side} by the layers, {output} by running them; {convs} convolutional layers, "
             f"{paper.num_parameters():,} parameters", maps[-1].side == output == 388 and convs == 23)
del paper  # 124 MB

# %%
# 2. Images, the loss and its weight map (sec. 3, eqs. (1) and (2))
# -----------------------------------------------------------------
# The loss, eq. (1), is the sum over pixels x of -w(x) log p(true class of x), where p is the network's probability. Cells
# touch; in the truth a ridge of background, a pixel or two thin, keeps them apart. Eq. (2) makes its few pixels heavy:
# w(x) = w_c(x) + 10 exp(-(d1(x) + d2(x))^2 / (2 * 5^2)), where d1 and d2 are the distances of pixel x to the nearest and the
# second nearest cell, and w_c balances the classes. Real images (`--data`) are cut into crops, so that the lesson stays
# short.


def load(split, count, size, seed=0):
    """Return ``count`` images of size x size; those of the split "test" are never among those of "train"."""
    options = {} if lesson.data else {"count": count, "size": size, "seed": lesson.seed + seed, "radius": (8, 13)}
    return RandomCrops(open_dataset(lesson.data or "cells", split, **options), count, size, lesson.seed + seed)


test = load("test", 1 if lesson.quick else 3, 192)
train = load("train", 4 if lesson.quick else 24, 128)
test_weights = [weight_map(sample.instances) for sample in test]

# %%
# An image, its true cells (one color each), and the weight map. Look for the brightest lines.

figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
axes[0].imshow(test[0].image[0], cmap="gray")
axes[1].imshow(color_instances(test[0].instances))
figure.colorbar(axes[2].imshow(test_weights[0], cmap="gray", vmin=0), ax=axes[2], label="w")
for ax, title in zip(axes, ("image", "true cells", "weight map, eq. (2)"), strict=True):
    ax.set(title=title, xticks=[], yticks=[])
lesson.save(figure, "weights")

# %%
# The weight is highest, more than 10, between cells that touch, and falls off within a few pixels.

# %%
# 3. Training and measuring (sec. 3)
# ----------------------------------
# One tile per step, as in the paper, but with Adam: the paper's SGD with momentum 0.99 (the default of `minicv train unet`)
# needs several times the steps. The networks are small: two poolings instead of the paper's four, and 12 channels in the top
# level instead of 64. Dropout, to the paper "further implicit data augmentation", is off, because augmentation is what
# section 6 measures.

NETWORK = {"width": 12, "depth": 2, "dropout": 0.0}


def trained(data, seed, augment, skip="concatenate", **changes):
    """Return a network after training; the same seed gives the same first weights and tiles."""
    minicv.seed(lesson.seed + seed)
    net = models.build("unet", **NETWORK, skip=skip)
    config = SegmentationConfig(optimizer="adam", lr=0.003, warmup=20, seed=lesson.seed + seed, augment=augment, **changes)
    losses = list(train_segmentation(net, data, config))
    print(f"  {len(data)} images, elastic {augment.elastic}, seed {seed}, {skip}, {changes}: loss {np.mean(losses[-30:]):.3f}")
    return net


# %%
# P(cell) is the probability that a pixel belongs to a cell. A found piece is a 4-connected component of P(cell) > 0.5: its
# pixels are joined by sides, not by corners. There are five measures:
#
# - merged: the share of true cells that are merged, which means that one found piece covers most of two or more of them;
# - missed: the share of true cells that no found piece fits with an IoU above 0.5;
# - Rand error: 1 - the F-score of pixel pairs that lie in one cell;
# - pixel error: the share of pixels in the wrong class;
# - loss: eq. (1), divided by the sum of the weights.


def p_cell(net, sample, **options):
    return net.predict([sample.image], **options)[0].probabilities[1].clip(0, 1)


def measure(net):
    """Return over the test images: merged, missed, Rand error, pixel error, loss of eq. (1)."""
    counts, means = [], []
    for sample, weight in zip(test, test_weights, strict=True):
        p = p_cell(net, sample)
        pieces = connected_components(p > 0.5)
        counts.append(count_instances(pieces, sample.instances))
        p_truth = np.where(sample.label == 1, p, 1 - p).clip(1e-6)
        loss = -(weight * np.log(p_truth)).sum() / weight.sum()  # U-Net, eq. (1), per unit of weight
        means.append((rand_error(pieces, sample.instances), pixel_error(p, sample.label == 1), loss))
    total, found, merged = np.sum(counts, axis=0)
    return [merged / total, 1 - found / total, *np.mean(means, axis=0)]


MERGED, MISSED, RAND, PIXEL, LOSS = range(5)

# %%
# 4. Does the weight map separate touching cells? (claim S3)
# ----------------------------------------------------------
# Networks in pairs, trained alike but for w: plain, which is 1 everywhere, or eq. (2). Images are flipped and deformed;
# rotations are left out, because they fray ridges of a pixel or two. We compare seed by seed, with a t-test (`compare`),
# and both the share of merged cells and the Rand error must be lower (`all_hold`).

steps, seeds = (40, 1) if lesson.quick else (400, 3)
augment = UNetAugment(shift=0, rotation=0, elastic=4, gray=0, order=1)
nets = {(kind, s): trained(train, s, augment, steps=steps, tile=64, weight_map=kind == "eq. (2)")
        for s in range(seeds) for kind in ("plain", "eq. (2)")}
without = np.array([measure(nets["plain", s]) for s in range(seeds)])  # (seeds, 5)
with_map = np.array([measure(nets["eq. (2)", s]) for s in range(seeds)])


def change(k):
    return " -> ".join(f"{x[:, k].mean():.3f} +- {x[:, k].std():.3f}" for x in (without, with_map))


fewer = {name: compare(without[:, k] - with_map[:, k]) for name, k in (("merged", MERGED), ("Rand error", RAND))}
lesson.claim("S3", "U-Net, sec. 3", "the weight map separates touching cells: fewer merged, lower Rand error",
             f"merged {change(MERGED)} of the cells, Rand error {change(RAND)}, missed (IoU <= 0.5) {change(MISSED)}; "
             f"the price: pixel error {change(PIXEL)}; lower by " +
             ", ".join(f"{gain.removeprefix('+')} ({name})" for name, (gain, _) in fewer.items()) + f" ({seeds} seeds)",
             all_hold(verdict for _, verdict in fewer.values()))

# %%
# Above, P(cell) of both networks, from black for 0 to white for 1; below, the pieces found, one color each. Look at the
# ridges between touching cells: with the weight map they should stay dark, and the pieces should come apart.

sample = test[0]
p = {kind: p_cell(nets[kind, 0], sample) for kind in ("plain", "eq. (2)")}
pieces = {kind: connected_components(p[kind] > 0.5) for kind in p}
count = {kind: count_instances(pieces[kind], sample.instances) for kind in p}
figure = show_images({
    "image": sample.image, **{f"P(cell), {kind}": p[kind] for kind in p},
    f"truth: {count['plain'].total} cells": color_instances(sample.instances),
    **{f"{kind}: {count[kind].merged} merged, {count[kind].found} found": color_instances(pieces[kind]) for kind in p}},
    columns=3, size=3, vmin=0, vmax=1)
lesson.save(figure, "weight_map")

# %%
# The weighted network draws its ridges wide. The true cell pixels lost under the wide ridges count as one false piece, so the
# Rand error falls less than the share of merged cells.

# %%
# The lesson in one row: the image, its true cells, the weights that hold them apart, and the cells found.

figure = show_images({"image": sample.image, "true cells": color_instances(sample.instances), "weight map, eq. (2)":
                      test_weights[0], "cells found": color_instances(pieces["eq. (2)"])}, size=2.3)
lesson.save(figure, "summary")

# %%
# Could a higher threshold do what the weights do? We print the measures of the ISBI 2012 challenge (sec. 4, table 1) on the
# whole test split. The pixel error is that at P(cell) > 0.5. The Rand F-score (higher is better) and the warping error, the
# share of pixels that still differ after moving borders without splitting or merging a cell, are those at the threshold that
# gives the best Rand F-score on training images.

for kind in p:
    result = evaluate_segmentation(nets[kind, 0], open_dataset(lesson.data, "test") if lesson.data else test, train)
    print(f"{kind:<7}: pixel error {result['pixel_error']:.4f}; at P(cell) > {result['threshold']:.2f} "
          f"Rand F-score {result['rand_f_score']:.3f}, warping error {result['warping_error']:.6f}")

# %%
# It could not. In the full run the plain network reaches a Rand F-score of about 0.29 even at its best threshold, 0.90; the
# weighted network reaches about 0.47, at 0.30, and its warping error is lower, too. Only the pixel error is better without
# weights.

# %%
# 5. Tiles without seams (sec. 1, Fig. 2; claim S2b)
# --------------------------------------------------
# A large image is predicted in tiles. A tile that brings its context, mirrored where the image ends, predicts what the
# whole image would, because valid convolutions see real pixels only. With zero padding a tile needs no context (`context=0`),
# but its border pixels see zeros instead of the neighboring tile. (By default `predict` gives the tiles of a padded network
# their context, too.) The same trained weights run both ways, each in tiles and on the whole image.

side, tile = len(sample.label), 64
valid, padded = nets["eq. (2)", 0], models.build("unet", **NETWORK, padding="same")
padded.load_state_dict(valid.state_dict())
tiled = [p_cell(valid, sample, tile=tile), p_cell(padded, sample, tile=tile, context=0)]
whole = [p_cell(net, sample) for net in (valid, padded)]
difference = [np.abs(t - w) for t, w in zip(tiled, whole, strict=True)]
seams = np.arange(tile, side, tile) - 0.5  # seams lie between rows 63|64 and 127|128
to_seam = np.abs(np.arange(side) - seams[:, None]).min(axis=0) - 0.5  # pixels between each row and the nearest seam
reach = np.minimum(to_seam[:, None], to_seam)[difference[1] > 1e-6].max()  # of the differing pixel farthest from a seam
switched = np.mean((tiled[1] > 0.5) != (whole[1] > 0.5))
lesson.claim("S2b", "U-Net, sec. 1 and Fig. 2", "tiles with mirrored context are seamless; zero padding makes seams",
             f"largest difference of P(cell), tiled against whole: {difference[0].max():.1g} with context; with zeros "
             f"{difference[1].max():.2f}, up to {reach:.0f} pixels off a seam, and {switched:.1%} of the pixels change "
             f"class", difference[0].max() < 1e-5 and difference[1].max() > 0.01)

# %%
# The image with the seams (dotted), and the difference ``|tiled - whole|`` of P(cell) for both ways, from black for 0 to
# white for its largest value in the right panel. With context it should be black all over.

figure = show_images({f"image and tiles of {tile}": sample.image, "|tiled - whole| with mirrored context": difference[0],
                      "|tiled - whole| with zero padding": difference[1]}, size=3.4, vmin=0)
for ax in figure.axes[1:]:
    ax.images[0].set_clim(0, difference[1].max())
for ax in figure.axes:
    ax.hlines(seams, 0, side - 1, color=ORANGE, ls=":", lw=1)
    ax.vlines(seams, 0, side - 1, color=ORANGE, ls=":", lw=1)
lesson.save(figure, "seams")

# %%
# With zeros the error is largest along the seams and reaches as far into the tile as the network looks.

# %%
# 6. Learning from few images (sec. 3.1; claim S4)
# ------------------------------------------------
# Elastic deformation displaces each node of a coarse 3x3 grid at random; bicubic interpolation moves the pixels between. In
# the paper's images of 512 pixels the standard deviation is 10 pixels. The figure deforms an image with a drawn grid,
# strongly.

grid = np.repeat(train[0].image, 3, axis=0)
grid[:, ::16] = grid[:, :, ::16] = ORANGE.reshape(3, 1, 1)
bent, = warp(grid, elastic_displacement((128, 128), np.random.default_rng(lesson.seed), sigma=8), order=1)
lesson.save(show_images({"a training image, a grid": grid, "deformed": bent}, size=3), "elastic")

# %%
# Now networks learn from one image up to eight, as they are or deformed, with a deviation of 3 pixels in images of 48 and
# without any other augmentation. The images are this small on purpose: a network does not learn larger ones by heart in a
# lesson's time, and then deformation changes little. A seed stands for its own training images, first weights and tiles.

few, few_steps, few_seeds = ((1, 4), 40, 1) if lesson.quick else ((1, 2, 4, 8), 130, 3)
errors = {}
for elastic in (0, 3):
    only = UNetAugment(shift=0, rotation=0, gray=0, flip=False, elastic=elastic, order=1)
    errors[elastic] = np.array([
        [measure(trained(load("train", n, 48, s), s, only, steps=few_steps, tile=48, weight_map=True))
         for s in range(few_seeds)] for n in few])  # (numbers of images, seeds, 5)
less = {name: compare((errors[0] - errors[3])[0, :, k]) for name, k in (("loss", LOSS), ("cells missed", MISSED))}
table = "; ".join(f"{n}: " + " -> ".join(f"{errors[e][i, :, LOSS].mean():.2f} +- {errors[e][i, :, LOSS].std():.2f}"
                                         for e in errors) for i, n in enumerate(few))
lesson.claim("S4", "U-Net, sec. 3.1", "elastic deformation lets U-Net learn from few images",
             f"test loss by number of training images, without -> with it: {table}; cells missed with one image "
             f"{errors[0][0, :, MISSED].mean():.0%} -> {errors[3][0, :, MISSED].mean():.0%}; with one image lower by " +
             ", ".join(f"{gain.removeprefix('+')} ({name})" for name, (gain, _) in less.items()) + f" ({few_seeds} seeds)",
             all_hold(verdict for _, verdict in less.values()))

# %%
# Test loss and share of missed cells against the number of training images; error bars are standard deviations over the
# seeds. The gap between the two curves is what deformation is worth.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, k, title in ((axes[0], LOSS, "test loss, eq. (1)"), (axes[1], MISSED, "share of test cells missed")):
    plot_means(ax, np.log2(few), {"images as they are": errors[0][:, :, k], "deformed": errors[3][:, :, k]})
    ax.set(xlabel="training images", title=title, xticks=np.log2(few), xticklabels=few)
    ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
lesson.save(figure, "few_images")

# %%
# In the full run, deformation clearly lowers the loss, and most with a single image. The share of missed cells falls too,
# but three seeds cannot tell its fall from chance.

# %%
# 7. Concatenate or add? (sec. 2; claim S5)
# -----------------------------------------
# U-Net puts the map of the way down beside that of the way up; FCN adds its scores. Here the network of section 4 adds
# instead, trained with the same `steps` and `seeds`. Its convolutions on the way up then read half the channels, so it is
# also smaller.

added = [trained(train, s, augment, "sum", steps=steps, tile=64, weight_map=True) for s in range(seeds)]
with_sum = np.array([measure(net) for net in added])  # (seeds, 5); with_map are those that concatenate
worse, holds = compare(with_sum[:, LOSS] - with_map[:, LOSS])
parameters = [net.num_parameters() for net in (added[0], nets["eq. (2)", 0])]
lesson.claim("S5", "U-Net, sec. 2; FCN, sec. 4.2", "concatenated skips are better than summed ones",
             f"summed -> concatenated: test loss {with_sum[:, LOSS].mean():.3f} +- {with_sum[:, LOSS].std():.3f} -> "
             f"{with_map[:, LOSS].mean():.3f} +- {with_map[:, LOSS].std():.3f}, summed worse by {worse.removeprefix('+')}; "
             f"merged {with_sum[:, MERGED].mean():.3f} -> {with_map[:, MERGED].mean():.3f}; parameters {parameters[0]:,} -> "
             f"{parameters[1]:,} ({seeds} seeds)", holds)

# %%
# In the full run concatenation is ahead on average, by less than three seeds can tell from chance.
lesson.finish()
