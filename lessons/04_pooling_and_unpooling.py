"""
Pooling and unpooling: what is kept, and where it was
=====================================================

Pooling keeps one number of many. This lesson draws which: in windows, in bins that fit a picture of any size (SPPNet,
He et al., 2014), in regions of interest (Fast R-CNN, Girshick, 2015; Mask R-CNN, He et al., 2017). Then it goes back
up, and measures what came back. Beside it, in `minicv/ops`: `max_pool.py`, `avg_pool.py`, `adaptive_pool.py`,
`roi.py` and `unpool.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare, every

lesson = Lesson("04_pooling_and_unpooling", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import Tensor, nn, no_grad
from minicv.data import Cells
from minicv.metrics import ConfusionMatrix
from minicv.ops.adaptive_pool import adaptive_bins, spatial_pyramid_pool
from minicv.ops.avg_pool import avg_pool2d
from minicv.ops.max_pool import max_pool2d
from minicv.ops.roi import EXAMPLE
from minicv.ops.unpool import max_unpool2d, unpool_bed_of_nails, unpool_nearest
from minicv.optim import Adam
from minicv.viz import PALETTE, label_edges, overlay_labels
from minicv.viz.pixel_grid import BIN_COLORS, draw_bin, draw_bins, draw_pixels

rng = np.random.default_rng(lesson.seed)

# %%
# Windows: the largest, or the mean
# ---------------------------------
# y[a, b] comes from the rows 2a, 2a+1 and the columns 2b, 2b+1. A maximum also has a position: its "switch".

x = np.array([[1, 5, 0, 2], [4, 2, 3, 1], [0, 1, 2, 2], [7, 0, 9, 3]], float)
largest, means = np.zeros((2, 2)), np.zeros((2, 2))
for a, b in np.ndindex(2, 2):
    window = x[2 * a:2 * a + 2, 2 * b:2 * b + 2]
    largest[a, b], means[a, b] = window.max(), window.mean()
pooled, switches = max_pool2d(Tensor(x[None, None]), 2, return_indices=True)
same = (pooled.data == largest).all() and (avg_pool2d(Tensor(x[None, None]), 2).data == means).all()
print(f"switches, as 4 i + j: {switches.data[0, 0].tolist()}; loop and package agree: {same}")

picture = Tensor(Cells(1, 96, lesson.seed)[0].image[None].astype(float))
figure, axes = plt.subplots(1, 6, figsize=(13, 2.5))
panels = {"a map, four windows": x, "their maxima": largest, "their means": means, "a picture": picture.data[0, 0],
          "maxima of 4x4": max_pool2d(picture, 4).data[0, 0], "means of 4x4": avg_pool2d(picture, 4).data[0, 0]}
for ax, (title, values) in zip(axes, panels.items(), strict=True):
    draw_pixels(ax, values, title, numbers=values.size <= 16, vmin=0, vmax=22 if values.size <= 16 else 1)
draw_bins(axes[0], [(0, 2), (2, 4)], [(0, 2), (2, 4)], x)
figure.tight_layout()
lesson.save(figure, "windows")

# %%
# Bins: as many for every picture
# -------------------------------
# A fully connected layer wants a vector of fixed length. So adaptive pooling fixes the number of bins, not their size:
# bin a of n has the rows from floor(a H / n) up to, without it, ceil((a+1) H / n). If n does not divide H, neighbours
# may share a row. Spatial pyramid pooling joins the bins of several levels: {1,2,4} gives 1 + 4 + 16 = 21 numbers.

LEVELS = (1, 2, 4)
small, large = (Tensor(Cells(1, size, lesson.seed, radius=(3, 6), noise=0.01)[0].image[None])
                for size in ((13, 18), (30, 22)))
vectors = [spatial_pyramid_pool(picture, LEVELS).data[0] for picture in (small, large)]
print(f"13x18 -> {vectors[0].size} numbers, 30x22 -> {vectors[1].size}")

figure, axes = plt.subplots(1, 4, figsize=(13, 2.9), width_ratios=[1, 1, 1, 1.5])
start = 0
for ax, n, colour in zip(axes, LEVELS, BIN_COLORS, strict=False):
    count = np.zeros((13, 18))  # in how many bins is each pixel?
    for rows, columns in ((r, c) for r in adaptive_bins(13, n) for c in adaptive_bins(18, n)):
        count[slice(*rows), slice(*columns)] += 1
        draw_bin(ax, rows, columns, colour, 0.14, 1.8)
    draw_pixels(ax, small.data[0, 0], f"{n}x{n} bins on 13x18: {np.mean(count > 1):.0%} of the\npixels are in several")
    axes[3].bar(range(start, start + n * n), vectors[0][start:start + n * n], color=colour, label=f"{n}x{n}")
    start += n * n
axes[3].set(xlabel="bin", ylabel="grey value", xticks=(0, 5, 10, 15, 20), ylim=(0, 1))
axes[3].set_title("the vector: the maximum of each of the 21 bins", fontsize=9)
axes[3].legend(fontsize=8, ncols=3)
figure.tight_layout()
lesson.save(figure, "pyramid")

# %%
# Regions of interest: the worked example
# ---------------------------------------
# A well-known example (T. Grel, deepsense.ai, 2017): an 8x8 map, a region of 7 columns and 5 rows, pooled to 2x2. Its
# bins do not overlap, they have 3 and 4 columns, 2 and 3 rows, and the maxima [[0.85, 0.84], [0.97, 0.96]].

m = EXAMPLE
apart = [[float(m[r, c].max()) for c in (slice(0, 3), slice(3, 7))] for r in (slice(3, 5), slice(5, 8))]

# %%
# `roi_pool`, as torchvision's, takes floor and ceil, as above. The middle row, 3 + 2, and the middle column are then in
# the bins on both sides. The 0.96 lies in that row: it wins twice, and gets two gradients (Fast R-CNN, eq. (4)).

leaf = Tensor(m[None, None], requires_grad=True)
y = F.roi_pool(leaf, np.array([[0, 0, 3, 6, 7.0]]), 2)  # picture, x1, y1, x2, y2; the last pixel belongs to it
y.sum().backward()
shared = y.data[0, 0].tolist()
print(f"apart: {apart}\nfloor and ceil: {shared}, gradient at 0.96: {leaf.grad[0, 0, 5, 6]:g}")
lesson.claim("D4", "worked example of RoI pooling", "7 columns x 5 rows to 2x2 give [[0.85, 0.84], [0.97, 0.96]]",
             f"{shared} by roi_pool, whose bins share a row and a column as torchvision's do; {apart} by bins of 3 + 4 "
             "columns and 2 + 3 rows, as published", shared == [[0.85, 0.84], [0.97, 0.96]])

# %%
# RoIAlign rounds nothing. A box may end between pixels; S x S points stand evenly in each bin; the map is read there
# bilinearly; the result is their mean. The middle of pixel 0 is at 1/2.

(x1, y1, x2, y2), S = (0.4, 3.3, 6.7, 7.8), 2
by_hand, points = np.zeros((2, 2)), []
for p, q, i, j in np.ndindex(2, 2, S, S):
    v, u = y1 + (p + (i + 0.5) / S) * (y2 - y1) / 2, x1 + (q + (j + 0.5) / S) * (x2 - x1) / 2
    (r, c), fv, fu = (int(v - 0.5), int(u - 0.5)), (v - 0.5) % 1, (u - 0.5) % 1
    by_hand[p, q] += np.array([1 - fv, fv]) @ m[r:r + 2, c:c + 2] @ np.array([1 - fu, fu]) / S ** 2
    points.append((u, v))
aligned = F.roi_align(leaf, np.array([[0, x1, y1, x2, y2]]), 2, sampling_ratio=S, aligned=True).data[0, 0]
print(f"RoIAlign: {aligned.round(3).tolist()}, at most {np.abs(aligned - by_hand).max():.1e} from the loop")

# %%
# Move a box by parts of a pixel over a ramp of slope 1: RoI pooling jumps, RoIAlign follows.

ramp, shifts = Tensor(np.tile(np.arange(16) + 0.5, (1, 1, 8, 1))), np.linspace(0, 3, 121)
moving = np.array([[0, 1 + t, 1, 8 + t, 6] for t in shifts])
curves = {"RoI pooling (maximum)": F.roi_pool(ramp, moving, 2).data[:, 0, 0, 0],
          "RoIAlign (mean)": F.roi_align(ramp, moving, 2, sampling_ratio=S, aligned=True).data[:, 0, 0, 0]}

figure, axes = plt.subplots(1, 4, figsize=(16, 4.1), width_ratios=[1, 1, 1, 1.1])
draw_pixels(axes[0], m, f"apart: 3+4 columns, 2+3 rows\n{apart}", numbers=True)
draw_bins(axes[0], [(3, 5), (5, 8)], [(0, 3), (3, 7)], m)
draw_pixels(axes[1], m, f"floor and ceil: the middle row and column are shared\n{shared}", numbers=True)
draw_bins(axes[1], [(3 + a, 3 + b) for a, b in adaptive_bins(5, 2)], adaptive_bins(7, 2), m, nested=0.06)
draw_pixels(axes[2], m, f"RoIAlign: {S}x{S} points a bin, nothing rounded\n{aligned.round(2).tolist()}", cmap="Greys",
         vmin=0, vmax=2)
draw_bins(axes[2], [(y1, (y1 + y2) / 2), ((y1 + y2) / 2, y2)], [(x1, (x1 + x2) / 2), ((x1 + x2) / 2, x2)], inset=0.02)
axes[2].scatter(*zip(*points, strict=True), color=PALETTE[6] / 255, s=34, zorder=3)
for (name, values), style in zip(curves.items(), ("-", "--"), strict=True):
    axes[3].plot(shifts, values, style, color=BIN_COLORS[1 if style == "-" else 2], linewidth=2.2, label=name)
axes[3].set(xlabel="box moved by (pixels)", ylabel="first bin")
axes[3].set_title("a box that moves over a ramp", fontsize=9)
axes[3].legend(fontsize=8)
figure.tight_layout()
lesson.save(figure, "regions")

# %%
# Back up, three ways (claim A5)
# ------------------------------
# After 2x2 max pooling: nearest fills the block, bed of nails takes its corner, max unpooling the position recorded.
# What is the error? It is measured as RMS, the root of the mean squared difference to the map before the pooling, in the
# units of the map. On pictures of cells, and on maps as an edge filter makes them, zero except on the cells' outlines.


def there_and_back(picture):
    small, switches = max_pool2d(picture, 2, return_indices=True)
    return {"nearest": unpool_nearest(small, 2).data, "bed of nails": unpool_bed_of_nails(small, 2).data,
            "max unpooling": max_unpool2d(small, switches, 2).data}


def measure(picture):
    """For each way: RMS error, and the share of the pixels filled that have the value they had."""
    return [(np.sqrt(np.square(y - picture.data).mean()), np.mean((y == picture.data)[y != 0]))
            for y in there_and_back(picture).values()]


def told(values, names):
    return ", ".join(f"{k} {v.mean():.3f} +- {v.std():.3f}" for k, v in zip(names, np.transpose(values), strict=True))


seeds, BACK = 2 if lesson.quick else 10, ("nearest", "bed of nails", "max unpooling")
samples = [Cells(1, 96, lesson.seed + s)[0] for s in range(seeds)]
pictures = [Tensor(s.image[None].astype(float)) for s in samples]
outlines = [Tensor((s.image * label_edges(s.instances))[None].astype(float)) for s in samples]
dense, sparse = (np.array([measure(m) for m in maps]) for maps in (pictures, outlines))  # (seeds, way, 2)
lesson.claim("A5", "DeconvNet, sec. 3.2.1",
             "max unpooling with recorded positions keeps locations that nearest and bed of nails lose",
             f"pixels filled that have the value they had: {told(dense[..., 1], BACK)}; RMS error on outlines: "
             f"{told(sparse[..., 0], BACK)} ({seeds} seeds)",
             (dense[:, 2, 1] > dense[:, :2, 1].max(1)).all() and (sparse[:, 2, 0] < sparse[:, :2, 0].min(1)).all())
lesson.claim("A5b", "A5, taken as the error on the picture", "max unpooling gives the smallest error of the three",
             f"RMS error {told(dense[..., 0], BACK)}: three pixels of four stay zero, where the picture is grey",
             (dense[:, 2, 0] < dense[:, :2, 0].min(1)).all())

figure, axes = plt.subplots(3, 4, figsize=(9.6, 7.6))
sources = {"a map, its maxima framed": Tensor(x[None, None]), "a picture": pictures[0][:, :, 16:64, 16:64],
           "outlines of its cells": outlines[0][:, :, 16:64, 16:64]}
for row, (name, source) in zip(axes, sources.items(), strict=True):
    draw_pixels(row[0], source.data[0, 0], name, source.size == 16, vmin=0)
    for ax, (way, y) in zip(row[1:], there_and_back(source).items(), strict=True):
        draw_pixels(ax, y[0, 0], f"{way}: RMS {np.sqrt(np.square(y - source.data).mean()):.2f}", source.size == 16, vmin=0)
for i, j in (divmod(position, 4) for position in switches.data.ravel()):
    draw_bin(axes[0, 0], (i, i + 1), (j, j + 1), BIN_COLORS[2], 0.06)
figure.tight_layout()
lesson.save(figure, "unpooling")

# %%
# Up in a network (claim A6)
# --------------------------
# "Cell" or "background" at each pixel: two poolings down, two steps up. A step is max unpooling then a 3x3 conv
# (DeconvNet), a 4x4 transposed conv of stride 2 (as in FCN), or bilinear upsampling then a 3x3 conv.


class UpAndDown(nn.Module):
    def __init__(self, way: str, w: int = 8):
        def up(c, m):
            return nn.ConvTranspose2d(c, m, 4, 2, 1) if way == "transposed conv" else nn.Conv2d(c, m, 3, padding=1)
        self.way, self.up2, self.up1, self.last = way, up(2 * w, w), up(w, w), nn.Conv2d(w, 2, 1)
        pairs = (1, w), (w, 2 * w), (2 * w, 2 * w)
        self.down1, self.down2, self.middle = (nn.Conv2d(c, m, 3, padding=1) for c, m in pairs)

    def forward(self, x):
        x, at1 = max_pool2d(F.relu(self.down1(x)), 2, return_indices=True)
        x, at2 = max_pool2d(F.relu(self.down2(x)), 2, return_indices=True)
        x = F.relu(self.middle(x))
        for conv, at in ((self.up2, at2), (self.up1, at1)):
            if self.way == "unpool, conv":
                x = max_unpool2d(x, at, 2)
            elif self.way == "upsample, conv":
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = F.relu(conv(x))
        return self.last(x)


def trained(way, seed):
    """mIoU on the test pictures, milliseconds of a step, the predicted labels."""
    minicv.seed(lesson.seed + seed)
    net, order, seconds = UpAndDown(way), np.random.default_rng([lesson.seed, seed]), []
    optimizer = Adam(net.parameters(), lr=1e-2)
    for _ in range(10 if lesson.quick else 120):
        chosen, begin = order.integers(len(train[0]), size=8), time.perf_counter()
        loss = F.cross_entropy(net(lesson.tensor(train[0][chosen])), lesson.tensor(train[1][chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    with no_grad():
        predicted, matrix = net(lesson.tensor(test[0])).numpy().argmax(1), ConfusionMatrix(2)
    matrix.update(predicted, test[1])
    return matrix.mean_iu, 1e3 * np.median(seconds), predicted


train, test = ((np.stack([4 * s.image - 2 for s in cells]), np.stack([s.label for s in cells])) for cells in
               (list(Cells(8 if lesson.quick else 40, 64, lesson.seed + k, radius=(8, 13))) for k in (1, 2)))
WAYS, seeds = ("unpool, conv", "transposed conv", "upsample, conv"), 1 if lesson.quick else 5
runs = [[trained(way, seed) for way in WAYS] for seed in range(seeds)]
mean_iu = np.array([[run[0] for run in of_seed] for of_seed in runs])  # (seeds, way)
gain = mean_iu[:, :1] - mean_iu[:, 1:]  # of unpooling, over each of the others, from the same seed and batches
costs = []
for k, way in enumerate(WAYS):  # MACs: each weight once per output pixel; of a transposed conv, once per input pixel
    net, scale = UpAndDown(way), 2 if way == "transposed conv" else 1
    macs = net.up2.weight.size * (32 // scale) ** 2 + net.up1.weight.size * (64 // scale) ** 2
    costs.append(f"{way}: {net.up2.num_parameters() + net.up1.num_parameters()} parameters, {macs / 1e6:.2f} M MACs, "
                 f"{np.median([run[k][1] for run in runs]):.0f} ms")

figure, axes = plt.subplots(1, 5, figsize=(13, 3))
titles = "picture", "truth", *(f"{way}: {v:.3f}" for way, v in zip(WAYS, mean_iu.mean(0), strict=True))
labels = np.zeros_like(test[1][0]), test[1][0], *(run[2][0] for run in runs[0])
for ax, title, label in zip(axes, titles, labels, strict=True):
    ax.imshow(overlay_labels(test[0][0] / 4 + 0.5, label), interpolation="nearest")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()
figure.suptitle("Three ways up: one of the test pictures, and the mean mIoU of all")
figure.tight_layout()
lesson.save(figure, "three_ways_up")
gains = {way: compare(100 * gain[:, k]) for k, way in enumerate(WAYS[1:])}  # a t-test over the seeds
lesson.claim("A6", "DeconvNet, sec. 3.2", "unpooling with switches recovers detail: better than the other ways up",
             f"mIoU {told(mean_iu, WAYS)}; gain in points " +
             ", ".join(f"over {way} {text}" for way, (text, _) in gains.items()) + f" ({seeds} seeds). In the "
             f"steps up, and per training step: {'; '.join(costs)}",
             every(verdict for _, verdict in gains.values()))
lesson.finish()
