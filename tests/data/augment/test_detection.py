import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.data.augment.detection import (
    DetectionAugment,
    crop,
    expose,
    mirror,
    random_factor,
    resize,
    resize_image,
    resize_masks,
    resize_shorter_side,
    transpose,
)
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.data.readers.detection import boxes_of_masks
from minicv.data.sample import DetectionSample
from minicv.detection import box_area


def sample(H=6, W=8, *boxes) -> DetectionSample:
    """Objects that are full rectangles, so that boxes and masks must stay together; the image is their sum."""
    boxes = np.array(boxes or [[1, 2, 4, 5], [5, 0, 8, 3]], np.float32)
    y, x = np.arange(H)[:, None] + 0.5, np.arange(W) + 0.5
    masks = np.array([(x > x1) & (x < x2) & (y > y1) & (y < y2) for x1, y1, x2, y2 in boxes.tolist()])
    image = np.stack([masks.any(axis=0) * 0.5, *np.broadcast_arrays(y / H, x / W)]).astype(np.float32)
    return DetectionSample(image, boxes, np.arange(len(boxes)), "s", masks)


def test_mirror_by_hand():
    s = mirror(sample())
    np.testing.assert_array_equal(s.boxes, [[4, 2, 7, 5], [0, 0, 3, 3]])  # x to 8 - x
    np.testing.assert_array_equal(s.boxes, boxes_of_masks(s.masks))
    np.testing.assert_array_equal(s.image, sample().image[:, :, ::-1])


def test_transpose_by_hand():
    s = transpose(sample())
    assert s.image.shape == (3, 8, 6)
    np.testing.assert_array_equal(s.boxes, [[2, 1, 5, 4], [0, 5, 3, 8]])
    np.testing.assert_array_equal(s.boxes, boxes_of_masks(s.masks))


def test_the_shorter_side_is_set_and_the_shape_kept():
    assert resize_shorter_side(sample(), 12).image.shape[1:] == (12, 16)  # from 6 x 8


def test_resize_by_hand():
    s = resize(sample(), (12, 4))  # rows twice as many, columns half
    np.testing.assert_array_equal(s.boxes, [[0.5, 4, 2, 10], [2.5, 0, 4, 6]])
    assert s.image.shape == (3, 12, 4) and s.image.dtype == np.float32 and s.masks.shape == (2, 12, 4)
    same = sample()
    assert resize_image(same.image, (6, 8)) is same.image
    # a step edge, halved: each new pixel is a weighted mean of four old ones (Pillow's triangle: 1, 3, 3, 1 of 8)
    image = np.array([[[0, 0, 0, 1, 1, 1, 1, 1.0]]])
    np.testing.assert_allclose(resize_image(image, (1, 4))[0, 0], [0, 4 / 8, 1, 1], atol=1e-6)
    masks = np.array([[[1, 1, 0, 0]]], bool)
    assert resize_masks(masks, (1, 2)).tolist() == [[[True, False]]]
    assert resize_masks(masks, (2, 8)).sum() == 8


def test_crop_by_hand():
    s = crop(sample(), (1, 3), (4, 10))  # rows 1 to 5, columns 3 to 13, of which 8 and more are outside
    # The first has 1 of its 3 columns left, a third, and stays; the second rows 1 and 2 of three.
    np.testing.assert_array_equal(s.boxes, [[0, 1, 1, 4], [2, 0, 5, 2]])
    np.testing.assert_array_equal(s.boxes, boxes_of_masks(s.masks))
    np.testing.assert_allclose(s.image[:, :, 5:], np.broadcast_to(sample().image.mean(axis=(1, 2))[:, None, None],
                                                                  (3, 4, 5)), rtol=1e-6)
    np.testing.assert_array_equal(s.image[:, :, :5], sample().image[:, 1:5, 3:])
    s = crop(sample(10, 10, [0, 0, 10, 10]), (8, 0), (10, 10))  # two tenths are left: not trained on
    assert len(s.boxes) == 0 and s.masks.shape == (0, 10, 10)
    s = crop(sample(), (-6, -8), (6, 8))  # nothing of the image
    assert len(s.boxes) == 0


@given(st.integers(0, 200), st.booleans(), st.sampled_from([1.0, 1.7]))
@settings(max_examples=40, deadline=None)
def test_boxes_and_masks_stay_together(seed, turn, scale):
    data, rng = ShapeBoxes(1, (40, 60), seed), np.random.default_rng(seed)
    before = data[0]
    after = DetectionAugment(flip=True, turn=turn, scale=scale, jitter=0.2)(before, rng)
    assert after.image.shape in [(3, 40, 60), (3, 60, 40)] and after.image.min() >= 0 and after.image.max() <= 1
    assert after.image.dtype == after.boxes.dtype == np.float32 and len(after.boxes) <= len(before.boxes)
    if scale == 1.0:
        np.testing.assert_array_equal(after.boxes, boxes_of_masks(after.masks))
        assert sorted(after.masks.sum(axis=(1, 2))) == sorted(before.masks.sum(axis=(1, 2)))
    else:  # nearest pixels, of boxes that are not cut off at the window's border
        H, W = after.image.shape[1:]
        inside = ((after.boxes > 0) & (after.boxes < [W, H, W, H])).all(axis=1)
        exact, seen = after.boxes[inside], boxes_of_masks(after.masks)[inside]
        outward = (seen - exact) * [-1, -1, 1, 1]
        assert (outward <= 0.5 + 1e-4).all()  # a pixel shows what its center meets
        if len(after.boxes) == len(before.boxes) and np.median(box_area(after.boxes) / box_area(before.boxes)) >= 1:
            assert (outward > -1.8).all()  # smaller, a mask's thin tip may fall between the pixels


