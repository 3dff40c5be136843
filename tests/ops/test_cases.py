"""Every Case of every op, on every device: the harness of ``tests/harness.py``."""
import inspect
from collections import Counter

import pytest

import minicv.ops
from minicv.autograd.function import fast_versions
from minicv.autograd.graph import calls
from tests import harness
from tests.harness import CASES, FUNCTIONS

STORIED = [(case, storey) for case in CASES for storey in harness.storeys(case)]
each_case = pytest.mark.parametrize("case, storey", STORIED, ids=[f"{c!r}-{s}" for c, s in STORIED],
                                    indirect=["storey"])
each_device = pytest.mark.parametrize("device", [*harness.DEVICES, pytest.param("cupy", marks=pytest.mark.gpu)])
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


@pytest.fixture
def storey(request):
    """Operations run on this storey."""
    with harness.on_storey(request.param):
        yield request.param


@each_case
@each_device
@each_dtype
def test_op_is_its_loops(case, storey, device, dtype):
    harness.check_loop(case, device, dtype)


@each_case
def test_backward_is_the_derivative(case, storey):
    harness.check_gradient(case)


@each_case
@each_device
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_dtype_is_kept(case, storey, device, dtype):
    harness.check_dtype(case, device, dtype)


@each_case
def test_strict_device_computes_the_same_without_waiting(case, storey):
    harness.check_device(case)


@each_case
@each_device
def test_inputs_are_not_modified(case, storey, device):
    harness.check_unmodified(case, device)


@each_case
@each_device
def test_memory_layout_makes_no_difference(case, storey, device):
    harness.check_layouts(case, device)


@each_case
def test_each_gradient_alone(case, storey):
    harness.check_needs(case)


@each_case
def test_two_runs_agree_bit_for_bit(case, storey):
    harness.check_repeatable(case)


# ---------------------------------------------------------------------------------------------------------
# Nothing is left out
# ---------------------------------------------------------------------------------------------------------
def exported_ops() -> list[str]:
    """The public functions of ``minicv.ops`` that return tensors, by their type hints."""
    ops = []
    for name in minicv.ops.__all__:
        f = getattr(minicv.ops, name)
        if inspect.isfunction(f):
            hint = inspect.signature(f).return_annotation
            assert hint is not inspect.Signature.empty, f"{name} has no type hint for what it returns"
            if "Tensor" in str(hint):
                ops.append(name)
    return ops


def test_every_exported_op_has_a_case():
    covered = {case.op for case in CASES}
    without = [name for name in exported_ops() if getattr(minicv.ops, name) not in covered]
    assert len(exported_ops()) > 20 and without == []


def test_every_op_with_a_case_is_exported():
    exported = [getattr(minicv.ops, name) for name in minicv.ops.__all__]
    missing = {case.name for case in CASES if case.op not in exported}
    assert sorted(missing) == []


def test_ops_cases_lists_them_all():
    listed = minicv.ops.cases()
    missing = {case.name for case in CASES if case not in listed}
    assert sorted(missing) == []


def test_every_case_has_its_own_name():
    twice = [name for name, count in Counter(map(repr, CASES)).items() if count > 1]
    assert twice == []


@pytest.mark.parametrize("name, classes", [("plain", FUNCTIONS), ("fast", list(fast_versions().values()))])
def test_every_function_class_is_part_of_some_case(name, classes):
    seen = set()
    for case in CASES:
        tensors = [None if a is None else minicv.Tensor(a, harness.is_float(a)) for a in case.arrays("float32")]
        with harness.on_storey(name):
            result = case.run(*tensors)
        first = result[0] if isinstance(result, tuple | list) else result
        seen |= {type(call) for call in calls(first)}
    missing = {f.__name__ for f in classes if f not in seen}
    assert sorted(missing) == []
