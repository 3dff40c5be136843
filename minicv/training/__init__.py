"""Training: the loop, its recipe, checkpoints, and weights that PyTorch saved."""
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .segmentation import Recipe, train, train_steps
from .torch_weights import load_pretrained, read_weights

__all__ = [
    "CheckpointError", "Recipe", "load_checkpoint", "load_pretrained", "read_weights", "save_checkpoint", "train",
    "train_steps",
]