def test_all_eight_turns_occur_and_a_seed_gives_the_same():
    s, augment = sample(8, 8), DetectionAugment(turn=True)
    found = [augment(s, np.random.default_rng(seed)) for seed in range(80)]
    assert len({f.image.tobytes() for f in found}) == 8
    np.testing.assert_array_equal(found[3].boxes, augment(s, np.random.default_rng(3)).boxes)
    assert len({f.image.tobytes() for f in (DetectionAugment()(s, np.random.default_rng(n)) for n in range(20))}) == 2


def test_errors():
    with pytest.raises(ValueError, match="DetectionAugment: needs scale >= 1 and jitter in 0..1, got 0.5 and 0"):
        DetectionAugment(scale=0.5)


# ---------------------------------------------------------------------------------------------------- YOLO's, sec. 2.2

def test_shift_moves_every_side_on_its_own_and_boxes_go_with_it():
    """As Darknet's jitter of 0.2: size by 0.72 to 1.67, mean shift 6.7%, aspect ratio changes."""
    image = np.zeros((3, 100, 200), np.float32)
    image[:, 40:60, 80:120] = 1
    sample = DetectionSample(image, np.array([[80, 40, 120, 60]], np.float32), np.array([0]), "a")
    augment = DetectionAugment(flip=False, shift=0.2)
    scales, shifts = [], []
    for seed in range(400):
        changed = augment(sample, np.random.default_rng(seed))
        assert changed.image.shape == (3, 100, 200)
        x1, y1, x2, y2 = changed.boxes[0]
        if seed < 20:  # the box is where the pixels are
            inside = changed.image[0, round(float(y1)) + 2:round(float(y2)) - 2, round(float(x1)) + 2:
                                   round(float(x2)) - 2]
            assert inside.size and inside.min() > 0.9
            assert (changed.image[0] > 0.5).sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.12)
        scales.append(((x2 - x1) / 40, (y2 - y1) / 20))
        shifts.append(((x1 + x2) / 400 - 0.5, (y1 + y2) / 200 - 0.5))
    x, y = np.array(scales).T
    assert 0.71 < min(x.min(), y.min()) < 0.78 and 1.4 < max(x.max(), y.max()) < 1.68
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.15 and abs(np.array(shifts)).mean() == pytest.approx(0.067, rel=0.15)


def test_exposure_and_saturation_are_those_of_hsv():
    import colorsys
    image = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    image[:, 0, 0], image[:, 0, 1], image[:, 0, 2] = 0, 0.5, (1, 0, 0)  # black, gray, pure red
    found = expose(image, 1.4, 0.7)
    for i, j in np.ndindex(4, 5):
        h, s, v = colorsys.rgb_to_hsv(*image[:, i, j].tolist())
        expected = colorsys.hsv_to_rgb(h, min(s * 0.7, 1), min(v * 1.4, 1))
        np.testing.assert_allclose(found[:, i, j], expected, atol=1e-6)
    np.testing.assert_allclose(expose(image, 1.0, 1.0), image, atol=1e-6)
    gray = image[:1]
    np.testing.assert_allclose(expose(gray, 1.5, 3.0), np.minimum(gray * 1.5, 1), atol=1e-6)


def test_exposure_goes_up_and_down_by_the_same_factor():
    factors = [random_factor(np.random.default_rng(seed), 1.5) for seed in range(300)]
    assert 1 / 1.5 <= min(factors) < 0.68 and 1.48 < max(factors) <= 1.5
    assert np.mean(np.array(factors) > 1) == pytest.approx(0.5, abs=0.1)
    sample = DetectionSample(np.full((1, 4, 4), 0.4, np.float32), np.zeros((0, 4), np.float32), np.zeros(0, int), "a")
    values = {round(float(DetectionAugment(flip=False, exposure=1.5)(sample, np.random.default_rng(n)).image[0, 0, 0]),
                    4) for n in range(30)}
    assert min(values) < 0.3 and max(values) > 0.55


@pytest.mark.parametrize("options", [{"shift": 0.5}, {"shift": -0.1}, {"exposure": 0.9}])
def test_shift_and_exposure_that_cannot_be(options):
    with pytest.raises(ValueError, match="needs shift in 0 to below 0.5 and exposure >= 1"):
        DetectionAugment(**options)
