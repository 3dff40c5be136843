"""
FCN: a classifier learns to draw
================================

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015): the layers of a classifier
as convolutions, scores on three grids, and what the paper measures of them, small and on generated scenes. Lesson 06 is the
way there. Beside it: `minicv/models/segmentation/fcn.py`.
"""

# %%
from minicv.course.lessons import Lesson, all_hold, compare

lesson = Lesson("07_fcn", __doc__)

import dataclasses

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import models, nn
from minicv.data import SegmentationAugment, standardize
from minicv.data.generated.street_scenes import StreetScenes
from minicv.metrics import ConfusionMatrix
from minicv.metrics.boundary import BoundaryFScore
from minicv.models.segmentation.patchwise import PixelwiseNet
from minicv.models.summary import summarize
from minicv.optim import Adam
from minicv.training import SegmentationConfig, take_weights, train_segmentation
from minicv.viz import PALETTE, plot_runs
from minicv.viz.segmentation import segmentation_sheet

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255

# %%
# 1. Where the scores lie (sec. 4.2)
# ----------------------------------
# A position of the last map stands for 32x32 pixels, and FCN-32s scales its scores up at once. FCN-16s adds the scores of
# pool4 and FCN-8s also those of pool3, on grids twice and four times as fine. The paper pads the image by 100 pixels; this
# and the windows on the way decide where the grids lie. The crops that make them meet are numbers that the authors publish
# and the model derives.

with nn.init.blank():  # weights that are only counted need not be drawn
    for name in ("fcn32s", "fcn16s", "fcn8s"):
        net = models.build(name, "paper")
        print(f"{name} on VGG16: {net.num_parameters():,} parameters, first score at pixel {net.first:+}, crops "
              f"{net.offsets}")
    del net

# %%
# 2. Scenes, and how everything below is trained
# ----------------------------------------------
# Nine classes in images of 64x64: grounds, large and small things, poles one or two pixels wide. Every network sees the
# same examples for the same number of steps. The backbones are narrow and have batch norm, so that they learn from scratch;
# fc6 is 1x1, because the images are small, and dropout is off, because the training is short.

seeds, stage = (1, 6) if lesson.quick else (4, 29)  # steps of each stage of section 3; all others get three times that
train = StreetScenes(80, 64, lesson.seed, keep=True)
test = StreetScenes(8 if lesson.quick else 30, 64, lesson.seed + 1, keep=True)
NETWORK = {"num_classes": train.num_classes, "width": 8, "pooled": 1, "hidden": 64, "dropout": 0.0}


def fresh(name="fcn8s", seed=0, **options):
    minicv.seed(lesson.seed + seed)
    return models.build(name, **{**NETWORK, **options})


def fit(net, seed, steps=3 * stage, data=train, augment=False, part=0):
    """Train a network further; each ``part`` of a seed's training has its own order of the images."""
    config = SegmentationConfig(steps=steps, batch=4, optimizer="adam", lr=0.004, schedule="constant", warmup=5,
                                augment=augment, seed=lesson.seed + 10 * seed + part)
    losses = list(train_segmentation(net, data, config))
    print(f"  seed {seed}, {type(net).__name__}, {steps} steps: loss {np.mean(losses[-10:]):.2f}")
    return net


# %%
# Two measures: mean IU, the intersection over union of prediction and truth, averaged over the classes; and the boundary
# F-score, which compares only the borders, with a tolerance of one pixel. A seed stands for first weights and for an order
# of the images. We compare seed by seed, with a t-test (`compare`): with so few seeds a small difference cannot be told
# from chance, and the lesson then says so.


def measure(net):
    """Return mean IU and boundary F-score on the test images, in %."""
    regions, borders = ConfusionMatrix(test.num_classes, test.ignore_index), BoundaryFScore(test.num_classes, 1.0)
    for sample in test:
        labels = net.predict([sample.image])[0].labels
        regions.update(labels, sample.label)
        borders.update(labels, sample.label)
    return 100 * np.array([regions.mean_iu, borders.mean])


