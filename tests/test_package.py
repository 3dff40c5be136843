"""The package as a user gets it: what an import loads, what is in the wheel, and that its types hold."""
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import minicv

ROOT = Path(minicv.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SLOW_TO_IMPORT = ("scipy", "matplotlib", "PIL", "tqdm", "safetensors", "minicv.data", "minicv.nn", "minicv.training",
                  "minicv.viz")


def python(code, **options):
    """Run code in a new process; return what it prints."""
    return subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True,
                          **options).stdout


def test_import_minicv_loads_only_what_every_program_needs():
    assert python(f"import sys, minicv; print([m for m in {SLOW_TO_IMPORT} if m in sys.modules])") == "[]\n"


def test_help_loads_no_trainer_and_no_plotting():
    code = f"""
import sys
from minicv.cli.main import parser
parser().format_help()
print([m for m in {[m for m in SLOW_TO_IMPORT if m != "minicv.nn"]} if m in sys.modules])
"""
    assert python(code) == "[]\n"


def test_every_room_is_reached_from_minicv():
    others = {"Tensor", "detect_anomaly", "no_grad", "plain", "seed", "use"}
    names = [name for name in minicv.__all__ if name not in others]
    assert {"data", "detection", "metrics", "models", "nn", "optim", "training", "viz"} <= set(names)
    for name in names:
        assert python(f"import minicv; print(minicv.{name}.__name__)") == f"minicv.{name}\n"
    assert set(names) <= set(dir(minicv))
    with pytest.raises(AttributeError, match="module 'minicv' has no attribute 'transformers'"):
        minicv.transformers  # noqa: B018


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("module", ["minicv.backend", "minicv.cli.train"])
def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path, module):
    """The interrupt comes at the import of a module that the package itself, or the command, imports."""
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
""")
    done = subprocess.run([sys.executable, "-m", "minicv", "doctor"], capture_output=True, text=True,
                          env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "minicv: interrupted\n")


@pytest.mark.slow
def test_the_wheel_and_the_source_archive_are_complete(tmp_path):
    """Both are built from a copy; then the wheel runs in an empty folder."""
    source = tmp_path / "source"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.strip("\0").split("\0"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = "from setuptools import build_meta as b; print(b.build_sdist('dist')); print(b.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    (wheel,), (archive,) = (source / "dist").glob("*.whl"), (source / "dist").glob("*.tar.gz")
    lessons = {path.name for path in (ROOT / "lessons").glob("*.py")}
    manifests = {path.name for path in (ROOT / "minicv/data/manifests").glob("*.tsv")}
    in_wheel = zipfile.ZipFile(wheel).namelist()
    in_archive = subprocess.run(["tar", "-tzf", archive], capture_output=True, text=True, check=True).stdout.split()
    for kept in (in_wheel, in_archive):
        assert lessons | manifests | {"py.typed", "claims.json"} <= {Path(name).name for name in kept}

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}  # minicv's own dependencies
    bin = tmp_path / "venv" / "bin"
    subprocess.run([bin / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True,
                   env={**os.environ, "PYTHONPATH": ""})
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*command):
        done = subprocess.run([bin / command[0], *command[1:]], cwd=empty, env=environment, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    where = run("python", "-c", "import minicv; print(minicv.__file__)")
    assert where.startswith(str(tmp_path / "venv"))
    assert "examples:" in run("minicv", "--help")
    assert len(run("minicv", "lessons", "list").splitlines()) == len(lessons)
    assert " 0 failed" in run("minicv", "lessons", "run", "00", "--quick")
    assert (empty / "lessons" / "out" / "00_autograd_quick.json").exists()
    assert "lessons/08_unet.py:" in run("minicv", "papers", "unet")
    assert "claims measured" in run("minicv", "claims")
    assert run("python", "-m", "minicv", "doctor").startswith("minicv ")


@pytest.mark.slow
def test_the_types_of_the_package_hold():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
