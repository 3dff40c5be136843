"""Random changes of an image and its ground truth together."""
