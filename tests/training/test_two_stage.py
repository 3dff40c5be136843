import numpy as np
import pytest

import minicv
from minicv import models
from minicv.data import Cells, Sample
from minicv.data.generated.street_scenes import StreetScenes
from minicv.training import SegmentationConfig, SegmentationTask, load_checkpoint, train_segmentation
from minicv.training.two_stage import Tile, TwoStageCrops, find_objects

NAMES = ("background", "disc", "bar")


def scene(instances=None):
    """64x64: a disc (class 1) of 20 columns and 40 rows, a bar (class 2) below it, a speck, and a strip of void."""
    label = np.zeros((64, 64), np.int64)
    label[10:50, 20:40] = 1
    label[54:58, 2:62] = 2
    label[4:9, 50:55] = 2  # 5 pixels: too small
    label[10:50, 40:42] = 255
    image = np.stack([label == k for k in (0, 1, 2)]).astype(np.float32)
    return Sample(image, label, instances, "scene")


class SceneSet:
    class_names, num_classes, upright = NAMES, 3, True

    def __init__(self, count=2):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return scene()


def deconvnet(**options):
    minicv.seed(0)
    return models.build("deconvnet", **{"num_classes": 3, "width": 4, "convs": (1, 1, 1), "hidden": 16, **options})


def rng(seed=0):
    return np.random.default_rng(seed)


def square(side):
    return Tile((side, side), (side, side))


# -------------------------------------------------------------------------------------------------------------- objects

def test_objects_are_connected_regions_where_instances_are_not_known():
    found = find_objects(scene(), 0)
    assert [(t.label, t.box) for t in found] == [(1, (20, 10, 40, 50)), (2, (2, 54, 62, 58))]
    assert [t.mask.sum() for t in found] == [800, 240] and found[0].mask[10:50, 20:40].all()
    assert {t.label for t in find_objects(scene(), None)} == {0, 1, 2}  # no background: it is a class like others


def test_objects_are_instances_where_they_are_known():
    """Two halves of the disc that touch, and a bar in two pieces: three objects."""
    instances = np.zeros((64, 64), np.int32)
    instances[10:30], instances[30:50], instances[54:, :20], instances[54:, 40:] = 1, 2, 3, 3
    found = find_objects(scene(instances), 0)
    assert [(t.label, t.box) for t in found] == [(1, (20, 10, 40, 30)), (1, (20, 30, 40, 50)), (2, (2, 54, 62, 58))]


# ---------------------------------------------------------------------------------------------------------------- parts

def test_stage_1_by_hand():
    """The disc's 40 rows, 1.2 times larger 48, fill a part of 96: twice as large. Its middle, (30, 30), is at 60 then,
    so the part begins at 60 - 48 = 12. Rows 20 to 100 are at 8 to 88, columns 40 to 80 at 28 to 68."""
    stages, seen = TwoStageCrops(NAMES), set()
    for seed in range(20):
        part = stages(scene(), 1, square(96), rng(seed), augment=False)
        assert part.image.shape == (3, 96, 96) and part.instances is None
        if 1 not in part.label:
            seen.add("bar")
            continue
        seen.add("disc")
        expected = np.zeros((96, 96), np.int64)
        expected[8:88, 28:68], expected[8:88, 68:72] = 1, 255  # the bar, rows 96 on, counts as background
        np.testing.assert_array_equal(part.label, expected)
        np.testing.assert_allclose(part.image[1, 10:86, 30:66], 1)
    assert seen == {"disc", "bar"}


def test_without_background_stage_1_keeps_all_labels():
    part = TwoStageCrops(("sky", "disc", "bar"))(scene(), 1, square(96), rng(1), augment=False)
    assert {0, 1, 2} <= set(np.unique(part.label).tolist())


def test_stage_2_takes_proposals_that_overlap_an_object_by_half():
    """Of three, one has an IoU of 1/2 with the disc, 20 of its 40 rows; the others have less with anything."""
    stages, sample = TwoStageCrops(NAMES), scene()
    asked = []
    stages.propose = lambda image: asked.append(image) or np.array(
        [[20, 10, 40, 30], [20, 10, 40, 29], [0, 0, 64, 64]], np.float32)
    part = stages(sample, 2, square(48), rng(), augment=False)
    # 20x20, 1.2 times larger 24: again twice; the middle (20, 30) is at (40, 60), the part begins at (16, 36)
    expected = np.zeros((48, 48), np.int64)
    expected[4:, 4:44], expected[4:, 44:48] = 1, 255
    expected[:2, 48:] = 2
    np.testing.assert_array_equal(part.label, expected)
    assert asked[0] is sample.image


def test_stage_2_keeps_all_labels_and_takes_objects_where_no_proposal_fits():
    stages = TwoStageCrops(NAMES)
    stages.propose = lambda image: np.array([[0, 0, 64, 64]], np.float32)
    labels = [set(np.unique(stages(scene(), 2, square(96), rng(seed)).label).tolist()) for seed in range(20)]
    assert {0, 1, 2, 255} in labels


def test_proposals_are_selective_searchs_and_made_once_for_an_image(monkeypatch):
    import importlib
    module = importlib.import_module("minicv.detection.selective_search")  # the function has the same name
    calls, original = [], module.selective_search
    monkeypatch.setattr(module, "selective_search", lambda *a, **k: calls.append(1) or original(*a, **k))
    stages, sample = TwoStageCrops(NAMES), StreetScenes(1, 64)[0]
    for seed in range(5):
        stages(sample, 2, square(32), rng(seed))
    assert len(calls) == 1


