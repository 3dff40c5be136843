"""Training: the loop, its configuration, runs in a folder, checkpoints, and weights saved by PyTorch."""
from .alternating import alternating_tasks, train_alternating
from .checkpoint import CheckpointError, load_checkpoint, load_training, save_checkpoint, save_training
from .config import ADAM_DEFAULTS, ConfigError, TrainConfig
from .detection import (
    CachedProposals,
    DetectionConfig,
    DetectionTask,
    Proposer,
    detections,
    evaluate_detector,
    train_detector,
)
from .evaluate import analyze_segmentation, evaluate_segmentation
from .loop import Task, Training
from .parallel import ProcessGroup, abort_on_error, process_group
from .run import Diverged, Interrupted, Run
from .segmentation import SegmentationConfig, SegmentationTask, train_segmentation
from .svm import finish_training
from .targets import missing_targets
from .weights import export_weights, load_pretrained, read_weights, take_weights

__all__ = [
    "ADAM_DEFAULTS", "CachedProposals", "CheckpointError", "ConfigError", "DetectionConfig", "DetectionTask",
    "Diverged", "Interrupted", "ProcessGroup", "Proposer", "Run", "SegmentationConfig", "SegmentationTask", "Task",
    "TrainConfig", "Training", "abort_on_error", "alternating_tasks", "analyze_segmentation", "detections",
    "evaluate_detector", "evaluate_segmentation", "export_weights", "finish_training", "load_checkpoint",
    "load_pretrained", "load_training", "missing_targets", "process_group", "read_weights", "save_checkpoint",
    "save_training", "take_weights", "train_alternating", "train_detector", "train_segmentation",
]
