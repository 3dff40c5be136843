"""Random changes of an image together with its ground truth."""
