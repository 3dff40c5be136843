"""Training: the loop, its configuration, runs in a folder, checkpoints, and weights saved by PyTorch."""
from .alternating import alternating_tasks, train_alternating
from .checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_training,
    read_checkpoint,
    save_checkpoint,
    save_training,
    strip_optimizer,
)
from .config import ADAM_DEFAULTS, ConfigError, TrainConfig
from .detection import (
    CachedProposals,
    DetectionConfig,
    DetectionTask,
    Proposer,
    detections,
    evaluate_detector,
    shrink_large,
    train_detector,
)
from .evaluate import analyze_segmentation, evaluate_segmentation
from .loop import Task, Training
from .monitor import RenderExamples
from .parallel import ProcessGroup, abort_on_error, process_group
from .run import Diverged, Interrupted, Run
from .segmentation import SegmentationConfig, SegmentationTask, train_segmentation
from .survey import Survey, advise_anchors, describe_survey, fitting_anchors, image_sizes, survey_objects
from .svm import finish_training
from .targets import missing_targets, survey_task
from .weights import export_weights, load_pretrained, read_weights, take_weights

__all__ = [
    "ADAM_DEFAULTS", "CachedProposals", "CheckpointError", "ConfigError", "DetectionConfig", "DetectionTask",
    "Diverged", "Interrupted", "ProcessGroup", "Proposer", "RenderExamples", "Run", "SegmentationConfig",
    "SegmentationTask", "Survey", "Task", "TrainConfig", "Training", "abort_on_error", "advise_anchors",
    "alternating_tasks", "analyze_segmentation", "describe_survey", "detections", "evaluate_detector",
    "evaluate_segmentation", "export_weights", "finish_training", "fitting_anchors", "image_sizes",
    "load_checkpoint", "load_pretrained", "load_training", "missing_targets", "process_group", "read_checkpoint",
    "read_weights", "save_checkpoint", "save_training", "shrink_large", "strip_optimizer", "survey_objects",
    "survey_task", "take_weights", "train_alternating", "train_detector", "train_segmentation",
]
