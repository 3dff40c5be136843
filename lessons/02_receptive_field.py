"""
Receptive field: what an output pixel sees, and what it costs
=============================================================

How far a network sees follows from its kernel sizes, strides and dilations alone. This lesson computes the receptive field
by a formula and measures it with the engine: which input pixels receive a gradient? It shows that dilation widens the field
for free, and that a depthwise separable convolution needs far fewer parameters and operations. Beside it: DeepLabv3 (Chen et
al., 2017), sec. 3.1; MobileNets (Howard et al., 2017), sec. 3.1; `minicv/ops/conv.py`, `minicv/fast/convolution/depthwise.py`.
"""

# %%
from minicv.course.lessons import Lesson, best_time

lesson = Lesson("02_receptive_field", __doc__)

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import Tensor, nn, no_grad
from minicv.data import draw_cells
from minicv.models.summary import summarize
from minicv.optim import Adam
from minicv.viz import PALETTE, show_images

rng = np.random.default_rng(lesson.seed)

# %%
# The formula
# -----------
# Walk through the layers and keep two numbers: r, the side of the field, and j, the distance in the input between two
# neighboring pixels of the current map. A layer with kernel k, stride s and dilation d reaches (k - 1) d pixels of that map
# further, so r grows by (k - 1) d j; its stride multiplies j by s.


def receptive_field(layers: list[tuple[int, int, int]]) -> int:
    """Return the side of the field of (kernel, stride, dilation) layers, in input pixels."""
    r, j = 1, 1
    for k, s, d in layers:
        r += (k - 1) * d * j
        j *= s
    return r


# %%
# The measurement
# ---------------
# Set the gradient of one output pixel to 1 and walk backward: the input pixels that receive a gradient are the field. All
# weights are positive, so that nothing cancels.


