"""Optimizers and learning-rate schedules, with PyTorch's names, arguments and update rules."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from .autograd import Tensor
from .backend import device_of, is_array, to_device, to_numpy, xp_of

Params = Iterable[Tensor] | Iterable[dict[str, Any]]


class Optimizer:
    """Update parameters, in groups with options of their own; ``param_groups[i]["lr"]`` may change between steps.

    ``params`` is a list of tensors, or of dicts {"params": [...], "lr": ..., ...} for options of their own.
    """

    STATE_NAMES: tuple[str, ...] | None = None  # in the state of a parameter; None: any

    def __init__(self, params: Params, **defaults: Any):
        name = type(self).__name__
        if isinstance(params, Tensor):  # list() would split it into rows, copies that nobody uses
            raise TypeError(f"{name}(params): got one Tensor of shape {params.shape}; pass a list, as in [tensor]")
        items: list[Any] = list(params)
        groups = items if any(isinstance(p, dict) for p in items) else [{"params": items}]
        for g in groups:
            if not isinstance(g, dict) or isinstance(g.get("params"), Tensor | None):
                raise TypeError(f"{name}(params): pass a list of Tensors, or of dicts with such a list as 'params'")
        self.param_groups = [{**defaults, **g, "params": list(g["params"])} for g in groups]
        every = [p for g in self.param_groups for p in g["params"]]
        if not every:
            raise ValueError(f"{name}(params): got no parameters")
        if len({id(p) for p in every}) < len(every):
            raise ValueError(f"{name}(params): a parameter occurs twice, and would be changed twice in each step")
        for p in every:
            if not isinstance(p, Tensor) or p.dtype.kind != "f":
                what = f"one of {p.dtype}" if isinstance(p, Tensor) else f"{type(p).__name__}"
                raise TypeError(f"{name}(params): parameters are Tensors of floats, got {what}")
            if p.node is not None:
                raise ValueError(f"{name}(params): a parameter {p.shape} is the result of {p.node.name()}, which gets "
                                 "no .grad; pass the leaves that it was computed from")
        for group in self.param_groups:
            unknown = group.keys() - defaults.keys() - {"params"}
            if unknown:
                raise ValueError(f"{name}(params): a group has no option {', '.join(sorted(unknown))}; it has "
                                 f"{', '.join(defaults)}")
            for option in defaults:
                group[option] = self.checked(option, group[option])
            group["initial_lr"] = group["lr"]
        self.state: list[dict] = [{} for g in self.param_groups for _ in g["params"]]  # one per parameter, in order

    def checked(self, option: str, value: Any) -> float | tuple[float, ...]:
        """Return an option as Python's numbers: NumPy's would turn float32 parameters into float64."""
        try:
            numbers = tuple(map(float, value)) if option == "betas" else (float(value),)
        except (TypeError, ValueError):
            numbers = (math.nan,)
        good = all(0 <= v < math.inf for v in numbers)
        if not good or option == "betas" and (len(numbers) != 2 or max(numbers) >= 1):
            what = ("two numbers of at least 0 and below 1" if option == "betas" else
                    "a finite number and must not be negative")
            raise ValueError(f"{type(self).__name__}({option}={value!r}): must be {what}")
        return numbers if option == "betas" else numbers[0]

    def zero_grad(self) -> None:
        """Delete all gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        state = iter(self.state)
        for group in self.param_groups:
            group = {**group, "lr": self.checked("lr", group["lr"])}  # a user may have changed it
            for p in group["params"]:
                own, g = next(state), p.grad
                if g is None:
                    continue
                if not is_array(g) or (g.shape, g.dtype, device_of(g)) != (p.shape, p.dtype, p.device):
                    what = f"{g.dtype} {g.shape} on {device_of(g)}" if is_array(g) else type(g).__name__
                    raise TypeError(f"{type(self).__name__}.step: the .grad of a parameter {p.dtype} {p.shape} on "
                                    f"{p.device} must be an array like it, got {what}")
                # float16 cannot hold the square of 1e-4, nor Adam's eps: the state is float32
                self.update(p, g.astype(np.result_type(p.dtype, np.float32), copy=False), own, group)

    def update(self, p: Tensor, g, state: dict, group: dict) -> None:
        """Update one parameter, given its gradient, its state, and its group's options."""
        raise TypeError(f"{type(self).__name__} has no update")

    def state_dict(self) -> dict:
        """Return the state of each parameter as NumPy arrays and numbers, by the parameter's number and name."""
        return {f"{i}.{name}": to_numpy(v).copy() if hasattr(v, "shape") else v
                for i, state in enumerate(self.state) for name, v in state.items()}

    def load_state_dict(self, saved: dict) -> None:
        """Load what ``state_dict`` returned; ``ValueError``, and nothing changes, if it belongs to other parameters."""
        params = [p for g in self.param_groups for p in g["params"]]
        state: list[dict] = [{} for _ in params]
        for key, value in saved.items():
            number, _, name = key.partition(".")
            i = int(number) if number.isdecimal() else len(params)
            if i >= len(params):
                raise ValueError(f"{type(self).__name__}.load_state_dict: {key}: there are {len(params)} parameters")
            if self.STATE_NAMES is not None and name not in self.STATE_NAMES:
                raise ValueError(f"{type(self).__name__}.load_state_dict: {key} is of another optimizer; this one "
                                 f"remembers {', '.join(self.STATE_NAMES)}")
            if hasattr(value, "shape") and value.shape != params[i].shape:
                raise ValueError(f"{type(self).__name__}.load_state_dict: {key} has shape {value.shape}, "
                                 f"parameter {i} has {params[i].shape}")
            if hasattr(value, "shape"):
                like = params[i].data  # in whose order it lies in memory
                state[i][name] = xp_of(like).empty_like(like, dtype=np.result_type(like.dtype, np.float32))
                state[i][name][...] = to_device(value, params[i].device)
            else:
                state[i][name] = value
        self.state = state


