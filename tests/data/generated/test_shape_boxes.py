import numpy as np
import pytest

from minicv.data import open_dataset
from minicv.data.generated.shape_boxes import ShapeBoxes, draw_shape_boxes
from minicv.detection import box_iou, inside_image


def test_what_a_scene_is():
    scenes = ShapeBoxes(20, (80, 100), seed=3)
    for sample in scenes:
        R = len(sample.labels)
        assert sample.image.shape == (3, 80, 100) and sample.image.dtype == np.float32
        assert sample.image.min() >= 0 and sample.image.max() <= 1
        assert sample.boxes.shape == (R, 4) and sample.boxes.dtype == np.float32 and sample.labels.dtype == np.int64
        assert sample.masks.shape == (R, 80, 100) and 1 <= R <= 6 and sample.labels.max() < scenes.num_classes
        assert inside_image(sample.boxes, (80, 100)).all()
        assert (sample.masks.sum(axis=0) <= 1).all()  # a pixel shows one object
        for box, mask in zip(sample.boxes.astype(int), sample.masks, strict=True):
            x1, y1, x2, y2 = box
            assert mask.sum() == mask[y1:y2, x1:x2].sum() > 0
            assert mask[y1].any() and mask[y2 - 1].any() and mask[:, x1].any() and mask[:, x2 - 1].any()


def test_seeds():
    a, b = ShapeBoxes(3, 48, seed=1), ShapeBoxes(5, 48, seed=1)
    np.testing.assert_array_equal(a[2].image, b[2].image)  # whatever the count and the order of access
    np.testing.assert_array_equal(a[-1].image, a[2].image)
    images = {ShapeBoxes(1, 48, seed=s, split=t)[0].image.tobytes() for s in (0, 1) for t in ("train", "val", "test")}
    assert len(images) == 6


def test_options_do_what_they_say():
    def boxes_of(**options):
        return [s.boxes for s in ShapeBoxes(40, 96, **options)]
    assert {len(b) for b in boxes_of(objects=(0, 2))} == {0, 1, 2}
    apart = [box_iou(b, b) - np.eye(len(b)) for b in boxes_of(objects=(4, 6), crowding=0)]
    crowded = [box_iou(b, b) - np.eye(len(b)) for b in boxes_of(objects=(4, 6), crowding=0.9)]
    assert np.mean([m.max() for m in crowded]) > 2 * np.mean([m.max() for m in apart])
    small, large = (np.concatenate(boxes_of(radius=(r, r))) for r in (0.06, 0.3))
    assert (small[:, 2:] - small[:, :2]).max() < (large[:, 2:] - large[:, :2]).max() / 3
    tall = np.concatenate(boxes_of(ratio=(2.5, 3), angle=0))
    assert np.median((tall[:, 3] - tall[:, 1]) / (tall[:, 2] - tall[:, 0])) > 2
    assert ShapeBoxes(1, 48, class_names=("ring",)).num_classes == 1


def test_open_and_errors():
    scenes = open_dataset("shape-boxes", "test", count=2, size=64, objects=(1, 2))
    assert len(scenes) == 2 and scenes.split == "test"
    with pytest.raises(IndexError):
        scenes[2]
    with pytest.raises(ValueError, match="ShapeBoxes: split must be one of train, test, val, got 'dev'"):
        ShapeBoxes(2, split="dev")
    with pytest.raises(TypeError, match="ShapeBoxes: unexpected keyword argument 'crowd'; did you mean crowding"):
        ShapeBoxes(2, crowd=1)
    with pytest.raises(ValueError, match=r"draw_shape_boxes: needs .*got \(9, 9\), \(3, 2\)"):
        draw_shape_boxes((9, 9), np.random.default_rng(0), objects=(3, 2))


def test_kept_scenes_are_drawn_once_and_cannot_be_written_to():
    drawn, kept = ShapeBoxes(3, 40, seed=1), ShapeBoxes(3, 40, seed=1, keep=True)
    for i in range(3):
        np.testing.assert_array_equal(drawn[i].image, kept[i].image)
        np.testing.assert_array_equal(drawn[i].boxes, kept[i].boxes)
    assert kept[1] is kept[-2] and drawn[1] is not drawn[1]
    with pytest.raises(ValueError, match="read-only"):
        kept[0].boxes[:] = 0
