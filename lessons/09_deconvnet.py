"""
DeconvNet: the way back in the mirror
=====================================

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation" (ICCV 2015): where FCN-32s goes from 32
pixels per position to one in a single step, DeconvNet climbs all the stairs that VGG16 went down, and puts each number
back where pooling had found it. Beside it: `minicv/models/segmentation/deconvnet.py` and `minicv/ops/unpool.py`.
"""

# %%
from minicv.course.lessons import Lesson, compare, every

lesson = Lesson("09_deconvnet", __doc__)

import matplotlib.pyplot as plt
import numpy as np

import minicv
import minicv.ops as F
from minicv import Tensor, models, nn, no_grad
from minicv.data import standardize
from minicv.data.generated.street_scenes import THINGS, StreetScenes
from minicv.metrics import ConfusionMatrix
from minicv.metrics.boundary import BoundaryFScore
from minicv.metrics.object_size import ObjectSizeScores
from minicv.models.segmentation.deconvnet import ensemble
from minicv.models.summary import summarise
from minicv.training.segmentation import SegmentationConfig, train_segmentation
from minicv.viz import PALETTE, show_images
from minicv.viz.segmentation import segmentation_sheet

BLUE, ORANGE, GREEN = PALETTE[[5, 1, 3]] / 255

# %%
# 1. The network (fig. 2 and table 2)
# -----------------------------------
# VGG16 down to one position of 4096 numbers, and the same layers upwards. `summarise` follows the maps.

with nn.init.blank():  # weights that are only counted need not be drawn
    paper = models.build("deconvnet", "paper")
rows = [r for r in summarise(paper, (3, 224, 224)).rows if not r.op.startswith("batch_norm")]
down, up = [], []
for row in rows:
    (up if any(r.op.startswith("conv_transpose") for r in rows[:rows.index(row) + 1]) else down).append(row)
for name, half in (("down", down), ("up", up)):
    print(f"{name}: " + "  ".join(f"{r.op.split(',')[0].replace(' 2x2', '')} {r.shape[1]}x{r.shape[0]}" for r in half))
print(f"{paper.num_parameters():,} parameters, about 252 million, as the paper says; fc6 and its mirror hold "
      f"{2 * paper.fc6.conv.weight.size / paper.num_parameters():.0%} of them")
del paper

# %%
# 2. Unpooling, three ways (fig. 3)
# ---------------------------------
# What max pooling kept, brought back with switches, as blocks, or as nails. Only the first knows where it was.

train = StreetScenes(80, 64, lesson.seed, keep=True)
test = StreetScenes(8 if lesson.quick else 30, 64, lesson.seed + 1, keep=True)
grey = Tensor(test[0].image.mean(axis=0)[None, None])
pooled, switches = F.max_pool2d(grey, 4, return_indices=True)
back = {"switches": F.max_unpool2d(pooled, switches, 4), "nearest": F.unpool_nearest(pooled, 4),
        "nails": F.unpool_bed_of_nails(pooled, 4)}
lesson.save(show_images({"picture": grey.numpy()[0, 0], "its 4x4 maxima, 16x16": pooled.numpy()[0, 0],
                    **{name: y.numpy()[0, 0] for name, y in back.items()}}, columns=5, size=2.1, vmin=0, vmax=1),
            "unpooling")

# %%
# 3. DeconvNet against FCN-32s (claim S1)
# ---------------------------------------
# Scenes with nine classes. All networks are small, see the same examples, whole pictures, for as many steps, and start
# from scratch: the paper's two stages, crops with one object in the centre and then crops around proposals, and its start
# from a VGG16 that knows ImageNet, are left out (`two_stage=True` in the config makes such crops). Every seed stands for
# other first weights and another order of the pictures. Learning rates were chosen on other scenes, one for FCN and one
# for DeconvNet, whose many batch norms allow a larger one.

seeds, steps = (1, 10) if lesson.quick else (3, 270)
NETWORK = {"num_classes": train.num_classes, "width": 8}
DECONV = {**NETWORK, "convs": (1, 2, 2, 2), "hidden": 64, "side": 2}
FCN = {**NETWORK, "pooled": 1, "hidden": 64, "dropout": 0.0}
NETS = {"FCN-32s": ("fcn32s", FCN), "FCN-8s": ("fcn8s", FCN), "DeconvNet": ("deconvnet", DECONV),
        "nearest": ("deconvnet", {**DECONV, "unpooling": "nearest"}),
        "nails": ("deconvnet", {**DECONV, "unpooling": "nails"})}


def trained(name, seed):
    minicv.seed(lesson.seed + seed)
    model, options = NETS[name]
    net = models.build(model, **options)
    losses = list(train_segmentation(net, train, SegmentationConfig(
        steps=steps, batch=4, optimizer="adam", lr=0.02 if model == "deconvnet" else 0.005, warmup=5, augment=False,
        seed=lesson.seed + seed)))
    print(f"  {name}, seed {seed}: loss {np.mean(losses[-10:]):.2f}, {net.num_parameters():,} parameters, "
          f"{summarise(net, (3, 64, 64)).macs / 1e6:.0f} M MACs")
    return net


