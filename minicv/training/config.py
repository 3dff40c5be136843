"""How to train: numbers that belong to the training, not to the network."""
from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Self

from ..errors import UserError
from ..nn import Module
from ..optim import SGD, Adam, Optimizer, Schedule, constant, cosine, multistep, poly, warmup

# In place of a network's numbers for SGD. Adam divides L2 in the gradient by the gradient's size, so it hardly decays.
ADAM = {"lr": 0.001, "weight_decay": 0.0}


class RecipeError(UserError):
    """A number of a training that cannot work: ``field``, its ``value``, and the ``reason``."""

    def __init__(self, recipe: Recipe, field: str, reason: str):
        self.field, self.value, self.reason = field, getattr(recipe, field), reason
        super().__init__(f"{type(recipe).__name__}({field}={self.value!r}): {reason}")


@dataclasses.dataclass
class Recipe:
    """What every training has. A network's own numbers are its ``TRAIN_DEFAULTS``, one set for each preset.

    ``batch``: images per step. ``lr``: the learning rate, from which ``schedule`` goes down: "poly", (1 - step/steps)
    to the ``power``; "step", times ``gamma`` at each of the ``milestones``, which are fractions of the steps; "cosine",
    half a cosine to 0; or "constant". Over the first ``warmup`` steps the rate rises to that, from its share
    ``warmup_start``. ``weight_decay`` is L2, added to the gradient, for SGD and Adam alike. ``freeze_bn``: batch norm
    normalizes by its running statistics, and keeps them and its scale and shift. ``decay_biases``: biases, and batch
    norm's shifts, decay like weights. Raises ``RecipeError`` for values that
    cannot work.
    """

    steps: int = 2000
    batch: int = 1
    optimizer: str = "sgd"  # or "adam", which needs fewer steps and ignores ``momentum``
    lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "poly"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    power: float = 0.9
    warmup: int = 0
    warmup_start: float = 0.0
    freeze_bn: bool = False
    decay_biases: bool = True
    seed: int = 0

    AT_LEAST: ClassVar[dict[str, float]] = {"steps": 1, "batch": 1, "warmup": 0, "seed": 0, "lr": 0, "momentum": 0,
                                            "weight_decay": 0, "gamma": 0, "power": 0, "warmup_start": 0}
    AT_MOST: ClassVar[dict[str, float]] = {"momentum": 1, "gamma": 1, "warmup_start": 1}

    def __post_init__(self) -> None:
        self.milestones = tuple(self.milestones)
        for field, choices in (("schedule", ("constant", "poly", "step", "cosine")), ("optimizer", ("sgd", "adam"))):
            if getattr(self, field) not in choices:
                raise RecipeError(self, field, f"must be {' or '.join(map(repr, choices))}")
        for field, least in self.AT_LEAST.items():
            value, most = getattr(self, field), self.AT_MOST.get(field, math.inf)
            if value is not None and not (least <= value <= most and value < math.inf):  # NaN is neither
                raise RecipeError(self, field, f"must be at least {least}"
                                  + (f" and at most {most}" if most < math.inf else ""))
        if any(not 0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise RecipeError(self, "milestones", "must rise and lie between 0 and 1; they are fractions of the steps")
        if (self.schedule == "step") != bool(self.milestones):
            raise RecipeError(self, "milestones", f"with schedule {self.schedule!r}; the schedule 'step' needs "
                              "milestones, as in (0.75, 0.9), and no other takes any")

    def replaced(self, **changes: Any) -> Self:
        """A copy with other values; None changes nothing."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at a step."""
        after = {"constant": constant(), "poly": poly(self.steps, self.power), "cosine": cosine(self.steps),
                 "step": multistep([round(m * self.steps) for m in self.milestones], self.gamma)}
        return warmup(self.warmup, after[self.schedule], self.warmup_start)(step)

    def make_optimizer(self, model: Module) -> tuple[Optimizer, Schedule]:
        """The optimizer of all parameters, or of the groups that ``model.parameter_groups()`` names, and its schedule.

        A group's "lr" is a multiple of the recipe's.
        """
        groups = model.parameter_groups() if hasattr(model, "parameter_groups") else [{"params": model.parameters()}]
        groups = [{**group, "lr": self.lr * group.get("lr", 1)} for group in groups]
        if not self.decay_biases:
            biases = {id(p) for name, p in model.named_parameters() if name.endswith("bias")}
            groups = [{**group, "params": params, **decay} for group in groups for params, decay in (
                ([p for p in group["params"] if id(p) not in biases], {}),
                ([p for p in group["params"] if id(p) in biases], {"weight_decay": 0.0})) if params]
        if self.optimizer == "sgd":
            optimizer = SGD(groups, self.lr, self.momentum, self.weight_decay)
        else:
            optimizer = Adam(groups, self.lr, weight_decay=self.weight_decay)
        return optimizer, Schedule(optimizer, self.factor)
