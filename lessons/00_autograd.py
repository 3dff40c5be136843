"""Automatic differentiation: the chain rule, one call at a time
================================================================

Training asks one question of every number in a network: how would the loss change if this number grew a little? Automatic
differentiation answers it for all of them in a single walk through the computation. In this lesson we take that walk with
a pencil, compare it with the engine's, learn how to catch a wrong derivative, and train a first network. Beside it, read
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
from minicv.viz import PALETTE, draw_graph, plot_lines

rng = np.random.default_rng(lesson.seed)
BLACK, ORANGE, SKY, _, _, BLUE, RED, _ = PALETTE / 255

# %%
# One neuron, by hand
# -------------------
# A neuron multiplies its input x by a weight w and adds a bias b; its output y is the tanh of the sum. We want y to be 1,
# so the error is e = y - 1 and the loss is L = e * e. A call is one use of an operation. Here there are five: multiply, add,
# tanh, subtract, multiply. A leaf is a tensor that no operation computed. Here the leaves are w, x and b.

w, x, b = (Tensor(np.array(value), requires_grad=True) for value in (0.5, 2.0, -0.3))
p = w * x
z = p + b
y = F.tanh(z)
e = y - 1.0
L = e * e

# %%
# Each call knows its own derivative: how much its result grows when an argument grows a little. The chain rule multiplies
# these derivatives on the way from the loss back to the leaves. The error e is used twice, so it receives two
# shares, and they add up. Below, ``hand["w"]`` stands for dL/dw, the derivative of L with respect to w.

hand = {"L": 1.0}
hand["e"] = hand["L"] * e.item() + hand["L"] * e.item()  # L = e e: a share for each e
hand["y"] = hand["e"] * 1
hand["z"] = hand["y"] * (1 - y.item() ** 2)  # tanh' = 1 - tanh^2
hand["p"] = hand["b"] = hand["z"] * 1
hand["w"] = hand["p"] * x.item()
hand["x"] = hand["p"] * w.item()

# %%
# While it computes, the engine records the calls in a graph. Each box of the figure shows a value, computed from left to
# right, and the derivative of the loss with respect to it, computed from right to left. The 1.0 that we subtract needs no
# gradient, so it is not in the graph.

tensors = {"w": w, "x": x, "b": b, "p": p, "z": z, "y": y, "e": e, "L": L}
ax = draw_graph(L, {f"{name} = {t.item():.3f}\ndL/d{name} = {hand[name]:.3f}": t for name, t in tensors.items()})
ax.set_title("Forward along the arrows, backward against them")
lesson.save(ax.figure, "graph")

# %%
# Two arrows run from e to the last multiplication: these are its two shares. Now the engine's turn. ``backward`` visits the
# calls from last to first and adds whatever reaches a leaf to the leaf's ``grad``.

L.backward()
for name in "wxb":
    print(f"dL/d{name}: by hand {hand[name]:+.15f}   engine {tensors[name].grad:+.15f}")
error = max(abs(hand[name] - tensors[name].grad) for name in "wxb")
lesson.claim("E1", "this lesson", "The engine's gradient of the neuron is the one by hand, up to rounding",
             f"largest difference {error:g}", error < 1e-15)

# %%
# Why the order matters
# ---------------------
# Both shares of e came from one call. On a diamond they come from two. Take u = 2, v = u * u = 4, s = 3 * v = 12, t = v * v
# = 16 and L = s + t = 28. By hand, dL/dv = 3 + 2 v = 11, of which 3 come through s and 8 through t, and dL/du = 11 * 2 u =
# 44.
#
# The function below is the engine's walk without its checks: each visit turns a call's gradient into shares for the call's
# arguments, and the shares add up. ``result.node`` is the call that computed a result. ``call.edges`` holds, for each
# argument, the call that computed it, or the leaf itself, or None if it needs no gradient. ``call.backward`` takes
# dL/d(result) and returns dL/d(argument) for each argument. Unlike this function, ``graph.py``'s walk finds the order itself
# and hands the leaves' gradients to ``receive``.


def walk(result, order):
    """Return the gradient of each call's result and of each leaf, after one visit of each call in this order."""
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
# The figure compares two orders. The wrong one goes from L through s straight to v, and visits t last. The right one goes
# from the last call made to the first, as the engine does. A leaf has no call (its ``node`` is None), so ``r.node or r`` is
# what the walk files a gradient under: the call, or the leaf itself. Look at dL/du, on the left.

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
# In the wrong order v is visited too early: only the 3 from s has arrived, so u receives 3 * 4 = 12. The 8 from t still
# makes dL/dv 11, but v has already passed its gradient on. Last to first is always safe: a call can only use the results of
# earlier calls, so everything that uses v is visited before v, in any graph.