def text(values):
    """Return mean and spread of mean IU over the seeds, in words."""
    values = np.array(values)[:, 0]
    return f"{values.mean():.1f}" + (f" +- {values.std():.1f}" if len(values) > 1 else "")


def gain(better, worse, k=0, needed=0.0):
    """Return the gain in points of mean IU (k=0) or boundary F (k=1), in words, and whether it is more than needed."""
    return compare(np.array(better)[:, k] - np.array(worse)[:, k], needed)


# %%
# 3. Skips sharpen (sec. 4.2, table 2; claim F5)
# ----------------------------------------------
# As in the paper we train in stages: FCN-32s, then FCN-16s from its weights, then FCN-8s from those. All three get the same
# number of steps in all. "At once" is FCN-8s without stages; the later sections use it as "from scratch".

nets, scores = {}, {name: [] for name in ("fcn32s", "fcn16s", "fcn8s", "at once")}
for seed in range(seeds):
    one = fit(fresh("fcn32s", seed), seed, stage)
    two, three = fresh("fcn16s", seed), fresh("fcn8s", seed)
    take_weights(two, one.state_dict())
    nets["fcn32s"] = fit(one, seed, 2 * stage, part=1)
    take_weights(three, fit(two, seed, stage, part=1).state_dict())
    nets["fcn16s"] = fit(two, seed, stage, part=2)
    nets["fcn8s"] = fit(three, seed, stage, part=2)
    nets["at once"] = fit(fresh("fcn8s", seed), seed)
    for name, net in nets.items():
        scores[name].append(measure(net))
mean = {name: np.mean(values, axis=0) for name, values in scores.items()}
finer = [gain(scores[fine], scores[coarse], k) for fine, coarse in (("fcn16s", "fcn32s"), ("fcn8s", "fcn16s"))
         for k in (0, 1)]
lesson.claim("F5", "FCN, sec. 4.2 and table 2", "skips sharpen: FCN-32s < FCN-16s < FCN-8s",
             "mean IU " + ", ".join(f"{name} {text(v)}" for name, v in scores.items()) + "; boundary F " +
             ", ".join(f"{m[1]:.1f}" for m in mean.values()) + "; from 32s to 16s {} and {}, from 16s to 8s {} and {} "
             "points".format(*(t for t, _ in finer)) + f" ({seeds} seeds; the paper: 59.4, 62.4, 62.7)",
             all_hold(verdict for _, verdict in finer))

# %%
# What the networks draw, each class in its color; the numbers are those of the legend. White is void, which counts for
# nobody. Look at how fine the outlines are from left to right.

shown, titles = [test[i] for i in range(3)], ("FCN-32s", "FCN-16s", "FCN-8s", "FCN-8s, at once")
figure = segmentation_sheet([s.image for s in shown], {
    "truth": [s.label for s in shown], **{title: [r.labels for r in net.predict([s.image for s in shown])]
                                          for title, net in zip(titles, nets.values(), strict=True)}}, test.class_names, size=1.8)
lesson.save(figure, "skips")

# %%
# In the full run each finer grid draws better borders on average, but after so few steps the step from 16s to 8s cannot be
# told from chance. Training at once is far ahead of the stages: in the stages, each new skip has had only a third of the
# steps.
#
# 4. Fine-tuning (sec. 4.3; claim F6)
# -----------------------------------
# First a VGG16 learns to name the class in the middle of crops of 32x32 from other scenes. Its crops are standardized one
# by one, to mean 0 and deviation 1, as FCN's images are (`standardize`). The classifiers of ImageNet and of lesson 05 saw
# ImageNet's fixed means and deviations instead; a backbone taken from them would see inputs in another range.


