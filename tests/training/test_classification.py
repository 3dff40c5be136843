import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor, models, nn
from minicv.models.backbones.classifier import normalize
from minicv.training.classification import accuracy, classifier_scores, train_classifier


class Means(nn.Module):
    """Scores from the mean of each channel; keeps what it was given."""

    def __init__(self):
        self.fc, self.seen = nn.Linear(3, 2), []

    def forward(self, x):
        self.seen.append(x.numpy())
        return self.fc(x.mean(dim=(2, 3)))


def red_or_blue(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.random((count, 3, 6, 5), dtype=np.float32) * 0.8
    images[np.arange(count), np.where(labels == 0, 0, 2)] += 0.2
    return images, labels


def test_it_learns():
    images, labels = red_or_blue(200)
    minicv.seed(0)
    model = Means()
    losses = list(train_classifier(model, images, labels, 150, batch=20, lr=0.1))
    assert len(losses) == 150 and np.mean(losses[-10:]) < 0.3 < np.log(2) - 0.2
    assert accuracy(model, *red_or_blue(100, seed=1)) > 0.9


def test_the_loss_and_the_first_step_by_hand():
    images, labels = red_or_blue(8)
    model = Means()
    model.fc.weight.data[:] = 0  # all scores are 0, each of 2 classes has probability 1/2
    steps = train_classifier(model, images, labels, 40, batch=8, lr=0.1)
    assert next(steps) == pytest.approx(np.log(2))
    # Adam's first step is its rate, whatever the gradient: half of 0.1 in the first of 40 / 20 = 2 steps of warm-up.
    np.testing.assert_allclose(np.abs(model.fc.weight.data), 0.05, rtol=1e-3)


def test_every_epoch_sees_every_image_once_in_a_new_order():
    images = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None, None] / 12, (12, 3, 4, 4)).copy()
    model = Means()
    list(train_classifier(model, images, np.arange(12) % 2, 9, batch=4))
    first = normalize(np.zeros((3, 1, 1)))[0, 0, 0]
    numbers = [np.rint((x[:, 0, 0, 0] - first) * 0.229 * 12).astype(int) for x in model.seen]  # 0.229: red's deviation
    epochs = [np.concatenate(numbers[i:i + 3]).tolist() for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_half_of_the_images_are_mirrored():
    images = np.zeros((64, 3, 2, 4), np.float32)
    images[:, :, :, 0] = 1
    model = Means()
    list(train_classifier(model, images, np.zeros(64, int), 4, batch=64))
    seen = np.concatenate(model.seen)
    mirrored = seen[:, 0, 0, -1] > seen[:, 0, 0, 0]
    assert 100 < mirrored.sum() < 156  # of 256: 128 +- 8
    unmirrored = np.where(mirrored[:, None, None, None], seen[..., ::-1], seen)
    np.testing.assert_array_equal(unmirrored, np.broadcast_to(normalize(images[:1]), seen.shape))


def test_a_seed_decides():
    def losses(seed):
        minicv.seed(1)
        return list(train_classifier(Means(), *red_or_blue(30), 5, batch=10, seed=seed))
    assert losses(3) == losses(3) != losses(4)


def test_steps_errors():
    images, labels = red_or_blue(6)
    for few, batch in ((labels[:5], 2), (labels, 7), (labels, 0)):
        with pytest.raises(ValueError, match=rf"one label per image and a batch of 1 to 6, got 6 images, "
                                             rf"{len(few)} labels and batch {batch}"):
            next(train_classifier(Means(), images, few, 1, batch=batch))


def test_scores_are_those_of_evaluation():
    images = np.random.default_rng(0).random((7, 3, 64, 64), dtype=np.float32)
    model = models.build("alexnet", dropout=0.9)
    scores = classifier_scores(model, images, batch=3)
    assert model.training and scores.shape == (7, 10) and scores.dtype == np.float32
    probabilities = F.softmax(Tensor(scores), 1).numpy()
    for row, result in zip(probabilities, model.predict(list(images)), strict=True):
        np.testing.assert_allclose(row, result.probabilities, rtol=1e-4)
    model.eval()
    classifier_scores(model, images[:1])
    assert not model.training


def test_accuracy_by_hand():
    model = Means()
    model.fc.weight.data[:] = [[1, 0, 0], [0, 0, 1]]  # red against blue
    images = np.zeros((4, 3, 2, 2), np.float32)
    images[[0, 1, 2], 0] = 1  # three red, one blue
    images[3, 2] = 1
    assert accuracy(model, images, np.array([0, 0, 1, 1])) == 0.75
