"""The configuration of a training: steps, batch, optimizer, learning rate and its schedule."""
from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Self

from ..errors import UserError
from ..models import is_backbone
from ..nn import Module
from ..optim import SGD, Adam, LambdaLR, Optimizer, constant, cosine, multistep, poly, warmup

# Replace a network's numbers for SGD. No weight decay: Adam divides the L2 term by the gradient's size, so it does
# little.
ADAM_DEFAULTS = {"lr": 0.001, "weight_decay": 0.0}


class ConfigError(UserError):
    """An invalid number of a training: ``field``, its ``value`` and the ``reason``."""

    def __init__(self, config: TrainConfig, field: str, reason: str):
        self.field, self.value, self.reason = field, getattr(config, field), reason
        super().__init__(f"{type(config).__name__}({field}={self.value!r}): {reason}")


@dataclasses.dataclass
class TrainConfig:
    """The numbers of any training. A network's own are its ``TRAIN_DEFAULTS``, one set per preset.

    ``batch``: images per step. ``lr``: learning rate at the start. ``schedule`` lowers it: "poly", (1 - step/steps) to
    the ``power``; "step", times ``gamma`` at each of the ``milestones``, fractions of the steps; "cosine", half a
    cosine to 0; "constant". During the first ``warmup`` steps the rate rises to ``lr`` from ``warmup_start`` times
    ``lr``. ``weight_decay``: L2, added to the gradient for SGD and Adam alike. ``freeze_bn``: batch norm normalizes by
    its running statistics; these, its scale and its shift stay fixed. ``freeze``: "backbone" to keep the backbone's
    parameters, and its batch norm in the same way, fixed. ``decay_biases``: whether weight decay acts on
    biases and batch norm's shifts. Raises ``ConfigError`` for invalid values.
    """

    steps: int = 2000
    batch: int = 1
    optimizer: str = "sgd"  # or "adam", which needs fewer steps and has no ``momentum``
    lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "poly"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    power: float = 0.9
    warmup: int = 0
    warmup_start: float = 0.0
    freeze: str | None = None
    freeze_bn: bool = False
    decay_biases: bool = True
    seed: int = 0

    MINIMUMS: ClassVar[dict[str, float]] = {"steps": 1, "batch": 1, "warmup": 0, "seed": 0, "lr": 0, "momentum": 0,
                                            "weight_decay": 0, "gamma": 0, "power": 0, "warmup_start": 0}
    MAXIMUMS: ClassVar[dict[str, float]] = {"momentum": 1, "gamma": 1, "warmup_start": 1}

    def __post_init__(self) -> None:
        self.milestones = tuple(self.milestones)
        if self.freeze not in (None, "backbone"):
            raise ConfigError(self, "freeze", "must be 'backbone' or None")
        for field, choices in (("schedule", ("constant", "poly", "step", "cosine")), ("optimizer", ("sgd", "adam"))):
            if getattr(self, field) not in choices:
                raise ConfigError(self, field, f"must be {' or '.join(map(repr, choices))}")
        for field, least in self.MINIMUMS.items():
            value, most = getattr(self, field), self.MAXIMUMS.get(field, math.inf)
            if value is not None and not (least <= value <= most and value < math.inf):  # NaN is neither
                raise ConfigError(self, field, f"must be at least {least}"
                                  + (f" and at most {most}" if most < math.inf else ""))
        if any(not 0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(self, "milestones", "must rise and lie between 0 and 1; they are fractions of the steps")
        if (self.schedule == "step") != bool(self.milestones):
            raise ConfigError(self, "milestones", f"with schedule {self.schedule!r}; the schedule 'step' needs "
                              "milestones, as in (0.75, 0.9), and no other takes any")

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changes)

    def lr_factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step."""
        after = {"constant": constant(), "poly": poly(self.steps, self.power), "cosine": cosine(self.steps),
                 "step": multistep([round(m * self.steps) for m in self.milestones], self.gamma)}
        return warmup(self.warmup, after[self.schedule], self.warmup_start)(step)

    def make_optimizer(self, model: Module) -> tuple[Optimizer, LambdaLR]:
        """Build the optimizer and its learning-rate schedule.

        The groups are those of ``model.parameter_groups(lr)``, if it has that method, without a frozen backbone.
        """
        groups: list[dict[str, Any]] = (model.parameter_groups(self.lr) if hasattr(model, "parameter_groups") else
                                        [{"params": list(model.parameters())}])
        if self.freeze == "backbone":
            frozen = {id(p) for name, p in model.named_parameters() if is_backbone(model, name)}
            groups = [{**group, "params": [p for p in group["params"] if id(p) not in frozen]} for group in groups]
        if not self.decay_biases:
            biases = {id(p) for name, p in model.named_parameters() if name.endswith("bias")}
            groups = [{**group, "params": params, **decay} for group in groups for params, decay in (
                ([p for p in group["params"] if id(p) not in biases], {}),
                ([p for p in group["params"] if id(p) in biases], {"weight_decay": 0.0})) if params]
        optimizer: Optimizer = (SGD(groups, self.lr, self.momentum, self.weight_decay) if self.optimizer == "sgd" else
                                Adam(groups, self.lr, weight_decay=self.weight_decay))
        return optimizer, LambdaLR(optimizer, self.lr_factor)
