"""Training: the loop, its recipe, and checkpoints."""
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .segmentation import Recipe, train, train_steps

__all__ = ["CheckpointError", "Recipe", "load_checkpoint", "save_checkpoint", "train", "train_steps"]
