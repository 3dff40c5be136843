"""
FCN: a classifier learns to draw
================================

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015): a classifier's layers
as convolutions, scores on three grids, and what the paper measured of them, small, on generated scenes. Lesson
06 is the way there. Beside it: `minicv/models/segmentation/fcn.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare, every

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
from minicv.models.summary import summarise
from minicv.optim import Adam
from minicv.training.segmentation import SegmentationConfig, train_segmentation
from minicv.viz import PALETTE
from minicv.viz.segmentation import segmentation_sheet

BLUE, ORANGE, GREEN = PALETTE[5] / 255, PALETTE[1] / 255, PALETTE[3] / 255

# %%
# 1. Where the scores lie (sec. 4.2)
# ----------------------------------
# A position of the last map stands for 32x32 pixels. FCN-16s adds the scores of pool4, FCN-8s those of pool3, on grids
# twice and four times as fine. The paper's 100 pixels of padding and the windows on the way decide where the grids lie;
# the crops that make them meet are numbers that the authors published, and the model derives.

with nn.init.blank():  # weights that are only counted need not be drawn
    for name in ("fcn32s", "fcn16s", "fcn8s"):
        net = models.build(name, "paper")
        print(f"{name} on VGG16: {net.num_parameters():,} parameters, first score at pixel {net.first:+}, crops "
              f"{net.offsets}")
    del net

# %%
# 2. Scenes, and how everything below is trained
# ----------------------------------------------
# Nine classes in pictures of 64x64: grounds, large and small things, poles one or two pixels wide. Every network sees
# the same examples for the same number of steps. Backbones are narrow and have batch norm, so that they learn from
# scratch; fc6 is 1x1, as the pictures are small, and dropout is off, as the training is short. Every seed stands for
# other first weights and another order of the pictures. What is compared is compared seed by seed, by a t-test
# (`compare`): with this few seeds, a small difference cannot be told from chance, and the lesson then says so.

seeds, stage = (1, 6) if lesson.quick else (4, 29)  # steps of each stage of section 3; all others get three times that
train, test = StreetScenes(80, 64, lesson.seed, keep=True), StreetScenes(8 if lesson.quick else 30, 64, lesson.seed + 1, keep=True)
NETWORK = {"num_classes": train.num_classes, "width": 8, "pooled": 1, "hidden": 64, "dropout": 0.0}


def fit(net, seed, steps=3 * stage, data=train, augment=False, part=0):
    """Train a network further; each ``part`` of a seed's training has an order of the pictures of its own."""
    config = SegmentationConfig(steps=steps, batch=4, optimizer="adam", lr=0.004, schedule="constant", warmup=5,
                                augment=augment, seed=lesson.seed + 10 * seed + part)
    losses = list(train_segmentation(net, data, config))
    print(f"  seed {seed}, {type(net).__name__}, {steps} steps: loss {np.mean(losses[-10:]):.2f}")
    return net


def fresh(name="fcn8s", seed=0, **options):
    minicv.seed(lesson.seed + seed)
    return models.build(name, **{**NETWORK, **options})


def measure(net):
    """Mean IU and boundary F-score (one pixel tolerance) on the test pictures, in %."""
    regions, borders = ConfusionMatrix(test.num_classes, test.ignore_index), BoundaryFScore(test.num_classes, 1.0)
    for sample in test:
        labels = net.predict([sample.image])[0].labels
        regions.update(labels, sample.label)
        borders.update(labels, sample.label)
    return 100 * np.array([regions.mean_iu, borders.mean])


def text(values):
    """Mean and spread of mean IU over the seeds."""
    values = np.array(values)[:, 0]
    return f"{values.mean():.1f}" + (f" +- {values.std():.1f}" if len(values) > 1 else "")


def gain(better, worse, k=0, needed=0.0):
    """How many points of mean IU (k=0) or boundary F (k=1) it is better by, in words, and whether by more than needed."""
    return compare(np.array(better)[:, k] - np.array(worse)[:, k], needed)


# %%
# 3. Skips sharpen (sec. 4.2, table 2; claim F5)
# ----------------------------------------------
# As in the paper, in stages: FCN-32s, then FCN-16s from its weights, then FCN-8s from those. All three are trained for
# the same number of steps in all. "At once" is FCN-8s without stages; it serves all later sections as "from scratch".

nets, scores = {}, {name: [] for name in ("fcn32s", "fcn16s", "fcn8s", "at once")}
for seed in range(seeds):
    one = fit(fresh("fcn32s", seed), seed, stage)
    two, three = fresh("fcn16s", seed), fresh("fcn8s", seed)
    two.initialize_from(one)
    nets["fcn32s"] = fit(one, seed, 2 * stage, part=1)
    three.initialize_from(fit(two, seed, stage, part=1))
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
             every(verdict for _, verdict in finer))
shown = [test[i] for i in range(3)]
figure = segmentation_sheet([s.image for s in shown], {
    "truth (white: void)": [s.label for s in shown],
    **{name.replace("fcn", "FCN-").replace("at", "FCN-8s, at"): [
        r.labels for r in net.predict([s.image for s in shown])] for name, net in nets.items()}}, test.class_names,
    size=1.8)
lesson.save(figure, "skips")

