"""
Classifiers: four networks, one task
====================================

AlexNet (Krizhevsky et al., 2012), VGG (Simonyan and Zisserman, 2015), GoogLeNet (Szegedy et al., 2015) and ResNet (He et
al., 2016), small, trained on the same generated pictures: what they cost, how fast they learn, what they get wrong. Then
two changes to a ResNet: no shortcuts, and depthwise separable convolutions. The weights are kept for the lessons that
go on from them. Beside it: `minicv/models/backbones/`.
"""

# %%
from minicv.course.lessons import CLASSIFIERS, Lesson, weights_file

lesson = Lesson("05_classifiers", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models, nn
from minicv.data import ShapeImages
from minicv.models.summary import summarise
from minicv.training import save_checkpoint
from minicv.training.classification import accuracy, classifier_scores, train_classifier
from minicv.viz import PALETTE, show_images

COLOURS = dict(zip(CLASSIFIERS, PALETTE[[1, 3, 7, 5]] / 255, strict=True))
MARKERS = dict(zip(CLASSIFIERS, "os^D", strict=True))

# %%
# 1. The task
# -----------
# Ten classes of shapes, in any colour and texture, on a ground of any other, of several sizes, turned a little, half of
# them behind a band. Pictures for testing are none of those for training.

pictures = ShapeImages(200 if lesson.quick else 4000, seed=lesson.seed)
classes = pictures.class_names
train, test = pictures.arrays(), ShapeImages(100 if lesson.quick else 500, seed=lesson.seed, split="test").arrays()
lesson.save(show_images({f"{classes[i % 10]}{' ' * (i // 10)}": train[0][i] for i in range(20)}, columns=10, size=1.15),
            "pictures")

# %%
# How far does one get without seeing the outline? The histogram of a picture's colours, in 4 x 4 x 4 bins, knows what
# is in the picture but not where. A linear classifier by least squares on it:


def histograms(images):
    """(N, 3, H, W) in 0..1 -> how many pixels of each of 64 colours, and a 1: (N, 65)."""
    levels = (images * 3.999).astype(int)
    colour = (levels[:, 0] * 16 + levels[:, 1] * 4 + levels[:, 2]).reshape(len(images), -1)
    return np.array([[*np.bincount(c, minlength=64) / c.size, 1] for c in colour])


w = np.linalg.lstsq(histograms(train[0]), np.eye(10)[train[1]])[0]
by_colour = ((histograms(test[0]) @ w).argmax(axis=1) == test[1]).mean()
print(f"by colours alone {by_colour:.1%} right, by chance 10.0%")

# %%
# 2. The networks, and their training
# -----------------------------------
# All are the compact presets, but without dropout: half of 128 neurons is much to lose when there are a few hundred steps
# only. `train_classifier` draws a batch, mirrors some of it, and does what training always is: scores, cross entropy,
# gradients, a step of Adam. The networks have batch norm, but for AlexNet; GoogLeNet has it instead of the auxiliary
# classifiers, which were there to help the lower layers.


def trained(model, data, test, steps, seed=lesson.seed, checks=1, **config):
    """Train; the losses, and (step, seconds of training, accuracy on ``test``) of ``checks`` moments."""
    losses, moments, seconds, start = [], [], 0.0, time.perf_counter()
    for loss in train_classifier(model, *data, steps, seed=seed, **config):
        losses.append(loss)
        if len(losses) * checks // steps > len(moments):
            seconds += time.perf_counter() - start
            moments.append((len(losses), seconds, accuracy(model, *test)))
            start = time.perf_counter()
    return losses, moments


nets, first_filters, runs = {}, {}, {}
print(f"{'':<10} {'parameters':>10} {'MACs':>12} {'accuracy':>9} {'seconds':>8}")
for name, (options, config) in CLASSIFIERS.items():
    minicv.seed(lesson.seed)
    nets[name] = net = models.build(name, **options)
    first_filters[name] = net.parameters()[0].numpy().copy()
    if lesson.quick:
        config = {**config, "steps": 12}
    losses, moments = runs[name] = trained(net, train, test, checks=6, **config)
    weights_file(name, lesson.quick).parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(weights_file(name, lesson.quick), net, pictures=len(pictures), steps=config["steps"])
    work = summarise(net, (3, 64, 64))
    print(f"{name:<10} {work.parameters:10,} {work.macs:12,} {moments[-1][2]:9.1%} {moments[-1][1]:8.1f}")

# %%
# Which one is best depends on what one pays with: pictures, or seconds.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for name, (losses, moments) in runs.items():
    batch, window = CLASSIFIERS[name][1]["batch"], max(1, len(losses) // 25)
    smooth = np.convolve(losses, np.ones(window) / window, "valid")
    axes[0].plot((np.arange(len(smooth)) + window) * batch, smooth, color=COLOURS[name], label=name)
    axes[1].plot([m[1] for m in moments], [m[2] for m in moments], color=COLOURS[name], marker=MARKERS[name], label=name)
axes[0].axhline(np.log(10), color="0.5", ls=":", label="knowing nothing: log 10")
axes[1].axhline(by_colour, color="0.5", ls="--", label="by colours alone")
axes[0].set(xlabel="pictures seen", ylabel="training loss", title="loss, mean of a few steps", yscale="log")
axes[0].set_yticks([0.1, 0.2, 0.5, 1, 2, 4], ["0.1", "0.2", "0.5", "1", "2", "4"])
axes[0].minorticks_off()
axes[1].set(xlabel="seconds of training", ylabel="share of test pictures", title="right answers", ylim=(0, 1))
for ax in axes:
    ax.legend(fontsize=8)
lesson.save(figure, "learning")
final = {name: moments[-1][2] for name, (_, moments) in runs.items()}
lesson.claim("B1", "this lesson", "the four networks know shapes: they are right where colours alone do not help",
             f"{', '.join(f'{name} {a:.1%}' for name, a in final.items())}; by colours alone {by_colour:.1%}; "
             f"{len(test[1])} test pictures", None if lesson.quick else min(final.values()) > 0.8 > 3 * by_colour)

# %%
# 3. First layers
# ---------------
# AlexNet's filters are large enough to look at (its Fig. 3). After so short a training the random numbers that they began
# with still hide what they have learned: edges, bars and blobs. The difference shows it.

before, after = first_filters["alexnet"], nets["alexnet"].parameters()[0].numpy()
figure, axes = plt.subplots(3, 16, figsize=(12, 2.6), layout="constrained")
for row, (title, weights) in zip(axes, {"random": before, "trained": after, "change": after - before}.items(), strict=True):
    for ax, filter in zip(row, weights, strict=True):
        ax.imshow(0.5 + 0.5 * filter.transpose(1, 2, 0) / np.abs(filter).max())  # grey is 0
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)
figure.suptitle("AlexNet: the 16 filters of conv1, 11x11, before and after training, and their difference", fontsize=10)
lesson.save(figure, "filters")

# %%
# 4. Wrong answers
# ----------------
# Of the best network: who is taken for whom, and the pictures whose true class it thinks least likely, with the truth,
# the answer and its probability. Most are behind a band.

best = max(final, key=final.get)
scores = classifier_scores(nets[best], test[0])
answers = scores.argmax(axis=1)
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (test[1], answers), 1)
figure, ax = plt.subplots(figsize=(5.4, 4.8), layout="constrained")
ax.imshow(confusion, cmap="Blues", vmax=1.4 * confusion.max())
for (i, j), n in np.ndenumerate(confusion):
    ax.text(j, i, n or "", ha="center", va="center", fontsize=8)
