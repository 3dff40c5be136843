"""Automatic differentiation: the chain rule, one call at a time
================================================================

Training asks, for each number of a network, how the loss would change if that number grew a little. The engine answers
for all of them in one walk. We do it with a pencil, check it, and train a network with it. Beside it, read
``tensor.py``, ``function.py``, ``graph.py`` and ``gradcheck.py`` in ``minicv/autograd``.
"""
from minicv.course.lessons import Lesson

lesson = Lesson("00_autograd", __doc__)

import time

import matplotlib.pyplot as plt
import numpy as np

import minicv.ops as F
from minicv import Tensor, no_grad
from minicv.autograd import Function, gradcheck
from minicv.optim import SGD
from minicv.viz import PALETTE, draw_graph

rng = np.random.default_rng(lesson.seed)
BLACK, ORANGE, SKY, _, _, BLUE, RED, _ = PALETTE / 255

# %%
# One neuron, by hand
# -------------------
# A neuron multiplies its input x by a weight w and adds a bias b; its output y is the tanh of that. The loss L is the
# square of the error e = y - 1. These are five calls. Each knows the derivative of its result with respect to its
# arguments: how much the result grows when an argument grows a little. The chain rule multiplies these from the loss
# back to the leaves; e is used twice, and its two shares add up. ``hand["w"]`` is dL/dw, L's derivative.

w, x, b = (Tensor(np.array(value), requires_grad=True) for value in (0.5, 2.0, -0.3))
p = w * x
z = p + b
y = F.tanh(z)
e = y - 1.0
L = e * e

hand = {"L": 1.0}
hand["e"] = hand["L"] * e.item() + hand["L"] * e.item()  # L = e e: a share for each e
hand["y"] = hand["e"] * 1
hand["z"] = hand["y"] * (1 - y.item() ** 2)  # tanh' = 1 - tanh^2
hand["p"] = hand["b"] = hand["z"] * 1
hand["w"] = hand["p"] * x.item()
hand["x"] = hand["p"] * w.item()

# %%
# The calls have left a graph. Each box shows its value, computed from left to right, and the derivative of the loss with
# respect to it, computed from right to left. The target 1.0 needs no gradient, so it is not in the graph. ``backward``
# visits the calls, last to first, and adds what reaches a leaf to the leaf's ``grad``.

tensors = {"w": w, "x": x, "b": b, "p": p, "z": z, "y": y, "e": e, "L": L}
ax = draw_graph(L, {f"{name} = {t.item():.3f}\ndL/d{name} = {hand[name]:.3f}": t for name, t in tensors.items()})
ax.set_title("Forward along the arrows, backward against them")
lesson.save(ax.figure, "graph")

L.backward()
for name in "wxb":
    print(f"dL/d{name}: by hand {hand[name]:+.15f}   engine {tensors[name].grad:+.15f}")
error = max(abs(hand[name] - tensors[name].grad) for name in "wxb")
lesson.claim("E1", "this lesson", "The engine's gradient of the neuron is the one by hand, up to rounding",
             f"largest difference {error:g}", error < 1e-15)

# %%
# Why the order matters
# ---------------------
# Both shares of e come from one call. Here v's come from two, s and t: u = 2, v = u u = 4, s = 3 v = 12, t = v v = 16, L
# = s + t = 28. With a pencil: dL/dv = 3 + 2 v = 11, of which 8 through t, and dL/du = 11 * 2 u = 44. ``walk`` is the
# engine's without its checks. A visit of a call turns its gradient into shares of its arguments, which are added up.


def walk(result, order):
    """The gradient of each call's result and of each leaf, after one visit of each call in this order."""
    gradients = {result.node: np.ones_like(result.data)}  # what has arrived so far
    for call in order:
        shares = call.backward(gradients[call])
        for argument, share in zip(call.edges, shares if isinstance(shares, tuple) else (shares,), strict=True):
            if argument is not None:  # the number 3 needs no gradient
                gradients[argument] = gradients.get(argument, 0) + share
    return gradients


u = Tensor(np.array(2.0), requires_grad=True)
v = u * u
s, t = 3 * v, v * v
L = s + t

# %%
# "Wrong" follows the arrows from L through s back to u, and visits t at the end. When v is visited, it has 3 to pass on,
# and u gets 3 * 4; the 8 from t make it 11 too late. "Right" visits the calls from the last made to the first, as the
# engine does: a call can only use results of earlier calls, so in any graph all that use v are visited before v.

figure, axes = plt.subplots(2, 1, figsize=(8, 4.6), layout="constrained")
found, tensors = {}, {"u": u, "v": v, "s": s, "t": t, "L": L}
for ax, (name, order) in zip(axes, {"wrong": (L, s, v, t), "right": (L, t, s, v)}.items(), strict=True):
    gradients = walk(L, [result.node for result in order])
    draw_graph(L, {f"{f'visit {order.index(r) + 1}' if r in order else 'leaf'}: {n} = {r.item():g}\n"
                   f"dL/d{n} = {gradients[r.node or r]:g}": r for n, r in tensors.items()}, ax)
    found[name] = gradients[u]
    ax.set_title(f"The {name} order: dL/du = {found[name]:g}")
