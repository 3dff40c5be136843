import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.cli import main as cli
from minicv.data import Cells
from minicv.data.generated.street_scenes import StreetScenes
from minicv.training import (
    CheckpointError,
    Interrupted,
    Run,
    SegmentationConfig,
    SegmentationTask,
    Training,
    load_checkpoint,
    parallel,
    save_checkpoint,
)
from minicv.training.monitor import Monitor

SMALL = SegmentationConfig(steps=30, tile=20, warmup=0, elastic=2.0, lr=0.01)
FILES = ["best.safetensors", "curve.png", "last.safetensors", "metrics.jsonl"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(minicv.__file__).parents[1])}


def training(config=SMALL, seed=0, **options):
    minicv.seed(seed)
    model = models.build("unet", **{"width": 4, "depth": 1, **options})
    return Training(SegmentationTask(model, Cells(3, 32), config))


def run(folder, config=SMALL, **options):
    return Run(training(config), folder, {"data": "cells"}, quiet=True, **options)


def same(one, two):
    a, b = load_checkpoint(one)[0].state_dict(), load_checkpoint(two)[0].state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder).run()
    return folder


# ------------------------------------------------------------------------------------------------------------ watching

def test_what_a_run_writes(whole):
    assert sorted(os.listdir(whole)) == FILES
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert list(lines[0]) == ["step", "loss", "total", "lr", "seconds", "memory"]
    assert lines[0]["lr"] == pytest.approx(0.01 * (1 - 10 / 30) ** 0.9) and lines[-1]["lr"] == 0
    assert all(line["memory"] > 1 << 20 and line["seconds"] > 0 for line in lines)
    model, info = load_checkpoint(whole / "last.safetensors", expect="unet")
    assert info["step"] == 30 and info["data"] == "cells" and SegmentationConfig(**info["config"]) == SMALL
    losses = [step["total"] for step in training()]
    np.testing.assert_allclose([line["total"] for line in lines], np.reshape(losses, (3, 10)).mean(axis=1))


def test_the_bar_shows_loss_rate_and_memory(tmp_path, capsys):
    Run(training(), tmp_path, {}).run()
    bar = capsys.readouterr().err
    assert "30/30" in bar and "loss=" in bar and "lr=" in bar and "memory=" in bar and "image/s" in bar
    run(tmp_path / "quiet").run()
    assert capsys.readouterr() == ("", "")


def test_the_best_by_validation_is_kept(tmp_path):
    values = iter([0.2, 0.9, 0.5, 0.7, 0.1, 0.3, 0.3, 0.3, 0.3, 0.3])
    seen = []

    def validate(model):
        seen.append(model.state_dict())
        model.eval()
        return next(values)

    job = run(tmp_path, validate=validate)
    lines = job.run()
    assert job.training.model.training
    assert [line["validation"] for line in lines if "validation" in line][:3] == [0.2, 0.9, 0.5]
    model, info = load_checkpoint(tmp_path / "best.safetensors")
    assert info["best"] == 0.9 and info["step"] == 6
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, seen[1][name])


def scores(*values):
    """A validation that returns these scores in turn, then 0."""
    left = iter(values)
    return lambda model: next(left, 0.0)


def test_it_stops_when_validation_no_longer_rises(tmp_path):
    values = [0.2, 0.5, 0.4, 0.5, 0.6, 0.6, 0.5, 0.6]
    job = run(tmp_path, validate=scores(*values), patience=3)
    assert [line["validation"] for line in job.run() if "validation" in line] == values
    assert job.training.step == 24 == load_checkpoint(job.last_path)[1]["step"] and job.stalled()
    assert load_checkpoint(tmp_path / "best.safetensors")[1]["step"] == 15
    again = run(tmp_path, validate=scores(), patience=3)  # the same command has nothing left to do
    again.resume()
    again.run()
    assert again.training.step == 24
    more = run(tmp_path, SMALL.replace(steps=60), validate=scores(0.3, 0.2, 0.1), patience=3)
    more.resume()  # more steps: the count begins again, and the best stays
    more.run()
    assert more.training.step == 48 and load_checkpoint(tmp_path / "best.safetensors")[1]["best"] == 0.6
    later = run(tmp_path, SMALL.replace(steps=60), validate=scores(), patience=3)
    later.resume()
    assert later.patience_from == 24 and later.stalled()