def measure(results):
    """In %: mean IU, boundary F-score (one pixel), recall of things smaller than 40 pixels."""
    regions, borders = ConfusionMatrix(test.num_classes, test.ignore_index), BoundaryFScore(test.num_classes, 1.0)
    objects = ObjectSizeScores(test.num_classes, (40,), THINGS)
    for sample, result in zip(test, results, strict=True):
        for meter in (regions, borders):
            meter.update(result.labels, sample.label)
        objects.update(result.labels, sample.label, sample.instances)
    return 100 * np.array([regions.mean_iu, borders.mean, objects.recall[0]])


images = [sample.image for sample in test]
nets, scores = {}, {name: [] for name in (*NETS, "DeconvNet + FCN-8s")}
for seed in range(seeds):
    for name in NETS:
        nets[name] = trained(name, seed)
        scores[name].append(measure(nets[name].predict(images)))
    both = ensemble([nets["DeconvNet"], nets["FCN-8s"]], images)  # DeconvNet, sec. 4.3: mean of probabilities
    scores["DeconvNet + FCN-8s"].append(measure(both))
mean = {name: np.mean(values, axis=0) for name, values in scores.items()}


def text(name, k):
    values = np.array(scores[name])[:, k]
    return f"{values.mean():.1f}" + (f" +- {values.std():.1f}" if seeds > 1 else "")


# %%
# Seed by seed, a t-test over the differences (`compare`). A claim in parts holds if every part does. If a network finds no
# small thing at all with one seed and many with another, the spread is large, and the mean alone proves nothing.

METRICS = ("mean IU", "boundary F", "recall of things below 40 pixels")


def judge(better, others, ks):
    """The gains of one network over others by the metrics ks: in words, and whether all are gains."""
    gains = {f"{METRICS[k]}, over {worse}": compare(np.array(scores[better])[:, k] - np.array(scores[worse])[:, k])
             for worse in others for k in ks}
    return "; ".join(f"{name}: {gain} points" for name, (gain, _) in gains.items()), every(v for _, v in gains.values())


words, holds = judge("DeconvNet", ["FCN-32s"], (1, 2))
lesson.claim("S1", "DeconvNet, sec. 1 and 5", "DeconvNet recovers finer structures than FCN-32s",
             f"boundary F {text('FCN-32s', 1)} -> {text('DeconvNet', 1)}, recall of things below 40 pixels "
             f"{text('FCN-32s', 2)} -> {text('DeconvNet', 2)}%, mean IU {text('FCN-32s', 0)} -> {text('DeconvNet', 0)}; "
             f"{words} ({seeds} seeds)", holds)
words, holds = judge("DeconvNet + FCN-8s", ["DeconvNet", "FCN-8s"], (0,))
lesson.claim("S1b", "DeconvNet, sec. 4.3 and table 1", "the mean of DeconvNet's and FCN-8s's probabilities beats both",
             f"mean IU DeconvNet {text('DeconvNet', 0)}, FCN-8s {text('FCN-8s', 0)}, both "
             f"{text('DeconvNet + FCN-8s', 0)}; {words} ({seeds} seeds)", holds)
words, holds = judge("DeconvNet", ["nearest", "nails"], (1,))
lesson.claim("A5c", "DeconvNet, sec. 3.2.1", "switches keep locations that nearest and bed-of-nails unpooling lose",
             "boundary F in the trained network: " + ", ".join(
                 f"{label} {text(name, 1)}" for name, label in (("DeconvNet", "switches"), ("nearest", "nearest"),
                                                                ("nails", "nails"))) + f"; {words} ({seeds} seeds)", holds)
figure = segmentation_sheet(images[:3], {"truth (white: void)": [test[i].label for i in range(3)], **{
    name.replace("nearest", "nearest unpooling"): [r.labels for r in nets[name].predict(images[:3])]
    for name in ("FCN-32s", "FCN-8s", "DeconvNet", "nearest")}, "mean with FCN-8s": [r.labels for r in both[:3]]},
    test.class_names, size=1.7)
lesson.save(figure, "predictions")

# %%
# 4. From coarse to fine (fig. 4)
# -------------------------------
# The strongest map after each unpooling and after the deconvolutions behind it: positions first, then dense shapes.

net, x, stages = nets["DeconvNet"].eval(), lesson.tensor(standardize(images[0])[None]), {"picture": images[0]}
with no_grad():
    for name, maps in net.coarse_to_fine(x):
        strongest = maps.numpy()[0, maps.numpy()[0].mean(axis=(1, 2)).argmax()]
        stages[f"{name}, {maps.shape[2]}x{maps.shape[3]}"] = strongest / max(strongest.max(), 1e-6)
lesson.save(show_images(stages, columns=5, size=1.9), "coarse_to_fine")

figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for k, (colour, name) in enumerate(((BLUE, "mean IU"), (ORANGE, "boundary F-score"), (GREEN, "recall, small things"))):
    at = np.arange(len(scores)) + 0.27 * (k - 1)
    ax.bar(at, [m[k] for m in mean.values()], 0.25, color=colour, label=name)
    for place, values in zip(at, scores.values(), strict=True):
        ax.plot([place] * len(values), np.array(values)[:, k], "k.", ms=3)
ax.set(xticks=range(len(scores)), ylabel="%", title="On test scenes; dots are seeds")
names = {"nearest": "DeconvNet,\nnearest", "nails": "DeconvNet,\nnails", "DeconvNet + FCN-8s": "DeconvNet\n+ FCN-8s"}
ax.set_xticklabels([names.get(n, n) for n in scores], fontsize=8)
ax.legend(fontsize=8)
lesson.save(figure, "results")
lesson.finish()
