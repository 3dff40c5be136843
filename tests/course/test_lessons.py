"""The lessons: what runs them, and that each of them runs, measures something, and stays short."""
import ast
import json
import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

import minicv
from minicv.cli import main as cli
from minicv.course import claims, lessons
from minicv.course.lessons import Lesson
from minicv.data import open_dataset
from minicv.errors import UserError
from tests import strict_device  # noqa: F401 - makes the device "strict" known

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = lessons.find()

# ---------------------------------------------------------------------------------------------------------
# What runs them
# ---------------------------------------------------------------------------------------------------------
GOOD = '''"""A lesson that works
======================
"""
import os
import sys

from minicv.course.lessons import Lesson

lesson = Lesson("03_good", __doc__, needs="label")
print("ran with", sys.argv[1:], lesson.data)
lesson.claim("T1", "Euler (1748)", "two is two", "2", 2 == 2)
lesson.claim("T2", "this lesson", "two is three", "2", 2 == 3)
lesson.claim("T3", "this lesson", "more data would help", "0 of 0", None)
lesson.finish()
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of lessons, with ``out`` for their results, that minicv takes for its own."""
    monkeypatch.setattr(lessons, "LESSONS_DIR", tmp_path)
    monkeypatch.setenv("MINICV_LESSONS_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MINICV_QUICK", raising=False)
    (tmp_path / "notes.py").write_text("")  # not a lesson
    return tmp_path


@pytest.fixture
def several(folder):
    for name in ("00_engine", "03_good", "08_unet", "10_unet_again"):
        (folder / f"{name}.py").write_text(GOOD.replace("03_good", name))
    return folder


@pytest.mark.parametrize(("names", "found"), [
    (None, ["00_engine", "03_good", "08_unet", "10_unet_again"]),
    ([], ["00_engine", "03_good", "08_unet", "10_unet_again"]),
    (["08"], ["08_unet"]),
    (["08_unet"], ["08_unet"]),
    (["08_unet.py"], ["08_unet"]),
    (["lessons/08_unet.py"], ["08_unet"]),
    (["eng"], ["00_engine"]),
    (["unet"], ["08_unet", "10_unet_again"]),
    (["unet", "08", "00"], ["08_unet", "10_unet_again", "00_engine"]),  # as asked for, none twice
])
def test_lessons_are_found(several, names, found):
    assert [path.stem for path in lessons.find(names)] == found


def test_an_unknown_lesson_lists_what_there_is(several):
    with pytest.raises(ValueError, match=r"^no lesson 'vnet'; there are: 00_engine, 03_good, 08_unet, 10_unet_again$"):
        lessons.find(["08", "vnet"])


def test_without_lessons_the_error_says_where_they_come_from(folder):
    with pytest.raises(ValueError, match=r"no lessons in .*pip install -e \."):
        lessons.find()


@pytest.mark.parametrize("text", [
    '"""A title\n=======\n\nMore."""\n', '"""A title.\n\nMore.\n"""\n', "'''A title'''\n", 'r"""A title\n"""\n',
    '"""\nA title\n"""\n',
])
def test_a_title_is_the_first_line_of_the_docstring(tmp_path, text):
    path = tmp_path / "00_lesson.py"
    path.write_text(text)
    assert lessons.title(path) == "A title"


def test_a_title_is_read_as_utf8(tmp_path):
    path = tmp_path / "00_lesson.py"
    path.write_bytes('"""Für Elise"""\n'.encode())
    assert lessons.title(path) == "Für Elise"


def test_listing_shows_names_and_titles(several, capsys):
    assert cli.main(["lessons"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "08_unet  A lesson that works"
    assert cli.main(["lessons", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_options_are_passed_on_and_claims_counted(folder, capfd):
    (folder / "03_good.py").write_text(GOOD)
    assert cli.main(["lessons", "run", "good", "--quick", "--data", "cells", "--seed", "5"]) == 0
    out = capfd.readouterr().out
    assert "=== 03_good: A lesson that works" in out
    assert "ran with ['--quick', '--data', 'cells', '--seed', '5']" in out
    assert re.search(r"^03_good +\d+\.\d s  3 claims: 1 hold, 1 do not, 1 undecided$", out, re.M)
    assert out.rstrip().endswith(f"figures: {folder / 'out'}")


def test_lessons_run_on_the_device_that_the_command_line_names(folder, monkeypatch, capfd):
    on = 'print("on", os.environ["MINICV_BACKEND"])'
    (folder / "03_good.py").write_text(GOOD.replace("lesson.finish()", f"{on}\nlesson.finish()"))
    monkeypatch.setenv("MINICV_BACKEND", "cupy")  # what the command line says goes before
    assert cli.main(["--backend", "numpy", "lessons", "run", "good"]) == 0
    assert "on numpy\n" in capfd.readouterr().out


def test_a_quick_run_leaves_the_notes_of_a_full_one(folder, capfd):
    (folder / "03_good.py").write_text(GOOD)
    assert cli.main(["lessons", "run", "good"]) == 0
    full = (folder / "out" / "03_good.json").read_bytes()
    assert cli.main(["lessons", "run", "good", "--quick"]) == 0
    assert sorted(os.listdir(folder / "out")) == ["03_good.json", "03_good_quick.json"]
    assert (folder / "out" / "03_good.json").read_bytes() == full
    assert json.loads((folder / "out" / "03_good_quick.json").read_text())["quick"] is True


def test_a_failing_lesson_is_reported_and_the_others_run(folder, capfd):
    (folder / "01_bad.py").write_text('"""A lesson that fails"""\nraise ValueError("wrong on purpose")\n')
    (folder / "03_good.py").write_text(GOOD)
    assert cli.main(["lessons", "run"]) == 1
    out, err = capfd.readouterr()
    assert re.search(r"^01_bad +\d+\.\d s  FAILED \(exit code 1\)$", out, re.M)
    assert re.search(r"^03_good +\d+\.\d s  3 claims", out, re.M)
    assert "wrong on purpose" in err
    assert re.search(r"^2 lessons, \d+ s, 1 failed$", out, re.M)


def test_a_full_lesson_that_takes_too_long_is_marked(folder, monkeypatch, capfd):
    (folder / "03_good.py").write_text(GOOD)
    monkeypatch.setattr(lessons, "MAX_SECONDS", 0.0)
    assert cli.main(["lessons", "run"]) == 0
    assert re.search(r"^03_good .* 1 undecided \(longer than 0 s\)$", capfd.readouterr().out, re.M)
    assert cli.main(["lessons", "run", "--quick"]) == 0
    assert "longer than" not in capfd.readouterr().out


def test_all_lessons_in_full_begin_with_how_long_they_take(folder, monkeypatch, capfd):
    (folder / "03_good.py").write_text(GOOD)
    kept = folder / "claims.json"
    monkeypatch.setattr(claims, "KEPT_FILE", kept)
    assert cli.main(["lessons", "run"]) == 0
    assert capfd.readouterr().out.startswith("1 lesson in full; --quick is shorter; Ctrl-C stops\n")
    kept.write_text(json.dumps([{**json.loads((folder / "out" / "03_good.json").read_text()), "seconds": 1087.0}]))
    assert cli.main(["lessons", "run"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("1 lesson in full, about 20 minutes; --quick is shorter; Ctrl-C stops\n")
    assert re.search(r"^1 lesson, \d+ s, 0 failed$", out, re.M)
    for arguments in (["--quick"], ["good"]):
        assert cli.main(["lessons", "run", *arguments]) == 0
        assert "Ctrl-C" not in capfd.readouterr().out


@pytest.mark.parametrize(("spec", "message"), [
    ("nosuch", "--data nosuch: unknown data set 'nosuch'; "),
    ("bccd", "--data bccd: bccd needs a path"),
    ("isbi2012:/nope", "/nope/image: no such folder; "),
    ("shape-boxes", "--data shape-boxes is not for 03_good: its images have no label"),
])
def test_data_that_cannot_be_opened_is_refused_before_the_lesson(folder, capfd, spec, message):
    (folder / "03_good.py").write_text(GOOD)
    assert cli.main(["lessons", "run", "good", "--data", spec]) == 2
    out, error = capfd.readouterr()
    assert out == "" and error.startswith(f"minicv lessons: {message}") and error.count("\n") == 1


@pytest.mark.parametrize(("name", "spec", "part"), [
    ("08", "shape-boxes", "instances"), ("15", "cells", "boxes"), ("20", "shapes", "masks")])
def test_a_lesson_refuses_data_without_the_part_that_it_needs(name, spec, part):
    (path,) = lessons.find([name])
    with pytest.raises(UserError, match=f"^--data {spec} is not for {path.stem}: its images have no {part}$"):
        lessons.check_data(spec, [path])
    lessons.check_data("cells" if part == "instances" else "shape-boxes", [path])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lesson_that_reads_a_data_set_declares_what_it_needs(script):
    reads = re.search(r"\blesson\.(data|detection_set)\b", script.read_text())
    assert bool(reads) == (lessons.needed_part(script) is not None)


def test_the_help_says_where_figures_go(capsys):
    with pytest.raises(SystemExit):
        cli.main(["lessons", "run", "--help"])
    assert "MINICV_LESSONS_OUT" in capsys.readouterr().out


def test_an_unknown_lesson_is_wrong_input(several, capsys):
    assert cli.main(["lessons", "run", "vnet"]) == 2
    assert "no lesson 'vnet'" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------
# What they use
# ---------------------------------------------------------------------------------------------------------
def test_a_script_reads_its_options(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["somewhere/08_unet.py", "--quick", "--data", "isbi2012:x", "--seed", "3"])
    lesson = Lesson("08_unet", needs="instances")
    assert (lesson.quick, lesson.data, lesson.seed) == (True, "isbi2012:x", 3)
    with pytest.raises(SystemExit):
        Lesson("08_unet")


def test_a_notebook_has_no_options(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])  # would be errors
    lesson = Lesson("08_unet")
    assert (lesson.quick, lesson.data, lesson.seed) == (False, None, 0)
    monkeypatch.setenv("MINICV_QUICK", "1")
    assert Lesson("08_unet").quick


def test_a_tensor_lies_where_new_parameters_do(folder):
    lesson, array = Lesson("08_unet"), np.arange(3, dtype=np.float32)
    assert lesson.tensor(array).data is array
    minicv.use("strict")
    try:
        x, layer = lesson.tensor(array), minicv.nn.Linear(3, 2)
        assert x.device == "strict" and layer(x.reshape(1, 3)).shape == (1, 2)
    finally:
        minicv.use("numpy")


def test_a_detection_set_is_generated_or_read(folder):
    lesson = Lesson("15_rcnn")
    lesson.seed = 4
    generated = lesson.detection_set("test", 2, lambda sample: None, size=32, objects=(1, 2))
    same = open_dataset("shape-boxes", "test", count=2, seed=4, size=32, objects=(1, 2))
    assert len(generated) == 2 and generated.class_names == same.class_names
    for mine, its in zip(generated, same, strict=True):
        assert np.array_equal(mine.image, its.image) and np.array_equal(mine.boxes, its.boxes)
    lesson.data = "shape-boxes"
    real = open_dataset("shape-boxes", "test")
    read = lesson.detection_set("test", 10 ** 6, lambda sample: sample.boxes, size=32)
    assert len(read) == len(real) and np.array_equal(read[1], real[1].boxes)
    assert len(lesson.detection_set("test", 3, lambda sample: sample)) == 3


def test_claims_are_printed_and_kept(folder, capsys):
    lesson = Lesson("08_unet")
    lesson.claim("S2", "U-Net (2015)", "tiles have no seams", "difference 3e-7", 3e-7 < 1e-5)
    lesson.claim("S3", "U-Net (2015)", "weights part cells", "12 merged, 9 without", 12 < 9)
    lesson.claim("S4", "U-Net (2015)", "deformation helps", "0.1 +- 0.3", None)
    lesson.finish()
    out = capsys.readouterr().out
    assert "Claims measured by 08_unet (seed 0, generated data, 0 s):" in out
    assert """
  S2  tiles have no seams (U-Net (2015))
      found: difference 3e-7
      -> holds
  S3  weights part cells (U-Net (2015))
      found: 12 merged, 9 without
      -> does not hold here
  S4  deformation helps (U-Net (2015))
      found: 0.1 +- 0.3
      -> undecided here
""" in out
    kept = json.loads((folder / "out" / "08_unet.json").read_text())
    assert (kept["lesson"], kept["quick"], kept["seed"], kept["data"]) == ("08_unet", False, 0, None)
    assert kept["claims"][1] == {"id": "S3", "source": "U-Net (2015)", "claim": "weights part cells",
                                 "found": "12 merged, 9 without", "holds": False}
    assert [c["holds"] for c in kept["claims"]] == [True, False, None]


def test_a_comparison_of_numpy_numbers_can_be_kept(folder):
    import numpy as np
    lesson = Lesson("08_unet")
    lesson.claim("S2", "", "", "", np.float32(1) < np.float32(2))
    lesson.finish()
    assert json.loads((folder / "out" / "08_unet.json").read_text())["claims"][0]["holds"] is True


def test_a_figure_is_saved_whole_and_named(folder, capsys):
    import matplotlib.pyplot as plt
    figure = plt.figure(figsize=(1, 1))
    Lesson("08_unet").save(figure, "tiles")
    plt.close(figure)
    path = folder / "out" / "08_unet_tiles.png"
    assert capsys.readouterr().out == f"figure: {path}\n"
    assert path.read_bytes().startswith(b"\x89PNG") and os.listdir(folder / "out") == [path.name]


def test_pretrained_trains_once_and_keeps_the_weights(folder, monkeypatch, capsys):
    monkeypatch.setitem(lessons.CLASSIFIERS, "alexnet", ({"width": 8}, {"steps": 3000, "batch": 8, "lr": 0.001}))
    model = lessons.pretrained("alexnet", quick=True)
    assert model.build_args == {"model": "alexnet", "preset": "compact", "options": {"width": 8}}
    assert [p.name for p in (folder / "out" / "weights").iterdir()] == ["alexnet_quick.safetensors"]
    assert capsys.readouterr().out.startswith("training alexnet, because lesson 05 has not written ")
    again = lessons.pretrained("alexnet", quick=True)
    assert capsys.readouterr().out == ""
    for name, array in model.state_dict().items():
        assert (array == again.state_dict()[name]).all()
    with pytest.raises(ValueError, match=r"^pretrained: no classifier 'lenet'; there are: alexnet, vgg16, googlenet, "):
        lessons.pretrained("lenet")


# ---------------------------------------------------------------------------------------------------------
# Each of them
# ---------------------------------------------------------------------------------------------------------
# Loaded by Python before the lesson: whoever speaks to the network ends the process.
GUARD = '''
import os
import sys