def measured_field(layers: list[tuple[int, int, int]], x: np.ndarray) -> np.ndarray:
    """Return |d(center output) / d(input)|, (H, W)."""
    leaf = Tensor(x[None, None].astype(np.float64), requires_grad=True)
    y = leaf
    for k, s, d in layers:
        y = F.conv2d(y, Tensor(rng.uniform(0.1, 1.0, (1, 1, k, k))), stride=s, padding=d * (k - 1) // 2, dilation=d)
    gy = np.zeros(y.shape)
    gy[0, 0, y.shape[2] // 2, y.shape[3] // 2] = 1
    y.backward(gy)
    return np.abs(leaf.grad[0, 0])


# %%
# Four stacks of three 3x3 layers, with different dilation rates or strides. "Pixels" counts the input pixels that receive a
# gradient; a field without holes has as many as its side squared.

image = draw_cells((48, 48), rng)[0]
STACKS = {"three 3x3, rate 1": [(3, 1, 1)] * 3, "three 3x3, rate 2": [(3, 1, 2)] * 3,
          "three 3x3, rates 1, 2, 4": [(3, 1, 1), (3, 1, 2), (3, 1, 4)],
          "three 3x3, stride 2": [(3, 2, 1)] * 3}
agree, fields = True, {}
for name, layers in STACKS.items():
    g = measured_field(layers, image)
    rows = np.flatnonzero(g.any(axis=1))
    side, theory, pixels = rows[-1] - rows[0] + 1, receptive_field(layers), np.count_nonzero(g)
    agree &= side == theory
    fields[f"{name}\nformula {theory}, measured {side}; {pixels} pixels"] = np.ma.masked_equal(g / g.max(), 0)
    print(f"{name:<26} field by formula {theory:>2}, by gradient {side:>2}, {pixels} of {theory ** 2} pixels")

# %%
# In the figure the gradient lies over the image, in shares of its largest value; where the gray image shows, the gradient
# is exactly zero. Look for holes, and for where the large values are.

figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
for ax, (title, gradient) in zip(axes, fields.items(), strict=True):
    ax.imshow(image, cmap="gray")
    shown = ax.imshow(gradient, cmap="viridis", alpha=0.85, vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
figure.colorbar(shown, ax=axes, label="gradient / its maximum", shrink=0.8)
lesson.save(figure, "fields")

# %%
# Formula and measurement agree. Rates 2, 2, 2 see only every second pixel: a grid with holes. Rates 1, 2, 4 cost the same
# and see every pixel of their field. In all four the center weighs most.
#
# One layer at three rates (claim A1)
# -----------------------------------
# Is a wider field really free? One 3x3 layer with 32 channels at rates 1, 2 and 4: its field, its parameters, its
# multiply-accumulates (MACs) and its time.

C, H = 32, 32 if lesson.quick else 64
x = lesson.tensor(rng.standard_normal((4, H, H, C), dtype=np.float32).transpose(0, 3, 1, 2))


@no_grad()
def milliseconds(call) -> float:
    call()
    return 1e3 * best_time(call, 3 if lesson.quick else 20)


rates = {}
for rate in (1, 2, 4):
    layer = nn.Conv2d(C, C, 3, padding=rate, dilation=rate, bias=False)
    work, t = summarize(layer, (C, H, H)), milliseconds(lambda layer=layer: layer(x))
    seen = np.flatnonzero(measured_field([(3, 1, rate)], image).any(axis=1))
    rates[rate] = int(seen[-1] - seen[0] + 1), work.parameters, work.macs
    print(f"rate {rate}: field {rates[rate][0]} by gradient, {work.parameters} parameters, {work.macs / 1e6:.1f} M MACs for an "
          f"image, {t:.2f} ms for 4")
sides, *costs = zip(*rates.values(), strict=True)
lesson.claim("A1", "DeepLabv3, sec. 3.1; segmentation notes",
             "a dilated 3x3 conv covers a larger field with the same parameters and operations",
             f"fields {', '.join(f'{r}x{r}' for r in sides)} at rates 1, 2, 4, with {', '.join(map(str, costs[0]))} parameters "
             f"and {', '.join(f'{m / 1e6:.1f}' for m in costs[1])} M MACs; formula and gradient "
             f"{'agree' if agree else 'differ'} on all stacks",
             agree and sides[0] < sides[1] < sides[2] and all(len(set(cost)) == 1 for cost in costs))

# %%
# Depthwise separable convolutions (claim A2)
# -------------------------------------------
# A convolution from C to M channels mixes space and channels at once, with K * K * C * M weights. A depthwise separable one
# does it in two steps: a K x K filter for each channel by itself, then a 1x1 convolution that mixes the channels. That
# takes K * K * C + C * M weights.


def separable(c: int, m: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False), nn.Conv2d(c, m, 1, bias=False))


full, split = nn.Conv2d(C, C, 3, padding=1, bias=False), separable(C, C)
sums = {"full": summarize(full, (C, H, H)), "separable": summarize(split, (C, H, H))}
cost = {name: (work.parameters, work.macs) for name, work in sums.items()}
times = {"full": milliseconds(lambda: full(x)), "separable": milliseconds(lambda: split(x))}

# %%
# The figure compares a full layer with a separable one by weights, MACs and time. Does the time shrink as much as the MACs?

figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
weights, operations = zip(*cost.values(), strict=True)
for ax, title, values in zip(axes, ("weights of the layer", "million MACs", "ms forward"),
                             (weights, np.divide(operations, 1e6), list(times.values())), strict=True):
    bars = ax.bar(list(cost), values, color=PALETTE[[5, 1]] / 255)
    ax.bar_label(bars, [f"{v:.3g}" if v < 1000 else f"{v:.0f}" for v in values], fontsize=9)
    ax.set_title(title)
    ax.margins(y=0.12)
figure.suptitle(f"One 3x3 layer, {C} to {C} channels")
lesson.save(figure, "separable")

# %%
# Weights and MACs fall to about a seventh. The time falls less: a depthwise filter does nine MACs for each number that it reads,
# the full layer 9 * 32.
#
# And the accuracy?
# -----------------
# A small network with either kind of layer answers one question about noisy images of a bar: does it lie, stand, lean left
# or lean right?


def bars(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw noisy 24x24 images of a bar, (count, 1, 24, 24), and its direction 0..3."""
    labels = rng.integers(0, 4, count)
    yy, xx = np.mgrid[:24, :24] - 11.5
    angle = labels * np.pi / 4 + rng.uniform(-0.25, 0.25, count)
    center = rng.uniform(-4, 4, (2, count, 1, 1))
    u, v = xx - center[0], yy - center[1]
    across = np.abs(-u * np.sin(angle)[:, None, None] + v * np.cos(angle)[:, None, None])
    along = np.abs(u * np.cos(angle)[:, None, None] + v * np.sin(angle)[:, None, None])
    images = ((across < 1.5) & (along < 7)) + rng.normal(0, 0.6, (count, 24, 24))
    return images[:, None].astype(np.float32), labels


# %%
# Four of each direction, as the network sees them: black is the lowest value, white the highest.

examples, directions = bars(60, np.random.default_rng(5))
order = [np.flatnonzero(directions == k)[i] for k in range(4) for i in range(4)]
names = ("lies", "leans left", "stands", "leans right")
lesson.save(show_images({f"{names[directions[i]]}{' ' * n}": examples[i, 0] for n, i in enumerate(order)}, columns=8,
                        size=1.3), "bars")

# %%
# The network has a 3x3 convolution with 16 channels, two blocks of either kind, pooling after each, and a linear layer on
# the mean over all pixels. It trains on fresh images and is tested on 1000 others.


class Small(nn.Module):
    def __init__(self, block):
        self.first, self.second, self.third = nn.Conv2d(1, 16, 3, padding=1), block(16, 32), block(32, 32)
        self.last = nn.Linear(32, 4)

    def forward(self, x):
        for layer in (self.first, self.second, self.third):
            x = F.max_pool2d(F.relu(layer(x)), 2)
        return self.last(x.mean(dim=(2, 3)))


def accuracy(block, seed: int, steps: int) -> tuple[float, int]:
    minicv.seed(seed)
    model, rng = Small(block), np.random.default_rng([seed, 7])
    optimizer = Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        images, labels = bars(32, rng)
        loss = F.cross_entropy(model(lesson.tensor(images)), lesson.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, labels = bars(1000, np.random.default_rng(99))
    with no_grad():
        scores = model(lesson.tensor(images)).numpy()
    return float((scores.argmax(axis=1) == labels).mean()), model.num_parameters()


# %%
# The same seeds and images for both kinds. The spread is the standard deviation over the seeds.

seeds, steps = (1, 10) if lesson.quick else (4, 250)
found = {}
for name, block in (("full", lambda c, m: nn.Conv2d(c, m, 3, padding=1, bias=False)), ("separable", separable)):
    runs = [accuracy(block, lesson.seed + s, steps) for s in range(seeds)]
    found[name] = (np.mean([a for a, _ in runs]), np.std([a for a, _ in runs]), runs[0][1])
    print(f"{name:<10} {found[name][2]:6d} parameters: accuracy {found[name][0]:.3f} +- {found[name][1]:.3f} over {seeds} seeds")
lesson.claim("A2", "MobileNets, sec. 3.1; DeepLabv3+", "depthwise separable: K K C + C M weights instead of K K C M, fewer "
             "operations", f"{cost['separable'][0]} of {cost['full'][0]} weights, {cost['separable'][1] / cost['full'][1]:.2f} of the MACs, "
             f"{times['separable'] / times['full']:.2f} of the time; accuracy {found['separable'][0]:.3f} +- "
             f"{found['separable'][1]:.3f} against {found['full'][0]:.3f} +- {found['full'][1]:.3f}",
             cost["separable"][0] == 9 * C + C * C < cost["full"][0] and cost["separable"][1] < cost["full"][1])
lesson.finish()
