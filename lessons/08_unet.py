"""
U-Net: cut pictures into cells, having seen only a few
======================================================

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015), step by
step: the network (Fig. 1), the loss and its weight map (eqs. (1) and (2)), the tiles (Fig. 2), and elastic deformation
(sec. 3.1). Three claims are measured, on generated pictures of touching cells or, with `--data isbi2012:PATH`, on the
paper's electron micrographs. Beside it: `minicv/models/segmentation/unet.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare, every

lesson = Lesson("08_unet", __doc__)

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
from minicv.viz import PALETTE, color_instances, label_edges, show_images
from minicv.viz.unet import draw_unet, feature_maps

BLUE, ORANGE = PALETTE[5] / 255, PALETTE[1] / 255

# %%
# 1. The network (sec. 2, Fig. 1)
# -------------------------------
# Two valid 3x3 convolutions take 4 pixels off the side of a map. On the way down a pooling halves it, and the next
# convolution doubles the channels. On the way up an up-convolution does the reverse, and the map that the same level
# had on the way down is cropped and put beside the result. `feature_maps` reads the maps off the layers, one after the other.

paper = models.build("unet", "paper")
maps = feature_maps(paper, 572)
for level in range(paper.depth + 1):
    print(f"level {level}: " + "  ".join(f"{m.made_by} {m.side}x{m.channels}" for m in maps if m.level == level))
figure = plt.figure(figsize=(11, 5.6))
draw_unet(maps, figure.add_axes((0, 0, 1, 0.94)))
figure.suptitle("U-Net, drawn from the model: channels above a map, its side below")
lesson.save(figure, "network")

thin = models.build("unet", "paper", width=1)  # the same plan, but cheap enough to run
with no_grad():
    output = thin(lesson.tensor(np.zeros((1, 1, 572, 572), np.float32))).shape[2]
convs = sum(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for _, module in paper.modules())
lesson.claim("S2", "U-Net, sec. 2 and Fig. 1", "a tile of 572 gives 388; 23 convolutional layers",
             f"{maps[-1].side} by the layers, {output} by running them; {convs} convolutional layers, "
             f"{paper.num_parameters():,} parameters", maps[-1].side == output == 388 and convs == 23)
del paper  # 124 MB

# %%
# 2. Pictures, and the weight map (sec. 3, eq. (2))
# -------------------------------------------------
# Cells touch; in the truth a ridge of background, a pixel or two thin, keeps them apart. Eq. (2) makes its few pixels
# heavy: w(x) = w_c(x) + 10 exp(-(d1(x) + d2(x))^2 / (2 * 5^2)), where d1 and d2 are the distances to the nearest and
# second nearest cell, and w_c balances the classes. Real slices are cut into windows, so that the lesson stays short.


def pictures(split, count, size, seed=0):
    """So many pictures of size x size; those of the split "test" are never among those of "train"."""
    options = {} if lesson.data else {"count": count, "size": size, "seed": lesson.seed + seed, "radius": (8, 13)}
    return RandomCrops(open_dataset(lesson.data or "cells", split, **options), count, size, lesson.seed + seed)


test = pictures("test", 1 if lesson.quick else 3, 192)
train = pictures("train", 4 if lesson.quick else 24, 128)
test_weights = [weight_map(sample.instances) for sample in test]

# %%
# 3. Training and measuring (sec. 3)
# ----------------------------------
# One tile per step, as in the paper, but with Adam: its SGD with momentum 0.99 (the default of `minicv train unet`) needs
# several times the steps. The networks are small, two levels and 12 channels. Dropout, to the paper "further implicit
# data augmentation", is off: augmentation is what section 6 measures.

NETWORK = {"width": 12, "depth": 2, "dropout": 0.0}


def trained(data, seed, augment, skip="concatenate", **changes):
    """A network after training; the same seed gives the same first weights and tiles."""
    minicv.seed(lesson.seed + seed)
    net = models.build("unet", **NETWORK, skip=skip)
    config = SegmentationConfig(optimizer="adam", lr=0.003, warmup=20, seed=lesson.seed + seed, augment=augment, **changes)
    losses = list(train_segmentation(net, data, config))
    print(f"  {len(data)} pictures, elastic {augment.elastic}, seed {seed}, {skip}, {changes}: {np.mean(losses[-30:]):.3f}")
    return net


def p_cell(net, sample, **options):
    return net.predict([sample.image], **options)[0].probabilities[1].clip(0, 1)


def measure(net):
    """Over the test pictures: shares of merged and of missed cells, Rand error, pixel error, loss of eq. (1)."""
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
# Networks in pairs, trained alike but for w: 1 everywhere, or eq. (2). A cell is a 4-connected piece of P(cell) > 0.5.
# Pictures are flipped and deformed; rotations are left out, because they fray ridges of a pixel or two. What differs is
# judged seed by seed, by a t-test (`compare`); of two measures, both must be better (`every`).

steps, seeds = (40, 1) if lesson.quick else (400, 3)
augment = UNetAugment(shift=0, rotation=0, elastic=4, grey=0, order=1)
nets = {(w, s): trained(train, s, augment, steps=steps, tile=64, weight_map=w)
        for s in range(seeds) for w in (False, True)}
without, with_map = (np.array([measure(nets[w, s]) for s in range(seeds)]) for w in (False, True))  # (seeds, 5)


def change(k):
    return " -> ".join(f"{x[:, k].mean():.3f} +- {x[:, k].std():.3f}" for x in (without, with_map))


fewer = {name: compare(without[:, k] - with_map[:, k]) for name, k in (("merged", MERGED), ("Rand error", RAND))}
lesson.claim("S3", "U-Net, sec. 3", "the weight map separates touching cells: fewer merged, lower Rand error",
             f"merged {change(MERGED)} of the cells, Rand error {change(RAND)}, missed (IoU <= 0.5) {change(MISSED)}; "
             f"the price: pixel error {change(PIXEL)}; less by " +
             ", ".join(f"{gain} ({name})" for name, (gain, _) in fewer.items()) + f" ({seeds} seeds)",
             every(verdict for _, verdict in fewer.values()))

# %%
# What to look for in the figure: between touching cells the weight map is brightest, at about 10, and black is 0; after
# training with it, the probabilities P(cell), black 0 and white the highest, stay dark along these ridges; the pieces found
# (one color each) come apart. A cell is found if a piece fits it with an IoU above 0.5, and merged if it lies mostly in
# a piece in which another cell mostly lies, too.

sample = test[0]
p = {w: p_cell(nets[w, 0], sample) for w in (False, True)}
pieces = {w: connected_components(p[w] > 0.5) for w in p}
count = {w: count_instances(pieces[w], sample.instances) for w in p}
figure = show_images({
    "image": sample.image, f"truth: {count[True].total} cells": color_instances(sample.instances),
    "weight map, eq. (2)": test_weights[0], "outlines of what eq. (2) finds": sample.image[0] + label_edges(pieces[True]),
    "P(cell), trained with w = 1": p[False], "P(cell), trained with eq. (2)": p[True],
    **{f"{name}: {count[w].merged} merged, {count[w].found} found": color_instances(pieces[w])
       for w, name in ((False, "w = 1"), (True, "eq. (2)"))}}, vmin=0)
lesson.save(figure, "weight_map")
figure = show_images({"image": sample.image, "true cells": color_instances(sample.instances), "weight map, eq. (2)":
                 test_weights[0], "cells found": color_instances(pieces[True])}, size=2.3)
lesson.save(figure, "summary")

# %%
# The weighted network draws its ridges wide, and the Rand error takes what lies under them for one piece that joins all
# cells; so it falls less than the share of merged cells. Could a higher threshold do what the weights do? The measures
# of the ISBI 2012 challenge (sec. 4, table 1), at the best threshold on training pictures, on all of the test split:

for w in p:
    result = evaluate_segmentation(nets[w, 0], open_dataset(lesson.data, "test") if lesson.data else test, train)
    print(f"{'eq. (2)' if w else 'w = 1  '}: pixel error {result['pixel_error']:.4f}; at P > {result['threshold']:.2f} "
          f"Rand F-score {result['rand_f_score']:.3f}, warping error {result['warping_error']:.6f}")

# %%
# 5. Tiles without seams (sec. 1, Fig. 2; claim S2)
# -------------------------------------------------
# A tile that brings its context, mirrored where the picture ends, predicts what the whole picture would: valid
# convolutions see real pixels only. Padding with zeros makes it possible to do without context (`context=0`), and shows
# at every seam, as far into the tile as the network looks. (By default `predict` gives a padded network's tiles their
# context, too.) The same trained weights are used both ways, each in tiles against the whole picture. Of the two maps of
# differences the one with context is black all over, that is 0; the one with zero padding is brightest along the seams.

valid, padded = nets[True, 0], models.build("unet", **NETWORK, padding="same")
padded.load_state_dict(valid.state_dict())
tiled = [p_cell(valid, sample, tile=64), p_cell(padded, sample, tile=64, context=0)]
whole = [p_cell(net, sample) for net in (valid, padded)]
difference = [np.abs(t - w) for t, w in zip(tiled, whole, strict=True)]
figure = show_images({"image and tiles of 64": sample.image, "|tiled - whole| with mirrored context (white: 1)": difference[0],
                 "|tiled - whole| with zero padding": difference[1]}, size=3.4, vmin=0, vmax=1)
for ax in figure.axes:
    ax.hlines([63.5, 127.5], 0, 191, color=ORANGE, ls=":", lw=1)
    ax.vlines([63.5, 127.5], 0, 191, color=ORANGE, ls=":", lw=1)
lesson.save(figure, "seams")

to_seam = np.abs(np.arange(192) - np.array([[63.5], [127.5]])).min(axis=0) - 0.5  # pixels from each row to a seam
reach = np.minimum(to_seam[:, None], to_seam)[difference[1] > 1e-6].max()
switched = np.mean((tiled[1] > 0.5) != (whole[1] > 0.5))
lesson.claim("S2b", "U-Net, sec. 1 and Fig. 2", "tiles with mirrored context are seamless; zero padding makes seams",
             f"largest difference of P(cell), tiled against whole: {difference[0].max():.1g} with context; with zeros "
             f"{difference[1].max():.2f}, up to {reach:.0f} pixels off a seam, and {switched:.1%} of the pixels change "
             f"class", difference[0].max() < 1e-5 and difference[1].max() > 0.01)

# %%
# 6. Learning from few pictures (sec. 3.1; claim S4)
# --------------------------------------------------
# Elastic deformation: each node of a coarse 3x3 grid is displaced at random, and bicubic interpolation moves the pixels
# between. The deviation, 10 pixels in the paper's 512, is 3 in these pictures of 48. No other augmentation is used, on
# either side. A seed stands for its own training pictures, first weights and tiles. The pictures are this small on
# purpose: larger ones a network does not learn by heart in a lesson's time, and then deformation changes little.

few, steps, seeds = ((1, 4), 40, 1) if lesson.quick else ((1, 2, 4, 8), 130, 3)
errors = {}
for elastic in (0, 3):
    only = UNetAugment(shift=0, rotation=0, grey=0, flip=False, elastic=elastic, order=1)
    errors[elastic] = np.array([
        [measure(trained(pictures("train", n, 48, s), s, only, steps=steps, tile=48, weight_map=True))
         for s in range(seeds)] for n in few])  # (numbers of pictures, seeds, 5)

grid = np.repeat(train[0].image, 3, axis=0)
grid[:, ::16] = grid[:, :, ::16] = ORANGE.reshape(3, 1, 1)
bent, = warp(grid, elastic_displacement((128, 128), np.random.default_rng(lesson.seed), sigma=8), order=1)
lesson.save(show_images({"a training picture, a grid": grid, "deformed": bent}, size=3), "elastic")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, k, title in ((axes[0], LOSS, "test loss, eq. (1)"), (axes[1], MISSED, "share of test cells missed")):
    for elastic, colour, name in ((0, ORANGE, "pictures as they are"), (3, BLUE, "deformed")):
        mean, std = errors[elastic][:, :, k].mean(axis=1), errors[elastic][:, :, k].std(axis=1)
        ax.errorbar(np.log2(few), mean, std, color=colour, marker="o", capsize=3, label=name)
    ax.set(xlabel="training pictures", title=title, ylim=(0, None), xticks=np.log2(few), xticklabels=few)
    ax.legend()
lesson.save(figure, "few_pictures")

less = {name: compare((errors[0] - errors[3])[0, :, k]) for name, k in (("loss", LOSS), ("cells missed", MISSED))}
table = "; ".join(f"{n}: " + " -> ".join(f"{errors[e][i, :, LOSS].mean():.2f} +- {errors[e][i, :, LOSS].std():.2f}"
                                         for e in errors) for i, n in enumerate(few))
lesson.claim("S4", "U-Net, sec. 3.1", "elastic deformation lets U-Net learn from few pictures",
             f"test loss by number of training pictures, without -> with it: {table}; cells missed with one picture "
             f"{errors[0][0, :, MISSED].mean():.0%} -> {errors[3][0, :, MISSED].mean():.0%}; with one picture less by " +
             ", ".join(f"{gain} ({name})" for name, (gain, _) in less.items()) + f" ({seeds} seeds)",
             every(verdict for _, verdict in less.values()))

# %%
# 7. Concatenate or add? (sec. 2; claim S5)
# -----------------------------------------
# U-Net puts the map of the way down beside that of the way up; FCN adds its scores. Here the same network adds, instead:
# its convolutions on the way up then read half the channels, so it is also smaller.

steps, seeds = (40, 1) if lesson.quick else (400, 3)
added = [trained(train, s, augment, "sum", steps=steps, tile=64, weight_map=True) for s in range(seeds)]
with_sum = np.array([measure(net) for net in added])  # (seeds, 5); with_map are those that concatenate
worse, holds = compare(with_sum[:, LOSS] - with_map[:, LOSS])
parameters = [net.num_parameters() for net in (added[0], nets[True, 0])]
lesson.claim("S5", "U-Net, sec. 2; FCN, sec. 4.2", "concatenated skips are better than summed ones",
             f"summed -> concatenated: test loss {with_sum[:, LOSS].mean():.3f} +- {with_sum[:, LOSS].std():.3f} -> "
             f"{with_map[:, LOSS].mean():.3f} +- {with_map[:, LOSS].std():.3f}, summed worse by {worse}; merged "
             f"{with_sum[:, MERGED].mean():.3f} -> {with_map[:, MERGED].mean():.3f}; parameters {parameters[0]:,} -> "
             f"{parameters[1]:,} ({seeds} seeds)", holds)
lesson.finish()
