"""4-step alternating training of Faster R-CNN (Ren et al., 2015, sec. 3.2).

    1  the RPN, with the backbone
    2  Fast R-CNN's head on the proposals of step 1, with a backbone of its own that starts from step 1's first weights
    3  the RPN again, on the backbone of step 2, which no longer changes
    4  the head again, on the proposals of step 3 and the same backbone: now one network
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..models.detection.faster_rcnn import PARTS, FasterRCNN
from .detection import CachedProposals, DetectionConfig, DetectionTask
from .loop import Training


def train_alternating(model: FasterRCNN, dataset: Any,
                      config: DetectionConfig) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Train in four steps of ``config.steps`` each; yield the number of the step, 1 to 4, and the losses by name."""
    for number, task in enumerate(alternating_tasks(model, dataset, config), start=1):
        for losses in Training(task):
            yield number, losses


def alternating_tasks(model: FasterRCNN, dataset: Any, config: DetectionConfig) -> Iterator[DetectionTask]:
    """Yield the tasks of the four steps, and prepare the model for each. Finish a task before asking for the next."""
    initial = model.state_dict()
    model.set_trainable("backbone", "rpn")
    yield DetectionTask(model, dataset, config)
    proposals = precompute_proposals(model, dataset)
    model.load_state_dict({name: value if name.startswith("rpn.") else initial[name]
                           for name, value in model.state_dict().items()})
    model.set_trainable("backbone", "head")
    yield DetectionTask(model, dataset, config, proposals)
    model.set_trainable("rpn")
    yield DetectionTask(model, dataset, config)
    proposals = precompute_proposals(model, dataset)
    model.set_trainable("head")
    yield DetectionTask(model, dataset, config, proposals)
    model.set_trainable(*PARTS)


def precompute_proposals(model: FasterRCNN, dataset: Any) -> CachedProposals:
    """Return the RPN's proposals for all images, computed before the model changes; as many as training takes."""
    proposals = CachedProposals(lambda image: model.propose(image, training=True))
    for i in range(len(dataset)):
        proposals(dataset[i].image)
    return proposals
