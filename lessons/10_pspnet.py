"""
PSPNet: what is in the image decides what a pixel is
====================================================

Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network" (CVPR 2017): the pyramid pooling module (Fig. 3); the seven rows of
Table 1, measured on generated scenes; and cars and boats, which look the same and are told apart by what lies around them.
Beside it: `minicv/models/segmentation/pspnet.py`.
"""

# %%
from minicv.course.lessons import Lesson, all_hold, compare

lesson = Lesson("10_pspnet", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import Tensor, models, no_grad
from minicv.data import standardize
from minicv.data.generated.street_scenes import BOAT, CAR, CLASSES, StreetScenes
from minicv.metrics import ConfusionMatrix
from minicv.models.segmentation.pspnet import ROWS, PSPNetConfig, PyramidPooling
from minicv.models.summary import summarize
from minicv.optim import Adam, LambdaLR, poly
from minicv.training.segmentation import SegmentationConfig, train_segmentation
from minicv.viz import PALETTE, segmentation_sheet, show_images

BLUE, ORANGE = PALETTE[[5, 1]] / 255

# %%
# 1. Scenes in which context decides
# ----------------------------------
# Cars and boats are drawn by the same lines of code: on a road it is a car, on water a boat. Here each has an apron of
# plain ground around it, so that the water or the road is far away from it. With grounds, trees, houses, poles and signs
# there are nine classes, and a strip of void around every object.

size, apron = (48, 8) if lesson.quick else (128, 32)
options = {"keep": True, "apron": apron, "density": 1.5}
train = StreetScenes(24 if lesson.quick else 300, size, 2 * lesson.seed, **options)
test = StreetScenes(8 if lesson.quick else 80, size, 2 * lesson.seed + 1, **options)

# %%
# 2. The pyramid (sec. 3.2, Fig. 3)
# ---------------------------------
# Each level cuts the map into bins, replaces every bin by its mean (or its maximum), and scales the result up to the map's
# size again. The figure does this to an image in place of a map, and without the 1x1 convolutions. What is left of the
# image at each level?

image = test[0].image
levels = PyramidPooling(3, PSPNetConfig(reduce=False))(Tensor(image[None])).data[0]
figure = show_images({"image": image, **{f"{n} x {n} bins": levels[3 * i:3 * i + 3] for i, n in
                                         enumerate((1, 2, 3, 6), 1)}}, columns=5, size=2)
lesson.save(figure, "pyramid")

# %%
# One bin knows only the mean color of the scene; more bins know roughly where things are. A pixel that reads all levels
# knows both itself and its surroundings.
#
# 3. One backbone for all (sec. 3.3)
# ----------------------------------
# The paper starts from a ResNet trained on ImageNet. Here a narrow one is trained as part of Table 1's baseline, a dilated
# FCN, with the auxiliary loss on its middle map. Then it stays as it is, and every row gets its maps: rows differ in the
# pyramid and in nothing else. The printed field says how far a pixel of the map can see by itself.

BACKBONE = {"width": 8, "layers": (1, 1, 1, 1)}


def network(row, seed, **more):
    minicv.seed(lesson.seed + seed)
    return models.build("pspnet", num_classes=len(CLASSES), backbone_options=BACKBONE, channels=32, **ROWS[row][2], **more)


start = time.perf_counter()
first = network("baseline", 0)
config = SegmentationConfig(steps=10 if lesson.quick else 400, batch=4, optimizer="adam", lr=0.003, warmup=10,
                            augment=False, seed=lesson.seed)
losses = list(train_segmentation(first, train, config))
print(f"backbone: {first.backbone.num_parameters():,} parameters, loss {np.mean(losses[-20:]):.2f} after {len(losses)} steps, "
      f"{time.perf_counter() - start:.0f} s")
field = max(max(row.field) for row in summarize(first, (3, size, size)).rows if row.name.startswith("backbone"))
print(f"a pixel of its map can see {field} pixels of the image, and the pyramid all of it")

# %%
# Because the backbone does not change, its maps are computed once for all rows.


@no_grad()
def maps_and_labels(dataset):
    """Return the backbone's last maps (count, C, h, w) of all images, and their labels (count, H, W)."""
    first.eval()
    images = np.stack([standardize(dataset[i].image) for i in range(len(dataset))])
    maps = [first.backbone.feature_maps(lesson.tensor(images[i:i + 10]))["last"].numpy() for i in range(0, len(dataset), 10)]
    return np.concatenate(maps), np.stack([dataset[i].label for i in range(len(dataset))])


train_maps, train_labels = maps_and_labels(train)
test_maps, test_labels = maps_and_labels(test)

# %%
# 4. Table 1, row by row
# ----------------------
# The training loop in full: scores from the maps, scaled up to the images; cross entropy without void; the poly learning
# rate, (1 - step / steps)^0.9 (sec. 5.1). Cars are rare, so calling all of them boats would cost little; each class is
# therefore weighted by one over the square root of its pixels. A seed stands for first weights and for an order of the
# images.

steps, seeds = (4, 1) if lesson.quick else (250, 3)
pixels = np.bincount(train_labels[train_labels != 255], minlength=len(CLASSES)) + 1
weights = lesson.tensor((1 / np.sqrt(pixels / pixels.mean())).astype(np.float32))


def scores(net, maps):
    """Return the scores (N, K, H, W) for maps (N, C, h, w)."""
    return F.interpolate(net.decode({"last": lesson.tensor(maps)}), (size, size), mode="bilinear")


def trained(row, seed):
    net, rng = network(row, 1 + seed, auxiliary=0.0), np.random.default_rng([lesson.seed, seed])
    head = [p for name, p in net.named_parameters() if not name.startswith("backbone")]
    optimizer = Adam(head, lr=0.004)
    schedule = LambdaLR(optimizer, poly(steps, power=0.9))
    for _ in range(steps):
        some = rng.choice(len(train), 4, replace=False)
        loss = F.cross_entropy(scores(net, train_maps[some]), lesson.tensor(train_labels[some]), weights, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


# %%
# Three measures, in %: mean IU, the mean over the classes of intersection over union; pixel accuracy; and "vehicles": of
# the pixels of cars that are found as vehicles, how many are found as cars, of the boats' as boats? The last is the mean of
# both kinds, and guessing gives 50%.

MEAN_IU, ACCURACY, VEHICLES = range(3)


@no_grad()
def labels_of(net):
    """Return the predicted labels of all test images, (count, H, W)."""
    return np.concatenate([scores(net, test_maps[i:i + 10]).numpy().argmax(axis=1) for i in range(0, len(test), 10)])


def measure(labels):
    matrix = ConfusionMatrix(len(CLASSES), ignore_index=255)
    matrix.update(labels, test_labels)
    vehicles = matrix.matrix[np.ix_((CAR, BOAT), (CAR, BOAT))]
    right = (vehicles.diagonal() / np.maximum(vehicles.sum(axis=1), 1)).mean()
    return 100 * np.array([matrix.mean_iu, matrix.pixel_accuracy, right])


# %%
# The seven rows. "B1" is global pooling, one bin; "B1236" the pyramid; MAX and AVE say how a bin is pooled; DR reduces the
# channels of each level by a 1x1 convolution. The paper's numbers are on ADE20K.

found, labels = {}, {}
for row in ROWS:
    predictions = [labels_of(trained(row, seed)) for seed in range(seeds)]
    found[row], labels[row] = np.array([measure(p) for p in predictions]), predictions[0]  # (seeds, 3)
    print(f"{row:13s} mean IU {found[row][:, 0].mean():5.2f} +- {found[row][:, 0].std():.2f}   pixel accuracy "
          f"{found[row][:, 1].mean():5.2f}   vehicles {found[row][:, 2].mean():5.1f}   (paper: {ROWS[row][0]}, "
          f"{ROWS[row][1]}, ADE20K)")

# %%
# Means and standard deviations over the seeds. The paper's mean IU (squares) is moved so that both means agree: compare the
# order of the rows, not their height.

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained", sharey=True)
for ax, k, title in ((axes[0], MEAN_IU, "mean IU, %"), (axes[1], VEHICLES, "cars and boats told apart, %")):
    values = np.array([found[row][:, k] for row in ROWS])
    ax.errorbar(values.mean(axis=1), list(ROWS), xerr=values.std(axis=1), fmt="o", color=BLUE, capsize=3, label="here")
    ax.set_xlabel(title)
    ax.grid(axis="x", alpha=0.3)
shift = np.mean([found[row][:, MEAN_IU].mean() - ROWS[row][0] for row in ROWS])
axes[0].plot([row[0] + shift for row in ROWS.values()], list(ROWS), "s", mfc="none", color=ORANGE, label=f"paper, moved by {shift:+.1f}")
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
lesson.save(figure, "table_1")

# %%
# Rows that differ in one option are compared in pairs, and each pair seed by seed: `compare` is a t-test, and with so few
# seeds a small difference cannot be told from chance. Nothing is averaged over pairs, since one good row would hide a bad
# one. A claim holds if it does in every pair, and falls with the first pair in which it clearly does not.


def judge(better, worse, k=MEAN_IU):
    """Return the gain of each row over its partner, in words, and whether all are gains."""
    gains = {b: compare(found[b][:, k] - found[w][:, k]) for b, w in zip(better, worse, strict=True)}
    return ", ".join(f"{b} {text}" for b, (text, _) in gains.items()), all_hold(verdict for _, verdict in gains.values())


text, holds = judge(["B1236+MAX", "B1236+AVE"], ["B1+MAX", "B1+AVE"])
lesson.claim("S6", "PSPNet, table 1", "the pyramid {1,2,3,6} is better than global pooling only {1}",
             f"points of mean IU: {text} (paper: +0.24, +1.00; {seeds} seeds)", holds)
text, holds = judge(["B1+AVE", "B1236+AVE", "B1236+AVE+DR"], ["B1+MAX", "B1236+MAX", "B1236+MAX+DR"])
lesson.claim("S6b", "PSPNet, table 1", "average pooling is at least as good as max pooling",
             f"points of mean IU: {text} (paper: +0.13, +0.89, +0.81; {seeds} seeds)", holds)
text, holds = judge(["B1236+MAX+DR", "B1236+AVE+DR"], ["B1236+MAX", "B1236+AVE"])
lesson.claim("S6c", "PSPNet, table 1", "dimension reduction keeps or improves the result",
             f"points of mean IU: {text} (paper: +0.69, +0.61; {seeds} seeds)", holds)
text, holds = judge(list(ROWS)[1:], ["baseline"] * 6)
lesson.claim("S6d", "PSPNet, table 1", "any global pooling is better than none (baseline)",
             f"points of mean IU: {text} (paper: +2.71 to +4.45; {seeds} seeds)", holds)

# %%
# In the full run the pyramid without reduction is worse than global pooling, and no row is clearly better than the
# baseline: claims S6 and S6d do not hold here. The paper has what this lesson lacks, a backbone that learns along with its
# pyramid and thousands of steps. Without reduction, four levels give the 3x3 convolution five times the channels of the
# map; the rows with reduction (DR) do lie above. Which of these decides is open.
#
# 5. Confused categories (sec. 3.1, Fig. 2)
# -----------------------------------------
# The paper's first example is a boat on a river, which an FCN takes for a car by its looks. Does the pyramid tell more cars
# from boats than the baseline?

text, holds = compare(found["B1236+AVE+DR"][:, VEHICLES] - found["baseline"][:, VEHICLES])
lesson.claim("S7", "PSPNet, sec. 3.1 and Fig. 2", "global context tells apart what looks the same",
             f"cars and boats of the right kind {found['baseline'][:, VEHICLES].mean():.1f}% -> "
             f"{found['B1236+AVE+DR'][:, VEHICLES].mean():.1f}%: {text} points; with global pooling alone "
             f"{found['B1+AVE'][:, VEHICLES].mean():.1f}%", holds)

# %%
# The three test images in which the pyramid helps most with cars and boats: an illustration, not a measurement. Each class
# has its color and its number; white is void, which counts for nobody.

pairs = [(np.isin(t, (CAR, BOAT)) & (a == t)).sum() - (np.isin(t, (CAR, BOAT)) & (b == t)).sum()
         for a, b, t in zip(labels["B1236+AVE+DR"], labels["baseline"], test_labels, strict=True)]
chosen = np.argsort(pairs)[::-1][:3]
figure = segmentation_sheet([test[int(i)].image for i in chosen],
                            {"truth": test_labels[chosen], "baseline": labels["baseline"][chosen],
                             "B1+AVE": labels["B1+AVE"][chosen], "B1236+AVE+DR": labels["B1236+AVE+DR"][chosen]}, CLASSES)
lesson.save(figure, "context")

# %%
# In the full run the gain on cars and boats cannot be told from chance: the baseline already tells 78% of them apart.
lesson.finish()
