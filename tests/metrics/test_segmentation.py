import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minicv.metrics import ConfusionMatrix, iou


def confusion(prediction, target, num_classes, **kwargs):
    matrix = ConfusionMatrix(num_classes, **kwargs)
    matrix.update(np.array(prediction), np.array(target))
    return matrix


# --------------------------------------------------------------------------- the four of FCN

# Ten pixels, 8 of class 0 (road), 1 of class 1 (sign), 1 of class 2 (dog).
STREET = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]


def test_claim_M1_the_four_measures_disagree():
    # The sign is found, with two pixels of road around it; the dog is taken for road.
    #            road sign dog | t_i
    # truth road    6    2   0 |  8     IU  6 / (8 + 7 - 6) = 6/9 = 2/3
    # truth sign    0    1   0 |  1     IU  1 / (1 + 3 - 1) = 1/3
    # truth dog     1    0   0 |  1     IU  0 / (1 + 0 - 0) = 0
    # predicted     7    3   0
    measured = confusion([0, 0, 0, 0, 0, 0, 1, 1, 1, 0], STREET, 3)
    assert measured.matrix.tolist() == [[6, 2, 0], [0, 1, 0], [1, 0, 0]]
    assert measured.pixel_accuracy == pytest.approx(7 / 10)  # (6 + 1 + 0) / 10
    assert measured.mean_accuracy == pytest.approx(7 / 12)  # (6/8 + 1/1 + 0/1) / 3
    assert measured.mean_iu == pytest.approx(1 / 3)  # (2/3 + 1/3 + 0) / 3
    assert measured.frequency_weighted_iu == pytest.approx(17 / 30)  # (8 * 2/3 + 1 * 1/3 + 1 * 0) / 10


def test_claim_M1_they_disagree_about_which_answer_is_better():
    # "Everything is road": 8/10 right. Classes 1/3 right. IU of road 8/10, of the others 0: mean 4/15.
    # Weighted by frequency: 8/10 * 8/10 = 16/25.
    lazy = confusion([0] * 10, STREET, 3)
    assert lazy.pixel_accuracy == pytest.approx(8 / 10)
    assert lazy.mean_accuracy == pytest.approx(1 / 3)
    assert lazy.mean_iu == pytest.approx(4 / 15)
    assert lazy.frequency_weighted_iu == pytest.approx(16 / 25)

    keen = confusion([0, 0, 0, 0, 0, 0, 1, 1, 1, 0], STREET, 3)  # the answer of the test above
    assert lazy.pixel_accuracy > keen.pixel_accuracy  # 0.80 against 0.70
    assert lazy.frequency_weighted_iu > keen.frequency_weighted_iu  # 0.64 against 0.57
    assert lazy.mean_accuracy < keen.mean_accuracy  # 0.33 against 0.58
    assert lazy.mean_iu < keen.mean_iu  # 0.27 against 0.33


def test_claim_M1_each_of_the_four_prefers_another_answer():
    # Confusion matrices of four answers to STREET, rows road, sign, dog.
    answers = {
        # Everything is road, as above: 8/10, 1/3, 4/15, 16/25.
        "lazy": [[8, 0, 0], [1, 0, 0], [1, 0, 0]],
        # Both small things found, much road lost to them. Right 5/10. Accuracies 3/8, 1, 1: 19/24.
        # IU 3/8, 1/(1 + 1), 1/(1 + 4): 43/120. Weighted: (8 * 3/8 + 1/2 + 1/5) / 10 = 37/100.
        "rich": [[3, 1, 4], [0, 1, 0], [0, 0, 1]],
        # The sign is exact, the dog missed. Right 6/10. Accuracies 5/8, 1, 0: 13/24.
        # IU 5/(8 + 1), 1/1, 0: 14/27. Weighted: (8 * 5/9 + 1) / 10 = 49/90.
        "neat": [[5, 0, 3], [0, 1, 0], [1, 0, 0]],
        # Sign and dog exchanged, and one pixel of road is a sign. Right 7/10. Accuracies 7/8, 0, 0: 7/24.
        # IU 7/8, 0, 0: 7/24. Weighted: 8 * 7/8 / 10 = 7/10: no other pixel is road, so its IU is its accuracy.
        "clean": [[7, 1, 0], [0, 0, 1], [0, 1, 0]],
    }
    by_hand = {"lazy": (8 / 10, 1 / 3, 4 / 15, 16 / 25), "rich": (5 / 10, 19 / 24, 43 / 120, 37 / 100),
               "neat": (6 / 10, 13 / 24, 14 / 27, 49 / 90), "clean": (7 / 10, 7 / 24, 7 / 24, 7 / 10)}
    four = {}
    for name, rows in answers.items():
        measured = ConfusionMatrix(3)
        for i, row in enumerate(rows):
            for j, n in enumerate(row):
                if n:
                    measured.update(np.full(n, j), np.full(n, i))
        four[name] = (measured.pixel_accuracy, measured.mean_accuracy, measured.mean_iu, measured.frequency_weighted_iu)
        assert four[name] == pytest.approx(by_hand[name])
    best = [max(four, key=lambda name, m=m: four[name][m]) for m in range(4)]
    assert best == ["lazy", "rich", "neat", "clean"]


