"""
DeconvNet: the way back in the mirror
=====================================

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation" (ICCV 2015). FCN-32s goes from one position per
32 pixels to every pixel in a single step. DeconvNet climbs back all the stairs that VGG16 went down, and puts each number where
pooling had found it. Beside it: `minicv/models/segmentation/deconvnet.py` and `minicv/ops/unpool.py`.
"""

# %%
from minicv.course.lessons import Lesson, all_hold, compare

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
from minicv.models.summary import summarize
from minicv.training.segmentation import SegmentationConfig, train_segmentation
from minicv.viz import PALETTE, plot_runs, show_images
from minicv.viz.segmentation import segmentation_sheet

# %%
# 1. The network (fig. 2 and table 2)
# -----------------------------------
# VGG16 goes down to one position of 4096 numbers; the same layers, mirrored, go up again. `summarize` follows the maps
# through the network. Each is printed as side x channels; compare the two lines from their ends.

with nn.init.blank():  # weights that are only counted need not be drawn
    paper = models.build("deconvnet", "paper")
rows = [r for r in summarize(paper, (3, 224, 224)).rows if not r.op.startswith("batch_norm")]
first_up = next(i for i, row in enumerate(rows) if row.op.startswith("conv_transpose"))
for name, half in (("down", rows[:first_up]), ("up", rows[first_up:])):
    print(f"{name}: " + "  ".join(f"{r.op.split(',')[0].replace(' 2x2', '')} {r.shape[1]}x{r.shape[0]}" for r in half))
print(f"{paper.num_parameters():,} parameters, about 252 million, as the paper says; fc6 and its mirror hold "
      f"{2 * paper.fc6.conv.weight.size / paper.num_parameters():.0%} of them")
del paper

# %%
# 2. Unpooling, three ways (fig. 3)
# ---------------------------------
# An image is max pooled in windows of 4x4 and brought back in three ways: with switches, the recorded positions of the
# maxima; as blocks (nearest); and as a bed of nails, each maximum in the corner of its window. Black is 0 and white is 1.
# Which one knows where the maxima were?

train = StreetScenes(80, 64, lesson.seed, keep=True)
test = StreetScenes(8 if lesson.quick else 30, 64, lesson.seed + 1, keep=True)
gray = Tensor(test[0].image.mean(axis=0)[None, None])
pooled, switches = F.max_pool2d(gray, 4, return_indices=True)
back = {"switches": F.max_unpool2d(pooled, switches, 4), "nearest": F.unpool_nearest(pooled, 4),
        "nails": F.unpool_bed_of_nails(pooled, 4)}
lesson.save(show_images({"image": gray.numpy()[0, 0], "its 4x4 maxima, 16x16": pooled.numpy()[0, 0],
                         **{name: y.numpy()[0, 0] for name, y in back.items()}}, columns=5, size=2.1, vmin=0, vmax=1),
            "unpooling")

# %%
# The nails stand on a regular grid, whatever the image shows; with switches, each point lies where the maximum was.
#
# 3. DeconvNet against FCN-32s (claim S1)
# ---------------------------------------
# Scenes with nine classes. All networks are small, see the same whole images for as many steps, and start from scratch. The
# paper trains in two stages, on crops with one object in the center and then on crops around proposals, and starts from an
# ImageNet VGG16; both are left out here (`two_stage=True` in the config makes such crops). Learning rates were chosen on
# other scenes, one for FCN and a larger one for DeconvNet, whose many batch norms allow it.

seeds, steps = (1, 10) if lesson.quick else (3, 270)
NETWORK = {"num_classes": train.num_classes, "width": 8}
DECONV = {**NETWORK, "convs": (1, 2, 2, 2), "hidden": 64, "side": 2}
FCN = {**NETWORK, "pooled": 1, "hidden": 64, "dropout": 0.0}
NETS = {"FCN-32s": ("fcn32s", FCN), "FCN-8s": ("fcn8s", FCN), "DeconvNet": ("deconvnet", DECONV),
        "nearest": ("deconvnet", {**DECONV, "unpooling": "nearest"}),
        "nails": ("deconvnet", {**DECONV, "unpooling": "nails"})}


def trained(name, seed):
    """Return a network after training; a seed stands for first weights and an order of the images."""
    minicv.seed(lesson.seed + seed)
    model, options = NETS[name]
    net = models.build(model, **options)
    losses = list(train_segmentation(net, train, SegmentationConfig(
        steps=steps, batch=4, optimizer="adam", lr=0.02 if model == "deconvnet" else 0.005, warmup=5, augment=False,
        seed=lesson.seed + seed)))
    print(f"  {name}, seed {seed}: loss {np.mean(losses[-10:]):.2f}, {net.num_parameters():,} parameters, "
          f"{summarize(net, (3, 64, 64)).macs / 1e6:.0f} M MACs")
    return net


# %%
# Three measures, in %: mean IU; the boundary F-score, which compares only the borders, with a tolerance of one pixel; and
# the recall of small things, those below 40 pixels. The last network is the mean of DeconvNet's and FCN-8s's probabilities
# (sec. 4.3).

