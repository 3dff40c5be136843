"""
Convolution: one sum, five ways to compute it
=============================================

A convolution layer is a sum over the taps of a kernel and the channels of a picture. This lesson computes the same sum with
plain loops, with a sparse matrix, by copying every window (im2col), by shifted matrix products, and with the library's
`conv2d`, and puts time and memory of each beside what the processor could do at best. Beside it: `minicv/ops/conv.py`
for the definition, `minicv/fast/convolution/` for the fast ways.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("01_convolution", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv.ops as F
from minicv import Tensor, no_grad
from minicv.cli import doctor
from minicv.ops.conv import conv2d_loop
from minicv.viz import PALETTE

rng = np.random.default_rng(lesson.seed)
N, C, O, H, K = 1, 16, 16, 32 if lesson.quick else 96, 3
x = rng.standard_normal((N, C, H, H), dtype=np.float32)
w = rng.standard_normal((O, C, K, K), dtype=np.float32)
OH = H - K + 1
macs = N * O * OH * OH * C * K * K
print(f"{N}x{C}x{H}x{H} by {O}x{C}x{K}x{K}: {macs / 1e6:.1f} million multiply-accumulates (MACs; a FLOP count is twice that)")

# %%
# 1. The definition
# -----------------
# y[n, o, a, b] = sum over c, i, j of x[n, c, a+i, b+j] w[o, c, i, j]. Loops are slow, so only a corner of the picture; the
# time is scaled up.


def by_loops():
    return conv2d_loop(x[:, :, :10, :10], w)


# %%
# 2. As a matrix
# --------------
# Every output is a weighted sum of the inputs: a row of a sparse matrix. The matrix repeats each weight for every pixel.

C_matrix = F.conv_matrix(w, (H, H)).astype(np.float32)


def by_matrix():
    return (C_matrix @ x.ravel()).reshape(1, O, OH, OH)


# %%
# 3. im2col: copy every window into a row of a matrix, then one product. Each pixel is copied K*K times.

windows = np.lib.stride_tricks.sliding_window_view(x[0], (K, K), axis=(1, 2))  # (C, OH, OW, K, K), a view
held: dict[str, float] = {"sparse matrix": C_matrix.data.nbytes + C_matrix.indices.nbytes + C_matrix.indptr.nbytes}


def by_im2col():
    columns = windows.transpose(1, 2, 0, 3, 4).reshape(OH * OH, C * K * K)  # here the copy is made
    held["im2col"] = columns.nbytes
    return (columns @ w.reshape(O, -1).T).T.reshape(1, O, OH, OH)


# %%
# 4. Shifted products
# -------------------
# Write the picture as a matrix with one row per pixel. Tap (i, j) meets, for the output pixel in row r, the input pixel in row
# r + i*W + j: the same matrix, i*W + j rows further down. So each tap is one plain product with a slice of memory
# that is there already. Rows in which a window wraps around the right border hold nonsense and are cut off.

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
# 5. The library: the same, but with the K taps of a kernel row in one deeper product, in blocks, on all cores.

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


# %%
# How fast is each, and how fast could it be? At best a convolution is as fast as one large matrix product. Both are timed
# in turns, and the shortest times count: a machine that is busy for a moment then slows down both sides, not one. As long
# as a convolution seems faster than the product, the product has not had a quiet moment yet, and there is another turn.


def seconds(way, repeats: int) -> float:
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        way()
        best = min(best, time.perf_counter() - start)
    return best


took, peak, turns = dict.fromkeys(ways, np.inf), 0.0, 0  # peak: GMAC/s of a large product
took["loops"] = seconds(by_loops, 1) * OH * OH / 8 ** 2
while turns < 5 or (turns < 20 and macs / min(took.values()) / 1e9 > peak):
    for name in [n for n in ways if n != "loops"]:
        took[name] = min(took[name], seconds(ways[name], 4))
    peak, turns = max(peak, doctor.product_rate(doctor.backend.num_threads()) / 2), turns + 1
for name, t in took.items():
    rate = macs / t / 1e9
    print(f"{name:<17} {t * 1e3:10.2f} ms {rate:8.3f} GMAC/s {rate / peak:7.1%} of a large product's"
          + (f"   holds {held[name] / x.nbytes:6.1f} x the picture" if name in held else ""))

# %%
# The picture on the left shows the shift: in a picture of 6 x 5 pixels, the rows that tap (1, 2) of a 3x3 kernel meets are those
# of tap (0, 0) moved by 1*5 + 2 = 7. The crossed ones wrapped around and are thrown away.

figure, axes = plt.subplots(1, 3, figsize=(14, 3.9), width_ratios=[1.1, 1.2, 1.2])
w_, h_, o_ = 5, 6, 3
for r in range((h_ - 3) * w_ + o_):
    for offset, colour, shift in ((0, PALETTE[5], 0.0), (7, PALETTE[6], 0.5)):
        p = r + offset
        wrapped = r % w_ >= o_
        axes[0].add_patch(plt.Rectangle((p % w_ + shift, p // w_), 0.5, 1, color=colour / 255, alpha=0.25 if wrapped else 0.9))
        axes[0].text(p % w_ + shift + 0.25, p // w_ + 0.5, "x" if wrapped else r, ha="center", va="center", fontsize=7,
                     color="k" if wrapped else "w")
axes[0].set(xlim=(0, w_), ylim=(h_, 0), xticks=range(w_ + 1), yticks=range(h_ + 1), aspect="equal",
            title="output row r meets pixel r (blue),\nand with tap (1, 2) pixel r + 7 (orange)")
axes[0].grid(color="0.5", linewidth=0.8)
axes[0].tick_params(labelbottom=False, labelleft=False, length=0)
names = list(took)
axes[1].barh(names, [macs / took[n] / 1e9 for n in names], color=PALETTE[2] / 255)
axes[1].axvline(peak, color="k", linestyle="--", linewidth=1)
axes[1].set(xscale="log", xlabel="GMAC/s (dashed: one large product)", title="speed")
axes[2].barh(list(held), [held[n] / x.nbytes for n in held], color=PALETTE[1] / 255)
axes[2].set(xlabel="times the picture's bytes", title="memory held besides input and weight")
for ax in axes[1:]:
    ax.invert_yaxis()
figure.tight_layout()
lesson.save(figure, "five_ways")

lesson.claim("C1", "this lesson", "five ways to convolve give the same numbers",
             f"largest difference {difference:.1e} in float32", difference < 1e-3)
lesson.claim("C2", "this lesson", "im2col holds the kernel's size times the picture, shifted products hold no window",
             f"im2col {held['im2col'] / x.nbytes:.1f} times the picture, shifted products {held['shifted products'] / x.nbytes:.1f}",
             held["im2col"] > 4 * held["shifted products"])
lesson.claim("C3", "this lesson", "shifted products make a convolution almost as fast as a large matrix product",
             f"F.conv2d reaches {macs / took['F.conv2d'] / 1e9 / peak:.0%} of a large product's rate, im2col "
             f"{macs / took['im2col'] / 1e9 / peak:.0%}, loops {macs / took['loops'] / 1e9 / peak:.4%}",
             None if lesson.quick else macs / took["F.conv2d"] / 1e9 / peak > 0.5)
lesson.finish()
