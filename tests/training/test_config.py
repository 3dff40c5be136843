import dataclasses
import json

import numpy as np
import pytest

from minicv import nn
from minicv.training import SegmentationConfig, TrainConfig


def test_the_defaults_are_the_papers():
    config = SegmentationConfig()
    # U-Net, sec. 3: "we use a high momentum (0.99)"; sec. 3.1: "10 pixels standard deviation"
    assert config.momentum == 0.99 and config.batch == 1 and config.elastic == 10.0 and config.augment


def test_replace():
    config = TrainConfig(steps=5, lr=0.1)
    assert config.replace(steps=7) == TrainConfig(steps=7, lr=0.1)
    assert config.replace() == config and config.replace() is not config
    config = SegmentationConfig()
    assert config.replace(augment=False, elastic=0.0).augment is False  # 0 and False are values, None is not


@pytest.mark.parametrize(("options", "message"), [
    ({"schedule": "line"}, r"SegmentationConfig\(schedule='line'\): must be 'constant' or 'poly' or"),
    ({"schedule": "step"}, r"milestones=\(\)\): with schedule 'step'; the schedule 'step' needs milestones"),
    ({"milestones": (0.5,)}, r"milestones=\(0.5,\)\): with schedule 'poly'; .* no other takes any"),
    ({"schedule": "step", "milestones": (0.9, 0.75)}, r"milestones=\(0.9, 0.75\)\): must rise and lie between 0 and 1"),
    ({"schedule": "step", "milestones": (0.5, 0.5)}, "must rise"),
    ({"schedule": "step", "milestones": (40000,)}, "fractions of the steps"),
    ({"schedule": "step", "milestones": (float("nan"),)}, "lie between 0 and 1"),
    ({"lr": float("nan")}, r"SegmentationConfig\(lr=nan\): must be at least 0"),
    ({"lr": float("inf")}, r"SegmentationConfig\(lr=inf\): must be at least 0"),
    ({"momentum": 1.5}, r"SegmentationConfig\(momentum=1.5\): must be at least 0 and at most 1"),
    ({"weight_decay": -1.0}, r"SegmentationConfig\(weight_decay=-1.0\): must be at least 0"),
    ({"optimizer": "lion"}, r"SegmentationConfig\(optimizer='lion'\): must be 'sgd' or 'adam'"),
    ({"steps": 0}, r"SegmentationConfig\(steps=0\): must be at least 1"),
    ({"tile": 0}, r"SegmentationConfig\(tile=0\): must be at least 1"),
    ({"elastic": -1.0}, r"SegmentationConfig\(elastic=-1.0\): must be at least 0"),
    ({"warmup": -1}, r"SegmentationConfig\(warmup=-1\): must be at least 0"),
    ({"seed": -1}, r"SegmentationConfig\(seed=-1\): must be at least 0"),
])
def test_a_config_that_cannot_work(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationConfig(**options)
    with pytest.raises(ValueError, match=message):
        SegmentationConfig().replace(**options)


def test_a_config_goes_through_json():
    config = SegmentationConfig(steps=7, lr=0.5, augment=False)
    assert SegmentationConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_milestones_scale_with_the_steps():
    """Mask R-CNN, sec. 3.1: the rate falls by 10 at 120k of 160k iterations, so at 3/4 of any number of steps."""
    for steps in (16, 160):
        config = TrainConfig(steps=steps, schedule="step", milestones=[0.75, 0.9])
        rates = [config.lr_factor(step) for step in range(steps)]
        assert config.milestones == (0.75, 0.9)  # from JSON it comes as a list
        np.testing.assert_allclose(rates, np.repeat([1, 0.1, 0.01], np.diff([0, round(.75 * steps), round(.9 * steps),
                                                                            steps])), rtol=1e-12)


def test_the_other_schedules():
    half = {"constant": 1, "poly": 0.5 ** 0.9, "cosine": 0.5}  # half-way
    for schedule, factor in half.items():
        assert TrainConfig(steps=10, schedule=schedule).lr_factor(5) == pytest.approx(factor, rel=1e-12)
    assert TrainConfig(steps=10, power=2.0).lr_factor(5) == pytest.approx(0.25, rel=1e-12)


def test_warm_up_begins_at_its_share():
    """YOLO, sec. 2.2: the rate rises from 0.001 to 0.01."""
    config = TrainConfig(lr=0.01, schedule="constant", warmup=9, warmup_start=0.1)
    np.testing.assert_allclose([config.lr_factor(step) for step in (0, 4, 8, 9)], [0.2, 0.6, 1, 1], rtol=1e-12)
    assert TrainConfig(warmup=0, schedule="constant").lr_factor(0) == 1


def test_groups_of_a_model_have_multiples_of_the_rate():
    """FCN, sec. 4.3: "doubled learning rate for biases"."""
    class Model(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 2, 3)

        def parameter_groups(self, lr):
            return [{"params": [self.conv.weight]},
                    {"params": [self.conv.bias], "lr": 2 * lr, "weight_decay": 0.0}]

    config = TrainConfig(lr=0.1, weight_decay=0.5, warmup=0, steps=10, momentum=0.0)
    optimizer, schedule = config.make_optimizer(Model())
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    schedule.step()  # poly: (1 - 1/10)^0.9
    np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], np.array([0.1, 0.2]) * 0.9 ** 0.9)
