"""The command that counts what there is to read for each operation."""
import pytest

from minicv.autograd import Function
from minicv.ops.dtypes import check_not_bool
from minicv.ops.elementwise import unbroadcast
from minicv.ops.precision import Float16Safe
from tests.benchmarks import reading


def twice(x):
    """A helper of three lines of code."""
    if x is None:

        # neither the blank line nor this one counts
        return None
    return half(4 * x)


def half(x):
    return x / 2


class Short(Float16Safe):
    """y = 2 x"""

    def forward(ctx, x):
        return twice(x)

    def backward(ctx, gy):
        """Of five lines, two hold

        code."""
        return unbroadcast(
            gy * 2, gy.shape)

    def later(ctx):
        return 1


class Inherits(Short):
    """y = x + 1"""

    def forward(ctx, x):
        check_not_bool("inherits", x)

        y = ctx.plus(x)  # a comment beside code

        return y

    def plus(ctx, x):
        return x + 1


def test_code_lines():
    assert reading.code_lines(twice) == 4 and reading.code_lines(half) == 2
    assert reading.code_lines(Short.backward) == 3 and reading.code_lines(Short) == 1 + 2 + 3 + 2


def test_a_row():
    row = reading.read(Short)
    assert (row.name, row.lines, row.code, row.helpers) == ("Short", 12, 2 + 3, 4 + 2)  # twice, and half that it calls
    assert row.files == ["ops/elementwise.py"]


def test_inherited_methods_and_own_ones_count():
    row = reading.read(Inherits)
    assert (row.lines, row.code, row.helpers) == (9, 4 + 3, 2)
    assert row.files == ["ops/dtypes.py", "ops/elementwise.py"]


def test_operations_with_known_numbers():
    rows = {cls.__name__: reading.read(cls) for cls in reading.plain_functions()}
    assert all(issubclass(cls, Function) and cls.__module__.startswith("minicv.ops.")
               for cls in reading.plain_functions())
    assert (rows["Neg"].file, rows["Neg"].lines, rows["Neg"].code) == ("ops/elementwise.py", 8, 4)
    assert (rows["Neg"].helpers, rows["Neg"].files) == (0, [])
    assert (rows["Exp"].lines, rows["Exp"].code) == (10, 6)
    assert {"Conv2d", "MaxPool2d", "BatchNorm", "CrossEntropy", "RoIAlign"} <= set(rows)


def test_the_command(capsys, monkeypatch):
    assert reading.main(["Neg", "Exp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["Neg", "ops/elementwise.py", "8", "4", "0", "-"]
    assert lines[2].split() == ["Exp", "ops/elementwise.py", "10", "6", "0", "-"]
    assert "2 Functions: code of forward + backward: median 6, largest 6; 2 need no other file" in lines[-1]
    monkeypatch.setattr(reading, "LARGEST", 5)
    assert reading.main(["Neg", "Exp"]) == 1 and "more than 5 lines: Exp" in capsys.readouterr().out
    assert reading.main(["Convolution"]) == 2 and "no Function Convolution" in capsys.readouterr().err


@pytest.mark.parametrize("size, code", [(30, 0), (31, 1)])
def test_the_limit(size, code, monkeypatch):
    monkeypatch.setattr(reading, "read", lambda cls: reading.Row(cls.__name__, "a.py", size, size, 0, []))
    assert reading.main(["Neg"]) == code