ax.set(xticks=range(10), yticks=range(10), yticklabels=classes, xlabel="answer", ylabel="truth",
       title=f"{best}: {len(answers)} test pictures, {(answers != test[1]).sum()} wrong")
ax.set_xticks(range(10), classes, rotation=45, ha="right")
lesson.save(figure, "confusion")

p = np.exp(scores - scores.max(axis=1, keepdims=True))
p /= p.sum(axis=1, keepdims=True)  # softmax
worst = np.argsort(p[np.arange(len(p)), test[1]])[:14]  # least probability for the true class
figure = show_images({f"{i}: {classes[test[1][i]]}\n{classes[answers[i]]}? {p[i].max():.2f}": test[0][i] for i in worst},
                columns=7, size=1.35)
figure.set_size_inches(9.6, 3.9)  # room for titles of two lines
figure.tight_layout()
lesson.save(figure, "wrong")

# %%
# 5. Why shortcuts? (ResNet, sec. 4.1)
# ------------------------------------
# He et al. trained plain networks of 18 and 34 layers, and the deeper one was worse, not only on new pictures but on
# those it was trained on. With shortcuts it was better. The same here, thin, on smaller and easier pictures, all trained
# alike, a few hundred steps where the paper has 600,000: one run each.

easy = {"size": 32, "radius": (0.3, 0.45), "hidden": 0, "seed": lesson.seed}
small, small_test = ShapeImages(200 if lesson.quick else 2000, **easy).arrays(), ShapeImages(
    100 if lesson.quick else 500, split="test", **easy).arrays()
