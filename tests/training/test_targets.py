import dataclasses

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.data import DataError, DetectionSample, Sample
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.training import (
    DetectionConfig,
    DetectionTask,
    SegmentationConfig,
    SegmentationTask,
    missing_targets,
    train_alternating,
)
from tests.models.detection.learning import PROPOSING, TINY


class Few:
    """A data set of a few samples."""

    class_names = ("ring", "dot", "bar")

    def __init__(self, *samples):
        self.samples, self.num_classes = samples, len(self.class_names)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def image(*labels, masks=True, size=(48, 64), **parts):
    boxes = np.array([[4, 4, 20, 30]] * len(labels), np.float32).reshape(-1, 4)
    filled = np.zeros((len(labels), *size), bool)
    filled[:, 4:30, 4:20] = True
    return DetectionSample(np.zeros((3, *size), np.float32), boxes, np.array(labels, np.int64), "a",
                           filled if masks else None, **parts)


def objects(name, *samples, **options):
    model = models.build(name, **{**(TINY if name == "fast_rcnn" else {**TINY, **PROPOSING}), **options})
    return DetectionTask(model, Few(*samples), DetectionConfig(), lambda image: np.zeros((0, 4)))


def test_nothing_is_missing():
    assert missing_targets(objects("mask_rcnn", image(0, 1), image(2))) == []
    data = ShapeBoxes(4, 48)
    assert len(data.class_names) == 5
    assert missing_targets(DetectionTask(models.build("yolo", num_classes=5), data, DetectionConfig())) == []


def test_classes_without_an_object():
    assert missing_targets(objects("fast_rcnn", image(0, 2), image(2))) == [
        "no object of class 'dot' in the 2 training images, so none will be found"]
    left_out = image(1, 2, difficult=np.array([True, False]))  # not trained on, as little as a crowd
    assert missing_targets(objects("fast_rcnn", left_out, image(0, crowd=np.array([True])))) == [
        "no object of the 2 classes 'ring', 'dot' in the 2 training images, so none will be found"]
    nothing, = missing_targets(objects("fast_rcnn", image(), image()))
    assert nothing.startswith("no object in the 2 training images") and nothing.endswith("will find nothing")


def test_mask_rcnn_refuses_a_set_of_boxes_only():
    with pytest.raises(DataError, match="MaskRCNN learns masks, and no object of the 2 training images has one; train "
                                        "faster_rcnn, which needs boxes only, or use a data set with masks"):
        objects("mask_rcnn", image(0, masks=False), image(1, 2, masks=False))
    assert missing_targets(objects("faster_rcnn", image(0, 1, masks=False), image(2, masks=False))) == []
    with pytest.raises(DataError, match="no object of the 1 training images has one"):
        next(train_alternating(models.build("mask_rcnn", **TINY, **PROPOSING), Few(image(0, masks=False)),
                               DetectionConfig(steps=1)))
    objects("mask_rcnn", image(), image(masks=False))  # no object, so no mask is missing


def test_a_class_whose_objects_have_no_masks():
    lines = missing_targets(objects("mask_rcnn", image(0, 1), image(1, 2, masks=False)))
    assert lines == ["no mask of class 'bar' in the 2 training images, so the masks of its objects will be noise; add "
                     "masks, or train faster_rcnn, which needs boxes only"]


def test_anchors_that_do_not_fit_into_the_images():
    task = objects("faster_rcnn", image(0, 1, 2), anchor_scales=(128.0, 256.0), allowed_border=0.0)
    message = "no anchor of the RPN lies inside an image of 48 x 64 pixels, scaled to 48 x 64; use smaller anchors"
    with pytest.raises(DataError, match=message):
        missing_targets(task)
    flat = image(size=(40, 400))  # scaled to 6 x 64
    lines = missing_targets(objects("faster_rcnn", image(0, 1, 2), flat, anchor_scales=(16.0,), anchor_ratios=(1.0,),
                                    allowed_border=0.0))
    assert len(lines) == 1 and "40 x 400 pixels, scaled to 6 x 64" in lines[0]
    assert missing_targets(objects("faster_rcnn", image(0, 1, 2), flat, anchor_scales=(128.0,))) == []  # may cross


# --------------------------------------------------------------------------------------------------------------- pixels

def pixels(*samples, **config):
    data = Few(*samples)
    data.class_names = ("background", "dot", "bar")
    return SegmentationTask(models.build("unet", num_classes=3, in_channels=3), data, SegmentationConfig(**config))


def scene(*places, size=(40, 40), instances=None):
    """Class k in the places (slices), background elsewhere."""
    label = np.zeros(size, np.int64)
    for k, place in places:
        label[place] = k
    return Sample(np.zeros((3, *size), np.float32), label, instances, "a")


def test_classes_without_a_pixel():
    dot, bar, void = (1, np.s_[2:5, 2:5]), (2, np.s_[:20, 30:]), (255, np.s_[:, :25])
    assert missing_targets(pixels(scene(dot), scene(bar))) == []
    assert missing_targets(pixels(scene(dot), scene(dot, void))) == [
        "no pixel of class 'bar' in the 2 training images, so it will not be predicted"]


def test_two_stages_without_an_object_that_is_large_enough():
    dot, bar = (1, np.s_[2:5, 2:5]), (2, np.s_[:15, 30:])
    assert missing_targets(pixels(scene(dot, bar), two_stage=True)) == [
        "no object of at least 16 pixels in the 1 training images, so the two stages have nothing to crop and see "
        "whole images"]
    assert missing_targets(pixels(scene(dot, (2, np.s_[:16, 30:])), two_stage=True)) == []


def test_a_weight_map_without_instances():
    bar = (2, np.s_[:20, 30:])
    none, some = np.zeros((40, 40), np.int32), np.eye(40, dtype=np.int32)
    lines = missing_targets(pixels(scene((1, np.s_[2:5]), bar, instances=none), weight_map=True))
    assert lines == ["no instance in the 1 training images, so the weight map is the same everywhere"]
    assert missing_targets(pixels(scene((1, np.s_[2:5]), bar, instances=some), weight_map=True)) == []
    with pytest.raises(ValueError, match="a has no instances: its data set does not separate objects"):
        missing_targets(pixels(dataclasses.replace(scene(bar)), weight_map=True))


def test_labels_are_read_without_their_images(monkeypatch, tmp_path):
    from minicv.data import VOCSegmentation, write_png
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "JPEGImages" / "0.jpg").write_bytes(b"not read")
    write_png(tmp_path / "SegmentationClass" / "0.png", np.array([[0, 3], [255, 0]], np.uint8))
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("0")
    data = VOCSegmentation(tmp_path, "train")
    np.testing.assert_array_equal(data.label_of(0), [[0, 3], [255, 0]])
    line, = missing_targets(SegmentationTask(models.build("unet", num_classes=21), data, SegmentationConfig()))
    assert line.startswith("no pixel of the 19 classes 'aeroplane', 'bicycle', 'boat', 'bottle', 'bus' and 14 more in ")
    assert minicv.data.IGNORE == 255