# %%
# 4. Fine-tuning (sec. 4.3; claim F6)
# -----------------------------------
# A VGG16 is trained to name the class in the middle of crops of 32x32 from other scenes. FCN-8s then begins with its
# weights, and all of it is trained, or only the scores and the upsampling ("output"). Both see pictures that were shifted
# and scaled to mean 0 and deviation 1, one by one (`standardize`). ImageNet's classifiers and those of lesson 05 saw
# ImageNet's fixed means and deviations instead: a backbone taken from them meets other numbers at first than it knows.


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


regimes = {"everything": [], "output": []}
for seed in range(seeds):
    trained = classifier(seed)
    for regime, values in regimes.items():
        net = fresh("fcn8s", seed)
        net.initialize_from(trained)
        net.fine_tune(regime)
        values.append(measure(fit(net, seed)))
whole, share = regimes["everything"], np.divide(*(np.mean(regimes[r], axis=0)[0] for r in ("output", "everything")))
over = {"the output alone": gain(whole, regimes["output"]), "from scratch": gain(whole, scores["at once"])}
lesson.claim("F6", "FCN, sec. 4.3", "fine-tuning everything beats fine-tuning the output alone, and training from scratch",
             f"mean IU: everything {text(whole)}, output {text(regimes['output'])}, {share:.0%} of it (the paper: about "
             f"70%), from scratch {text(scores['at once'])}; everything over " +
             ", over ".join(f"{name} {t}" for name, (t, _) in over.items()) + f" points ({seeds} seeds)",
             every(verdict for _, verdict in over.values()))

# %%
# 5. Backbones (table 1; claim F7) and no pooling at all (claim F8)
# --------------------------------------------------------------
# The same budget, about 20 million multiply-accumulates a picture, for AlexNet, GoogLeNet, VGG16, and for five 3x3
# convolutions at full size. That they see less is plain; whether they label worse is measured, for in scenes whose
# textures tell the classes, 11 pixels may be enough. And what would it cost them to see as much as FCN-8s?

others = {"AlexNet": lambda seed: fresh("fcn8s", seed, backbone="alexnet", width=24),
          "GoogLeNet": lambda seed: models.build("fcn8s", "compact", num_classes=9, backbone="googlenet", width=24,
                                                 dropout=0.0),
          "no pooling": lambda seed: PixelwiseNet(9, 3, width=11, depth=5)}
results, size = {"VGG16": scores["at once"]}, {"VGG16": summarise(nets["at once"], (3, 64, 64))}
for name, make in others.items():
    minicv.seed(lesson.seed)
    results[name], size[name] = [], summarise(make(0), (3, 64, 64))
    for seed in range(seeds):
        minicv.seed(lesson.seed + seed)
        results[name].append(measure(fit(make(seed), seed)))


def field(name):
    """The receptive field of the scores that look farthest, pixels."""
    return max(row.field[0] for row in size[name].rows if row.field)


for name, values in results.items():
    print(f"{name}: {size[name].macs / 1e6:.0f} M MACs, {size[name].parameters:,} parameters, sees {field(name)} "
          f"pixels: mean IU {text(values)}, boundary F {np.mean(values, axis=0)[1]:.1f}")
over = {name: gain(results["VGG16"], results[name]) for name in ("AlexNet", "GoogLeNet", "no pooling")}
lesson.claim("F7", "FCN, table 1", "VGG16 beats AlexNet and GoogLeNet as a backbone",
             "mean IU " + ", ".join(f"{n} {text(results[n])} ({size[n].macs / 1e6:.0f} M MACs)"
                                    for n in ("AlexNet", "VGG16", "GoogLeNet")) + f"; over AlexNet {over['AlexNet'][0]}, "
             f"over GoogLeNet {over['GoogLeNet'][0]} points ({seeds} seeds; the paper: 39.8, 56.0, 42.5)",
             every(over[name][1] for name in ("AlexNet", "GoogLeNet")))
with nn.init.blank():
    deep = PixelwiseNet(9, 3, width=11, depth=field("VGG16") // 2)  # each 3x3 adds two pixels
cost = summarise(deep, (3, 64, 64)).macs / size["VGG16"].macs
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
# Mirrored and moved pictures (enlarged by up to a quarter and cut at random); and, apart from that, a loss in which
# every class has the same weight in all, at most ten times the usual. "Noticeable" is a gain of more than a point of
# mean IU. That there is none must be seen, too: both gains must be clearly below a point. A gain that is neither clearly
# above nor clearly below it, because the seeds differ by more, proves nothing.

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
             f" ({seeds} seeds)", every(None if more is None else not more for _, more in gains.values()))

# %%
bars = {**{n.replace("fcn", "FCN-"): v for n, v in scores.items()}, "fine-tuned": regimes["everything"],
        "output only": regimes["output"], **{n: results[n] for n in others}, **both}
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", sharey=True)
for k, (ax, title) in enumerate(zip(axes, ("mean IU, %", "boundary F-score, %"), strict=True)):
    values = [np.array(v)[:, k] for v in bars.values()]
    colours = [BLUE] * 4 + [GREEN] * 2 + [ORANGE] * 5
    ax.barh(list(bars), [v.mean() for v in values], color=colours, alpha=0.75)
    for i, v in enumerate(values):
        ax.plot(v, [i] * len(v), "k.", ms=4)
    ax.set(xlabel=title)
    ax.invert_yaxis() if k == 0 else None
    ax.axvline(values[3].mean(), color="0.3", ls=":", lw=1)
figure.suptitle("Mean over the seeds (dots), on test scenes. Dotted: FCN-8s at once, to which green and orange compare",
                fontsize=10)
lesson.save(figure, "results")
lesson.finish()
