"""The benchmarks beside PyTorch: both libraries compute the same networks, and no contender is what it does not say."""
from __future__ import annotations

import copy

import pytest

import minicv
from tests.benchmarks import report, steps
from tests.benchmarks.rounds import user_environment
from tests.oracle import require

SIZES = {"alexnet": (2, 3, 64, 64), "unet": (1, 1, 108, 108), "fcn8s": (1, 3, 64, 72), "faster_rcnn": (2, 3, 96, 128),
         "yolo": (2, 3, 112, 112)}
FACTS = {"parameters": 3, "output": 1.0, "loss": 2.0, "gradient": 3.0, "loss after": 1.9}


@pytest.fixture(autouse=True)
def one_thread():
    torch = require("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("model", steps.NETWORKS)
def test_both_libraries_compute_the_same_network(model):
    case = {"model": model, "preset": "compact", "x": SIZES.get(model, (2, 3, 64, 64)), "lr": 1e-4}
    steps.check(case, {"minicv": steps.with_minicv(case)[1], "torch": steps.with_torch(case, False)[1],
                       "torch channels-last": steps.with_torch(case, True)[1]})


@pytest.mark.parametrize("model", steps.NETWORKS)
def test_paper_networks_have_the_same_parameters(model):
    from torch import device

    from tests.benchmarks import torch_networks
    with device("meta"):
        theirs = {name: tuple(p.shape) for name, p in torch_networks.build(model, "paper").named_parameters()}
    ours = steps.minicv_model({"model": model, "preset": "paper"})
    assert {name: p.shape for name, p in ours.named_parameters()} == theirs


def test_every_network_is_measured_in_both_sizes():
    assert {(c["model"], c["preset"]) for c in steps.CASES} \
        == {(model, preset) for model in steps.NETWORKS for preset in ("compact", "paper")}
    assert len(steps.NETWORKS) >= 10


@pytest.mark.parametrize("fact, value", [("parameters", 4), ("output", 1.001), ("loss", 2.001), ("loss", float("nan")),
                                         ("gradient", 3.1), ("loss after", 2.0)])
def test_contenders_that_differ_are_refused(fact, value):
    facts = {"minicv": FACTS, "torch": copy.copy(FACTS)}
    steps.check(steps.CASES[0], facts)
    facts["torch"][fact] = value
    with pytest.raises(RuntimeError, match=f"alexnet compact .*: {fact} is "):
        steps.check(steps.CASES[0], facts)


def test_no_contender_is_the_other_one():
    with pytest.raises(RuntimeError, match="the process of PyTorch has imported minicv"):
        steps.about_torch()
    with pytest.raises(RuntimeError, match="PyTorch is imported in the process of minicv"):
        steps.about_minicv(plain=False)


def test_substituted_operations_are_no_contender(monkeypatch):
    from minicv.autograd import substitute
    from minicv.ops.activation import ReLU
    monkeypatch.delitem(steps.sys.modules, "torch")
    assert steps.about_minicv(plain=False)["threads"] == minicv.backend.num_threads()
    with pytest.raises(RuntimeError, match="substituted"):
        steps.about_minicv(plain=True)
    with substitute({ReLU: ReLU}), pytest.raises(RuntimeError, match="substituted"):
        steps.about_minicv(plain=False)


def test_contenders_have_the_environment_of_a_user(monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_NUM_THREADS", "MINICV_PLAIN"):
        monkeypatch.setenv(name, "1")
        assert name not in user_environment()


def test_page_is_only_written_when_every_part_succeeds(monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before")

    def fails(rounds):
        raise RuntimeError("alexnet: loss is 1 in minicv and 2 in torch")
    monkeypatch.setattr(report, "PARTS", {"first": lambda rounds: ["## First"], "second": fails})
    monkeypatch.setattr(report.sys, "argv", ["report", "--out", str(page)])
    with pytest.raises(RuntimeError, match="loss is 1"):
        report.main()
    assert [f.name for f in tmp_path.iterdir()] == ["page.md"] and page.read_text() == "before"
    monkeypatch.setattr(report, "PARTS", {"first": lambda rounds: ["## First"]})
    report.main()
    assert "## First" in page.read_text() and "That was wrong" in page.read_text()
