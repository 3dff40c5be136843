"""
Transposed convolution: the matrix, turned over
===============================================

A convolution is a matrix, and a transposed convolution is the transpose of that matrix: nothing more. This lesson builds the
4x16 matrix of a 3x3 kernel on a 4x4 image and checks the seven cases that Dumoulin and Visin (2016) draw. It shows that the
transpose is no inverse, that bilinear interpolation is a special case, and where checkerboards come from. Beside it:
`minicv/ops/conv.py`; FCN (Long et al., 2015), sec. 3.3.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("03_transposed_convolution", __doc__)

import matplotlib.pyplot as plt
import numpy as np

import minicv.ops as F
from minicv import Tensor
from minicv.ops.interpolate import bilinear_kernel
from minicv.viz import PALETTE
from minicv.viz.pixel_grid import draw_bin, draw_pixels

BLUE, ORANGE, RED = PALETTE[[5, 1, 6]] / 255
rng = np.random.default_rng(lesson.seed)

# %%
# The matrix of a convolution
# ---------------------------
# Write a 4x4 image x as 16 numbers and its 2x2 result y as 4. Each result is a weighted sum of the 16 numbers, so the
# convolution is a 4x16 matrix C, and y = C x. The transpose C' (the apostrophe stands for it) goes the other way: 4 numbers
# in, 16 out. Both should agree with the library's operations.

kernel = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
C = F.conv_matrix(kernel, (4, 4)).toarray()
x = rng.standard_normal((1, 1, 4, 4))
y = F.conv2d(Tensor(x), Tensor(kernel)).data
print(f"C is {C.shape[0]}x{C.shape[1]}; |C x - conv2d(x)| at most {np.abs(C @ x.ravel() - y.ravel()).max():.1e}")
back = F.conv_transpose2d(Tensor(y), Tensor(kernel)).data
print(f"C' is {C.T.shape[0]}x{C.T.shape[1]}; |C' y - conv_transpose2d(y)| at most "
      f"{np.abs(C.T @ y.ravel() - back.ravel()).max():.1e}")

# %%
# Here are both matrices, for a kernel that holds the numbers 1 to 9. Look along a row of C, then down a column of C'.

figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), width_ratios=[16, 4.6], layout="constrained")
draw_pixels(axes[0], C, "C: 16 pixels in, 4 out", numbers=True)
draw_pixels(axes[1], C.T, "C', its transpose:\n4 in, 16 out", numbers=True)
lesson.save(figure, "matrix")

# %%
# Every row of C holds the same nine weights, at the pixels that its window covers. Every column of C' holds them too: an
# input pixel stamps the kernel onto the 4x4 output, and overlapping stamps add up.
#
# Is the transpose the inverse?
# -----------------------------
# The shapes fit, 16 -> 4 -> 16, but four numbers cannot hold sixteen. So C'C x is not x, nor a multiple of x. It is not
# unrelated to x either: the product of both is x'C'C x, the squared length of C x, which is never negative. C'C x therefore
# never points away from x. We measure the angle by its cosine: 1 for the same direction, 0 for a right angle.

cosine = (back * x).sum() / np.linalg.norm(back) / np.linalg.norm(x)
fit = np.linalg.norm(back - x * (back * x).sum() / (x * x).sum()) / np.linalg.norm(back)
print(f"the cosine between C'C x and x is {cosine:.2f}: {fit:.0%} of the length of C'C x is at a right angle to x; C has "
      f"rank {np.linalg.matrix_rank(C)} of 16")

# %%
# One image may be chance. So we take 1000 random ones and draw how often each cosine occurs; the dashed line is the image
# above.

many = np.random.default_rng([lesson.seed, 1]).standard_normal((1000, 16))
there_and_back = many @ C.T @ C
cosines = (many * there_and_back).sum(axis=1) / np.linalg.norm(many, axis=1) / np.linalg.norm(there_and_back, axis=1)
figure, ax = plt.subplots(figsize=(5.4, 3), layout="constrained")
ax.hist(cosines, np.linspace(-1, 1, 41), color=BLUE)
ax.axvline(cosine, color="k", linestyle="--")
ax.set(xlabel="cosine between C'C x and x", ylabel="images of 1000", title="Never negative, never 1")
lesson.save(figure, "no_inverse")
print(f"cosines of {len(cosines)} random images: from {cosines.min():.3f} to {cosines.max():.3f}")

# %%
# No bar lies left of 0, as the formula says, and none reaches 1: the transpose gives back a part of x, and never x.
#
# Seven cases, three ways
# -----------------------
# "A guide to convolution arithmetic" (figures 4.1 to 4.7) draws the transpose of a convolution with kernel k, stride s and
# padding p on an i x i image, whose result is n x n. It can be computed in a third way: as a plain convolution with the
# kernel turned by 180 degrees. Put s - 1 zeros between the pixels, k - 1 - p zeros around them, and at two sides as many
# extra ones as the division of i + 2p - k by s leaves over.

CASES = [("no padding", 4, 3, 1, 0), ("padding", 5, 4, 1, 2), ("half padding", 5, 3, 1, 1), ("full padding", 5, 3, 1, 2),
         ("stride", 5, 3, 2, 0), ("stride, padding", 5, 3, 2, 1), ("stride, padding, odd", 6, 3, 2, 1)]


def spread(y: np.ndarray, k: int, s: int, p: int, extra: int) -> np.ndarray:
    """Return the image that a plain convolution turns into the transposed convolution of y (n, n)."""
    n = (len(y) - 1) * s + 1
    zeros = np.zeros((n + 2 * (k - 1 - p) + extra,) * 2)
    zeros[k - 1 - p:k - 1 - p + n:s, k - 1 - p:k - 1 - p + n:s] = y
    return zeros


# %%
# For each case we compute the result three times: by the library, by the transposed matrix, and by zeros and a plain
# convolution. The largest difference should be rounding.

worst, wide = 0.0, {}
for name, i, k, s, p in CASES:
    w = rng.standard_normal((1, 1, k, k))
    n, extra = (i + 2 * p - k) // s + 1, (i + 2 * p - k) % s
    y = rng.standard_normal((1, 1, n, n))
    by_op = F.conv_transpose2d(Tensor(y), Tensor(w), stride=s, padding=p, output_padding=extra).data[0, 0]
    by_matrix = (F.conv_matrix(w, (i, i), s, p).T @ y.ravel()).reshape(i, i)
    wide[name] = spread(y[0, 0], k, s, p, extra)
    by_zeros = F.conv2d(Tensor(wide[name][None, None]), Tensor(w[:, :, ::-1, ::-1].copy())).data[0, 0]
    difference = max(np.abs(by_op - by_matrix).max(), np.abs(by_op - by_zeros).max())
    worst = max(worst, difference)
    print(f"{name:<22} i={i} k={k} s={s} p={p}: {n}x{n} -> {i}x{i}, largest difference {difference:.1e}")
lesson.claim("A3", "Dumoulin and Visin (2016), ch. 4; FCN, sec. 3.3",
             "a transposed convolution is the transpose of the matrix, and zeros then a convolution; not the inverse",
             f"largest difference of the three ways over seven cases {worst:.1e}; cosine between C'Cx and x "
             f"{cosine:.2f}", worst < 1e-12 and 0 < cosine < 0.99)

# %%
# The figure shows what the plain convolution reads: a 1 for each pixel, a 0 for each zero put in. The orange frame is its
# first window. Compare the cases without a stride with the last three.

figure, axes = plt.subplots(1, 7, figsize=(15, 2.9), layout="constrained")
for ax, (name, i, k, s, p) in zip(axes, CASES, strict=True):
    pixels = (wide[name] != 0).astype(int)
    draw_pixels(ax, pixels, f"{name}\nk={k} s={s} p={p}, to {i}x{i}", numbers=True, vmax=2.2, cmap="Blues")
    draw_bin(ax, (0, k), (0, k), ORANGE)
lesson.save(figure, "seven_cases")

# %%
# Padding of the convolution takes zeros away from the border: with full padding none are left. A stride puts them between
# the pixels, which is why a transposed convolution with s = 2 enlarges an image about twice.
#
# Bilinear interpolation is a transposed convolution
# --------------------------------------------------
# To enlarge an image f times, each pixel stamps a tent, 2f pixels wide and f pixels from its neighbor's. In one direction
# the tent falls from 1 in its middle to 0 at a distance of f; in two directions both weights are multiplied. FCN starts its
# upsampling layers with this kernel and lets them learn. Only the borders should differ from interpolation.

f = 4
image = rng.standard_normal((1, 1, 8, 8))
tent = bilinear_kernel(f)
stamped = F.conv_transpose2d(Tensor(image), Tensor(tent[None, None].astype(float)), stride=f, padding=f // 2).data[0, 0]
interpolated = F.interpolate(Tensor(image), scale_factor=f, mode="bilinear", align_corners=False).data[0, 0]
gap = np.abs(stamped - interpolated)
inside = gap[f:-f, f:-f].max()
print(f"stamped against interpolated: {inside:.1e} inside, {gap.max():.2f} in the outermost {f // 2} pixels, where the "
      "tents of pixels outside are missing")
lesson.claim("A4", "FCN, sec. 3.3", "bilinear interpolation is a transposed convolution with a fixed kernel",
             f"largest difference {inside:.1e} away from the borders, {gap.max():.2f} at them", inside < 1e-6)

# %%
# The tents of two neighbors in one direction. A line is the tent itself; its dots are the weights that the kernel holds,
# one at the center of each output pixel. With an even f no pixel lies under the tip, so the largest weight is 1 - 1 / (2f)
# = 0.875. Look at how the two dots above each other add up.

at, center = np.arange(2 * f), f - 0.5
line = tent.sum(axis=1) / f  # the weights of one direction, whose sum is f
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for start, color, marker, name in ((0, BLUE, "o", "a pixel's tent"), (f, ORANGE, "s", "its neighbor's")):
    ax.plot(start + center + np.array([-f, 0, f]), [0, 1, 0], color=color, linewidth=1)
    ax.plot(start + at, line, marker, color=color, label=name)
ax.plot(f + np.arange(f), line[:f] + line[f:], "^", color=RED, label="sum of both")
ax.set(xlabel="output pixel", ylabel="weight", title=f"Bilinear kernel, f = {f}", ylim=(0, 1.3))
ax.legend(fontsize=8, loc="upper center", ncols=3)
lesson.save(figure, "tents")

# %%
# Wherever two tents overlap their weights add up to 1, so a constant image stays constant.
#
# Checkerboards
# -------------
# Other kernels are not as even. Take a constant image, a kernel of k x k ones and a stride of 2: how often is each output
# pixel stamped? Unevenness is the standard deviation of that count over its mean. It should vanish only if the stride
# divides k.

unevenness, boards = {}, {}
for k in (2, 3, 4, 5, 6):
    stamps = F.conv_transpose2d(Tensor(np.ones((1, 1, 10, 10))), Tensor(np.ones((1, 1, k, k))), stride=2).data[0, 0]
    boards[k] = stamps[k:-k, k:-k]
    unevenness[k] = boards[k].std() / boards[k].mean()
lesson.claim("A4b", "segmentation notes",
             "a kernel size that is no multiple of the stride leaves checkerboards",
             ", ".join(f"k={k}: {u:.2f}" for k, u in unevenness.items()),
             all((u < 1e-9) == (k % 2 == 0) for k, u in unevenness.items()))

# %%
# A corner of the output for each k: the number in a pixel is its count, and darker is more. Above it stands the unevenness.

figure, axes = plt.subplots(1, len(boards), figsize=(12, 2.7), layout="constrained")
for ax, (k, board) in zip(axes, boards.items(), strict=True):
    draw_pixels(ax, board[:6, :6], f"k = {k}: unevenness {unevenness[k]:.2f}", numbers=True, vmax=16)
lesson.save(figure, "checkerboards")

# %%
# Odd kernels leave a checkerboard, even ones do not. FCN's bilinear kernel, with k = 2f and s = f, is even by construction;
# but nothing keeps it so while it learns.
lesson.finish()