def test_it_does_not_stop_before_it_has_learned_anything(tmp_path):
    job = run(tmp_path, validate=scores(0, 0, 0, 0, float("nan"), 0.1), patience=3)
    with pytest.warns(RuntimeWarning, match="nothing to measure"):
        job.run()
    assert job.training.step == 27 and job.stalled()  # 0.1, then three times 0


def test_without_patience_it_never_stops_early(tmp_path):
    for options in ({"validate": scores(0.9)}, {"patience": 1}):
        job = run(tmp_path / str(len(options)), **options)
        job.run()
        assert job.training.step == 30 and not job.stalled()


def test_a_loss_that_is_not_finite_ends_the_run_with_one_error(tmp_path):
    """And without a warning from each operation that overflows: here every warning is an error."""
    message = r"the loss became (nan|inf) at step [12]; a smaller learning rate than 1e\+30 may help"
    with pytest.raises(RuntimeError, match=message):
        run(tmp_path, SMALL.replace(lr=1e30)).run()
    job = run(tmp_path)
    job.training.model.head.bias.data[0] = np.inf
    with pytest.raises(RuntimeError, match="the loss became nan at step 0"):
        job.run()
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------- resuming

def interrupted_at(folder, steps, **options):
    """A run that Ctrl-C ends after so many steps."""
    job = run(folder, **options)
    record = job.record

    def stop(losses, bar):
        record(losses, bar)
        if job.training.step == steps:
            signal.raise_signal(signal.SIGINT)
    job.record = stop
    with pytest.raises(Interrupted, match=rf"interrupted after step {steps} of 30; .*last.safetensors is saved: rerun "
                                          "with --resume to continue"):
        job.run()
    return job


@pytest.mark.parametrize("steps", [1, 10, 13, 29])
def test_interrupted_and_resumed_is_as_never_interrupted(tmp_path, whole, steps):
    interrupted_at(tmp_path, steps)
    job = run(tmp_path)
    job.resume()
    assert job.training.step == steps
    job.run()
    assert sorted(os.listdir(tmp_path)) == FILES
    assert same(tmp_path / "last.safetensors", whole / "last.safetensors")
    assert [line["step"] for line in job.lines] == [10, 20, 30]


@pytest.mark.parametrize("where", ["model.losses", "group.backward", "optimizer.step", "schedule.step"])
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(tmp_path, where):
    """Before and after each part of it: batch norm's statistics, some weights or the rate are the next step's."""
    def job(folder):
        minicv.seed(0)
        model = models.build("fcn8s", width=4, hidden=8, pooled=1, num_classes=9)
        config = SegmentationConfig(steps=4, batch=2, warmup=0, lr=0.01, augment=False)
        job = Training(SegmentationTask(model, StreetScenes(4, 32, keep=True), config), parallel.ProcessGroup())
        return Run(job, folder, quiet=True)

    job(tmp_path / "whole").run()
    for when in ("before", "after"):
        stopped = job(tmp_path / when)
        owner, name = where.split(".")
        owner = getattr(stopped.training, owner)
        part = getattr(owner, name)

        def interrupted(*args, part=part, stopped=stopped, when=when):
            now = stopped.training.step == 2
            if now and when == "before":
                signal.raise_signal(signal.SIGINT)
            result = part(*args)
            if now and when == "after":
                signal.raise_signal(signal.SIGINT)
            return result
        setattr(owner, name, interrupted)
        with pytest.raises(Interrupted, match="interrupted after step 3 of 4"):
            stopped.run()
        again = job(tmp_path / when)
        again.resume()
        again.run()
        assert same(tmp_path / when / "last.safetensors", tmp_path / "whole" / "last.safetensors")


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    job = run(tmp_path)
    losses, before = job.training.model.losses, signal.getsignal(signal.SIGINT)

    def twice(*args):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return losses(*args)
    job.training.model.losses = twice
    with pytest.raises(KeyboardInterrupt) as stop:
        job.run()
    assert not isinstance(stop.value, Interrupted) and not (tmp_path / "last.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_may_get_more_steps(tmp_path, whole):
    """Its weights and optimizer continue; the rate is that of the schedule over all steps, from there on."""
    shutil.copytree(whole, tmp_path / "more")
    job = run(tmp_path / "more", SMALL.replace(steps=40))
    job.resume()
    assert (job.training.step, job.previous_steps) == (30, 30)
    assert job.training.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * (1 - 30 / 40) ** 0.9)
    lines = job.run()
    assert [line["step"] for line in lines] == [10, 20, 30, 40] and lines[-1]["lr"] == 0
    assert load_checkpoint(job.last_path)[1]["config"]["steps"] == 40
    assert not same(job.last_path, whole / "last.safetensors")


