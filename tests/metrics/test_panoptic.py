import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.metrics.panoptic import PanopticQuality


def test_by_hand():
    quality = PanopticQuality(3)
    true = np.array([[1, 1, 1, 1, 0, 0], [2, 2, 2, 2, 3, 3]])  # classes 0, 0, 1
    mine = np.array([[1, 1, 1, 2, 2, 2], [3, 3, 4, 4, 0, 0]])  # classes 0, 1, 0, 0
    quality.update(mine, [0, 1, 0, 0], true, [0, 0, 1])
    # 1 and true 1: 3 in common, union 3 + 4 - 3 = 4: IoU 3/4, matched.
    # 2 (class 1): 2 of its 3 pixels are void, more than half: no false positive.
    # 3 and 4 have IoU 2/4 with true 2: not above 1/2. Two false positives, and true 2 and 3 are missed.
    assert quality.tp.tolist() == [1, 0, 0] and quality.fp.tolist() == [2, 0, 0] and quality.fn.tolist() == [1, 1, 0]
    # class 0: PQ = 0.75 / (1 + 2/2 + 1/2) = 0.3, SQ 0.75, RQ 0.4. Class 1: nothing right. Class 2: not seen
    np.testing.assert_allclose(quality.per_class, [[0.3, 0.75, 0.4], [0, 0, 0], [np.nan] * 3])
    np.testing.assert_allclose(quality.mean(), [0.15, 0.375, 0.2])
    np.testing.assert_allclose(quality.mean(np.array([True, False, False])), [0.3, 0.75, 0.4])


def test_void_is_left_out_of_the_union():
    quality = PanopticQuality(1)
    quality.update(np.array([[1, 1, 1, 1]]), [0], np.array([[1, 1, 0, 0]]), [0])
    np.testing.assert_allclose(quality.mean(), [1, 1, 1])  # of 4 pixels, 2 are void, so the union is the other 2


def test_crowds_are_neither_looked_for_nor_held_against_anybody():
    quality = PanopticQuality(2)
    true = np.array([[1, 1, 1, 1, 2, 2]])
    quality.update(np.array([[1, 1, 2, 2, 3, 0]]), [0, 1, 0], true, [0, 0], crowd=np.array([True, False]))
    # 1 lies on the crowd of its class: nothing. 2 too, but is of another class: wrong. 3: IoU 1/2 with true 2, wrong.
    assert quality.tp.sum() == 0 and quality.fp.tolist() == [1, 1] and quality.fn.tolist() == [1, 0]


def by_definition(mine, k, true, k_true, crowd):
    """Kirillov et al., sec. 4, one pair of segments at a time: {class: [iou sum, tp, fp, fn]}."""
    table = {c: [0, 0, 0, 0] for c in range(3)}
    matched, hit = set(), set()
    for s in range(1, len(k) + 1):
        for g in range(1, len(k_true) + 1):
            a, b = mine == s, true == g
            union = ((a | b) & ((true != 0) | b)).sum()
            if k[s - 1] == k_true[g - 1] and not crowd[g - 1] and union and (a & b).sum() / union > 0.5:
                assert s not in matched and g not in hit
                matched.add(s)
                hit.add(g)
                table[k[s - 1]][0] += (a & b).sum() / union
                table[k[s - 1]][1] += 1
    for s in range(1, len(k) + 1):
        area = (mine == s).sum()
        excused = sum(((mine == s) & (true == g)).sum() for g in range(len(k_true) + 1)
                      if g == 0 or (crowd[g - 1] and k_true[g - 1] == k[s - 1]))
        table[k[s - 1]][2] += s not in matched and area > 0 and not excused / area > 0.5
    for g in range(1, len(k_true) + 1):
        table[k_true[g - 1]][3] += g not in hit and not crowd[g - 1] and (true == g).any()
    return table


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    S, G = rng.integers(0, 6, 2)
    true = rng.integers(0, G + 1, (4, 4)).repeat(2, 0).repeat(2, 1)
    mine = np.where(rng.random((8, 8)) < 0.8, np.minimum(true, S), rng.integers(0, S + 1, (8, 8)))
    k, k_true, crowd = rng.integers(0, 3, S), rng.integers(0, 3, G), rng.random(G) < 0.3
    n = min(S, G)
    k[:n] = np.where(rng.random(n) < 0.8, k_true[:n], k[:n])
    quality = PanopticQuality(3)
    quality.update(mine, k, true, k_true, crowd)
    for c, (iou_sum, *counts) in by_definition(mine, k, true, k_true, crowd).items():
        assert [quality.tp[c], quality.fp[c], quality.fn[c]] == counts
        assert quality.iou_sum[c] == pytest.approx(iou_sum)


def test_a_perfect_answer_is_one_and_images_add_up():
    quality = PanopticQuality(2)
    for _ in range(3):
        true = np.array([[0, 1, 2], [3, 3, 3]])
        quality.update(true, [0, 1, 0], true, [0, 1, 0])
    assert quality.mean() == (1, 1, 1) and quality.tp.tolist() == [6, 3]


def test_errors():
    quality = PanopticQuality(2)
    assert np.isnan(quality.mean()).all()
    one = np.array([[1]])
    with pytest.raises(ValueError, match="true_segments holds 1 to 1, but classes are given for 1 to 0"):
        quality.update(one, [0], one, [])
    with pytest.raises(ValueError, match="classes of segments must be 0 to 1, got 2 to 2"):
        quality.update(one, [2], one, [0])
    with pytest.raises(ValueError, match=r"same shape, got \(1, 1\) and \(1, 2\)"):
        quality.update(one, [0], np.ones((1, 2), int), [0])
