"""
Receptive field: what an output pixel sees, and what it costs
=============================================================

How far a network sees follows from kernel sizes, strides and dilations alone. This lesson computes the field by the formula and
measures it with the engine (which input pixels get a gradient?), shows that dilation widens it for free, and
that a depthwise separable convolution spends far fewer parameters and operations. Beside it: DeepLabv3 (Chen et al., 2017),
sec. 3.1; MobileNets (Howard et al., 2017), sec. 3.1; `minicv/ops/conv.py`, `minicv/fast/convolution/depthwise.py`.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("02_receptive_field", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import Tensor, nn, no_grad
from minicv.data import draw_cells
from minicv.models.summary import summarise
from minicv.optim import Adam
from minicv.viz import PALETTE

rng = np.random.default_rng(lesson.seed)

# %%
# The formula
# -----------
# Layer by layer: r is the field's side, j the distance in the input of neighbouring output pixels. ``r += (k-1) d j; j *= s``


def receptive_field(layers: list[tuple[int, int, int]]) -> int:
    """Side of the field of (kernel, stride, dilation) layers, in input pixels."""
    r, j = 1, 1
    for k, s, d in layers:
        r += (k - 1) * d * j
        j *= s
    return r


# %%
# The measurement
# ---------------
# Put the number 1 into the gradient of one output pixel and walk backward. The input pixels with a gradient are the field. All
# weights are positive, so that nothing cancels.


def measured_field(layers: list[tuple[int, int, int]], x: np.ndarray) -> np.ndarray:
    """|d(centre output) / d(input)|, (H, W)."""
    leaf = Tensor(x[None, None].astype(np.float64), requires_grad=True)
    y = leaf
    for k, s, d in layers:
        y = F.conv2d(y, Tensor(rng.uniform(0.1, 1.0, (1, 1, k, k))), stride=s, padding=d * (k - 1) // 2, dilation=d)
    gy = np.zeros(y.shape)
    gy[0, 0, y.shape[2] // 2, y.shape[3] // 2] = 1
    y.backward(gy)
    return np.abs(leaf.grad[0, 0])


picture = draw_cells((48, 48), rng)[0]
STACKS = {"three 3x3, rate 1": [(3, 1, 1)] * 3, "three 3x3, rate 2": [(3, 1, 2)] * 3,
          "three 3x3, rates 1, 2, 4": [(3, 1, 1), (3, 1, 2), (3, 1, 4)],
          "three 3x3, stride 2": [(3, 2, 1)] * 3}
figure, axes = plt.subplots(1, 4, figsize=(14, 3.9))
agree = True
for ax, (name, layers) in zip(axes, STACKS.items(), strict=True):
    g = measured_field(layers, picture)
    rows = np.flatnonzero(g.any(axis=1))
    side, theory = rows[-1] - rows[0] + 1, receptive_field(layers)
    agree &= side == theory
    ax.imshow(picture, cmap="gray")
    ax.imshow(np.ma.masked_equal(g / g.max(), 0), cmap="viridis", alpha=0.85)
    ax.set(title=f"{name}\nformula {theory}, measured {side}; {np.count_nonzero(g)} pixels", xticks=[], yticks=[])
    print(f"{name:<26} field by formula {theory:>2}, by gradient {side:>2}, {np.count_nonzero(g)} of {theory ** 2} pixels")
figure.tight_layout()
lesson.save(figure, "fields")

# %%
# The rates 2, 2, 2 see only every second pixel: a grid with holes. Rates 1, 2, 4 see all of a field of the same cost.
#
# A1: one 3x3 layer at rates 1, 2, 4
# ----------------------------------

C, H = 32, 32 if lesson.quick else 64
x = lesson.tensor(rng.standard_normal((4, H, H, C), dtype=np.float32).transpose(0, 3, 1, 2))


@no_grad()
def milliseconds(call, repeats: int = 3 if lesson.quick else 20) -> float:
    call()
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, 1e3 * (time.perf_counter() - start))
    return best


rates = {}
for rate in (1, 2, 4):
    layer = nn.Conv2d(C, C, 3, padding=rate, dilation=rate, bias=False)
    work, t = summarise(layer, (C, H, H)), milliseconds(lambda layer=layer: layer(x))
    seen = np.flatnonzero(measured_field([(3, 1, rate)], picture).any(axis=1))
    rates[rate] = int(seen[-1] - seen[0] + 1), work.parameters, work.macs
    print(f"rate {rate}: field {rates[rate][0]} by gradient, {work.parameters} parameters, {work.macs / 1e6:.1f} M MACs for a "
          f"picture, {t:.2f} ms for 4")
fields, *costs = zip(*rates.values(), strict=True)
lesson.claim("A1", "DeepLabv3, sec. 3.1; segmentation notes",
             "a dilated 3x3 conv covers a larger field with the same parameters and operations",
             f"fields {', '.join(f'{r}x{r}' for r in fields)} at rates 1, 2, 4, with {', '.join(map(str, costs[0]))} parameters "
             f"and {', '.join(f'{m / 1e6:.1f}' for m in costs[1])} M MACs; formula and gradient "
             f"{'agree' if agree else 'differ'} on all stacks",
             agree and fields[0] < fields[1] < fields[2] and all(len(set(cost)) == 1 for cost in costs))

# %%
# A2: depthwise separable
# -----------------------
# One 3x3 filter for each channel, then a 1x1 convolution that mixes them: K K C + C M weights instead of K K C M.


def separable(c: int, m: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False), nn.Conv2d(c, m, 1, bias=False))


full, split = nn.Conv2d(C, C, 3, padding=1, bias=False), separable(C, C)
sums = {"full": summarise(full, (C, H, H)), "separable": summarise(split, (C, H, H))}
cost = {name: (work.parameters, work.macs) for name, work in sums.items()}
times = {"full": milliseconds(lambda: full(x)), "separable": milliseconds(lambda: split(x))}
for name, (parameters, operations) in cost.items():
    print(f"{name:<10} {parameters:6d} weights {operations / 1e6:7.1f} M MACs {times[name]:6.2f} ms")

# %%
# And the accuracy? A small network with either, on generated pictures: does the bar lie, stand, lean left or lean right?


def bars(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noisy 24x24 pictures of a bar, (count, 1, 24, 24), and its direction 0..3."""
    labels = generator.integers(0, 4, count)
    yy, xx = np.mgrid[:24, :24] - 11.5
    angle = labels * np.pi / 4 + generator.uniform(-0.25, 0.25, count)
    centre = generator.uniform(-4, 4, (2, count, 1, 1))
    u, v = xx - centre[0], yy - centre[1]
    across = np.abs(-u * np.sin(angle)[:, None, None] + v * np.cos(angle)[:, None, None])
    along = np.abs(u * np.cos(angle)[:, None, None] + v * np.sin(angle)[:, None, None])
    pictures = ((across < 1.5) & (along < 7)) + generator.normal(0, 0.6, (count, 24, 24))
    return pictures[:, None].astype(np.float32), labels