lesson.save(figure, "order")
L.backward()
lesson.claim("E7", "this lesson", "A walk in a wrong order loses the shares that reach a call after its visit",
             f"dL/du: by hand 44, wrong order {found['wrong']:g}, right order {found['right']:g}, engine {u.grad:g}",
             found["wrong"] != 44 == found["right"] == u.grad)

# %%
# Is a backward right?
# --------------------
# A slip in a derivative rarely crashes; the network just learns badly. So every ``backward`` in minicv is held against
# slopes: move one input by h to either side, and see by how much the result changes. If the result has several elements,
# weights c (the cotangent) make one number of them.


def by_differences(f, x, c, h=1e-6):
    """d sum(c * f(x)) / dx for every element of a vector x, from forward passes alone."""
    steps = h * np.eye(len(x))  # h in one place, 0 elsewhere
    return np.array([np.sum(c * (f(Tensor(x + step)).data - f(Tensor(x - step)).data)) for step in steps]) / (2 * h)


def by_engine(f, x, c):
    """The same from one forward and one backward pass."""
    leaf = Tensor(x, requires_grad=True)
    f(leaf).backward(c)
    return leaf.grad

# %%
# Two operations with a mistake each: one has lost a sign, and the author of the other has left backward for later. With
# a cotangent of ones the second passes: the *sum* of a softmax is 1 whatever the input, and its derivative is zero, as
# the lazy backward says. Only unequal weights see the single outputs, so ``gradcheck`` draws them at random.


class Reciprocal(Function):
    def forward(ctx, x):
        ctx.save(x)
        return 1 / x
    def backward(ctx, gy):
        return gy / ctx.saved[0] ** 2  # wrong: the derivative is -1 / x^2


class LazySoftmax(Function):
    def forward(ctx, x):
        return np.exp(x) / np.exp(x).sum()
    def backward(ctx, gy):
        return np.zeros_like(gy)  # wrong

# %%
# At each of 50 random points, engine and slopes may differ by less than 1e-6.

operations = {"1/x": lambda x: 1 / x, "1/x, sign lost": Reciprocal.apply,
              "softmax": lambda x: F.softmax(x, 0), "softmax, zeros": LazySoftmax.apply}
trials, passed, verdicts = 50, {}, {}
for name, f in operations.items():
    for kind in ("ones", "random"):
        errors = []
        for _ in range(trials):
            at, c = rng.uniform(0.5, 2, 4), np.ones(4) if kind == "ones" else rng.standard_normal(4)
            errors.append(np.abs(by_engine(f, at, c) - by_differences(f, at, c)).max())
        passed[name, kind] = sum(error < 1e-6 for error in errors)
        print(f"{name:<15} cotangent {kind:<7} error up to {max(errors):.1e}, {passed[name, kind]:2} of {trials} pass")
    verdicts[name] = gradcheck(f, [at])
    print(f"{name:<15} gradcheck {verdicts[name].verdict:<7} {verdicts[name].detail}".rstrip())
lesson.claim("E2", "this lesson", "Gradient checks pass right backwards, and catch a lost sign and a backward of zeros",
             "; ".join(f"{name}: {v.verdict}" for name, v in verdicts.items()),
             [v.verdict for v in verdicts.values()] == ["ok", "WRONG", "ok", "WRONG"])
ones, drawn = passed["softmax, zeros", "ones"], passed["softmax, zeros", "random"]
lesson.claim("E3", "this lesson", "A softmax with a backward of zeros passes a check with a cotangent of ones",
             f"{ones} of {trials} pass with ones, {drawn} with random numbers", (ones, drawn) == (trials, 0))

# %%
# ReLU has no derivative at 0. The slopes from the left and from the right differ there, differences across the kink
# give their mean, and backward may return any slope between the two. The check says so instead of failing.

left, right = (F.relu(Tensor(np.array(h))).item() / h + 0.0 for h in (-1e-6, 1e-6))
across, engine = (slope(F.relu, np.zeros(1), np.ones(1))[0] for slope in (by_differences, by_engine))
verdict = gradcheck(F.relu, [np.array([-1.0, 0.0, 2.0])]).verdict
lesson.claim("E4", "this lesson", "At a kink the engine's slope lies between those of both sides; the check says kink",
             f"ReLU at 0: left {left:g}, right {right:g}, across {across:g}, engine {engine:g}; verdict {verdict}",
             min(left, right) <= engine <= max(left, right) and verdict == "kink")

