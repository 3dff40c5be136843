"""
Convolution: one sum, five ways to compute it
=============================================

A convolution layer is a sum over the taps of a kernel and the channels of an image. A tap is one position (i, j) of the
kernel. This lesson computes the same sum with plain loops, with a sparse matrix, by copying every window (im2col), by
shifted matrix products, and with the library's `conv2d`. Then it compares their time and memory with the best that the
processor could do. Beside it: `minicv/ops/conv.py` for the definition, `minicv/fast/convolution/` for the fast ways.
"""

# %%
from minicv.course.lessons import Lesson, best_time

lesson = Lesson("01_convolution", __doc__)

import matplotlib.pyplot as plt
import numpy as np

import minicv.ops as F
from minicv import Tensor, no_grad
from minicv.backend import num_threads
from minicv.backend.machine import product_rate
from minicv.ops.conv import conv2d_loop
from minicv.viz import PALETTE
from minicv.viz.pixel_grid import draw_row_shift

# %%
# The task: N images of C channels and H x H pixels, and O kernels of K x K taps. We count work in multiply-accumulates
# (MACs): one multiplication and one addition. A FLOP count is twice that.

rng = np.random.default_rng(lesson.seed)
N, C, O, H, K = 1, 16, 16, 32 if lesson.quick else 96, 3
x = rng.standard_normal((N, C, H, H), dtype=np.float32)
w = rng.standard_normal((O, C, K, K), dtype=np.float32)
OH = H - K + 1
macs = N * O * OH * OH * C * K * K
print(f"{N}x{C}x{H}x{H} by {O}x{C}x{K}x{K}: {macs / 1e6:.1f} million MACs")

# %%
# 1. The definition
# -----------------
# Output pixel (a, b) of channel o in image n is y[n, o, a, b] = sum over c, i, j of x[n, c, a+i, b+j] w[o, c, i, j].
# Written as loops this is slow, so we compute only a corner of 8 x 8 output pixels and scale its time up.


def by_loops():
    return conv2d_loop(x[:, :, :10, :10], w)


# %%
# 2. A sparse matrix
# ------------------
# Every output is a weighted sum of the inputs, so it is a row of a matrix, and most of the row is zeros. The price: the
# matrix stores each weight again for every pixel.

C_matrix = F.conv_matrix(w, (H, H)).astype(np.float32)


def by_matrix():
    return (C_matrix @ x.ravel()).reshape(1, O, OH, OH)


# %%
# 3. im2col
# ---------
# Copy every window into a row of a matrix; then one product with the weights does all the rest. Each pixel is copied K * K
# times, once for every window that it is in. ``held`` collects the bytes that each way needs.

windows = np.lib.stride_tricks.sliding_window_view(x[0], (K, K), axis=(1, 2))  # (C, OH, OW, K, K), a view
held: dict[str, float] = {"sparse matrix": C_matrix.data.nbytes + C_matrix.indices.nbytes + C_matrix.indptr.nbytes}


def by_im2col():
    columns = windows.transpose(1, 2, 0, 3, 4).reshape(OH * OH, C * K * K)  # here the copy is made
    held["im2col"] = columns.nbytes
    return (columns @ w.reshape(O, -1).T).T.reshape(1, O, OH, OH)


# %%
# 4. Shifted products
# -------------------
# Can we do without copies? Write the image as a matrix with one row per pixel. For the output pixel in row r, tap (i, j)
# needs the input pixel in row r + i * W + j, where W is the width. That is the same matrix, started i * W + j rows further
# down: a slice, with nothing copied. So each tap is one plain matrix product, and the products add up.

rows = np.ascontiguousarray(x[0].transpose(1, 2, 0)).reshape(H * H, C)
taps = np.ascontiguousarray(w.transpose(2, 3, 1, 0))  # (K, K, C, O)


def by_shifts():
    length = (OH - 1) * H + OH  # from the first output pixel's row to the last one's
    y = np.zeros((OH * H, O), np.float32)
    for i in range(K):
        for j in range(K):
            y[:length] += rows[i * H + j:i * H + j + length] @ taps[i, j]
    held["shifted products"] = y.nbytes
    return y.reshape(OH, H, O)[:, :OH].transpose(2, 0, 1)[None]


# %%
# The figure shows the shift in an image 5 pixels wide and 6 high. The blue half of a pixel carries the number of the output
# row that meets it through tap (0, 0); the orange half, the one through tap (1, 2), which is 1 * 5 + 2 = 7 rows further
# down. Some windows wrap around the right border; look for their crosses.

