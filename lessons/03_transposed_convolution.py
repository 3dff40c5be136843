"""
Transposed convolution: the matrix, turned over
===============================================

A convolution is a matrix, and a transposed convolution is the transpose of that matrix: nothing more. This lesson
builds the 4x16 matrix of a 3x3 kernel on a 4x4 picture, checks the seven cases that Dumoulin and Visin (2016) draw,
shows that the transpose is no inverse, that bilinear interpolation is one of its special cases, and where
checkerboards come from. Beside it: `minicv/ops/conv.py`, FCN (Long et al., 2015), sec. 3.3.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("03_transposed_convolution", __doc__)

import matplotlib.pyplot as plt
import numpy as np

import minicv.ops as F
from minicv import Tensor
from minicv.ops.interpolate import bilinear_kernel

rng = np.random.default_rng(lesson.seed)

# %%
# The matrix of a convolution
# ---------------------------
# Write the 4x4 picture as 16 numbers and the 2x2 result as 4. Each result is a weighted sum of the 16 numbers: a row of
# a 4x16 matrix, most of it zeros. Every row holds the same nine weights, moved to where its window lies.

kernel = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
C = F.conv_matrix(kernel, (4, 4)).toarray()
x = rng.standard_normal((1, 1, 4, 4))
y = F.conv2d(Tensor(x), Tensor(kernel)).data
print(f"C is {C.shape[0]}x{C.shape[1]}; |C x - conv2d(x)| at most {np.abs(C @ x.ravel() - y.ravel()).max():.1e}")
back = F.conv_transpose2d(Tensor(y), Tensor(kernel)).data
print(f"C' is {C.T.shape[0]}x{C.T.shape[1]}; |C' y - conv_transpose2d(y)| at most "
      f"{np.abs(C.T @ y.ravel() - back.ravel()).max():.1e}")

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), width_ratios=[16, 4.6])
for ax, matrix, title in ((axes[0], C, "C: 16 pixels in, 4 out"), (axes[1], C.T, "C', its transpose")):
    ax.imshow(matrix, cmap="viridis", vmin=0)
    for (i, j), v in np.ndenumerate(matrix):
        ax.text(j, i, f"{v:.0f}", ha="center", va="center", fontsize=7, color="0.6" if v == 0 else "w" if v < 7 else "k")
    ax.set(title=title, xticks=[], yticks=[])
figure.tight_layout()
lesson.save(figure, "matrix")

# %%
# Is it the inverse? The shapes fit, 16 -> 4 -> 16, but four numbers cannot hold sixteen. C'C x is not x, nor a
# multiple of it. It is not unrelated to x either: the product of both is x'C'C x, the squared length of C x, which is
# never negative, so C'C x never points away from x. (The apostrophe is the transpose; the cosine of the angle between
# two vectors is 1 for one direction, 0 for a right angle.)

cosine = (back * x).sum() / np.linalg.norm(back) / np.linalg.norm(x)
fit = np.linalg.norm(back - x * (back * x).sum() / (x * x).sum()) / np.linalg.norm(back)
print(f"the cosine between C'C x and x is {cosine:.2f}: {fit:.0%} of the length of C'C x is at a right angle to x; C has "
      f"rank {np.linalg.matrix_rank(C)} of 16")

# %%
# Seven cases, three ways
# -----------------------
# "A guide to convolution arithmetic", figures 4.1 to 4.7: the transpose of a convolution of an i x i picture, kernel k, stride s,
# padding p. Besides C' there is a third way to compute it, a plain convolution with the kernel turned by 180 degrees:
# put s-1 zeros between the pixels, k-1-p zeros around them, and as many extra ones at two sides as i+2p-k leaves over.

CASES = [("no padding", 4, 3, 1, 0), ("padding", 5, 4, 1, 2), ("half padding", 5, 3, 1, 1), ("full padding", 5, 3, 1, 2),
         ("stride", 5, 3, 2, 0), ("stride, padding", 5, 3, 2, 1), ("stride, padding, odd", 6, 3, 2, 1)]


def spread(y: np.ndarray, k: int, s: int, p: int, extra: int) -> np.ndarray:
    """(n, n) -> the picture that a plain convolution turns into the transposed one."""
    n = (len(y) - 1) * s + 1
    zeros = np.zeros((n + 2 * (k - 1 - p) + extra,) * 2)
    zeros[k - 1 - p:k - 1 - p + n:s, k - 1 - p:k - 1 - p + n:s] = y
    return zeros


worst, shown = 0.0, []
for name, i, k, s, p in CASES:
    w = rng.standard_normal((1, 1, k, k))
    n, extra = (i + 2 * p - k) // s + 1, (i + 2 * p - k) % s
    y = rng.standard_normal((1, 1, n, n))
    by_op = F.conv_transpose2d(Tensor(y), Tensor(w), stride=s, padding=p, output_padding=extra).data[0, 0]
    by_matrix = (F.conv_matrix(w, (i, i), s, p).T @ y.ravel()).reshape(i, i)
    wide = spread(y[0, 0], k, s, p, extra)
    by_zeros = F.conv2d(Tensor(wide[None, None]), Tensor(w[:, :, ::-1, ::-1].copy())).data[0, 0]
    difference = max(np.abs(by_op - by_matrix).max(), np.abs(by_op - by_zeros).max())
    worst = max(worst, difference)
    shown.append((name, i, k, s, p, n, wide))
    print(f"{name:<22} i={i} k={k} s={s} p={p}: {n}x{n} -> {i}x{i}, largest difference {difference:.1e}")

figure, axes = plt.subplots(1, 7, figsize=(15, 3))
for ax, (name, i, k, s, p, n, wide) in zip(axes, shown, strict=True):
    ax.imshow(wide != 0, cmap="Blues", vmin=0, vmax=1.6, extent=(0, len(wide), len(wide), 0))
    ax.set(xticks=range(len(wide) + 1), yticks=range(len(wide) + 1), xticklabels=[], yticklabels=[])
    ax.grid(color="0.75", linewidth=0.6)
    ax.tick_params(length=0)
    ax.add_patch(plt.Rectangle((0, 0), k, k, fill=False, edgecolor="#d55e00", linewidth=2))
    ax.set_title(f"{name}\n{n}x{n} to {i}x{i}: k={k} s={s} p={p}", fontsize=8)
figure.suptitle("The pixels (blue) among the zeros, and the first window of the plain convolution (orange)", fontsize=10)
figure.tight_layout()
lesson.save(figure, "seven_cases")

lesson.claim("A3", "Dumoulin and Visin (2016), ch. 4; FCN, sec. 3.3",
             "a transposed convolution is the transpose of the matrix, and zeros then a convolution; not the inverse",
             f"largest difference of the three ways over seven cases {worst:.1e}; cosine between C'Cx and x "
             f"{cosine:.2f}", worst < 1e-12 and 0 < cosine < 0.99)

# %%
# Bilinear interpolation is a transposed convolution
# --------------------------------------------------
# To enlarge a picture f times, each pixel stamps a tent: 2f wide, f pixels from the next one's. In one direction the
# weight falls from 1 in the middle of the tent to 0 at a distance of f; in two directions both weights are multiplied.
# FCN starts its upsampling layers with this kernel and lets them learn.

f = 4
picture = rng.standard_normal((1, 1, 8, 8))
tent = bilinear_kernel(f)
stamped = F.conv_transpose2d(Tensor(picture), Tensor(tent[None, None].astype(float)), stride=f, padding=f // 2).data[0, 0]
interpolated = F.interpolate(Tensor(picture), scale_factor=f, mode="bilinear", align_corners=False).data[0, 0]
gap = np.abs(stamped - interpolated)
inside = gap[f:-f, f:-f].max()
print(f"stamped against interpolated: {inside:.1e} inside, {gap.max():.2f} in the outermost {f // 2} pixels, where the "
      "tents of pixels outside are missing")
lesson.claim("A4", "FCN, sec. 3.3", "bilinear interpolation is a transposed convolution with a fixed kernel",
             f"largest difference {inside:.1e} away from the borders, {gap.max():.2f} at them", inside < 1e-6)

# %%
# Checkerboards
# -------------
# A constant picture, a kernel of k x k ones, stride s: how often is each output pixel stamped? Evenly only if s divides k.
# On the left of the figure one row of the tent above, in one direction: at each pixel the weights of two tents add up to
# 1, so the bilinear kernel (k = 2f, s = f) is even, too. Then a corner of the output for five k: the number in a pixel says
# how often it was stamped, and brighter is more often. Above each, the unevenness: standard deviation over mean.

sizes, unevenness, boards = (2, 3, 4, 5, 6), {}, {}
for k in sizes:
    stamps = F.conv_transpose2d(Tensor(np.ones((1, 1, 10, 10))), Tensor(np.ones((1, 1, k, k))), stride=2).data[0, 0]
    boards[k] = stamps[k:-k, k:-k]
    unevenness[k] = boards[k].std() / boards[k].mean()
print("unevenness (standard deviation over mean), stride 2: " + ", ".join(f"k={k}: {u:.2f}" for k, u in unevenness.items()))

figure, axes = plt.subplots(1, len(sizes) + 1, figsize=(14, 2.7), width_ratios=[1.6] + [1] * len(sizes))
line = tent.sum(axis=1) / f  # the weights of one direction, whose sum is f
axes[0].plot(line, color="#0072b2", marker="o", label="the tent of a pixel")
axes[0].plot(np.arange(2 * f) + f, line, color="#e69f00", marker="s", label="the next pixel's")
axes[0].set(xlabel="output pixel", ylabel="weight", ylim=(0, 1.35))
axes[0].set_title(f"bilinear kernel, f = {f}", fontsize=9)
axes[0].legend(fontsize=7, loc="upper center")
for ax, (k, board) in zip(axes[1:], boards.items(), strict=True):
    ax.imshow(board[:6, :6], cmap="gray", vmin=0, vmax=12)
    for (i, j), v in np.ndenumerate(board[:6, :6]):
        ax.text(j, i, f"{v:.0f}", ha="center", va="center", fontsize=7, color="k" if v > 5 else "w")
    ax.set(title=f"k={k}, s=2: {unevenness[k]:.2f}", xticks=[], yticks=[])
figure.tight_layout()
lesson.save(figure, "bilinear_and_checkerboard")

lesson.claim("A4b", "segmentation notes",
             "a kernel size that is no multiple of the stride leaves checkerboards",
             ", ".join(f"k={k}: {u:.2f}" for k, u in unevenness.items()),
             all((u < 1e-9) == (k % 2 == 0) for k, u in unevenness.items()))
lesson.finish()