def test_table():
    # Of the ten pixels of STREET, class 3 has none and is not predicted; the sign is exact, the dog is road.
    # IU road 8/9, sign 1, dog 0: mean 17/27; weighted (8 * 8/9 + 1) / 10 = 73/90.
    measured = confusion([0] * 8 + [1, 0], STREET, 4)
    assert measured.table(["road", "sign", "dog", "cat"]).splitlines() == [
        "class                   pixels  accuracy      IU",
        "road                      80.0     100.0    88.9",
        "sign                      10.0     100.0   100.0",
        "dog                       10.0       0.0     0.0",
        "cat                        0.0         -       -",
        "pixel accuracy                      90.0",
        "mean accuracy                       66.7",
        "mean IU                                     63.0",
        "frequency-weighted IU                       81.1"]
    assert measured.table().splitlines()[2].startswith("1  ")
    with pytest.raises(ValueError, match="ConfusionMatrix.table: 1 names for 4 classes"):
        measured.table(["road"])


def test_one_matrix_over_the_set_is_not_the_mean_over_images():
    # Image 1: one pixel of class 1 of four, found: IU of class 1 = 1. Image 2: three of four, one found: 1/3.
    # Over the set: 2 / 4 = 1/2, while the mean over images would be 2/3.
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[1, 0], [0, 0]]), np.array([[1, 0], [0, 0]]))
    matrix.update(np.array([1, 0, 0, 0]), np.array([1, 1, 1, 0]))  # any shape, of the same two maps
    assert matrix.matrix.tolist() == [[4, 0], [2, 2]]
    assert matrix.matrix.dtype == np.int64
    assert matrix.per_class_iu.tolist() == [pytest.approx(4 / 6), pytest.approx(2 / 4)]


def test_a_class_absent_from_both_sides_is_left_out_of_the_means():
    # Class 2 nowhere. IU: 2/3 and 1/2, mean 7/12. Accuracy: 1 and 1/2, mean 3/4.
    measured = confusion([0, 0, 0, 1], [0, 0, 1, 1], 3)
    np.testing.assert_allclose(measured.per_class_iu, [2 / 3, 1 / 2, np.nan], rtol=1e-15)
    assert measured.mean_iu == pytest.approx(7 / 12)
    assert measured.mean_accuracy == pytest.approx(3 / 4)


def test_a_class_that_is_only_predicted_counts_as_zero_iu():
    # IU: class 0 is 3/4, class 1 is 0/1: mean 3/8. It has no pixel of its own, so no accuracy: mean 3/4.
    measured = confusion([0, 0, 0, 1], [0, 0, 0, 0], 2)
    assert measured.mean_iu == pytest.approx(3 / 8)
    assert measured.mean_accuracy == pytest.approx(3 / 4)
    assert measured.frequency_weighted_iu == pytest.approx(3 / 4)


# ------------------------------------------------------------------------------ ignore label

def test_the_ignore_label_is_left_out_whatever_is_predicted_there():
    # The last two pixels do not count: 1 of 2 right. uint8 on purpose: 20 * 21 must not overflow.
    target = np.array([0, 20, 255, 255], np.uint8)
    measured = confusion(np.array([0, 0, 20, 255], np.uint8), target, 21, ignore_index=255)
    assert np.argwhere(measured.matrix).tolist() == [[0, 0], [20, 0]]
    assert measured.pixel_accuracy == 1 / 2


def test_an_ignore_label_among_the_classes_is_left_out_of_the_mean():
    # Class 0 ignored: pixels 2 to 4 remain, truth 1 1 2, prediction 1 0 2. IU: class 1 1/2, class 2 1/1.
    measured = confusion([1, 1, 0, 2], [0, 1, 1, 2], 3, ignore_index=0)
    np.testing.assert_equal(measured.per_class_iu, [np.nan, 0.5, 1.0])
    assert measured.mean_iu == 3 / 4