# %%
# Is a backward right?
# --------------------
# A slip in a derivative rarely crashes; the network just learns badly. So every ``backward`` in minicv is compared with
# slopes measured from forward passes alone: move one input by h to either side and see how much the result changes. If the
# result has several elements, we multiply each by a random factor and add them up, to get one number. The random factors c
# in this sum are called the cotangent.


def by_differences(f, x, c, h=1e-6):
    """Return d sum(c * f(x)) / dx for every element of a vector x, from forward passes alone."""
    steps = h * np.eye(len(x))  # h in one place, 0 elsewhere
    return np.array([np.sum(c * (f(Tensor(x + step)).data - f(Tensor(x - step)).data)) for step in steps]) / (2 * h)


def by_engine(f, x, c):
    """Return the same from one forward and one backward pass."""
    leaf = Tensor(x, requires_grad=True)
    f(leaf).backward(c)
    return leaf.grad

# %%
# Does the check catch mistakes? Here are two operations with one each. The first has lost a minus sign; the author of the
# second left backward for later and returns zeros. An operation is a subclass of ``Function``, and ``ctx`` is one call of it:
# ``forward`` computes the result, ``ctx.save`` keeps arrays for ``backward``, which receives ``gy``, dL/d(result), and
# returns dL/dx. ``Reciprocal.apply(x)`` makes a call.


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
# We check them, and their correct counterparts, at 50 random points, with random factors and, for comparison, with a
# cotangent of ones. A point passes if engine and slopes differ by less than 1e-6. Watch the third line from the end: the
# lazy softmax with ones.

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
# The lazy backward passes with ones. The figure shows why: it plots the number that the check looks at, the sum of c times
# softmax(x + s d), where x is a point of four numbers, d a random direction and s the length of the step along it.

at, d, c, lengths = rng.uniform(0.5, 2, 4), rng.standard_normal(4), rng.standard_normal(4), np.linspace(-1, 1, 81)
seen = {name: [np.sum(cotangent * F.softmax(Tensor(at + step * d), 0).data) for step in lengths]
        for name, cotangent in (("ones", np.ones(4)), ("random", c))}
figure, ax = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
plot_lines(ax, {f"cotangent c: {name}": (lengths, values) for name, values in seen.items()}, linestyle="-", linewidth=3)
for values in seen.values():
    ax.axhline(values[40], color=BLACK, linestyle="--", linewidth=1)
ax.set(title="Thin and dashed: the slope of the lazy backward", xlabel="step s along d", ylabel="sum of c softmax(x + s d)")
lesson.save(figure, "checks")

# %%
# With ones the sum stays at 1, because the outputs of a softmax always add up to 1: a slope of 0 is the truth. With random
# factors it bends away from the dashed line. So ``gradcheck`` draws the cotangent at random.
#
# A kink is another matter. ReLU has no derivative at 0: its slope is 0 from the left and 1 from the right. A difference
# across the kink gives their mean, and backward may return any slope between the two.

left, right = (F.relu(Tensor(np.array(h))).item() / h + 0.0 for h in (-1e-6, 1e-6))
across, engine = (slope(F.relu, np.zeros(1), np.ones(1))[0] for slope in (by_differences, by_engine))
verdict = gradcheck(F.relu, [np.array([-1.0, 0.0, 2.0])]).verdict
lesson.claim("E4", "this lesson", "At a kink the engine's slope lies between those of both sides; the check says kink",
             f"ReLU at 0: left {left:g}, right {right:g}, across {across:g}, engine {engine:g}; verdict {verdict}",
             min(left, right) <= engine <= max(left, right) and verdict == "kink")

figure, ax = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
ax.plot(lengths, np.maximum(lengths, 0), color=SKY, linewidth=5, label="y = ReLU(x)")
plot_lines(ax, {f"slope {name}: {slope:g}": (lengths, slope * lengths) for name, slope in
                (("from the left", left), ("across", across), ("from the right", right))}, color=BLACK, linewidth=1)
