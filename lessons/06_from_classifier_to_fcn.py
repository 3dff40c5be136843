"""
From a classifier to a network that labels every pixel
======================================================

The road to FCN (Long et al., CVPR 2015, sec. 3), from where it began: Ciresan et al. (NIPS 2012) label a pixel by
classifying the patch around it, one pixel after the other. Beside it, in `minicv/models/segmentation`: `patchwise.py`,
`convolutionalize.py` and `shift_and_stitch.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare, every

lesson = Lesson("06_from_classifier_to_fcn", __doc__)

import time
from itertools import islice, takewhile
from timeit import repeat

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import models, nn, no_grad
from minicv.data import mirror_pad, standardize
from minicv.data.generated.street_scenes import BOAT, CAR, CLASSES, StreetScenes
from minicv.metrics.boundary import near_boundary
from minicv.models.segmentation.convolutionalize import convolutionalize
from minicv.models.segmentation.patchwise import PatchNet, sampled, slide
from minicv.models.segmentation.shift_and_stitch import shift_and_stitch
from minicv.models.summary import summarise
from minicv.optim import Adam
from minicv.viz import PALETTE, show_images
from minicv.viz.segmentation import class_colors, color_labels

BLUE, ORANGE, GREEN, RED = PALETTE[[5, 1, 3, 6]] / 255
rng = np.random.default_rng(lesson.seed)


def picture(*shape):
    return lesson.tensor(rng.standard_normal(shape).astype(np.float32))


# %%
# 1. A fully connected layer is a convolution (sec. 3.1; claim F1)
# ----------------------------------------------------------------
# A neuron of fc6 weighs every number of a map: a filter as large as the map, at the one place where it fits. By hand:

fc, fmap = nn.Linear(4 * 3 * 3, 5), picture(1, 4, 3, 3)
as_layer = fc(F.flatten(fmap, 1)).numpy()[0]
as_filter = F.conv2d(fmap, fc.weight.reshape(5, 4, 3, 3), fc.bias).numpy()[0, :, 0, 0]
print(f"5 neurons over 4 maps of 3x3, as a layer and as a convolution: {abs(as_layer - as_filter).max():.1g} apart")

# %%
# The same for whole classifiers. On a larger picture the filter fits at more places: a grid of answers. It is that of a
# window slid over the picture where no padding is involved, as in `PatchNet`, a small classifier of patches; padding
# puts zeros at the border of a window that has neighbours in the picture.

worst, same = 0.0, True
for name in ("alexnet", "googlenet", "vgg16"):
    classifier = models.build(name).eval()
    net = convolutionalize(classifier, 64)
    with no_grad():
        x = picture(1, 3, 64, 64)
        one, grid = net(x).numpy(), net(picture(1, 3, 160, 224)).shape[2:]
        worst = max(worst, abs(one[:, :, 0, 0] - classifier(x).numpy()).max() / abs(one).max())
    same &= net.num_parameters() == classifier.num_parameters()
    print(f"{name}: {classifier.num_parameters():,} parameters, {net.num_parameters():,} as convolutions, grid {grid}")
patch_net, x = PatchNet(9, 3, patch=33), picture(1, 3, 65, 81)
windows, grid = slide(patch_net, x, 33, patch_net.stride).numpy(), convolutionalize(patch_net)(x).numpy()
slid = abs(windows - grid).max() / abs(grid).max()
lesson.claim("F1", "FCN, sec. 3.1", "as convolutions, the same number of parameters and the same outputs, or a grid",
             f"parameters equal: {same}; outputs {worst:.1g} apart, relative to the largest; the {grid.shape[2]}x"
             f"{grid.shape[3]} grid and the sliding window {slid:.1g}", same and worst < 1e-5 and slid < 1e-5)

# %%
# 2. Shared work (sec. 3.1; claim F2)
# -----------------------------------
# A 10x10 grid, 32 pixels apart, by AlexNet with a quarter of its channels: as 100 windows of 227x227, ten at a time, or
# as one picture of 515x515. Seconds are the best of three.

alexnet = models.build("alexnet", width=16, pooled=6).eval()
grid_net, big = convolutionalize(alexnet), picture(1, 3, 227 + 9 * 32, 227 + 9 * 32)
with no_grad():
    naive, shared = (min(repeat(work, number=1, repeat=1 if lesson.quick else 3))
                     for work in (lambda: slide(alexnet, big, 227, 32, batch=10), lambda: grid_net(big)))
macs = 100 * summarise(alexnet, (3, 227, 227)).macs / summarise(grid_net, big.shape[1:]).macs
lesson.claim("F2", "FCN, sec. 3.1", "the convolutional way is more than 5 times faster than naive patches (10x10 grid)",
             f"{naive:.2f} s in windows, {shared:.3f} s at once: {naive / shared:.1f} times; multiply-accumulates "
             f"{macs:.1f} times (the paper, on a GPU: 120 ms against 22 ms)", naive / shared > 5)

# %%
# 3. Every pixel, without more layers (sec. 3.2; claim F3)
# --------------------------------------------------------
# The grid has a hole of `stride` pixels. Run the network on all shifts and stitch, or leave out the strides and spread
# the filters ("a trous"): the same numbers. The second is what DeepLab does.

dense_net, x = patch_net.dense(), picture(1, 3, 64, 72)  # which rarefies it
stitched = shift_and_stitch(convolutionalize(patch_net), x, patch_net.stride).numpy()
rarefied, naive = dense_net(x).numpy(), slide(patch_net, x, 33).numpy()
lesson.claim("F3", "FCN, sec. 3.2", "shift-and-stitch equals removing the strides and rarefying the filters",
             f"largest difference {abs(stitched - rarefied).max():.1g} for scores up to {abs(naive).max():.1f}; to the "
             f"{naive.shape[2] * naive.shape[3]} patches one by one {abs(stitched - naive).max():.1g}",
             abs(stitched - rarefied).max() < 1e-5 and abs(stitched - naive).max() < 1e-5)

# %%
# 4. Any input size (claim F10)
# -----------------------------
# Fully connected weights fix the size of the map that they take. Convolutions do not.

try:
    refused = f"an answer {patch_net(picture(1, 3, 47, 91)).shape}"
except ValueError as error:
    refused = str(error)
FCN = {"width": 8, "pooled": 1, "hidden": 64, "dropout": 0.0, "num_classes": 9}
fcn, sizes = models.build("fcn8s", **FCN).eval(), [(32, 32), (33, 47), (91, 64), (131, 200)]
lesson.claim("F10", "FCN, sec. 3.1; notes 004", "any input size works with convolutions alone",
             f"FCN-8s answers {', '.join(f'{h}x{w}' for h, w in sizes)} in their size; a fully connected layer 47x91: "
             f"\"{refused[:60]}...\"",
             "answer" not in refused and [fcn(picture(1, 3, *size)).shape[2:] for size in sizes] == sizes)

# %%
# 5. The price of a pixel (claim S11)
# -----------------------------------
# Multiply-accumulates for one pixel's label: a patch of its own, the same network with shared work, and a U-Net's tile.

unet = models.build("unet", in_channels=3, num_classes=9, width=8, depth=3)
tile = unet.input_size(64)
price = {"patch by patch": summarise(patch_net, (3, 33, 33)).macs,
         "patches with shared work": summarise(dense_net, (3, 96, 96)).macs / 64 ** 2,
         "U-Net, a tile": summarise(unet, (3, tile, tile)).macs / unet.output_size(tile) ** 2}
lesson.claim("S11", "U-Net, sec. 1; notes 001", "unlike a sliding patch, U-Net never computes a neighbourhood twice",
             f"{price['patch by patch']:,.0f} MACs per pixel for a patch of 33, "
             f"{price['patches with shared work']:,.0f} with shared work, {price['U-Net, a tile']:,.0f} for U-Net, "
             f"which sees more and has {unet.num_parameters() / patch_net.num_parameters():.0f} times the parameters",
             price["patch by patch"] > price["U-Net, a tile"])

# %%
# 6. How large a patch? (claim S12)
# ---------------------------------
# Scenes with nine classes. A large patch is pooled more often, and says less of where: accuracy within two pixels of a
# border between classes. A small one sees less context: cars and boats look alike, one is on the road and one on water;
# of their pixels that were found as either, how many are of the right kind? Guessing gives 50%. They are rare: as in
# Ciresan et al., patches show all classes equally often; the U-Net's pixels have weights between that and none, as suits
# it. As many steps for all leave large patches untrained. So all train for about as many seconds; the work differs.

train, test = StreetScenes(80, 64, lesson.seed, keep=True), StreetScenes(4 if lesson.quick else 20, 64, lesson.seed + 1, keep=True)
trainings, seeds = {"patch 9": (9, 3600), "patch 17": (17, 1500), "patch 33": (33, 550), "U-Net": (None, 650)}, 3
if lesson.quick:
    trainings, seeds = {name: (side, 10) for name, (side, _) in trainings.items()}, 1
images, labels = np.stack([standardize(s.image) for s in train]), np.stack([s.label for s in train])
of_class = [np.argwhere(labels == k) for k in range(len(CLASSES))]
even = np.array([(labels.size / 9 / len(p)) ** 0.5 for p in of_class] + [0], np.float32)[np.minimum(labels, 9)]  # weights


def learn(net, batches, optimizer):
    """A step for each of the batches (x, labels, weight of each pixel or None); the losses."""
    losses = []
    for x, target, weight in ([None if a is None else lesson.tensor(a) for a in batch] for batch in batches):
        loss = F.cross_entropy(net(x), target, ignore_index=255, pixel_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def patch_batches(side, rng):
    """64 patches around random pixels of random classes, mirrored at the border, for ever."""
    r = side // 2
    wide = np.stack([mirror_pad(image, r, r, r, r) for image in images])
    while True:
        chosen = np.stack([p[rng.integers(len(p))] for k in rng.integers(len(of_class), size=64) for p in [of_class[k]]])
        yield np.stack([wide[n, :, i:i + side, j:j + side] for n, i, j in chosen]), labels[tuple(chosen.T)], None


def whole_batches(batch, weight, rng):
    """Whole pictures, for ever; the losses of their pixels are weighted by ``weight(which pictures)``."""
    while True:
        chosen = rng.choice(len(images), batch, replace=False)
        yield images[chosen], labels[chosen], weight(chosen)


def tested(net):
    """The labels of all test pictures; in %: right near borders, cars and boats of the right kind, right at all."""
    if isinstance(net, PatchNet):  # with shared work
        r, dense = net.patch // 2, net.dense()
        with no_grad():
            wide = [lesson.tensor(mirror_pad(standardize(s.image), r, r, r, r)[None]) for s in test]
            found = np.stack([dense(x).numpy()[0].argmax(axis=0) for x in wide])
    else:
        found = np.stack([r.labels for r in net.predict([s.image for s in test])])
    truth, near = np.stack([s.label for s in test]), np.stack([near_boundary(s.label, 2) for s in test])
    vehicle = np.isin(truth, (CAR, BOAT)) & np.isin(found, (CAR, BOAT))
    return found, [100 * (found == truth)[where].mean() if where.any() else 50.0
                   for where in (near & (truth != 255), vehicle, truth != 255)]


results, maps = {name: [] for name in trainings}, {}
for name, (side, steps) in trainings.items():
    start, whole = time.perf_counter(), side is None
    for seed in range(seeds):
        minicv.seed(lesson.seed + seed)
        rng = np.random.default_rng([lesson.seed, seed])
        net = models.build("unet", in_channels=3, num_classes=9, width=8, depth=3, padding="same", dropout=0.0) if whole \
            else PatchNet(9, 3, patch=side, width=16, hidden=64)
        batches, lr = (whole_batches(2, even.__getitem__, rng), 0.003) if whole else (patch_batches(side, rng), 0.004)
        learn(net, islice(batches, steps), Adam(net.parameters(), lr))
        maps[name], accuracies = tested(net)
        results[name].append(accuracies)
    work = 3 * steps * (2 * summarise(net, (3, 64, 64)).macs if whole else 64 * summarise(net, (3, side, side)).macs)
    print(f"  {name}: {steps} steps, {(time.perf_counter() - start) / seeds:.1f} s, {work / 1e9:.0f} G MACs, forward and back")
results, patches = {name: np.array(values) for name, values in results.items()}, list(trainings)[:-1]
pairs = [("patch 9", "patch 33", 0), ("patch 33", "patch 9", 1), *(("U-Net", p, k) for p in patches for k in (0, 1))]
gains = [compare(results[a][:, k] - results[b][:, k]) for a, b, k in pairs]
lesson.claim("S12", "U-Net, sec. 1", "patch size trades context against localisation; U-Net does not",
             "right near borders / cars and boats of the right kind / right at all: " + ", ".join(
                 "{}: {:.0f} / {:.0f} / {:.0f}%".format(name, *r.mean(axis=0)) for name, r in results.items()) + "; " +
             ", ".join(f"{a} over {b} {('near borders', 'at the kind')[k]} {gain}"
                       for (a, b, k), (gain, _) in zip(pairs, gains, strict=True)) + f" ({seeds} seeds)",
             every(verdict for _, verdict in gains))

figure, ax = plt.subplots(figsize=(6.6, 3.5), layout="constrained")
for k, colour, name in ((0, RED, "within 2 pixels of a border"), (1, BLUE, "kind: car or boat?")):
    values, sides = np.array([results[p][:, k] for p in patches]), [trainings[p][0] for p in patches]
    ax.errorbar(np.log2(sides), values.mean(axis=1), values.std(axis=1), color=colour, marker="o", capsize=3, label=name)
    ax.axhline(results["U-Net"][:, k].mean(), color=colour, ls="--", lw=1, label=f"U-Net, {name}")
ax.set(xlabel="side, pixels", ylabel="right, %", xticks=np.log2(sides), xticklabels=sides, title="Patches")
figure.legend(fontsize=8, loc="outside right")
lesson.save(figure, "patch_size")
drawn = {"truth (white: void)": test[0].label, **{name: found[0] for name, found in maps.items()}}
lesson.save(show_images({"picture": test[0].image, **{k: color_labels(v, class_colors(CLASSES)) for k, v in drawn.items()}},
                   columns=len(drawn) + 1, size=2.0), "labels")

# %%
# 7. Patchwise training is loss sampling (sec. 3.4 and 4.3; claim F4)
# -------------------------------------------------------------------
# A batch of random patches is a whole picture in which all other losses are left out. At half of the pixels, twice the
# pictures make a step of as many losses. FCN-8s both ways for the same steps; whole pictures then go on until they have
# had as many seconds as the sampled ones, evaluation aside. "As fast" by steps means: at most two points behind.

steps = 10 if lesson.quick else 125


def race(seed, batch, p, seconds=0.0):
    """FCN-8s: accuracy after the steps, and after the seconds if some are left; the seconds of the steps; losses."""
    minicv.seed(lesson.seed + seed)
    net, rng = models.build("fcn8s", **FCN), np.random.default_rng([lesson.seed, seed])
    batches = whole_batches(batch, lambda which: sampled(labels[which].shape, p, rng) if p < 1 else None, rng)
    optimizer, start = Adam(net.parameters(), 0.003), time.perf_counter()
    losses = learn(net, islice(batches, steps), optimizer)
    took = time.perf_counter() - start
    first = tested(net)[1][2]
    limit = time.perf_counter() + seconds - took * (1 + 1 / steps)  # a step begins if there is time to end it
    losses += learn(net.train(), takewhile(lambda _: time.perf_counter() < limit, batches), optimizer)
    return first, tested(net)[1][2], took, losses


runs = {"half of the pixels": [], "whole pictures": []}
for seed in range(seeds):
    runs["half of the pixels"].append(race(seed, 8, 0.5))
    runs["whole pictures"].append(race(seed, 4, 1, runs["half of the pixels"][seed][2]))
(part, _, slow), (half, whole, fast) = (np.array([r[:3] for r in each]).T for each in runs.values())
(behind, as_fast), (ahead, faster) = compare(half - part, needed=-2), compare(whole - part)
lesson.claim("F4", "FCN, sec. 4.3, fig. 5", "whole pictures learn as fast by steps as sampled pixels, faster in time",
             f"accuracy after {steps} steps: sampled {part.mean():.1f} +- {part.std():.1f}%, {slow.sum() / fast.sum():.1f} "
             f"times the time for a step; whole {half.mean():.1f} +- {half.std():.1f}%, {behind} points; after as many "
             f"seconds whole {whole.mean():.1f} +- {whole.std():.1f}%, {ahead} points ({seeds} seeds)",
             every((as_fast, faster)))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained", sharey=True)
for (name, each), colour in zip(runs.items(), (BLUE, ORANGE), strict=True):
    for seed, (_, _, took, losses) in enumerate(each):  # a line for each
        smooth = np.convolve(losses, np.ones(8) / 8, "valid")
        for ax, unit in zip(axes, (1, took / steps), strict=True):
            ax.plot(np.arange(len(smooth)) * unit, smooth, color=colour, lw=1, label=None if seed else name)
axes[0].set(xlabel="steps", ylabel="training loss, mean of 8 steps", title="by steps")
axes[1].set(xlabel="seconds", title="by the clock")
axes[0].legend()
lesson.save(figure, "loss_sampling")
lesson.finish()