def test_parts_are_moved_and_mirrored():
    """Of 250 pixels 224 are cut: the middle lies up to 13 of 224 away, here 5.6 of 96, and all is 250/224 larger."""
    stages, middles, mirrored = TwoStageCrops(NAMES), [], 0
    for seed in range(200):
        part = stages(scene(), 1, square(96), rng(seed))
        rows, columns = np.nonzero(part.label == 1)
        if len(rows):
            assert len(set(columns)) in (44, 45)  # 40 * 250/224 = 44.6
            middles.append((columns.min() + columns.max() + 1) / 2 - 48)
            void = np.nonzero(part.label == 255)[1].min()
            mirrored += bool(void < columns.min())
    assert 70 < len(middles) < 130  # as many discs as bars
    assert 4 < max(middles) <= 6.6 and -6.6 <= min(middles) < -4 and len(set(middles)) > 10
    assert 0.3 < mirrored / len(middles) < 0.7


def test_an_image_without_objects_is_taken_as_a_whole():
    empty = Sample(np.ones((1, 20, 40), np.float32), np.zeros((20, 40), np.int64), None, "empty")
    for stage in (1, 2):
        part = TwoStageCrops(NAMES)(empty, stage, square(48), rng(), augment=False)
        assert ((part.label == 0).sum(), (part.label == 255).sum()) == (800, 48 * 48 - 800)  # 40 * 1.2 = 48: as it was


# ------------------------------------------------------------------------------------------------------------- training

def test_a_third_of_the_steps_is_stage_1():
    task = SegmentationTask(deconvnet(), SceneSet(), SegmentationConfig(steps=9, batch=2, tile=48, two_stage=True))
    assert [task.stage(i) for i in range(18)] == [1] * 6 + [2] * 12
    kept = [2 in task.example(i)[1] and 1 in task.example(i)[1] for i in range(40)]
    assert not any(kept[:6]) and any(kept[6:])  # disc and bar in one part


def test_examples_depend_on_seed_and_number_alone():
    config = SegmentationConfig(steps=4, batch=2, tile=48, two_stage=True)
    one, two = (SegmentationTask(deconvnet(num_classes=9), StreetScenes(3, 64), config) for _ in range(2))
    for i in (7, 0, 3):
        for here, there in zip(one.example(i)[:2], two.example(i)[:2], strict=True):
            np.testing.assert_array_equal(here, there)
    image, label, weight = one.example(5)
    assert image.shape == (3, 48, 48) and image.dtype == np.float32 and label.shape == (48, 48) and weight is None


def test_networks_with_valid_convolutions_have_the_object_in_the_middle_of_their_output():
    minicv.seed(0)
    model = models.build("unet", in_channels=3, num_classes=3, width=4, depth=1)  # the output is 16 smaller
    config = SegmentationConfig(steps=30, tile=96, two_stage=True, augment=False)
    task = SegmentationTask(model, SceneSet(1), config)
    image, label, _ = next(e for e in (task.example(i) for i in range(9)) if 1 in e[1])
    assert image.shape[1:] == (112, 112) and label.shape == (96, 96)
    assert (label == 1)[8:88, 28:68].all() and (label == 1).sum() == 80 * 40


def test_two_stages_teach_deconvnet_to_draw_objects():
    losses = list(train_segmentation(deconvnet(width=8), SceneSet(), SegmentationConfig(
        steps=100, batch=4, optimizer="adam", lr=0.02, warmup=5, tile=32, two_stage=True)))
    assert losses[0] > 1 and np.mean(losses[-10:]) < 0.3


def test_by_the_command_line(run, monkeypatch, tmp_path):
    def few(spec, split="train"):
        return Cells(2, 48, radius=(8, 12))
    monkeypatch.setattr(minicv.data, "open_dataset", few)
    arguments = ["train", "deconvnet", "--data", "cells", "--steps", 3, "--batch", 2, "--tile", 32, "--width", 4,
                 "--two-stage", "--quiet", "--out", tmp_path]
    code, text, error = run(*arguments)
    assert (code, error) == (0, "") and ", two stage" in text
    assert load_checkpoint(tmp_path / "last.safetensors")[1]["config"]["two_stage"] is True
    assert run(*arguments, "--resume")[0] == 0
    arguments.remove("--two-stage")
    code, _, error = run(*arguments, "--resume")
    assert code == 2 and "was started with config two_stage True, not two_stage False" in error
    code, _, error = run("train", "faster_rcnn", "--data", "shape-boxes", "--two-stage", "--out", tmp_path / "x")
    assert code == 2 and "--two-stage is not for faster_rcnn, which finds objects" in error


@pytest.mark.parametrize("stage", [1, 2])
def test_with_a_weight_map_the_weights_go_along(stage):
    task = SegmentationTask(deconvnet(in_channels=1), Cells(1, 48, radius=(8, 12)), SegmentationConfig(
        steps=3, tile=32, two_stage=True, weight_map=True))
    _, label, weight = task.example(stage - 1)
    assert weight.shape == label.shape == (32, 32) and weight.dtype == np.float32
    assert not weight[label == 255].any() and weight[label != 255].all()