def test_what_changes_nothing_may_change_when_a_run_is_resumed(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    Run(training(), tmp_path / "run", {"data": "isbi2012:set"}, quiet=True).run()
    for spelled in ("isbi2012:./set", f"isbi2012:{tmp_path}/set/"):
        job = Run(training(dropout=0.5), tmp_path / "run", {"data": spelled}, save_every=1.0)  # the class's default
        job.resume()
        assert job.training.step == 30


def test_the_best_of_another_measure_is_not_compared(tmp_path):
    """The mean loss is negated, so it lies below any mean IU."""
    run(tmp_path, SMALL.replace(steps=20), validate=lambda model: 0.5).run()
    job = run(tmp_path)
    job.resume()
    assert job.best == -np.inf
    job.run()
    assert -10 < load_checkpoint(tmp_path / "best.safetensors")[1]["best"] < 0


def test_a_curve_that_cannot_be_drawn_is_a_warning(tmp_path, monkeypatch):
    """Everything else is saved before it, also what is trained after the steps."""
    from minicv.viz import curves

    def draw(lines, rows):
        assert (tmp_path / "last.safetensors").exists() and finished
        raise ImportError("no screen")
    monkeypatch.setattr(curves, "render_training", draw)
    finished = []
    with pytest.warns(RuntimeWarning, match=r"curve.png: not drawn \(no screen\)"):
        run(tmp_path).run(lambda: finished.append(1) or True)
    assert sorted(os.listdir(tmp_path)) == [name for name in FILES if name != "curve.png"]


def test_the_picture_is_drawn_while_it_trains_and_changes_nothing(tmp_path, whole):
    """After each save, with the predictions of the moment; the weights are as if nothing had been drawn."""
    drawn = []

    def examples(model):
        assert (tmp_path / "last.safetensors").exists()
        found = model.predict([Cells(1, 32)[0].image])[0].labels
        drawn.append(model.training)
        return {"prediction": [np.repeat(found[..., None], 3, axis=2).astype(np.uint8)]}

    job = run(tmp_path, save_every=0.0, examples=examples)
    job.monitor.is_due = lambda: True
    job.run()
    assert len(drawn) == 31 and (tmp_path / "curve.png").stat().st_size > 1000
    assert same(tmp_path / "last.safetensors", whole / "last.safetensors")
    assert job.training.model.training


def test_drawing_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monitor = Monitor(tmp_path / "curve.png", lambda model: now.__setitem__(0, now[0] + 3.0) or {})
    assert monitor.is_due()
    monitor.draw([], None)
    assert now[0] == 3 and not monitor.is_due()
    now[0] = 3 + 3 / 0.02 - 1
    assert not monitor.is_due()
    now[0] += 1.01
    assert monitor.is_due()


def test_the_expected_time_is_printed_once(tmp_path, capsys):
    Run(training(), tmp_path, {}).run()
    written = capsys.readouterr()
    assert len(re.findall(r"\d\.\d\d s per step: \d+ steps in about \d+ min", written.out + written.err)) == 1


def test_a_validation_without_a_number_is_said_and_written_as_null(tmp_path):
    with pytest.warns(RuntimeWarning, match="validation: the split val has nothing to measure"):
        run(tmp_path, validate=lambda model: float("nan")).run()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"validation": null' in text and "NaN" not in text
    job = run(tmp_path, validate=lambda model: 0.0)
    job.resume()
    assert job.training.step == 30


def test_lines_after_the_last_save_are_written_anew(tmp_path, whole):
    interrupted_at(tmp_path, 13)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 20, "total": 1e9}) + "\n" + '{"step": 30, "tot')  # a later, torn end
    job = run(tmp_path)
    job.resume()
    assert [line["step"] for line in job.run()] == [10, 20, 30] and job.lines[1]["total"] < 1e9


