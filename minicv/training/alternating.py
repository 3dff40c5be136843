"""4-step alternating training of Faster R-CNN (Ren et al., 2015, sec. 3.2).

    1  the RPN, with the trunk
    2  Fast R-CNN's head on the proposals of step 1, with a trunk of its own, from the weights that step 1 began with
    3  the RPN again, on the trunk of step 2, which no longer changes
    4  the head again, on the proposals of step 3 and the same trunk: now one network
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..models.detection.faster_rcnn import FasterRCNN
from .detection import CachedProposals, DetectionRecipe, DetectionTask
from .loop import Training


def train_alternating(model: FasterRCNN, dataset: Any,
                      recipe: DetectionRecipe) -> Iterator[tuple[int, dict[str, float]]]:
    """Train in four steps of ``recipe.steps`` each; yields the number of the step, 1 to 4, and the losses by name."""
    first = model.state_dict()
    yield from _step(1, model, dataset, recipe, "rpn")
    proposer = made(model, dataset)
    model.load_state_dict({name: value if name.startswith("rpn.") else first[name]
                           for name, value in model.state_dict().items()})
    yield from _step(2, model, dataset, recipe, "head", proposer=proposer)
    yield from _step(3, model, dataset, recipe, "rpn", trunk=False)
    proposer = made(model, dataset)
    yield from _step(4, model, dataset, recipe, "head", trunk=False, proposer=proposer)
    model.learn("rpn", "head")


def _step(number: int, model: FasterRCNN, dataset: Any, recipe: DetectionRecipe, part: str, trunk: bool = True,
          proposer: CachedProposals | None = None) -> Iterator[tuple[int, dict[str, float]]]:
    model.learn(part, trunk=trunk)
    for losses in Training(model, DetectionTask(dataset, recipe, model, proposer)):
        yield number, losses


def made(model: FasterRCNN, dataset: Any) -> CachedProposals:
    """The RPN's proposals for all pictures, made now, before the model changes; as many as in training."""
    proposer = CachedProposals(lambda image: model.propose(image, training=True))
    for i in range(len(dataset)):
        proposer(dataset[i].image)
    return proposer
