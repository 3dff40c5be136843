"""Training: the loop, its configs, runs in a folder, checkpoints, and weights that PyTorch saved."""
from .alternating import alternating_tasks, train_alternating
from .checkpoint import CheckpointError, load_checkpoint, load_training, save_checkpoint, save_training
from .config import ADAM_DEFAULTS, ConfigError, TrainConfig
from .detection import CachedProposals, DetectionConfig, DetectionTask, Proposer, evaluate_detector, train_detector
from .loop import Task, Training
from .parallel import Group, all_or_none, group
from .run import Diverged, Interrupted, Run
from .segmentation import SegmentationConfig, SegmentationTask, train_steps
from .targets import missing_targets
from .weights import load_pretrained, read_weights

__all__ = [
    "ADAM_DEFAULTS", "CachedProposals", "CheckpointError", "DetectionConfig", "DetectionTask", "Diverged", "Group",
    "Interrupted", "Proposer", "TrainConfig", "ConfigError", "Run", "SegmentationConfig", "SegmentationTask", "Task",
    "Training", "all_or_none",
    "alternating_tasks", "evaluate_detector", "group", "load_checkpoint", "load_pretrained", "load_training",
    "missing_targets", "read_weights", "save_checkpoint", "save_training", "train_alternating", "train_detector",
    "train_steps",
]