@pytest.mark.parametrize(("content", "message"), [
    (b'{"step": 10}\n{"step": }\n', "line 2 is not what a run writes"), (b"{}\n", "line 1 is not what a run writes"),
    (b'{"step": 10, "total": "low"}\n', "line 1 is not what a run writes"), (b"\xff\n", "it is not text"),
    (b'{"step": 10}\n{"step": 20, "tot\n{"step": 30}\n', "line 2 is not what a run writes"),  # torn, but not the last
    (b'{"step": 20}\n{"step": 10}\n', "line 2 is not what a run writes"),
    (b"[1]\n{}", "line 1 is not what a run writes"),
    (b'{"step": 10, "total": true}\n', "line 1 is not what a run writes"),
    (b"[" * 100_000 + b"}", "line 1 is not what a run writes")])
def test_damaged_metrics_are_refused(tmp_path, content, message):
    interrupted_at(tmp_path, 13)
    (tmp_path / "metrics.jsonl").write_bytes(content)
    job = run(tmp_path)
    message = f"metrics.jsonl: {message}; repair or remove it, then --resume continues"
    with pytest.raises(CheckpointError, match=message):
        job.resume()
    assert job.training.step == 0


def test_a_finished_run_has_nothing_left_to_do(tmp_path, whole):
    job = run(whole)
    job.resume()
    before = {name: load_checkpoint(whole / name)[0].state_dict()
              for name in ("last.safetensors", "best.safetensors")}
    lines = (whole / "metrics.jsonl").read_bytes()
    assert len(job.run()) == 3 and job.training.step == 30
    for name, weights in before.items():
        model, info = load_checkpoint(whole / name)
        assert info["step"] == 30
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value, weights[key])
    assert (whole / "metrics.jsonl").read_bytes() == lines


@pytest.mark.parametrize(("change", "message"), [
    ({"step": -1}, "damaged: its step is -1, which no training writes"),
    ({"step": True}, "damaged: its step is True"), ({"step": "30"}, "damaged: its step is '30'"),
    ({"step": 30.0}, "damaged: its step is 30.0"), ({"seconds": None}, "damaged: its seconds is None"),
    ({"seconds": "1"}, "damaged: its seconds is '1'"), ({"best": "high"}, "damaged: its best is 'high'"),
    ({"config": 3}, "damaged: its config's steps is None"), ({"config": None}, "damaged: its config's steps is"),
    ({"config": {}}, "damaged: its config's steps is None"), ({"config": {"steps": 0.5}}, "damaged: its config's"),
    ({"patience_from": -1}, "damaged: its patience_from is -1"),
])
def test_a_training_state_that_no_training_writes(tmp_path, change, message):
    info = {"step": 0, "seconds": 1.0, "best": None, "data": "cells", "config": vars(SMALL), **change}
    save_checkpoint(tmp_path / "last.safetensors", training().model, **info)
    with pytest.raises(CheckpointError, match=f"last.safetensors: {re.escape(message)}"):
        run(tmp_path).resume()