class Small(nn.Module):
    """conv 3x3 with 16 channels, then two blocks of either kind, pooled, then the mean over pixels and a linear layer."""

    def __init__(self, block):
        self.first, self.second, self.third = nn.Conv2d(1, 16, 3, padding=1), block(16, 32), block(32, 32)
        self.last = nn.Linear(32, 4)

    def forward(self, x):
        for layer in (self.first, self.second, self.third):
            x = F.max_pool2d(F.relu(layer(x)), 2)
        return self.last(x.mean(dim=(2, 3)))


def accuracy(block, seed: int, steps: int) -> tuple[float, int]:
    minicv.seed(seed)
    model, generator = Small(block), np.random.default_rng([seed, 7])
    optimizer = Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        pictures, labels = bars(32, generator)
        loss = F.cross_entropy(model(lesson.tensor(pictures)), lesson.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pictures, labels = bars(1000, np.random.default_rng(99))
    with no_grad():
        scores = model(lesson.tensor(pictures)).numpy()
    return float((scores.argmax(axis=1) == labels).mean()), model.num_parameters()


seeds, steps = (1, 10) if lesson.quick else (4, 250)
found = {}
for name, block in (("full", lambda c, m: nn.Conv2d(c, m, 3, padding=1, bias=False)), ("separable", separable)):
    runs = [accuracy(block, lesson.seed + s, steps) for s in range(seeds)]
    found[name] = (np.mean([a for a, _ in runs]), np.std([a for a, _ in runs]), runs[0][1])
    print(f"{name:<10} {found[name][2]:6d} parameters: accuracy {found[name][0]:.3f} +- {found[name][1]:.3f} over {seeds} seeds")

figure, axes = plt.subplots(1, 3, figsize=(11, 3))
for ax, title, values in ((axes[0], "weights of the layer", [c[0] for c in cost.values()]),
                          (axes[1], "million MACs", [c[1] / 1e6 for c in cost.values()]),
                          (axes[2], "ms forward", list(times.values()))):
    ax.bar(list(cost), values, color=[PALETTE[5] / 255, PALETTE[1] / 255])
    ax.set_title(title)
figure.suptitle(f"3x3, {C} to {C} channels: accuracy of a small network {found['full'][0]:.3f} and {found['separable'][0]:.3f}")
figure.tight_layout()
lesson.save(figure, "separable")
lesson.claim("A2", "MobileNets, sec. 3.1; DeepLabv3+", "depthwise separable: K K C + C M weights instead of K K C M, fewer "
             "operations", f"{cost['separable'][0]} of {cost['full'][0]} weights, {cost['separable'][1] / cost['full'][1]:.2f} of the MACs, "
             f"{times['separable'] / times['full']:.2f} of the time; accuracy {found['separable'][0]:.3f} +- "
             f"{found['separable'][1]:.3f} against {found['full'][0]:.3f} +- {found['full'][1]:.3f}",
             cost["separable"][0] == 9 * C + C * C < cost["full"][0] and cost["separable"][1] < cost["full"][1])
lesson.finish()