def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        print("the lesson asked for the network:", event, arguments, file=sys.stderr, flush=True)
        os._exit(99)


sys.addaudithook(watch)
'''


def run_guarded(script, tmp, *options):
    (tmp / "guard").mkdir()
    (tmp / "guard" / "sitecustomize.py").write_text(GUARD)
    environment = {**os.environ, "MINICV_LESSONS_OUT": str(tmp / "out"),
                   "PYTHONPATH": os.pathsep.join([str(tmp / "guard"), str(ROOT)])}
    return subprocess.run([sys.executable, "-W", "error", str(script), *options], env=environment, cwd=tmp,
                          capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module", params=SCRIPTS, ids=lambda path: path.stem)
def ran(request, tmp_path_factory):
    """One lesson run with --quick in a folder of its own: its script, the process, and what it wrote."""
    tmp = tmp_path_factory.mktemp(request.param.stem)
    return types.SimpleNamespace(script=request.param, done=run_guarded(request.param, tmp, "--quick"), tmp=tmp)


def test_a_lesson_runs(ran):
    assert ran.done.returncode == 0, ran.done.stdout[-2000:] + ran.done.stderr[-4000:]
    assert sorted(p.name for p in ran.tmp.iterdir()) == ["guard", "out"]  # it writes nowhere else


def test_a_lesson_draws(ran):
    figures = sorted((ran.tmp / "out").glob("*.png"))
    assert figures
    for path in figures:
        assert path.stem.startswith(f"{ran.script.stem}_") and f"figure: {path}" in ran.done.stdout
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000  # an empty figure has 2 kB


def test_a_lesson_measures_claims(ran):
    kept = json.loads((ran.tmp / "out" / f"{ran.script.stem}_quick.json").read_text())
    assert kept["lesson"] == ran.script.stem and kept["quick"] is True
    assert kept["claims"]
    ids = [c["id"] for c in kept["claims"]]
    assert len(set(ids)) == len(ids)
    for c in kept["claims"]:
        assert re.fullmatch(r"[A-Z]\d+[a-z]?", c["id"]) and c["source"] and c["claim"]
        assert re.search(r"\d", c["found"]), c  # a number
        assert f"  {c['id']}  {c['claim']}" in ran.done.stdout


ON_DEVICE = """
import runpy, sys
import minicv
from tests import hostcupy, strict_device
hostcupy.start_if_asked()
minicv.use(sys.argv.pop(1))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("device", [pytest.param("strict", marks=pytest.mark.slow),
                                    pytest.param("cupy", marks=pytest.mark.gpu)])
def test_a_lesson_runs_on_another_device(device, script, tmp_path):
    environment = {**os.environ, "MINICV_LESSONS_OUT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ON_DEVICE, device, str(script), "--quick"], env=environment,
                          cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (tmp_path / f"{script.stem}_quick.json").exists()


def test_compare_asks_for_a_difference_that_chance_does_not_make():
    # Mean 2, standard deviation 1, of the mean 1/sqrt 3 = 0.577: t = 3.46, more than the 2.92 of 5% with 3 values
    assert lessons.compare([1.0, 2.0, 3.0]) == ("+2 +- 0.58", True)
    assert lessons.compare([-1.0, -2.0, -3.0]) == ("-2 +- 0.58", False)
    assert lessons.compare([1.0, 2.0, 3.0], 0.5)[1] is None  # 1.5 / 0.577 = 2.6
    assert lessons.compare([1.0, 2.0, 3.0], 4.0)[1] is False
    assert lessons.compare([1.0, 2.0])[1] is None  # t = 3, of 6.31
    assert lessons.compare([5.0]) == ("+5 (one seed)", None)
    with pytest.raises(ValueError, match=r"compare: needs one difference for each seed, got shape \(0,\)"):
        lessons.compare([])


def test_compare_is_wrong_as_often_as_it_says():
    draws = np.random.default_rng(0).standard_normal((4000, 3))
    said = [lessons.compare(d)[1] for d in draws]
    assert 0.08 < np.mean([v is not None for v in said]) < 0.12  # 5% on either side


def test_the_best_time_is_the_shortest():
    pauses = iter([0.03, 0.0, 0.02])
    assert lessons.best_time(lambda: time.sleep(next(pauses))) < 0.02
    assert next(pauses, None) is None  # three calls


def test_a_claim_in_parts_holds_if_every_part_does():
    assert lessons.all_hold([True, True]) is True
    assert lessons.all_hold(v for v in (True, None)) is None
    assert lessons.all_hold([None, False, True]) is False  # what is clearly wrong is not hidden by what is undecided
    assert lessons.all_hold([]) is None


def test_the_guard_notices_the_network(tmp_path):
    script = tmp_path / "00_online.py"
    script.write_text("import socket\nsocket.create_connection(('127.0.0.1', 9))\n")
    done = run_guarded(script, tmp_path)
    assert done.returncode == 99 and "asked for the network" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lesson_is_short_and_in_form(script):
    text = script.read_text(encoding="utf-8")
    lines = text.splitlines()
    tree = ast.parse(text)
    title, *rest = ast.get_docstring(tree).splitlines()
    assert 10 <= len(title) <= 80 and title == lessons.title(script) and not title.startswith("=")
    assert re.fullmatch("=+", rest[0]) and len(rest[0]) >= len(title)  # reStructuredText's underline
    assert re.search(rf'Lesson\("{script.stem}", __doc__(, needs="(instances|boxes|masks)")?\)', text)
    assert lines[-1] == "lesson.finish()" or "\nlesson.finish()\n" in text
    assert sum(line == "# %%" or line.startswith("# %% ") for line in lines) >= 3
    modules = [n.module if isinstance(n, ast.ImportFrom) else n.names[0].name
               for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert modules[0].split(".")[0] == "minicv"  # before NumPy, whose matrix product it chooses


CELL, LESSON = 25, 200  # lines of code


def cells(script):
    """Return for each cell (it begins with ``# %%``) its line, prose and code; the docstring is the first's prose."""
    text = script.read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0]
    found = [(1, text.splitlines()[:docstring.end_lineno], [])]
    for number, line in enumerate(text.splitlines()[docstring.end_lineno:], docstring.end_lineno + 1):
        if line == "# %%" or line.startswith("# %% "):
            if found[-1][2] or len(found) > 1:  # the cell after the docstring is the docstring's
                found.append((number, [], []))
        elif line.startswith("#") and not found[-1][2]:
            if re.fullmatch(r"# [-=]+", line):
                found[-1][1].pop()  # a heading, above its line
            else:
                found[-1][1].append(line)
        elif line.strip():
            found[-1][2].append(line)
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_cell_is_one_idea(script):
    """At most 25 lines of code, after prose that says what they show: a sentence at least, besides a heading.

    All cells of a lesson have at most 200.
    """
    assert sum(len(code) for _, _, code in cells(script)) <= LESSON
    for number, prose, code in cells(script):
        assert len(code) <= CELL, f"{script.name}:{number}: a cell of {len(code)} lines"
        assert any(re.search(r"[.:?!)](\s|$)", line) for line in prose), f"{script.name}:{number}: a cell without prose"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_headings_are_underlined_in_full(script):  # reStructuredText wants that, and the site is built without warnings
    lines = script.read_text(encoding="utf-8").splitlines()
    short = [above for above, line in zip(lines, lines[1:], strict=False)
             if re.fullmatch(r"# (-+|=+)", line) and above.startswith("# ") and len(line) < len(above)]
    assert short == []


def test_numbers_of_lessons_are_not_used_twice():
    numbers = [script.stem[:2] for script in SCRIPTS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("found", [
    "-34 ms on the shared map against 67 ms", "reaches 378% of a large product's rate", "accuracy 100.1%",
    "-0.5 s a step", "mean IU nan", "loss inf after 10 steps", "accuracy nan% after 12 steps",
    "half of it after -3 seconds", "1200% right", "-1.5 times as fast", "-3 MB of features"])
def test_numbers_that_cannot_be(found, folder, monkeypatch):
    """They fail the lesson: no claim is recorded, and none of its claims holds."""
    assert lessons.impossible_number(found)
    monkeypatch.setattr(sys, "argv", ["90_try.py", "--quick"])
    lesson = Lesson("90_try")
    lesson.claim("T1", "this lesson", "it is fast", found, True)
    with pytest.raises(SystemExit, match="90_try: impossible numbers, so no claim is recorded: T1: .*"
                       "timings, these were disturbed by other programs; run the lesson again on an idle machine$"):
        lesson.finish()
    assert not (folder / "out").exists()


@pytest.mark.parametrize("found", [
    "-2.56 +- 1.1 points", "+120% steps", "100% and 100.0% of it", "4 ms against 67 ms", "5-10 s", "2.5e-3 s", "1e-05",
    "largest difference 1.8e-15", "6 -> 3 ms", "99.9%", "information inferred", "-0.3 of the loss", "0.0049%"])
def test_numbers_that_can_be(found):
    assert lessons.impossible_number(found) is None


def test_every_kept_claim_has_numbers_that_can_be():
    for run in json.loads((ROOT / "docs" / "claims.json").read_text(encoding="utf-8")):
        for claim in run["claims"]:
            assert lessons.impossible_number(claim["found"]) is None, claim