def test_a_prediction_cannot_hide_behind_the_ignore_label():
    with pytest.raises(ValueError, match=r"prediction holds the labels \[255\], outside the classes 0 to 1"):
        confusion([0, 255], [0, 1], 2, ignore_index=255)


# --------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize("side", ["prediction", "target"])
def test_labels_outside_the_classes_are_named_and_nothing_is_counted(side):
    labels = {"prediction": np.array([0, 1, 0, 1]), "target": np.array([0, 1, 0, 1])}
    labels[side] = np.array([0, 7, -3, 7])
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match=rf"update: {side} holds the labels \[-3, 7\], outside .* 0 to 1"):
        matrix.update(**labels)
    assert matrix.matrix.sum() == 0


def test_wrong_shapes_dtypes_and_sizes_are_named():
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match=r"prediction and target must .* same shape, got \(2,\) and \(3,\)"):
        matrix.update(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(TypeError, match="update: prediction must hold integer labels, got float64"):
        matrix.update(np.zeros(2), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"update: prediction is empty \(shape \(0, 4\)\)"):
        matrix.update(np.zeros((0, 4), int), np.zeros((0, 4), int))
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        ConfusionMatrix(0)


@pytest.mark.parametrize(
    "measure", ["pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu", "per_class_iu"]
)
def test_a_measure_of_nothing_is_nan(measure):
    assert np.isnan(getattr(ConfusionMatrix(3), measure)).all()
    assert np.isnan(getattr(confusion([0, 1], [255, 255], 3, ignore_index=255), measure)).all()


# -------------------------------------------------------------------------------- properties

LABELS = hnp.arrays(np.int64, (2, 3, 4), elements=st.integers(0, 3))


@given(LABELS, LABELS)
def test_batches_in_parts_equal_batches_at_once(prediction, target):
    parts = ConfusionMatrix(4)
    for p, t in zip(prediction, target, strict=True):
        parts.update(p, t)
    whole = confusion(prediction, target, 4)
    assert (parts.matrix == whole.matrix).all()
    # The definition: row i, column j counts the pixels of class i that were predicted as j.
    for i, j in np.ndindex(4, 4):
        assert whole.matrix[i, j] == np.sum((target == i) & (prediction == j))


@given(LABELS, LABELS)
def test_per_class_iu_is_the_iou_of_the_class_masks(prediction, target):
    per_class = confusion(prediction, target, 4).per_class_iu
    for k in range(4):
        p, t = prediction == k, target == k
        if (p | t).any():
            assert per_class[k] == iou(p, t)
        else:
            assert np.isnan(per_class[k])


@given(LABELS)
def test_a_perfect_prediction_scores_one(target):
    perfect = confusion(target, target, 4)
    assert perfect.pixel_accuracy == perfect.mean_accuracy == perfect.mean_iu == 1
    assert perfect.frequency_weighted_iu == 1


# --------------------------------------------------------------------------------------- IoU

def test_iou_by_hand():
    prediction = np.array([[1, 1, 0], [1, 0, 0]])
    target = np.array([[0, 255, 255], [0, 0, 0]], np.uint8)
    assert iou(prediction, target) == 1 / 4  # they share one pixel, together they cover four
    assert iou(prediction > 0, target > 0) == 1 / 4
    assert iou(prediction, 1 - prediction) == 0
    assert iou(np.ones((2, 2), int), np.ones((2, 2), bool)) == 1


def test_iou_of_two_empty_masks_is_one_and_of_one_empty_mask_zero():
    nothing, something = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
    assert iou(nothing, nothing) == 1
    assert iou(nothing, something) == iou(something, nothing) == 0


def test_iou_refuses_what_is_no_mask():
    mask = np.ones((2, 2), bool)
    with pytest.raises(ValueError, match=r"iou: prediction and target must .* got \(2, 2\) and \(4,\)"):
        iou(mask, np.ones(4, bool))
    with pytest.raises(TypeError, match="iou: prediction must be a boolean .* got float64; threshold it"):
        iou(mask * 0.7, mask)
    with pytest.raises(ValueError, match="iou: target must hold 0 and one other value, .* from 1 to 3"):
        iou(mask, np.array([[1, 3], [0, 0]]))
    with pytest.raises(ValueError, match=r"iou: prediction is empty \(shape \(0, 5\)\)"):
        iou(np.zeros((0, 5), bool), np.zeros((0, 5), bool))
