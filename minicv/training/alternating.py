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
from .detection import CachedProposals, DetectionConfig, DetectionTask
from .loop import Training


def train_alternating(model: FasterRCNN, dataset: Any,
                      config: DetectionConfig) -> Iterator[tuple[int, dict[str, float]]]:
    """Train in four steps of ``config.steps`` each; yields the number of the step, 1 to 4, and the losses by name."""
    for number, task in enumerate(alternating_tasks(model, dataset, config), start=1):
        for losses in Training(task):
            yield number, losses


def alternating_tasks(model: FasterRCNN, dataset: Any, config: DetectionConfig) -> Iterator[DetectionTask]:
    """The tasks of the four steps. The model is made ready for each, which is to be done before the next is asked for.
    """
    first = model.state_dict()
    yield _task(model, dataset, config, "rpn")
    proposer = made(model, dataset)
    model.load_state_dict({name: value if name.startswith("rpn.") else first[name]
                           for name, value in model.state_dict().items()})
    yield _task(model, dataset, config, "head", proposer=proposer)
    yield _task(model, dataset, config, "rpn", trunk=False)
    proposer = made(model, dataset)
    yield _task(model, dataset, config, "head", trunk=False, proposer=proposer)
    model.learn("rpn", "head")


def _task(model: FasterRCNN, dataset: Any, config: DetectionConfig, part: str, trunk: bool = True,
          proposer: CachedProposals | None = None) -> DetectionTask:
    model.learn(part, trunk=trunk)
    return DetectionTask(model, dataset, config, proposer)


def made(model: FasterRCNN, dataset: Any) -> CachedProposals:
    """The RPN's proposals for all pictures, made now, before the model changes; as many as in training."""
    proposer = CachedProposals(lambda image: model.propose(image, training=True))
    for i in range(len(dataset)):
        proposer(dataset[i].image)
    return proposer
