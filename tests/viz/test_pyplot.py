"""Drawing works whatever the environment says about matplotlib's backend."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minicv

ENVIRONMENTS = {
    "a notebook's, whose package is missing": {"MPLBACKEND": "module://no_such_package.backend"},
    "an unknown name": {"MPLBACKEND": "nonsense"},
    "a window toolkit": {"MPLBACKEND": "tkagg"},
    "matplotlibrc with a window toolkit": {"MATPLOTLIBRC": "matplotlibrc"},
}


@pytest.fixture(params=ENVIRONMENTS)
def python(request, tmp_path):
    """python(code or arguments...) -> the finished process, in an environment where drawing has no screen."""
    (tmp_path / "matplotlibrc").write_text("backend: QtAgg\n", encoding="utf-8")
    keep = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "DISPLAY", "WAYLAND_DISPLAY")}
    environment = {**keep, "PYTHONPATH": str(Path(minicv.__file__).parents[1]), **ENVIRONMENTS[request.param]}
    if "MATPLOTLIBRC" in environment:
        environment["MATPLOTLIBRC"] = str(tmp_path / "matplotlibrc")

    def call(*arguments):
        return subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True,
                              cwd=tmp_path)
    return call


def test_figures_of_the_library(python):
    done = python("-c", "import numpy as np\n"
                  "from minicv import Tensor\n"
                  "from minicv.viz.graph import draw_graph\n"
                  "from minicv.viz import show_images\n"
                  "show_images({'a': np.eye(3)}).savefig('panels.png')\n"
                  "draw_graph(Tensor([1.0], requires_grad=True) * 2).figure.savefig('graph.png')\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_training_draws_its_curve(python, tmp_path):
    done = python("-m", "minicv", "train", "unet", "--data", "cells", "--out", "run", "--steps", 1, "--tile", 20,
                  "--width", 2, "--quiet")
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "run" / "curve.png").exists()


def test_a_lesson(python, tmp_path):
    lesson = tmp_path / "01_try.py"
    lesson.write_text('"""Try"""\nfrom minicv.course.lessons import Lesson\nlesson = Lesson("01_try", __doc__)\n'
                      "import matplotlib.pyplot as plt\nfigure, _ = plt.subplots()\nlesson.save(figure, 'x')\n"
                      "lesson.finish()\n", encoding="utf-8")
    done = python("-c", f"import os, runpy, sys; os.environ['MINICV_LESSONS_OUT'] = '.'; sys.argv = [r'{lesson}']; "
                  f"runpy.run_path(r'{lesson}')")
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "01_try_x.png").exists()


def test_a_backend_in_use_stays(tmp_path):
    """A notebook's backend draws its figures, and the library's figures are shown by it, too."""
    (tmp_path / "own_backend.py").write_text("from matplotlib.backends.backend_svg import *\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", "import numpy as np\nfrom minicv.viz import show_images\n"
                           "show_images({'a': np.eye(3)})\nimport matplotlib.pyplot as plt\n"
                           "print(plt.get_backend(), len(plt.get_fignums()))"], capture_output=True, text=True,
                          env={**os.environ, "MPLBACKEND": "module://own_backend", "PYTHONPATH": os.pathsep.join(
                              [str(tmp_path), str(Path(minicv.__file__).parents[1])])})
    assert done.stdout.strip() == "module://own_backend 1", done.stderr


def test_fonts_do_not_depend_on_the_environment():
    program = "from minicv.viz import fonts; fonts.default_font(); fonts.installed()"
    done = subprocess.run([sys.executable, "-c", program],
                          env={**os.environ, "MPLBACKEND": "nonsense"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
