"""Training steps and inference beside PyTorch's own networks: ``python -m tests.benchmarks.steps [MODEL...]``.

A step is forward, loss, backward and SGD with momentum. "torch" is the network of ``torch_networks`` in PyTorch alone,
with its modules, autograd and optimizer, in both memory layouts; the better one counts. Every contender starts a
process of its own for each case. Both libraries get the same weights, images and targets, and must then agree: in the
number of parameters, in the output, in the loss and the size of the gradient, without dropout, and in the loss of the
step after.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable

from .rounds import Contender, compare, reset_peak, resident, serve

CASES = [{"model": model, "preset": preset, "x": x, "lr": 1e-7 if model == "yolo" else 1e-4} for model, preset, x in (
    ("alexnet", "compact", (8, 3, 64, 64)), ("alexnet", "paper", (8, 3, 128, 128)),
    ("vgg16", "compact", (8, 3, 64, 64)), ("vgg16", "paper", (4, 3, 64, 64)),
    ("googlenet", "compact", (16, 3, 64, 64)), ("googlenet", "paper", (4, 3, 96, 96)),
    ("resnet18", "compact", (8, 3, 64, 64)), ("resnet18", "paper", (8, 3, 64, 64)),
    ("resnet50", "compact", (8, 3, 64, 64)), ("resnet50", "paper", (4, 3, 96, 96)),
    ("unet", "compact", (1, 1, 284, 284)), ("unet", "paper", (1, 1, 572, 572)),
    ("fcn8s", "compact", (4, 3, 96, 96)), ("fcn8s", "paper", (1, 3, 96, 96)),
    ("pspnet", "compact", (4, 3, 96, 96)), ("pspnet", "paper", (2, 3, 97, 97)),
    ("deeplabv3plus", "compact", (4, 3, 96, 96)), ("deeplabv3plus", "paper", (4, 3, 97, 97)),
    ("faster_rcnn", "compact", (2, 3, 192, 256)), ("faster_rcnn", "paper", (1, 3, 224, 320)),
    ("yolo", "compact", (16, 3, 112, 112)), ("yolo", "paper", (1, 3, 448, 448)))]
WARM_UP = {"model": "vgg16", "preset": "compact", "x": (1, 3, 64, 64), "lr": 1e-4}
NETWORKS = list(dict.fromkeys(case["model"] for case in CASES))
CALLS = ("step", "inference")
MOMENTUM = 0.9
EXACT, CLOSE = 1e-4, 1e-2  # of the losses of the first step; of what passes through a backward pass


def text(case: dict) -> str:
    return f"{case['model']} {case['preset']} {'x'.join(map(str, case['x']))}"


# ---------------------------------------------------------------------------------------------------------
# The contenders
# ---------------------------------------------------------------------------------------------------------
def with_minicv(case: dict) -> tuple[dict[str, Callable], dict]:
    """Return the calls of a case, and the facts in which contenders must agree."""
    import minicv

    from . import networks
    before = resident("VmRSS")
    model = minicv_model(case)
    for name, p in model.named_parameters():
        p.data[...] = networks.fill(name, p.shape)
    optimizer = minicv.optim.SGD(model.parameters(), case["lr"], MOMENTUM)
    loss, inference = minicv_calls(model, case)

    def step():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return finite(value)

    def gradient():
        return math.sqrt(sum(float((p.grad.astype(float) ** 2).sum()) for p in model.parameters()))

    def run_inference():
        with minicv.no_grad(), minicv.nn.evaluating(model):
            return inference().data

    facts = first_steps(model, step, gradient, run_inference, before)
    facts["parameters"] = sum(p.data.size for p in model.parameters())
    return {"step": step, "inference": run_inference}, facts


def minicv_model(case: dict):
    from minicv import models, nn
    with nn.init.blank():
        return models.build(case["model"], case["preset"])


def minicv_calls(model, case: dict) -> tuple[Callable, Callable]:
    """Return the calls for the loss and for the output."""
    import numpy as np

    import minicv
    from minicv.models.detection.base import Target

    from . import networks
    x = minicv.Tensor(networks.images(case))
    if case["model"] not in ("yolo", "faster_rcnn"):
        label = minicv.Tensor(networks.labels(case))
        if case["model"] in networks.PIXEL_CLASSES:
            return lambda: sum_of(model.losses(x, label)), lambda: model(x)
        return lambda: minicv.ops.cross_entropy(model(x), label), lambda: model(x)
    image, boxes, classes = networks.objects(case)
    targets = [Target(boxes[image == n], classes[image == n], x.shape[2:]) for n in range(len(x))]
    if case["model"] == "yolo":
        return lambda: sum_of(model.losses(x, targets)), lambda: model(x)
    given = networks.sampled(case)
    rois, anchors = minicv_rois(given, len(x)), minicv_anchors(given, len(x))
    boxes = [r.boxes for r in rois]

    def loss():
        turn = iter(anchors)
        model.rpn.targets = lambda *_: next(turn)  # sampled beforehand, as in PyTorch
        features = model.backbone(x)
        score, deltas = model.rpn(features)
        A = np.zeros((score.shape[1], 4))
        return sum_of({**model.rpn.losses(score, deltas, A, targets), **model.roi_losses(features, targets, rois)})
    return loss, lambda: model(x, boxes)[0]


def minicv_rois(given: dict, images: int) -> list:
    from minicv.models.detection.roi_heads import RoISample
    image = given["rois"][:, 0]
    return [RoISample(given["rois"][image == n, 1:], given["labels"][image == n], given["object"][image == n] - 3 * n)
            for n in range(images)]


def minicv_anchors(given: dict, images: int) -> list:
    from minicv.models.detection.rpn import AnchorTargets
    parts = [given[name].reshape(images, -1) for name in ("index", "positive")]
    A = int(given["anchors"])
    deltas = given["anchor_deltas"].reshape(images, -1, 4)
    return [AnchorTargets(index, positive - n * A, index[len(positive):] - n * A, deltas[n])
            for n, (index, positive) in enumerate(zip(*parts, strict=True))]


def sum_of(losses: dict):
    first, *others = losses.values()
    for value in others:
        first = first + value
    return first


def with_torch(case: dict, channels_last: bool) -> tuple[dict[str, Callable], dict]:
    """As ``with_minicv``, in PyTorch alone."""
    import torch

    from . import networks, torch_networks
    before = resident("VmRSS")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = torch_networks.build(case["model"], case["preset"])
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(networks.fill(name, tuple(p.shape))))
    model = model.to(memory_format=layout)
    x = torch.from_numpy(networks.images(case)).contiguous(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), case["lr"], MOMENTUM)
    target, more = torch_target(case)

    def step():
        optimizer.zero_grad()
        value = model.loss(x, target)
        value.backward()
        optimizer.step()
        return finite(value.detach())

    def gradient():
        return math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters()))

    def inference():
        model.eval()
        with torch.inference_mode():
            y = model(x, *more)
        model.train()
        return y[0] if isinstance(y, tuple) else y

    facts = first_steps(model, step, gradient, inference, before)
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    return {"step": step, "inference": inference}, facts


def torch_target(case: dict) -> tuple[object, list]:
    """Return the target of the loss, and what ``forward`` takes besides the images."""
    import torch

    from . import networks
    if case["model"] == "yolo":
        return [torch.from_numpy(a) for a in networks.objects(case)], []
    if case["model"] == "faster_rcnn":
        given = {name: torch.as_tensor(a) for name, a in networks.sampled(case).items()}
        return given, [given["rois"]]
    return torch.from_numpy(networks.labels(case)), []


def finite(loss):
    """Return the loss of a step; ``RuntimeError`` if training has diverged: infinities take other times."""
    if not math.isfinite(float(loss)):
        raise RuntimeError(f"the loss has become {float(loss)}: use a smaller learning rate")
    return loss


def first_steps(model, step: Callable, gradient: Callable, inference: Callable, before: float) -> dict:
    """Take two steps without dropout; return output, loss, gradient and the peak of memory in MB beyond ``before``."""
    from . import networks
    networks.set_dropout(model.modules(), 0.0)
    y = inference()
    facts = {"output": float(abs(y).mean()), "loss": float(step()), "gradient": gradient()}
    reset_peak()
    facts["loss after"] = float(step())
    facts["memory"] = resident("VmHWM") - before
    networks.set_dropout(model.modules(), None)
    return facts


# ---------------------------------------------------------------------------------------------------------
# Who is who
# ---------------------------------------------------------------------------------------------------------
def about_minicv(plain: bool) -> dict:
    """Return what this process computes with; fail unless that is minicv, in the storey that was asked for."""
    import minicv
    from minicv import backend
    from minicv.autograd import function
    from minicv.backend import blas
    if "torch" in sys.modules:
        raise RuntimeError("PyTorch is imported in the process of minicv")
    if function._substitutes or bool(function.fast_versions()) == plain:
        raise RuntimeError("the operations of minicv are substituted, or not those of this storey")
    return {"library": f"minicv {minicv.__version__}", "threads": backend.num_threads(),
            "BLAS": f"OpenBLAS {blas.kernel()}"}


def about_torch() -> dict:
    """Return what this process computes with; fail unless that is PyTorch alone."""
    import torch
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    others = [name for name in sys.modules if name.partition(".")[0] in ("minicv", "torchvision")]
    if others:
        raise RuntimeError(f"the process of PyTorch has imported {', '.join(others)}")
    blas = "MKL" if torch.backends.mkl.is_available() else "no MKL"
    return {"library": f"torch {torch.__version__}", "threads": torch.get_num_threads(),
            "BLAS": f"{blas}, oneDNN, {torch.backends.cpu.get_cpu_capability()}"}


def contender() -> None:
    """Serve one contender until the parent closes the pipe."""
    name = sys.argv[1]
    if name.startswith("torch"):
        about = about_torch
        make = lambda case: with_torch(case, channels_last=name.endswith("last"))  # noqa: E731
    else:
        about = lambda: about_minicv(plain=name.endswith("plain"))  # noqa: E731
        make = with_minicv
    about()
    make(WARM_UP)[0]["step"]()  # what a library loads at its first step belongs to no network
    serve(make, about)


# ---------------------------------------------------------------------------------------------------------
# Taking turns
# ---------------------------------------------------------------------------------------------------------
def start() -> dict[str, Contender]:
    here = "tests.benchmarks.steps"
    return {"minicv": Contender(here, "minicv"), "torch NCHW": Contender(here, "torch"),
            "torch channels-last": Contender(here, "torch-channels-last"),
            "plain": Contender(here, "minicv-plain", {"MINICV_PLAIN": "1"})}


def check(case: dict, facts: dict[str, dict]) -> None:
    """Raise ``RuntimeError`` unless all contenders computed the same network."""
    expected = facts["minicv"]
    for name, found in facts.items():
        for fact, tolerance in (("parameters", 0), ("output", EXACT), ("loss", EXACT), ("gradient", CLOSE),
                                ("loss after", CLOSE)):
            a, b = expected[fact], found[fact]
            if not math.isfinite(a) or not abs(a - b) <= tolerance * abs(a):
                raise RuntimeError(f"{text(case)}: {fact} is {a} in minicv and {b} in {name}")


def measure_case(case: dict, rounds: int) -> dict:
    """Return {"case", "ms": {call: {contender: ms}}, "memory": {contender: MB}, "about": {contender: facts}}."""
    contenders = start()
    if case["preset"] == "paper":  # the plain operations would take minutes
        contenders.pop("plain").close()
    try:
        about = {name: c.ask({"about": 1}) for name, c in contenders.items()}
        facts = {}
        times = compare(contenders, case, rounds, facts)
        check(case, facts)
        for name, c in contenders.items():
            if c.ask({"about": 1}) != about[name]:  # what loading a network has imported counts, too
                raise RuntimeError(f"{text(case)}: {name} has changed while it was measured")
    finally:
        for c in contenders.values():
            c.close()
    return {"case": text(case), "preset": case["preset"], "about": about,
            "ms": {call: {name: each[call] for name, each in times.items()} for call in CALLS},
            "memory": {name: each["memory"] for name, each in facts.items()}}


def ratio(values: dict[str, float]) -> float:
    """minicv's time, or memory, over that of the better layout of PyTorch."""
    return values["minicv"] / min(values["torch NCHW"], values["torch channels-last"])


def measure_all(rounds: int = 3, models: list[str] | None = None, presets: list[str] | None = None,
                say=print) -> list[dict]:
    """Measure the cases one by one."""
    rows = []
    for case in CASES:
        if case["model"] in (models or NETWORKS) and case["preset"] in (presets or ("compact", "paper")):
            row = measure_case(case, rounds)
            rows.append(row)
            say(f"{row['case']:<38}" + "  ".join(
                f"{call} " + " ".join(f"{name} {ms:.1f}" for name, ms in row["ms"][call].items())
                + f" ratio {ratio(row['ms'][call]):.2f}" for call in CALLS) + f"  memory {ratio(row['memory']):.2f}",
                flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.steps", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(NETWORKS))
    parser.add_argument("--preset", choices=("compact", "paper"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if unknown := set(args.models) - set(NETWORKS):
        parser.error(f"unknown network {', '.join(sorted(unknown))}; choose of {', '.join(NETWORKS)}")
    for row in measure_all(args.rounds, args.models, args.preset and [args.preset])[-1:]:
        print(json.dumps(row["about"], indent=1))


if __name__ == "__main__":
    contender() if os.environ.get("MINICV_BENCHMARK") else main()
