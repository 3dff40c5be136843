"""The option ``normalization``: the same in training, prediction, a checkpoint and a resumed run, for every network."""
import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.data import StreetScenes, standardize
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.models.backbones.classifier import normalize
from minicv.nn import init
from minicv.training import (
    CheckpointError,
    DetectionConfig,
    DetectionTask,
    Run,
    SegmentationConfig,
    SegmentationTask,
    Training,
    load_checkpoint,
    save_checkpoint,
)

NORMALIZE = {"image": standardize, "imagenet": normalize}


@pytest.mark.parametrize("name", models.names("segmentation") + models.names("detection"))
def test_every_network_has_the_option_and_a_checkpoint_keeps_it(tmp_path, name):
    default = "image" if name in models.names("segmentation") else "imagenet"
    other = "imagenet" if default == "image" else "image"
    image = ShapeBoxes(1, 48)[0].image
    with init.blank():
        assert models.build(name).normalization == default
        model = models.build(name, in_channels=3, normalization=other)
        np.testing.assert_array_equal(model.normalize(image), NORMALIZE[other](image))
        save_checkpoint(tmp_path / "m.safetensors", model)
        again, _ = load_checkpoint(tmp_path / "m.safetensors")
        np.testing.assert_array_equal(again.normalize(image), NORMALIZE[other](image))
        with pytest.raises(ValueError, match=r"normalization='mean'\): 'image' or 'imagenet'"):
            models.build(name, normalization="mean")


@pytest.mark.parametrize("normalization", NORMALIZE)
def test_training_and_prediction_of_pixels_agree(normalization):
    minicv.seed(0)
    data = StreetScenes(1, 40)
    model = models.build("fcn32s", width=2, num_classes=data.num_classes, normalization=normalization)
    task = SegmentationTask(model, data, SegmentationConfig(steps=1, augment=False))
    expected = NORMALIZE[normalization](data[0].image)
    np.testing.assert_array_equal(task.example(0)[0], expected)
    seen = []
    model.forward = lambda x: seen.append(x.numpy()) or Tensor(np.zeros((1, data.num_classes, *x.shape[2:]), "f4"))
    model.predict([data[0].image])
    np.testing.assert_array_equal(seen[0][0], expected)


def test_a_part_of_an_image_is_normalized_like_the_whole():
    image = StreetScenes(1, 40)[0].image
    for normalization in NORMALIZE:
        model = models.build("fcn32s", width=2, normalization=normalization)
        part = model.normalize(image[:, :9, :7], like=image)
        np.testing.assert_allclose(part, model.normalize(image)[:, :9, :7], atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZE)
def test_training_and_prediction_of_boxes_agree(normalization):
    minicv.seed(0)
    sample = ShapeBoxes(1, 24)[0]
    model = models.build("yolo", layers="3x4 max 3x5 max", image_size=24, hidden=8, num_classes=5,
                         normalization=normalization)
    task = DetectionTask(model, [sample], DetectionConfig(steps=1, flip=False))
    expected = NORMALIZE[normalization](sample.image)
    np.testing.assert_array_equal(task.example(0)[0], expected)
    seen = []
    model.detect = lambda x, sizes, proposals=None: seen.append(x.numpy()) or []
    with pytest.raises(ValueError, match="zip"):
        model.predict([sample.image])
    np.testing.assert_array_equal(seen[0][0], expected)


def test_a_run_is_resumed_with_its_own_normalization_only(tmp_path):
    data = StreetScenes(1, 40)

    def run(normalization):
        model = models.build("fcn32s", width=2, num_classes=data.num_classes, normalization=normalization)
        return Run(Training(SegmentationTask(model, data, SegmentationConfig(steps=1, tile=20))), tmp_path, quiet=True)
    run("imagenet").run()
    run("imagenet").resume()
    with pytest.raises(CheckpointError, match="started with model normalization imagenet, not normalization image"):
        run("image").resume()