ax.set(title=f"The engine returns {engine:g} at the kink", xlabel="x", ylabel="y")
lesson.save(figure, "kink")

# %%
# All three lines pass through the corner, and none is the tangent. ``gradcheck`` therefore answers "kink" instead of
# failing.

# %%
# A first network
# ---------------
# Now we train: a network with one hidden layer learns a curve from noisy points. Each step is a forward pass, a backward
# pass, and a small move of every parameter against its gradient. The learning rate ``lr`` scales that move.

inputs = Tensor(np.linspace(-3, 3, 100, dtype=np.float32)[:, None])  # (100, 1)
targets = Tensor(np.sin(2 * inputs.data) + rng.normal(0, 0.1, (100, 1)).astype(np.float32))


def initial(hidden=20):
    rng, shapes = np.random.default_rng(lesson.seed), ((hidden, 1), (hidden,), (1, hidden), (1,))
    return [Tensor((scale * rng.standard_normal(shape)).astype(np.float32), requires_grad=True)
            for scale, shape in zip((2, 2, 0.2, 0), shapes, strict=True)]


def network(W1, b1, W2, b2):
    return F.linear(F.tanh(F.linear(inputs, W1, b1)), W2, b2)


def mean_squared_error(params):
    return F.mean((network(*params) - targets) ** 2)


steps, lr, params, plain = 100 if lesson.quick else 1000, 0.1, initial(), []
for _ in range(steps):
    loss = mean_squared_error(params)
    loss.backward()
    for q in params:
        q.data = q.data - lr * q.grad
        q.grad = None  # the next backward would add to it
    plain.append(loss.item())

# %%
# ``optim.SGD`` is the same step as an object. With momentum, each step also repeats a share of the step before, here 0.9 of
# it. We train twice more from the same start, without momentum and with it.

losses = {0.0: [], 0.9: []}
for momentum, curve in losses.items():
    params = initial()
    optimizer = SGD(params, lr, momentum)
    for _ in range(steps):
        loss = mean_squared_error(params)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
lesson.claim("E5", "this lesson", "optim.SGD without momentum takes the same steps as the plain loop, bit for bit",
             f"{np.sum(np.not_equal(losses[0.0], plain))} of {steps} losses differ", losses[0.0] == plain)

# %%
# On the left, the points and what the network has made of them; on the right, the loss at each step. Two of the three loss
# curves should coincide.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
axes[0].plot(inputs.data, targets.data, "o", color=SKY, markersize=4, label="points")
axes[0].plot(inputs.data, np.sin(2 * inputs.data), "--", color=BLACK, label="the curve they come from")
axes[0].plot(inputs.data, network(*params).data, color=RED, linewidth=2, label="the network, with momentum")
axes[0].set(title=f"After {steps} steps", xlabel="x", ylabel="y", ylim=(-1.4, 2.1))
axes[0].legend(fontsize=8)
plot_lines(axes[1], {"plain loop": plain, "optim.SGD": losses[0.0], "optim.SGD, momentum 0.9": losses[0.9]})
axes[1].set(title="Training", xlabel="step", ylabel="mean squared error", yscale="log")
lesson.save(figure, "training")

# %%
# The dashes of ``optim.SGD`` lie on the plain loop. Momentum reaches a lower loss in as many steps.
#
# What does a gradient cost? Differences would need two forward passes for every parameter of the network. The walk needs
# the time of a few forward passes, however many parameters there are. We measure this for hidden layers of 20, 200 and 2000.

ratios = []
for hidden in (20, 200, 2000):
    params, seconds = initial(hidden), []
    for _ in range(10 if lesson.quick else 200):  # in turns, so that a busy moment of the machine slows both
        start = time.perf_counter()
        with no_grad():
            mean_squared_error(params)
        middle = time.perf_counter()
        mean_squared_error(params).backward()
        seconds.append((time.perf_counter() - middle, middle - start))
    ratios.append(np.divide(*np.min(seconds, axis=0)))
lesson.claim("E6", "Griewank and Walther (2008), cheap gradients",
             "Loss and gradient cost less than 6 times the loss, however many parameters",
             f"in time, for 61, 601, 6001 parameters: {', '.join(f'{r:.1f}' for r in ratios)} times", max(ratios) < 6)
lesson.finish()
