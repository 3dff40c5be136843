"""How to train: numbers that belong to the training, not to the network."""
from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

from ..nn import Module
from ..optim import SGD, Adam, Optimizer, Schedule, constant, poly, warmup


@dataclasses.dataclass
class Recipe:
    """What every training has; the defaults are U-Net's (sec. 3) as far as the paper states them.

    ``batch``: pictures per step. ``schedule``: "constant" or "poly". Raises ``ValueError`` for values that cannot work.
    """

    steps: int = 2000
    batch: int = 1  # U-Net, sec. 3: "reduce the batch to a single image"
    optimizer: str = "sgd"  # or "adam", which needs fewer steps
    lr: float | None = None  # None: 0.0015 for sgd, 0.001 for adam
    momentum: float = 0.99  # U-Net, sec. 3: "we use a high momentum (0.99)"
    weight_decay: float = 0.0
    schedule: str = "poly"
    warmup: int = 100  # steps over which the rate rises from 0: until then the momentum has no history
    seed: int = 0

    AT_LEAST: ClassVar[dict[str, int]] = {"steps": 1, "batch": 1, "warmup": 0, "seed": 0}

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field, choices in (("schedule", ("constant", "poly")), ("optimizer", ("sgd", "adam"))):
            if getattr(self, field) not in choices:
                raise ValueError(f"{name}({field}={getattr(self, field)!r}): {' or '.join(map(repr, choices))}")
        for field, least in self.AT_LEAST.items():
            if getattr(self, field) is not None and getattr(self, field) < least:
                raise ValueError(f"{name}({field}={getattr(self, field)}): must be at least {least}")

    @property
    def rate(self) -> float:
        """The learning rate at the start."""
        return self.lr if self.lr is not None else {"sgd": 0.0015, "adam": 0.001}[self.optimizer]

    def replaced(self, **changes: Any) -> Self:
        """A copy with other values; None changes nothing."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def make_optimizer(self, model: Module) -> tuple[Optimizer, Schedule]:
        """The optimiser of all parameters, or of the groups that ``model.parameter_groups()`` names, and its schedule.

        A group's "lr" is a multiple of the recipe's.
        """
        groups = model.parameter_groups() if hasattr(model, "parameter_groups") else [{"params": model.parameters()}]
        groups = [{**group, "lr": self.rate * group.get("lr", 1)} for group in groups]
        if self.optimizer == "sgd":
            optimizer = SGD(groups, self.rate, self.momentum, self.weight_decay)
        else:
            optimizer = Adam(groups, self.rate, weight_decay=self.weight_decay)
        return optimizer, Schedule(optimizer, warmup(self.warmup, poly(self.steps) if self.schedule == "poly"
                                                     else constant()))