# %%
# On the left the number that the check looks at, the sum of c times softmax(x + s d): x is a point of four numbers, d a
# random direction, s the step along it. With c of ones it stays at 1, so a slope of zero (dashed) is right; with random
# c it is not. On the right ReLU with its slopes at 0: from the left, from the right, and across.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
at, d, c, t = rng.uniform(0.5, 2, 4), rng.standard_normal(4), rng.standard_normal(4), np.linspace(-1, 1, 81)
for weights, colour, name in ((np.ones(4), ORANGE, "ones"), (c, BLUE, "random")):
    values = [np.sum(weights * F.softmax(Tensor(at + s * d), 0).data) for s in t]
    axes[0].plot(t, values, color=colour, linewidth=3, label=f"cotangent c: {name}")
    axes[0].plot(t, 0 * t + values[40], "--", color=BLACK, linewidth=1)
axes[0].lines[-1].set_label("slopes claimed by zeros")
axes[0].set(title="What the check sees", xlabel="step s along d", ylabel="sum of c softmax(x + s d)", xticks=(-1, 0, 1))
axes[1].plot(t, np.maximum(t, 0), color=BLUE, linewidth=3, label="ReLU")
for slope, style, name in ((left, ":", "left"), (across, "--", "across"), (right, "-.", "right")):
    axes[1].plot(t, slope * t, style, color=BLACK, linewidth=1, label=f"slope {name}: {slope:g}")
axes[1].set(title=f"A kink: for the slope at 0 the engine says {engine:g}", xlabel="x", ylabel="y", xticks=(-1, 0, 1))
for ax in axes:
    ax.legend(fontsize=8)
lesson.save(figure, "checks")

# %%
# A first network
# ---------------
# Noisy points of a curve, and a network with one hidden layer. A few lines train it: forward, backward, and a small
# step against the gradient, with the learning rate ``lr`` as its factor.

inputs = Tensor(np.linspace(-3, 3, 100, dtype=np.float32)[:, None])  # (100, 1)
targets = Tensor(np.sin(2 * inputs.data) + rng.normal(0, 0.1, (100, 1)).astype(np.float32))


def initial(hidden=20):
    random, shapes = np.random.default_rng(lesson.seed), ((hidden, 1), (hidden,), (1, hidden), (1,))
    return [Tensor((scale * random.standard_normal(shape)).astype(np.float32), requires_grad=True)
            for scale, shape in zip((2, 2, 0.2, 0), shapes, strict=True)]


def network(W1, b1, W2, b2):
    return F.linear(F.tanh(F.linear(inputs, W1, b1)), W2, b2)


steps, lr, params, plain = 100 if lesson.quick else 1000, 0.1, initial(), []
for _ in range(steps):
    loss = F.mean((network(*params) - targets) ** 2)
    loss.backward()
    for q in params:
        q.data = q.data - lr * q.grad
        q.grad = None  # the next backward would add to it
    plain.append(loss.item())

# %%
# ``optim.SGD`` is that step as an object, so its line lies on the plain loop's. Momentum adds a share of the step
# before.

losses = {0.0: [], 0.9: []}
for momentum, curve in losses.items():
    params = initial()
    optimiser = SGD(params, lr, momentum)
    for _ in range(steps):
        loss = F.mean((network(*params) - targets) ** 2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
lesson.claim("E5", "this lesson", "optim.SGD without momentum takes the same steps as the plain loop, bit for bit",
             f"{np.sum(np.not_equal(losses[0.0], plain))} of {steps} losses differ", losses[0.0] == plain)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
axes[0].plot(inputs.data, targets.data, "o", color=SKY, markersize=4, label="points")
axes[0].plot(inputs.data, np.sin(2 * inputs.data), "--", color=BLACK, label="the curve they come from")
axes[0].plot(inputs.data, network(*params).data, color=RED, linewidth=2, label="the network, with momentum")
axes[0].set(title=f"After {steps} steps", xlabel="x", ylabel="y", ylim=(-1.4, 2.1))
axes[1].plot(plain, color=SKY, linewidth=5, label="plain loop")
axes[1].plot(losses[0.0], "--", color=BLACK, label="optim.SGD")
axes[1].plot(losses[0.9], color=RED, label="optim.SGD, momentum 0.9")
axes[1].set(title="Training", xlabel="step", ylabel="mean squared error", yscale="log")
for ax in axes:
    ax.legend(fontsize=8)
lesson.save(figure, "training")

# %%
# Differences would take two forward passes for every number of the network; the walk takes one or two for all of them.

ratios = []
for hidden in (20, 200, 2000):
    params, seconds = initial(hidden), []
    for _ in range(10 if lesson.quick else 200):
        start = time.perf_counter()
        with no_grad():
            F.mean((network(*params) - targets) ** 2)
        middle = time.perf_counter()
        F.mean((network(*params) - targets) ** 2).backward()
        seconds.append((time.perf_counter() - middle, middle - start))
    ratios.append(np.divide(*np.min(seconds, axis=0)))
lesson.claim("E6", "Griewank and Walther (2008), cheap gradients",
             "Loss and gradient cost less than 6 times the loss, however many inputs",
             f"in time, for 61, 601, 6001 inputs: {', '.join(f'{r:.1f}' for r in ratios)} times", max(ratios) < 6)
lesson.finish()