def classifier(seed):
    net, rng = fresh("vgg16", seed, batch_norm=True), np.random.default_rng(lesson.seed + seed)
    others = StreetScenes(300 if not lesson.quick else 20, 32, lesson.seed + 2 + seed, keep=True)
    crops = [s for s in others if s.label[16, 16] != others.ignore_index]
    x = np.stack([standardize(s.image) for s in crops])
    y = np.array([s.label[16, 16] for s in crops])
    optimizer = Adam(net.parameters(), 0.004)
    for _ in range(3 * stage):
        batch = rng.choice(len(x), 16)
        loss = F.cross_entropy(net(lesson.tensor(x[batch])), lesson.tensor(y[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


# %%
# FCN-8s then starts from the classifier's weights. Either everything is trained, or only the scores and the upsampling
# ("output"). The paper finds about 70% of the mean IU with the output alone.

regimes = {"everything": [], "output": []}
for seed in range(seeds):
    trained = classifier(seed)
    for regime, values in regimes.items():
        net = fresh("fcn8s", seed)
        take_weights(net, trained.state_dict())
        net.fine_tune(regime)
        values.append(measure(fit(net, seed)))
whole, share = regimes["everything"], np.divide(*(np.mean(regimes[r], axis=0)[0] for r in ("output", "everything")))
over = {"the output alone": gain(whole, regimes["output"]), "from scratch": gain(whole, scores["at once"])}
lesson.claim("F6", "FCN, sec. 4.3", "fine-tuning everything beats fine-tuning the output alone, and training from scratch",
             f"mean IU: everything {text(whole)}, output {text(regimes['output'])}, {share:.0%} of it (the paper: about "
             f"70%), from scratch {text(scores['at once'])}; everything over " +
             ", over ".join(f"{name} {t}" for name, (t, _) in over.items()) + f" points ({seeds} seeds)",
             all_hold(verdict for _, verdict in over.values()))

# %%
# In the full run everything clearly beats the output alone, but cannot be told from training from scratch. Whether more
# crops, or a longer training of the classifier, would help is open.
#
# 5. Backbones (table 1; claim F7) and no pooling at all (claim F8)
# -----------------------------------------------------------------
# One budget, about 20 million multiply-accumulates (MACs) an image, spent in four ways: on AlexNet, on GoogLeNet, on VGG16,
# and on five 3x3 convolutions at full size without any pooling. The last see only 11 pixels. Whether they label worse must
# be measured: in scenes whose textures tell the classes, 11 pixels may be enough.

others = {"AlexNet": lambda seed: fresh("fcn8s", seed, backbone="alexnet", width=24),
          "GoogLeNet": lambda seed: models.build("fcn8s", "compact", num_classes=9, backbone="googlenet", width=24,
                                                 dropout=0.0),
          "no pooling": lambda seed: PixelwiseNet(9, 3, width=11, depth=5)}
results, size = {"VGG16": scores["at once"]}, {"VGG16": summarize(nets["at once"], (3, 64, 64))}
for name, make in others.items():
    minicv.seed(lesson.seed)
    results[name], size[name] = [], summarize(make(0), (3, 64, 64))
    for seed in range(seeds):
        minicv.seed(lesson.seed + seed)
        results[name].append(measure(fit(make(seed), seed)))


def field(name):
    """Return the receptive field of the scores that look farthest, in pixels."""
    return max(row.field[0] for row in size[name].rows if row.field)


for name, values in results.items():
    print(f"{name}: {size[name].macs / 1e6:.0f} M MACs, {size[name].parameters:,} parameters, sees {field(name)} "
          f"pixels: mean IU {text(values)}, boundary F {np.mean(values, axis=0)[1]:.1f}")

# %%
# Is VGG16 the best of the three backbones? The paper's numbers are on PASCAL VOC.

over = {name: gain(results["VGG16"], results[name]) for name in ("AlexNet", "GoogLeNet", "no pooling")}
lesson.claim("F7", "FCN, table 1", "VGG16 beats AlexNet and GoogLeNet as a backbone",
             "mean IU " + ", ".join(f"{n} {text(results[n])} ({size[n].macs / 1e6:.0f} M MACs)"
                                    for n in ("AlexNet", "VGG16", "GoogLeNet")) + f"; over AlexNet {over['AlexNet'][0]}, "
             f"over GoogLeNet {over['GoogLeNet'][0]} points ({seeds} seeds; the paper: 39.8, 56.0, 42.5)",
             all_hold(over[name][1] for name in ("AlexNet", "GoogLeNet")))

# %%
# And what would it cost to see as much as FCN-8s without pooling? Each 3x3 convolution adds two pixels to the field, so we
# count the MACs of a network that is deep enough. In the full run the network without pooling labels clearly better, so
# claim F8b does not hold here. Whether the textures of these scenes are the reason is open.

with nn.init.blank():
    deep = PixelwiseNet(9, 3, width=11, depth=field("VGG16") // 2)
cost = summarize(deep, (3, 64, 64)).macs / size["VGG16"].macs
lesson.claim("F8", "FCN, sec. 3; notes 001", "without pooling, as much context costs far more, and the same work sees less",
             f"for {size['no pooling'].macs / 1e6:.0f} M MACs {field('no pooling')} pixels of context, FCN-8s for "
             f"{size['VGG16'].macs / 1e6:.0f} M {field('VGG16')}; to see as much without pooling takes {field('VGG16') // 2} "
             f"such convolutions, {cost:.0f} times the MACs", cost > 5 and field("no pooling") < field("VGG16") / 5)
lesson.claim("F8b", "FCN, sec. 3; notes 001", "for the same work, a network without pooling labels worse",
             f"mean IU {text(results['no pooling'])}, FCN-8s {text(results['VGG16'])}: {over['no pooling'][0]} points "
             f"({seeds} seeds)", over["no pooling"][1])

# %%
# 6. Augmentation and class balancing (sec. 4.3; claim F9)
# --------------------------------------------------------
# Two changes, each by itself: images mirrored and moved (enlarged by up to a quarter and cropped at random), and a loss in
# which every class has the same total weight, at most ten times the usual. "Noticeable" is a gain of more than a point of
# mean IU. To hold, the claim needs both gains clearly below a point; a gain that is neither clearly above nor clearly below
# proves nothing.

count = np.bincount(np.concatenate([s.label[s.label < 9] for s in train]), minlength=9)
weight = np.minimum(count.mean() / np.maximum(count, 1), 10).astype(np.float32)
balanced = [dataclasses.replace(s, weight=weight[np.minimum(s.label, 8)]) for s in train]
moved = SegmentationAugment(scale=(1.0, 1.25), jitter=0.0)
both = {"mirrored and moved": [measure(fit(fresh("fcn8s", s), s, augment=moved)) for s in range(seeds)],
        "balanced": [measure(fit(fresh("fcn8s", s), s, data=balanced)) for s in range(seeds)]}
gains = {name: gain(v, scores["at once"], needed=1.0) for name, v in both.items()}
lesson.claim("F9", "FCN, sec. 4.3", "mirroring, jitter and class balancing bring nothing noticeable, not a point of mean IU",
             f"mean IU as it is {text(scores['at once'])}; " +
             ", ".join(f"{name} {text(v)}, a gain of {gains[name][0]} points" for name, v in both.items()) +
             f" ({seeds} seeds)", all_hold(None if more is None else not more for _, more in gains.values()))

# %%
# All results side by side: bars are means over the seeds, dots the seeds. The dotted line is FCN-8s at once, to which
# fine-tuning (green) and the changes (orange) compare.

runs = {**dict(zip(titles, scores.values(), strict=True)), "fine-tuned": regimes["everything"],
        "output only": regimes["output"], **{n: results[n] for n in others}, **both}
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", sharey=True)
for k, (ax, title) in enumerate(zip(axes, ("mean IU, %", "boundary F-score, %"), strict=True)):
    plot_runs(ax, {name: np.array(v)[:, k] for name, v in runs.items()}, [BLUE] * 4 + [GREEN] * 2 + [ORANGE] * 5)
    ax.axvline(mean["at once"][k], color="0.3", ls=":", lw=1)
    ax.set_xlabel(title)
lesson.save(figure, "results")

# %%
# In the full run, too, the longest bars are those of the network without pooling.
lesson.finish()