METRICS = ("mean IU", "boundary F", "recall of things below 40 pixels")


def measure(results):
    """Return the METRICS of predictions for the test images, in %."""
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
    both = ensemble([nets["DeconvNet"], nets["FCN-8s"]], images)
    scores["DeconvNet + FCN-8s"].append(measure(both))

# %%
# What the networks draw with the last seed, each class in its color; the numbers are those of the legend. White is void,
# which counts for nobody. Look for poles and signs, the thin things.

columns = {"FCN-32s": "FCN-32s", "FCN-8s": "FCN-8s", "DeconvNet": "DeconvNet", "nearest": "nearest unpooling"}
figure = segmentation_sheet(images[:3], {"truth": [test[i].label for i in range(3)], **{
    title: [r.labels for r in nets[name].predict(images[:3])] for name, title in columns.items()},
    "mean with FCN-8s": [r.labels for r in both[:3]]}, test.class_names, size=1.7)
lesson.save(figure, "predictions")

# %%
# And the measures: bars are means over the seeds, dots the seeds. "Nearest" and "nails" are DeconvNets with another
# unpooling.

names = {"nearest": "DeconvNet, nearest", "nails": "DeconvNet, nails"}
figure, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained", sharey=True)
for k, (ax, metric) in enumerate(zip(axes, METRICS, strict=True)):
    plot_runs(ax, {names.get(n, n): np.array(values)[:, k] for n, values in scores.items()}, PALETTE[(5, 1, 3)[k]] / 255)
    ax.set(xlabel=f"{metric}, %", xlim=(0, None))
lesson.save(figure, "results")

# %%
# If the dots of a bar lie far apart, the mean alone proves nothing. So we compare seed by seed, with a t-test over the
# differences (`compare`). A claim in parts holds if every part does.


def text(name, k):
    values = np.array(scores[name])[:, k]
    return f"{values.mean():.1f}" + (f" +- {values.std():.1f}" if seeds > 1 else "")


def judge(better, others, ks):
    """Return the gains of one network over others by the metrics ks: in words, and whether all are gains."""
    gains = {f"{METRICS[k]}, over {worse}": compare(np.array(scores[better])[:, k] - np.array(scores[worse])[:, k])
             for worse in others for k in ks}
    return "; ".join(f"{name}: {gain} points" for name, (gain, _) in gains.items()), all_hold(v for _, v in gains.values())


words, holds = judge("DeconvNet", ["FCN-32s"], (1, 2))
lesson.claim("S1", "DeconvNet, sec. 1 and 5", "DeconvNet recovers finer structures than FCN-32s",
             f"boundary F {text('FCN-32s', 1)} -> {text('DeconvNet', 1)}, recall of things below 40 pixels "
             f"{text('FCN-32s', 2)} -> {text('DeconvNet', 2)}%, mean IU {text('FCN-32s', 0)} -> {text('DeconvNet', 0)}; "
             f"{words} ({seeds} seeds)", holds)

# %%
# Two more claims: the ensemble beats both of its networks, and switches keep locations that the other ways of unpooling
# lose. In the full run all three lean the paper's way; in each, one comparison cannot be told from chance with three seeds.

words, holds = judge("DeconvNet + FCN-8s", ["DeconvNet", "FCN-8s"], (0,))
lesson.claim("S1b", "DeconvNet, sec. 4.3 and table 1", "the mean of DeconvNet's and FCN-8s's probabilities beats both",
             f"mean IU DeconvNet {text('DeconvNet', 0)}, FCN-8s {text('FCN-8s', 0)}, both "
             f"{text('DeconvNet + FCN-8s', 0)}; {words} ({seeds} seeds)", holds)
words, holds = judge("DeconvNet", ["nearest", "nails"], (1,))
lesson.claim("A5c", "DeconvNet, sec. 3.2.1", "switches keep locations that nearest and bed-of-nails unpooling lose",
             "boundary F in the trained network: " + ", ".join(
                 f"{label} {text(name, 1)}" for name, label in (("DeconvNet", "switches"), ("nearest", "nearest"),
                                                                ("nails", "nails"))) + f"; {words} ({seeds} seeds)", holds)

# %%
# 4. From coarse to fine (fig. 4)
# -------------------------------
# On the way up of one image: the strongest map after each unpooling, and after the deconvolutions behind it. Each map is
# scaled by its largest value, black for 0 and white for the largest. Watch positions turn into shapes.

net, x, stages = nets["DeconvNet"].eval(), lesson.tensor(standardize(images[0])[None]), {"image": images[0]}
with no_grad():
    for name, maps in net.coarse_to_fine(x):
        strongest = maps.numpy()[0, maps.numpy()[0].mean(axis=(1, 2)).argmax()]
        stages[f"{name}, {maps.shape[2]}x{maps.shape[3]}"] = strongest / max(strongest.max(), 1e-6)
lesson.save(show_images(stages, columns=5, size=1.9), "coarse_to_fine")

# %%
# Unpooling leaves single points with zeros between; the deconvolutions behind it fill the gaps.
lesson.finish()