config = {"steps": 10 if lesson.quick else 250, "batch": 16, "lr": 0.01}
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
deep = {}
for residual, colour in ((False, PALETTE[1] / 255), (True, PALETTE[5] / 255)):
    for depth, layers, style in ((18, (2, 2, 2, 2), "--"), (34, (3, 4, 6, 3), "-")):
        minicv.seed(lesson.seed)
        net = models.build("resnet18", layers=layers, width=8, residual=residual)
        losses, moments = trained(net, small, small_test, **config)
        deep[residual, depth] = np.mean(losses[-20:]), moments[-1][2]
        window = max(1, len(losses) // 12)
        ax.plot(np.convolve(losses, np.ones(window) / window, "valid"), style, color=colour,
                label=f"{'residual' if residual else 'plain'} {depth}: {moments[-1][2]:.0%} of test pictures right")
ax.set(xlabel="step", ylabel="training loss", title="18 and 34 layers, plain and with shortcuts", ylim=(0, None))
ax.legend(fontsize=8)
lesson.save(figure, "shortcuts")
found = "; ".join(f"{'residual' if r else 'plain'} {d}: loss {loss:.2f}, {a:.1%}" for (r, d), (loss, a) in deep.items())
lesson.claim("B2", "ResNet, sec. 4.1", "a deeper plain network is worse even in training (degradation)",
             f"training loss at the end and accuracy: {found}",
             None if lesson.quick else deep[False, 34][0] > deep[False, 18][0] + 0.1)
lesson.claim("B3", "ResNet, sec. 4.1 and table 2", "shortcuts make the network of 34 layers better (there: 25.0% wrong, not "
             "28.5%)", f"accuracy {deep[False, 34][1]:.1%} -> {deep[True, 34][1]:.1%}; of 18 layers "
             f"{deep[False, 18][1]:.1%} -> {deep[True, 18][1]:.1%}", None if lesson.quick else
             deep[True, 34][1] > deep[False, 34][1] + 0.1)
lesson.claim("B4", "ResNet, sec. 4.1 and table 2", "with shortcuts, 34 layers are better than 18 (there: 25.0% wrong, not "
             "27.9%)", f"accuracy {deep[True, 18][1]:.1%} with 18, {deep[True, 34][1]:.1%} with 34, after "
             f"{config['steps']} steps", None if lesson.quick else deep[True, 34][1] > deep[True, 18][1])

# %%
# 6. Depthwise separable convolutions (claim A2)
# ----------------------------------------------
# Lesson 02 counted: K K C + C M weights instead of K K C M. What does the saving cost in accuracy? Every 3x3 convolution of
# a compact ResNet behind the first layer becomes a depthwise one, batch norm, and a 1x1, as in Xception.


def separable(conv):
    """The depthwise separable convolution of the same shape."""
    m, c, k, _ = conv.weight.shape
    return nn.Sequential(nn.Conv2d(c, c, k, conv.stride, conv.padding, groups=c, bias=False), nn.BatchNorm2d(c),
                         nn.Conv2d(c, m, 1, bias=False))


found = {}
for kind in ("full", "separable"):
    right = []
    for seed in range(1 if lesson.quick else 2):
        minicv.seed(lesson.seed + seed)
        net = models.build("resnet18")
        for module in [m for _, m in net.modules()] if kind == "separable" else ():
            for name, layer in list(vars(module).items()):
                if isinstance(layer, nn.Conv2d) and layer.weight.shape[2] == 3:
                    setattr(module, name, separable(layer))
        right.append(trained(net, small, small_test, **config, seed=lesson.seed + seed)[1][-1][2])
    work = summarise(net, (3, 32, 32))
    found[kind] = work.parameters, work.macs, np.mean(right), np.std(right)
    print(f"{kind:<10} {work.parameters:8,} parameters {work.macs:11,} MACs, right {np.mean(right):.1%} +- {np.std(right):.1%}")
full, split = found["full"], found["separable"]
lesson.claim("A2b", "MobileNets, sec. 3.1 and table 4", "depthwise separable: a fraction of the weights and operations, and "
             "nearly the accuracy (there: 1.1 points less)", f"{split[0] / full[0]:.2f} of the parameters, "
             f"{split[1] / full[1]:.2f} of the MACs; accuracy {full[2]:.1%} +- {full[3]:.1%} -> {split[2]:.1%} +- "
             f"{split[3]:.1%} after {config['steps']} steps ({len(right)} seeds)",
             None if lesson.quick else full[2] - split[2] < 0.03)
lesson.finish()