class SGD(Optimizer):
    """v = momentum * v + g + weight_decay * p;  p = p - lr * v"""

    STATE_NAMES = ("v",)

    def __init__(self, params: Params, lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def update(self, p, g, state, group):
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p.data
        if group["momentum"]:
            g = state["v"] = state["v"] * group["momentum"] + g if "v" in state else g.copy(order="K")
        p.data = (p.data - group["lr"] * g).astype(p.dtype, copy=False)


class Adam(Optimizer):
    """Kingma and Ba (2015), algorithm 1: steps of about lr, each coordinate scaled by its own running size"""

    STATE_NAMES = ("t", "m", "v")

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p, g, state, group):
        (b1, b2), xp = group["betas"], xp_of(g)
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p.data
        t = state["t"] = state.get("t", 0) + 1
        m = state["m"] = state["m"] * b1 + (1 - b1) * g if t > 1 else (1 - b1) * g
        v = state["v"] = state["v"] * b2 + (1 - b2) * (g * g) if t > 1 else (1 - b2) * (g * g)
        m_hat, v_hat = m / (1 - b1 ** t), v / (1 - b2 ** t)
        step = group["lr"] * m_hat / (xp.sqrt(v_hat) + group["eps"])
        p.data = (p.data - step).astype(p.dtype, copy=False)


class LambdaLR:
    """Set the learning rate of every group to ``initial_lr * lr_lambda(n)`` after the n-th ``step()``.

    Call ``step()`` after each step of the optimizer: as in PyTorch, ``last_epoch`` counts the calls.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]):
        self.optimizer, self.lr_lambda, self.last_epoch = optimizer, lr_lambda, 0
        self._set_lr()

    def _set_lr(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.lr_lambda(self.last_epoch)

    def step(self, epoch: int | None = None) -> None:
        """Count a step, or go to the step ``epoch``."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set_lr()


def constant() -> Callable[[int], float]:
    """Return a schedule that is always 1."""
    return _constant


def poly(total_iters: int, power: float = 0.9) -> Callable[[int], float]:
    """Return the schedule (1 - step / total_iters)^power. PSPNet (Zhao et al., 2017), sec. 5.1; DeepLab."""
    _at_least_one("poly(total_iters", total_iters)
    _at_least_zero("poly(power", power)
    return partial(_poly, total_iters, power)


def steps(step_size: int, gamma: float = 0.1) -> Callable[[int], float]:
    """Return a schedule that is multiplied by ``gamma`` after each ``step_size`` steps."""
    _at_least_one("steps(step_size", step_size)
    _at_least_zero("steps(gamma", gamma)
    return partial(_steps, step_size, gamma)


def multistep(milestones: Iterable[int], gamma: float = 0.1) -> Callable[[int], float]:
    """Return a schedule that is multiplied by ``gamma`` at each of the ``milestones``, numbers of steps."""
    _at_least_zero("multistep(gamma", gamma)
    return partial(_multistep, tuple(milestones), gamma)


def cosine(total_iters: int) -> Callable[[int], float]:
    """Return half a cosine from 1 to 0. Loshchilov and Hutter (2017), eq. (5)."""
    _at_least_one("cosine(total_iters", total_iters)
    return partial(_cosine, total_iters)


def warmup(length: int, then: Callable[[int], float], start: float = 0.0) -> Callable[[int], float]:
    """Return the schedule ``then``, times a factor that rises linearly from ``start`` to 1 over the first steps.

    Step 0 of ``length`` has the factor ``start + (1 - start) / length``.
    """
    _at_least_zero("warmup(start", start)
    return partial(_warmup, length, then, start)


# These are functions of the module, not closures, so that a schedule can be pickled.
def _constant(step: int) -> float:
    return 1.0


def _poly(total_iters: int, power: float, step: int) -> float:
    return max(0.0, 1 - step / total_iters) ** power


def _steps(step_size: int, gamma: float, step: int) -> float:
    return gamma ** (step // step_size)


def _multistep(milestones: tuple[int, ...], gamma: float, step: int) -> float:
    return gamma ** sum(step >= m for m in milestones)


def _cosine(total_iters: int, step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_iters)))


def _warmup(length: int, then: Callable[[int], float], start: float, step: int) -> float:
    return (1.0 if step + 1 >= length else start + (1 - start) * (step + 1) / length) * then(step)


def _at_least_one(call: str, n: int) -> None:
    if n < 1:
        raise ValueError(f"{call}={n}): must be at least 1, a number of steps")


def _at_least_zero(call: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{call}={value}): must be a finite number of at least 0")
