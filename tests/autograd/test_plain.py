"""The two storeys: which class runs for a Function."""
import os
import subprocess
import sys
import threading

import pytest

import minicv
from minicv import Tensor
from minicv.autograd import Function, function, substitute


class Double(Function):
    """y = 2 x"""

    def forward(ctx, x):
        return x + x

    def backward(ctx, gy):
        return gy + gy


class FastDouble(Double):
    """The same by a product; and, so that a test can tell, a number too many."""

    def forward(ctx, x):
        return x * 2 + 1

    def backward(ctx, gy):
        return gy * 2 + 1


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(function, "_fast", {Double: FastDouble})


def value_and_gradient():
    x = Tensor([1.0], requires_grad=True)
    y = Double.apply(x)
    y.backward()
    return y.item(), float(x.grad[0])


def test_the_fast_version_runs_forward_and_backward():
    assert value_and_gradient() == (3.0, 3.0)


def test_plain_is_a_block_and_a_decorator():
    with minicv.plain():
        assert value_and_gradient() == (2.0, 2.0)
        with minicv.plain():
            pass
        assert value_and_gradient() == (2.0, 2.0)
    assert minicv.plain()(value_and_gradient)() == (2.0, 2.0)
    assert value_and_gradient() == (3.0, 3.0)


def test_plain_is_this_thread_s_alone():
    found = []
    with minicv.plain():
        thread = threading.Thread(target=lambda: found.append(value_and_gradient()))
        thread.start()
        thread.join()
    assert found == [(3.0, 3.0)]


def test_backward_is_that_of_the_class_that_ran_forward():
    x = Tensor([1.0], requires_grad=True)
    y = Double.apply(x)
    with minicv.plain():
        y.backward()
    assert x.grad.tolist() == [3.0]


def test_a_substitute_stands_before_the_fast_version():
    class Triple(Double):
        def forward(ctx, x):
            return 3 * x

    with substitute({Double: Triple}):
        assert Double.apply(Tensor([1.0])).item() == 3.0


def test_a_fast_version_for_another_device_does_not_run(monkeypatch):
    monkeypatch.setattr(FastDouble, "device", "cupy")
    assert value_and_gradient() == (2.0, 2.0)
    monkeypatch.setattr(FastDouble, "device", "numpy")
    assert value_and_gradient() == (3.0, 3.0)


def test_both_have_one_name():
    assert FastDouble.name() == Double.name() == "Double"
    assert "from Double" in repr(Double.apply(Tensor([1.0], requires_grad=True)))


PROGRAM = """
import numpy as np
import minicv
from minicv import Tensor, ops
from minicv.autograd import function
x = Tensor(np.arange(16.0).reshape(1, 1, 4, 4), requires_grad=True)
y = ops.conv2d(x, Tensor(np.ones((1, 1, 3, 3))))
y.sum().backward()
print(len(function._fast), type(y.node).__module__, y.numpy().ravel().tolist())
"""


def run(program, **environment):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env={**os.environ, **environment})


def test_the_environment_asks_for_plain_operations():
    result = run(PROGRAM, MINICV_PLAIN="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0", "minicv.ops.conv", "[45.0,", "54.0,", "81.0,", "90.0]"]


def test_another_value_in_the_environment_is_refused():
    result = run("import minicv", MINICV_PLAIN="yes")
    assert result.returncode == 1 and "MINICV_PLAIN=yes" in result.stderr and "1 (plain" in result.stderr


def test_without_the_folder_the_plain_storey_serves():
    hidden = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "minicv.fast":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
"""
    result = run(hidden + PROGRAM)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("0 minicv.ops.conv")


def test_a_module_that_the_fast_storey_needs_is_not_passed_over():
    hidden = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "minicv.fast":
            raise ModuleNotFoundError("No module named 'numba'", name="numba")
sys.meta_path.insert(0, Hide())
import minicv
"""
    result = run(hidden)
    assert result.returncode == 1 and "No module named 'numba'" in result.stderr