def test_what_cannot_be_resumed_is_refused(tmp_path, whole):
    def message(job):
        before = job.training.model.state_dict()
        with pytest.raises(CheckpointError) as error:
            job.resume()
        assert job.training.step == 0
        for name, value in job.training.model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])
        return str(error.value).removeprefix(f"{job.last_path}: ")

    assert message(run(tmp_path)) == "no such checkpoint; minicv train ... --out DIR writes DIR/last.safetensors"
    wider = Run(training(width=5), whole, {"data": "cells"}, quiet=True)
    assert message(wider) == ("this run was started with model width 4, not width 5; continue it with the same, or "
                              "choose another --out")
    assert "started with data cells, not isbi2012:" in message(Run(training(), whole, {"data": "isbi2012:x"}))
    assert "started with config lr 0.01, not lr 0.02;" in message(run(whole, SMALL.replace(lr=0.02, steps=60)))
    assert message(run(whole, SMALL.replace(steps=20))) == "30 steps are done already, more than the requested 20"
    save_checkpoint(tmp_path / "last.safetensors", training().model, data="cells", config=vars(SMALL))
    assert message(run(tmp_path)) == "holds a model, but not the state of its training"
    content = (whole / "last.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(content[:-1])
    assert message(run(tmp_path)).startswith("not a safetensors file, or a damaged one")
    (tmp_path / "last.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert message(run(tmp_path)) == "damaged: its contents do not match its checksum"


# --------------------------------------------------------------------------------------------------------- hard endings

COMMAND = [sys.executable, "-m", "minicv", "train", "unet", "--data", "cells", "--width", "2", "--tile", "20",
           "--steps", "60", "--save-every", "0"]


def start(folder, *more):
    def heed():  # a shell's background job ignores Ctrl-C, and all that it starts
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*COMMAND, "--out", str(folder), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=ENVIRONMENT, text=True, preexec_fn=heed)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killed_at_random_moments_and_resumed(tmp_path):
    """20 kills between the first save and the end: no file is broken, the resumed run ends with the same weights."""
    def run_until(folder, seconds):
        """Start; kill so long after the first save, unless it has ended by then. (killed?, seconds from save to end)"""
        with start(folder, "--quiet") as process:
            while not (folder / "last.safetensors").exists() and process.poll() is None:
                time.sleep(0.002)
            saved = time.perf_counter()
            try:
                _, error = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return True, None
        assert process.returncode == 0, error
        return False, time.perf_counter() - saved

    _, duration = run_until(tmp_path / "whole", 120)
    rng, kills = np.random.default_rng(0), 0
    while kills < 20:
        folder = tmp_path / f"{kills}"
        killed, seconds = run_until(folder, rng.uniform(0, duration))
        if not killed:  # it was faster than the first: not a moment that counts
            duration = min(duration, seconds)
            shutil.rmtree(folder)
            continue
        kills += 1
        load_checkpoint(folder / "last.safetensors")
        with start(folder, "--quiet", "--resume") as process:
            _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert same(folder / "last.safetensors", tmp_path / "whole" / "last.safetensors")


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    with start(tmp_path, "--steps", "100000") as process:
        seen = ""
        while "loss=" not in seen:  # the bar shows that steps are done
            piece = process.stderr.read(1)
            assert piece, seen
            seen += piece
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    assert "is saved: rerun with --resume to continue" in error
    assert load_checkpoint(tmp_path / "last.safetensors")[1]["step"] >= 10


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    """The file size limit stands in for the disk: writing beyond it fails as there."""
    job = interrupted_at(tmp_path, 10)
    good = (tmp_path / "last.safetensors").read_bytes()
    job = run(tmp_path)
    job.resume()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            job.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "last.safetensors").read_bytes() == good
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_by_the_command(tmp_path, capsys, monkeypatch):
    few = lambda spec, split="train": Cells(2, 36)  # noqa: E731
    monkeypatch.setattr(minicv.data, "open_dataset", few)
    command = ["train", "unet", "--data", "cells", "--width", "4", "--tile", "20", "--steps", "3", "--quiet", "--out",
               str(tmp_path)]
    assert cli.main(command) == 0
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "already exists: add --resume to continue it, or choose another --out" in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    assert ", from step 3" in capsys.readouterr().out
