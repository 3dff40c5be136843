import numpy as np
import pytest

from minicv.data import Sample
from minicv.metrics import rand_f_score_at
from minicv.models.segmentation.base import Segmentation
from minicv.training.evaluate import evaluate_segmentation

TRUTH = np.array([[1, 1, 0, 1, 1],
                  [1, 1, 0, 1, 1],
                  [1, 1, 0, 1, 1]])


class Data:
    """Images whose gray value is the P(cell) that the model below says."""

    num_classes, class_names = 2, ("membrane", "cell")

    def __init__(self, *probabilities, truth=TRUTH):
        self.samples = [Sample(p[None].astype(np.float32), truth, truth.astype(np.int32), "") for p in probabilities]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Repeats:
    """Says what the image shows; notes the tile that it was asked for."""

    def __init__(self):
        self.tiles = set()

    def predict(self, images, tile=None, average=False):
        self.tiles.add((tile, average))
        return [Segmentation((p[0] > 0.5).astype(int), np.stack([1 - p[0], p[0]])) for p in images]


def certain(mask):
    return np.where(mask, 0.9, 0.1)


def test_a_perfect_prediction():
    model, data = Repeats(), Data(certain(TRUTH == 1), certain(TRUTH == 1))
    of_pixels = {"pixel_accuracy": 1, "mean_accuracy": 1, "mean_iu": 1, "frequency_weighted_iu": 1,
                 "boundary_f_score": 1}
    assert evaluate_segmentation(model, data, tile=100, average=True) == {**of_pixels, "iu membrane": 1, "iu cell": 1}
    result = evaluate_segmentation(model, data, data, tile=100, average=True)
    assert {name: result[name] for name in of_pixels} == of_pixels
    assert (result["pixel_error"], result["rand_f_score"], result["warping_error"]) == (0, 1, 0)
    assert model.tiles == {(100, True)}


def test_the_four_measures_by_hand():
    # The second image calls the three membrane pixels cell. Over both: 30 pixels, 24 cell (all right), 6 membrane (3
    # right). Pixels 27/30; classes (3/6 + 24/24) / 2; IU of membrane 3/6, of cell 24/27; by frequency
    # (6 * 3/6 + 24 * 24/27) / 30 = (3 + 64/3) / 30
    result = evaluate_segmentation(Repeats(), Data(certain(TRUTH == 1), certain(TRUTH >= 0)))
    borders = result.pop("boundary_f_score")  # tests/metrics/test_boundary.py has it by hand
    assert 0 < borders < 1
    assert result == pytest.approx({"pixel_accuracy": 0.9, "mean_accuracy": 0.75, "mean_iu": (1 / 2 + 8 / 9) / 2,
                                    "frequency_weighted_iu": (3 + 64 / 3) / 30, "iu membrane": 1 / 2, "iu cell": 8 / 9})


def test_images_without_a_label_have_nothing_to_measure():
    result = evaluate_segmentation(Repeats(), Data(certain(TRUTH == 1), truth=np.full_like(TRUTH, 255)))
    assert list(result) == ["pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu"]
    assert np.isnan(list(result.values())).all()


def test_void_is_left_out():
    # As above, but the three membrane pixels of the second image that were called cell are void.
    void = np.where(TRUTH == 0, 255, TRUTH)
    merged = Data(certain(TRUTH >= 0), truth=void)
    assert evaluate_segmentation(Repeats(), merged)["pixel_accuracy"] == 1
    both = Data(certain(TRUTH == 1))
    both.samples += merged.samples
    assert evaluate_segmentation(Repeats(), both)["mean_iu"] == 1


def test_membranes_are_means_over_the_images():
    # Pixel error: 0 and 3 of 15. Rand: 1, and for the merged cells see the metric's own tests. Warping: the membrane of
    # the truth cannot vanish without a merger, so its pixels stay wrong but one column cannot be thinner: 3 of 15.
    merged = certain(TRUTH >= 0)
    result = evaluate_segmentation(Repeats(), Data(certain(TRUTH == 1), merged), Data(certain(TRUTH == 1)))
    assert result["pixel_error"] == pytest.approx((0 + 3 / 15) / 2)
    assert result["rand_f_score"] == pytest.approx((1 + rand_f_score_at(merged, TRUTH == 1, 0.5)) / 2)
    assert 0 < result["rand_f_score"] < 1
    assert result["warping_error"] == pytest.approx((0 + 3 / 15) / 2)


def test_the_threshold_comes_from_the_training_images_alone():
    training = Data(np.where(TRUTH == 1, 0.9, 0.72))  # the cells come apart only above 0.72
    test = Data(np.where(TRUTH == 1, 0.6, 0.4))  # a threshold of 0.5 would be perfect here; above 0.72 nothing is left
    result = evaluate_segmentation(Repeats(), test, training)
    assert result["threshold"] == 0.75
    assert result["rand_f_score"] == rand_f_score_at(test[0].image[0], TRUTH == 1, 0.75) < 1
    assert result["pixel_error"] == 0  # at 0.5, whatever the threshold


def test_probabilities_may_be_a_rounding_above_1():
    data = Data(np.where(TRUTH == 1, np.float32(1 + 1e-6), 0))
    assert evaluate_segmentation(Repeats(), data, data)["pixel_error"] == 0


def test_each_class_has_its_iu():
    """Class 2 occurs nowhere: it has none."""
    class Three(Data):
        num_classes, class_names = 3, ("membrane", "cell", "vessel")

    result = evaluate_segmentation(Repeats(), Three(certain(TRUTH == 1)))
    assert (result["iu membrane"], result["iu cell"]) == (1, 1) and "iu vessel" not in result
    assert "rand_f_score" not in result


def test_validation_of_the_command_line_is_the_mean_iu(monkeypatch, tmp_path):
    """`minicv train --validate` keeps the weights that were best on the split val."""
    import json

    import minicv.data
    from minicv.cli import main as cli
    from minicv.data import StreetScenes
    from minicv.training import load_checkpoint
    monkeypatch.setattr(minicv.data, "open_dataset",
                        lambda spec, split="train": StreetScenes(2, (48, 48), 1 + (split == "val")))
    assert cli.main(["train", "unet", "--data", "street-scenes", "--out", str(tmp_path), "--steps", "10", "--width",
                     "2",
                     "--tile", "32", "--quiet", "--validate", "--option", "depth=1", "--scale", "1.2"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    values = [line["validation"] for line in lines if "validation" in line]
    model, info = load_checkpoint(tmp_path / "best.safetensors")
    assert len(values) == 10 and info["best"] == max(values) and info["config"]["scale"] == 1.2
    assert evaluate_segmentation(model, StreetScenes(2, (48, 48), 2))["mean_iu"] == pytest.approx(max(values))
