"""Train and evaluate a classifier on images in memory.

Differs from the papers, which train on ImageNet for weeks with SGD, batches of 128 to 256 and random crops and colors:
AlexNet and VGG at a rate of 0.01 and ResNet at 0.1, divided by ten whenever the validation error stalls; GoogLeNet at a
rate that falls by 4% every 8 epochs. Here Adam with a cosine schedule and mirrored images trains the compact presets in
minutes.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import ops as F
from ..autograd import Tensor, no_grad
from ..models.backbones.classifier import normalize
from ..nn import Module
from ..optim import Adam, LambdaLR, cosine, warmup


def train_classifier(model: Module, images: np.ndarray, labels: np.ndarray, steps: int, *, batch: int = 32,
                     lr: float = 1e-3, seed: int = 0) -> Iterator[float]:
    """Train with Adam and cross entropy; yield the loss of every step, after the weights have changed.

    images: (N, C, H, W) in 0..1, normalized as in ``model.predict``; labels: (N,), 0..K-1. Every epoch takes the images
    in a new order, each mirrored with probability 0.5. The rate rises during the first twentieth of the steps and falls
    to 0 along a cosine. Raises ``ValueError`` if labels and images differ in number or the batch is too large.
    """
    if len(images) != len(labels) or not 0 < batch <= len(images):
        raise ValueError(f"train_classifier: needs one label per image and a batch of 1 to {len(images)}, got "
                         f"{len(images)} images, {len(labels)} labels and batch {batch}")
    optimizer = Adam(model.parameters(), lr)
    schedule = LambdaLR(optimizer, warmup(steps // 20, cosine(steps)))
    rng, device, order = np.random.default_rng(seed), next(model.parameters()).device, np.empty(0, int)
    model.train()
    for _ in range(steps):
        if len(order) < batch:
            order = rng.permutation(len(images))
        chosen, order = order[:batch], order[batch:]
        x = normalize(images[chosen])
        mirrored = rng.random(batch) < 0.5
        x[mirrored] = x[mirrored, :, :, ::-1]
        loss = F.cross_entropy(model(Tensor(x).to(device)), Tensor(labels[chosen]).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss.item()


@no_grad()
def classifier_scores(model: Module, images: np.ndarray, batch: int = 100) -> np.ndarray:
    """Return the scores, float32 (N, K), of images (N, C, H, W) in 0..1; the model runs in evaluation mode."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        return np.concatenate([model(Tensor(normalize(images[i:i + batch])).to(device)).numpy()
                               for i in range(0, len(images), batch)])
    finally:
        model.train(was_training)


def accuracy(model: Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of images (N, C, H, W) whose highest score is that of their label (N,)."""
    return float((classifier_scores(model, images).argmax(axis=1) == labels).mean())