figure, ax = plt.subplots(figsize=(4.2, 4.6), layout="constrained")
draw_row_shift(ax, width=5, height=6, kernel=3, tap=(1, 2))
lesson.save(figure, "shift")

# %%
# Crossed rows mix the end of one image row with the start of the next. They are computed and then cut off: a little wasted
# work buys a product without any copy.

# %%
# 5. The library
# --------------
# `F.conv2d` computes the same sum, with the K taps of a kernel row in one deeper product, in blocks, on all cores. All five
# ways should agree up to the rounding of float32.

xt, wt = Tensor(rows.reshape(1, H, H, C).transpose(0, 3, 1, 2)), Tensor(w)


@no_grad()
def by_library():
    return F.conv2d(xt, wt).data


ways = {"loops": by_loops, "sparse matrix": by_matrix, "im2col": by_im2col, "shifted products": by_shifts,
        "F.conv2d": by_library}
results = {name: way() for name, way in ways.items()}
reference = by_matrix().astype(np.float64)
difference = max(np.abs(r - reference[:, :, :r.shape[2], :r.shape[3]]).max() for r in results.values())
print(f"largest difference between the five: {difference:.1e}, at values up to {np.abs(reference).max():.0f}")
lesson.claim("C1", "this lesson", "five ways to convolve give the same numbers",
             f"largest difference {difference:.1e} in float32", difference < 1e-3)

# %%
# How fast is each, and how fast could it be?
# -------------------------------------------
# At best a convolution is as fast as one large matrix product. We time both in turns and keep the shortest times, so that a
# busy moment of the machine slows down both sides. No convolution can be faster than the product: as long as one seems to
# be, the product has not had a quiet moment yet, and there is another turn. Rates are in billions of MACs a second.

took, peak, turns = dict.fromkeys(ways, np.inf), 0.0, 0  # peak: GMAC/s of a large product
took["loops"] = best_time(by_loops, 1) * OH * OH / 8 ** 2
while turns < 5 or (turns < 20 and macs / min(took.values()) / 1e9 > peak):
    for name in [n for n in ways if n != "loops"]:
        took[name] = min(took[name], best_time(ways[name], 4))
    peak, turns = max(peak, product_rate(num_threads()) / 2), turns + 1
rates = {name: macs / t / 1e9 for name, t in took.items()}
for name, rate in rates.items():
    print(f"{name:<17} {took[name] * 1e3:10.2f} ms {rate:8.3f} GMAC/s {rate / peak:7.1%} of a large product's"
          + (f"   holds {held[name] / x.nbytes:6.1f} x the image" if name in held else ""))

# %%
# On the left the speed of each way, on a logarithmic axis; the dashed line is the large product. On the right the memory
# that each of the three hand-written ways holds besides input and weights, in multiples of the image's bytes.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for ax, values, color in ((axes[0], rates, PALETTE[2]), (axes[1], {n: held[n] / x.nbytes for n in held}, PALETTE[1])):
    bars = ax.barh(list(values), list(values.values()), color=color / 255)
    ax.bar_label(bars, [f"{v:.3g}" for v in values.values()], padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.15)
axes[0].axvline(peak, color="k", linestyle="--", linewidth=1)
axes[0].set(xscale="log", xlabel="GMAC/s (dashed: one large product)", title="Speed")
axes[1].set(xlabel="times the image's bytes", title="Memory besides input and weights")
lesson.save(figure, "five_ways")

# %%
# The loops are thousands of times slower than a product. The sparse matrix is fast but huge; im2col holds about nine images
# for a 3x3 kernel; the shifted products hold only their result.
#
# In the full run `F.conv2d` does not reach half of a large product's rate, so claim C3 does not hold here. The matrices of 16
# channels are too small: on two cores, the same call with 16, 32, 64 and 128 channels reached 38%, 66%, 75% and 96%.

lesson.claim("C2", "this lesson", "im2col holds the kernel's size times the image, shifted products hold no window",
             f"im2col {held['im2col'] / x.nbytes:.1f} times the image, shifted products {held['shifted products'] / x.nbytes:.1f}",
             held["im2col"] > 4 * held["shifted products"])
lesson.claim("C3", "this lesson", "shifted products make a convolution almost as fast as a large matrix product",
             f"F.conv2d reaches {rates['F.conv2d'] / peak:.0%} of a large product's rate, im2col {rates['im2col'] / peak:.0%}, "
             f"loops {rates['loops'] / peak:.4%}", None if lesson.quick else rates["F.conv2d"] / peak > 0.5)
lesson.finish()
