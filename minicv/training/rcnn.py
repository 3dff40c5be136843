"""R-CNN's three trainings one after the other, with what each takes; SPPNet's are the same."""
from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

from ..models.detection.base import Proposer
from ..models.detection.machines import Steps, extract_features, train_box_regression, train_machines, train_svms
from ..models.detection.svm_detector import SVMDetector
from .detection import DetectionConfig, train_detector

__all__ = ["Steps", "extract_features", "fine_tune", "train_box_regression", "train_in_three_steps", "train_machines",
           "train_svms"]


def fine_tune(model: SVMDetector, dataset: Any, config: DetectionConfig,
              proposer: Proposer | None = None) -> list[float]:
    """Step 1 (R-CNN, sec. 2.3): train the network to classify boxes; the losses."""
    return [losses["total"] for losses in train_detector(model, dataset, config, proposer)]


def train_in_three_steps(model: SVMDetector, dataset: Any, config: DetectionConfig, folder: str | os.PathLike,
                         proposer: Proposer | None = None) -> Steps:
    """Fine-tuning and what comes after it; what each took."""
    start = time.perf_counter()
    fine_tune(model, dataset, config, proposer)
    seconds = time.perf_counter() - start
    return dataclasses.replace(train_machines(model, dataset, folder, proposer), fine_tuning=seconds)
