"""
From a classifier to a network that labels every pixel
======================================================

The road to FCN (Long et al., CVPR 2015, sec. 3), from where it began: Ciresan et al. (NIPS 2012) label a pixel by
classifying the patch around it, one pixel after the other. Beside it, in `minicv/models/segmentation`: `patchwise.py`,
`convolutionalise.py` and `shift_and_stitch.py`.
"""

# %%
from minicv.lessons import Lesson

lesson = Lesson("06_from_classifier_to_fcn", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import Tensor, models, nn, no_grad
from minicv.data import mirror_pad, standardise
from minicv.data.scenes import BOAT, CAR, CLASSES, Scenes
from minicv.metrics.boundary import near_boundary
from minicv.models.segmentation.convolutionalise import convolutionalise
from minicv.models.segmentation.patchwise import PatchNet, sampled, slide
from minicv.models.segmentation.shift_and_stitch import shift_and_stitch
from minicv.optim import Adam
from minicv.summary import summarise
from minicv.viz import PALETTE, panels
from minicv.viz.segmentation import class_colours, colour_labels

BLUE, ORANGE, GREEN, RED = PALETTE[[5, 1, 3, 6]] / 255
rng = np.random.default_rng(lesson.seed)


def picture(*shape):
    return Tensor(rng.standard_normal(shape).astype(np.float32))


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
    net = convolutionalise(classifier, 64)
    with no_grad():
        x = picture(1, 3, 64, 64)
        one, grid = net(x).numpy(), net(picture(1, 3, 160, 224)).shape[2:]
        worst = max(worst, abs(one[:, :, 0, 0] - classifier(x).numpy()).max() / abs(one).max())
    same &= net.num_parameters() == classifier.num_parameters()
    print(f"{name}: {classifier.num_parameters():,} parameters, as convolutions {net.num_parameters():,}; on 160x224 a "
          f"grid of {grid[0]}x{grid[1]}")
patch_net = PatchNet(9, 3, patch=33)
x = picture(1, 3, 65, 81)
windows, grid = slide(patch_net, x, 33, patch_net.stride).numpy(), convolutionalise(patch_net)(x).numpy()
slid = abs(windows - grid).max() / abs(grid).max()
lesson.claim("F1", "FCN, sec. 3.1", "as convolutions, the same number of parameters and the same outputs, or a grid",
             f"parameters equal: {same}; outputs {worst:.1g} apart, relative to the largest; the {grid.shape[2]}x"
             f"{grid.shape[3]} grid and the sliding window {slid:.1g}", same and worst < 1e-5 and slid < 1e-5)

# %%
# 2. Shared work (sec. 3.1; claim F2)
# -----------------------------------
# A 10x10 grid, 32 pixels apart, by AlexNet with a quarter of its channels: as 100 windows of 227x227, ten at a time, or
# as one picture of 515x515. Seconds are the best of three.


def seconds(work):
    best = np.inf
    for _ in range(1 if lesson.quick else 3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


alexnet = models.build("alexnet", width=16, pooled=6).eval()
grid_net, big = convolutionalise(alexnet), picture(1, 3, 227 + 9 * 32, 227 + 9 * 32)
with no_grad():
    naive = seconds(lambda: slide(alexnet, big, 227, 32, batch=10))
    shared = seconds(lambda: grid_net(big))
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
stitched = shift_and_stitch(convolutionalise(patch_net), x, patch_net.stride).numpy()
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
answers = [fcn(picture(1, 3, *size)).shape[2:] for size in sizes]
lesson.claim("F10", "FCN, sec. 3.1; notes 004", "any input size works with convolutions alone",
             f"FCN-8s answers {', '.join(f'{h}x{w}' for h, w in sizes)} in their size; a fully connected layer 47x91: "
             f"\"{refused[:60]}...\"", "answer" not in refused and answers == sizes)

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
# border between classes. A small one sees less context: accuracy on cars and boats, which look alike, one on the road
# and one on water. The U-Net is trained with about as much work as the patches of 65, at a rate that suits it.

train, test = Scenes(80, 64, lesson.seed, keep=True), Scenes(4 if lesson.quick else 20, 64, lesson.seed + 1, keep=True)
patches, steps, seeds = ((9, 33), 20, 1) if lesson.quick else ((5, 9, 17, 33, 65), 250, 2)
images, labels = np.stack([standardise(s.image) for s in train]), np.stack([s.label for s in train])
pixels = np.argwhere(labels < len(CLASSES))  # not void


def learn(net, batches, lr=0.004):
    """Adam on batches (x, labels, weight of each pixel or None); the losses."""
    optimizer, losses = Adam(net.parameters(), lr), []
    for x, target, weight in batches:
        loss = F.cross_entropy(net(Tensor(x)), target, ignore_index=255, pixel_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def patch_batches(side, rng, count=64):
    """Patches around random pixels of all pictures, mirrored at the border."""
    r = side // 2
    wide = np.stack([mirror_pad(image, r, r, r, r) for image in images])
    for _ in range(steps):
        chosen = pixels[rng.integers(len(pixels), size=count)]
        yield np.stack([wide[n, :, i:i + side, j:j + side] for n, i, j in chosen]), labels[tuple(chosen.T)], None


def whole_batches(steps, batch, p, rng):
    """Whole pictures; of their pixels' losses, a share of p counts."""
    for _ in range(steps):
        chosen = rng.choice(len(images), batch, replace=False)
        yield images[chosen], labels[chosen], sampled(labels[chosen].shape, p, rng) if p < 1 else None


def label_all(net, side):
    """Labels of the test pictures, by shared work."""
    r, dense = side // 2, net.dense()
    wide = [Tensor(mirror_pad(standardise(s.image), r, r, r, r)[None]) for s in test]
    with no_grad():
        return [dense(x).numpy()[0].argmax(axis=0) for x in wide]


def accuracy(found):
    """In %: near borders, on cars and boats, all pixels."""
    found, truth = np.stack(found), np.stack([s.label for s in test])
    near = np.stack([near_boundary(s.label, 2) for s in test])
    return [100 * (found == truth)[where].mean()
            for where in (near & (truth != 255), (truth == CAR) | (truth == BOAT), truth != 255)]


results, maps, unet_results = {}, {}, []
for side in patches:
    results[side] = []
    for seed in range(seeds):
        minicv.seed(lesson.seed + seed)
        net = PatchNet(9, 3, patch=side, width=16, hidden=64)
        learn(net, patch_batches(side, np.random.default_rng([lesson.seed, seed])))
        maps[side] = label_all(net, side)
        results[side].append(accuracy(maps[side]))
    print(f"  patch {side}: near borders, cars and boats, all: {np.mean(results[side], axis=0).round(1)}")
for seed in range(seeds):
    minicv.seed(lesson.seed + seed)
    unet = models.build("unet", in_channels=3, num_classes=9, width=8, depth=3, padding="same", dropout=0.0)
    learn(unet, whole_batches(3 * steps, 2, 1, np.random.default_rng([lesson.seed, seed])), 0.002)
    maps["U-Net"] = [r.labels for r in unet.predict([s.image for s in test])]
    unet_results.append(accuracy(maps["U-Net"]))
near, context = (np.array([np.mean(results[side], axis=0)[k] for side in patches]) for k in (0, 1))
unet_near, unet_context, unet_all = np.mean(unet_results, axis=0)
lesson.claim("S12", "U-Net, sec. 1", "patch size trades context against localisation; U-Net does not",
             "accuracy near borders / on cars and boats / all: " + ", ".join(
                 "patch {} {:.0f} / {:.0f} / {:.0f}%".format(s, *np.mean(results[s], axis=0)) for s in patches) +
             f"; U-Net {unet_near:.0f} / {unet_context:.0f} / {unet_all:.0f}% ({seeds} seeds)",
             None if lesson.quick else near.argmax() < context.argmax() and
             unet_near > near.max() and unet_context > context.max())

figure, ax = plt.subplots(figsize=(6.6, 3.5), layout="constrained")
for k, colour, name in ((0, RED, "within 2 pixels of a border"), (1, BLUE, "cars and boats")):
    values = np.array([[r[k] for r in results[side]] for side in patches])
    mean, std = values.mean(axis=1), values.std(axis=1)
    ax.errorbar(np.log2(patches), mean, std, color=colour, marker="o", capsize=3, label=name)
    ax.axhline(np.mean(unet_results, axis=0)[k], color=colour, ls="--", lw=1, label=f"U-Net, {name}")
ax.set(xlabel="side, pixels", ylabel="labelled right, %", xticks=np.log2(patches), xticklabels=patches, title="Patches")
figure.legend(fontsize=8, loc="outside right")
lesson.save(figure, "patch_size")
colours = class_colours(CLASSES)
shown = {"picture": test[0].image, "truth (white: void)": colour_labels(test[0].label, colours), **{
    name if name == "U-Net" else f"patches of {name}": colour_labels(maps[name][0], colours)
    for name in (patches[0], patches[len(patches) // 2], patches[-1], "U-Net")}}
lesson.save(panels(shown, columns=len(shown), size=2.0), "labels")

# %%
# 7. Patchwise training is loss sampling (sec. 3.4 and 4.3; claim F4)
# -------------------------------------------------------------------
# A batch of random patches is a whole picture in which all other losses are left out. At half of the pixels, twice the
# pictures make a step of as many losses. FCN-8s both ways; whole pictures go on, for as many pictures.

curves, spent, after = {}, {}, {"half": [], "whole": [], "sampled": []}
ways = ("whole pictures", 4, 1, ("half", "whole")), ("half of the pixels", 8, 0.5, ("sampled",))
for name, batch, p, parts in ways:
    for seed in range(seeds):
        minicv.seed(lesson.seed + seed)
        net, draw, losses = models.build("fcn8s", **FCN), np.random.default_rng([lesson.seed, seed]), []
        for part in parts:
            start = time.perf_counter()
            losses += learn(net.train(), whole_batches(steps // 2, batch, p, draw), 0.003)
            spent.setdefault(name, []).append(time.perf_counter() - start)
            after[part].append(accuracy([r.labels for r in net.predict([s.image for s in test])])[2])
        curves.setdefault(name, []).append(losses)
half, whole, part = (np.array(values) for values in after.values())
ratio = np.mean(spent["half of the pixels"]) / np.mean(spent["whole pictures"])
lesson.claim("F4", "FCN, sec. 4.3, fig. 5", "whole pictures learn as fast by steps as sampled pixels, faster in time",
             f"accuracy after {steps // 2} steps: whole {half.mean():.1f} +- {half.std():.1f}%, sampled "
             f"{part.mean():.1f} +- {part.std():.1f}%, {ratio:.1f} times the time for a step; after twice the steps, "
             f"on as many pictures, whole {whole.mean():.1f} +- {whole.std():.1f}% ({seeds} seeds)",
             None if lesson.quick else half.mean() > part.mean() - max(2, half.std() + part.std())
             and whole.mean() > part.mean())
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained", sharey=True)
for (name, runs), colour in zip(curves.items(), (BLUE, ORANGE), strict=True):
    smooth = np.mean([np.convolve(run, np.ones(8) / 8, "valid") for run in runs], axis=0)
    for ax, unit in zip(axes, (1, np.mean(spent[name]) / (steps // 2)), strict=True):
        ax.plot(np.arange(len(smooth)) * unit, smooth, color=colour, label=name)
axes[0].set(xlabel="steps", ylabel="training loss, mean of 8 steps", title="by steps")
axes[1].set(xlabel="seconds", title="by the clock")
axes[0].legend()
lesson.save(figure, "loss_sampling")
lesson.finish()
