import dataclasses
import json

import numpy as np
import pytest

from minicv import nn
from minicv.training import Recipe, SegmentationRecipe


def test_the_defaults_are_the_papers():
    recipe = SegmentationRecipe()
    # U-Net, sec. 3: "we use a high momentum (0.99)"; sec. 3.1: "10 pixels standard deviation"
    assert recipe.momentum == 0.99 and recipe.batch == 1 and recipe.elastic == 10.0 and recipe.augment


def test_replaced():
    recipe = Recipe(steps=5, lr=0.1)
    assert recipe.replaced(steps=7, lr=None) == Recipe(steps=7, lr=0.1)
    assert recipe.replaced() == recipe and recipe.replaced() is not recipe
    recipe = SegmentationRecipe()
    assert recipe.replaced(augment=False, elastic=0.0).augment is False  # 0 and False are values, None is not


@pytest.mark.parametrize(("options", "message"), [
    ({"schedule": "cosine"}, r"SegmentationRecipe\(schedule='cosine'\): 'constant' or 'poly'"),
    ({"optimizer": "lion"}, r"SegmentationRecipe\(optimizer='lion'\): 'sgd' or 'adam'"),
    ({"steps": 0}, r"SegmentationRecipe\(steps=0\): must be at least 1"),
    ({"tile": 0}, r"SegmentationRecipe\(tile=0\): must be at least 1"),
    ({"elastic": -1.0}, r"SegmentationRecipe\(elastic=-1.0\): must be at least 0"),
    ({"warmup": -1}, r"SegmentationRecipe\(warmup=-1\): must be at least 0"),
    ({"seed": -1}, r"SegmentationRecipe\(seed=-1\): must be at least 0"),
])
def test_a_recipe_that_cannot_work(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationRecipe(**options)
    with pytest.raises(ValueError, match=message):
        SegmentationRecipe().replaced(**options)


def test_a_recipe_goes_through_json():
    recipe = SegmentationRecipe(steps=7, lr=0.5, augment=False)
    assert SegmentationRecipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


def test_groups_of_a_model_have_multiples_of_the_rate():
    """FCN, sec. 4.3: "doubled learning rate for biases"."""
    class Model(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 2, 3)

        def parameter_groups(self):
            return [{"params": [self.conv.weight]}, {"params": [self.conv.bias], "lr": 2, "weight_decay": 0.0}]

    optimizer, schedule = Recipe(lr=0.1, weight_decay=0.5, warmup=0, steps=10, momentum=0.0).make_optimizer(Model())
    assert [group["lr"] for group in optimizer.groups] == [0.1, 0.2]
    assert [group["weight_decay"] for group in optimizer.groups] == [0.5, 0.0]
    schedule.step()  # poly: (1 - 1/10)^0.9
    np.testing.assert_allclose([group["lr"] for group in optimizer.groups], np.array([0.1, 0.2]) * 0.9 ** 0.9)
