"""The strict device's lists beside the real CuPy: needs its wheel, and neither a GPU nor a driver."""
import inspect
import re

import numpy as np
import pytest

from tests import strict_device

cupy = pytest.importorskip("cupy", reason="no CuPy to compare the strict device with: pip install 'cupy-cuda12x==14.*'")
TABLES = {"": (cupy, np, strict_device.FUNCTIONS), "linalg.": (cupy.linalg, np.linalg, strict_device.LINALG),
          "ndarray.": (cupy.ndarray, np.ndarray, strict_device.METHODS)}
ENTRIES = [(prefix + name, getattr(owner, name, None), getattr(of_numpy, name), keywords)
           for prefix, (owner, of_numpy, table) in TABLES.items()
           for name, keywords in strict_device.parse(table).items()]


def parameters(f) -> tuple[list[str], int | None]:
    """Names of CuPy's parameters, and how many may go without a name (None: any number)."""
    try:
        found = list(inspect.signature(f).parameters.values())
        kinds = [p.kind for p in found]
        names = [p.name for p in found]
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return names, None
        return names, sum(kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
                          for kind in kinds)
    except (TypeError, ValueError):  # compiled: "ndarray.sum(self, axis=None, ...)" begins the docstring
        first = f.__doc__.strip().partition("\n")[0]
        parts = [p.strip() for p in re.fullmatch(r"[\w.]+\((.*?)\)( ->.*)?", first)[1].split(",")]
        names = [re.split("[=:]", p)[0].split()[-1] for p in parts]
        return names, None if any(n.startswith("*") for n in names) else len(names)


@pytest.mark.parametrize("name, f, of_numpy, keywords", ENTRIES, ids=[entry[0] for entry in ENTRIES])
def test_no_name_keyword_or_position_that_cupy_refuses(name, f, of_numpy, keywords):
    assert f is not None, f"CuPy {cupy.__version__} has no {name}"
    names, most = parameters(f)
    if "kwargs" not in names:
        assert [k for k in keywords if k not in names] == [], f"{name}{names}"
    allowed = strict_device.positional(of_numpy, keywords)
    assert most is None or allowed is None or allowed <= most, f"{name} takes {most} without a name, here {allowed}"


def test_ufuncs_and_their_methods():
    ufuncs = strict_device.parse(strict_device.UFUNCS)
    assert [name for name in ufuncs if not isinstance(getattr(cupy, name, None), cupy.ufunc) and name != "matmul"] == []
    assert [(name, method) for method, names in strict_device.UFUNC_METHODS.items() for name in names.split()
            if not hasattr(getattr(cupy, name), method)] == []


def test_other_names():
    known = [name for name in vars(strict_device.strict) if not name.startswith("__")]
    assert [name for name in known if not hasattr(cupy, name)] == []


def test_a_name_or_keyword_that_cupy_lacks_would_be_noticed():
    entry = test_no_name_keyword_or_position_that_cupy_refuses
    for name, f, keywords in (("sum", None, []), ("sum", cupy.sum, ["axis", "dtype", "out", "keepdims", "initial"]),
                              ("ndarray.argmax", cupy.ndarray.argmax, ["axis", "where"])):
        with pytest.raises(AssertionError):
            entry(name, f, np.sum, keywords)
