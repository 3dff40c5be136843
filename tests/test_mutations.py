"""A test of the tests: break an operation on purpose, and the cases must notice, on the storey that was broken.

Each mutation (``tests/mutations.py``) changes one place in one file of ``minicv/ops`` or ``minicv/fast``. Then the
family's cases go through the checks of ``tests/ops/test_cases.py`` on both storeys: against the loops, against finite
differences, and at ties against the gradients that the case gives. A mutation that nothing notices is a hole in the
cases. One that is noticed on the other storey would be blamed on the wrong file.
"""
import sys
from pathlib import Path

import pytest

from minicv import Tensor
from minicv.autograd import function
from minicv.fast import FAST
from tests import harness
from tests.mutations import MUTATIONS, Mutation


class Mutant:
    """``with Mutant(mutation) as cases``: the family's cases on the changed code; all restored after.

    The changed source runs in its own module's namespace, and so do, unchanged, the modules that are built on it. Every
    other operation, of either storey, that has imported a name from the changed module gets the changed one.
    """

    def __init__(self, mutation: Mutation):
        self.mutation = mutation

    def reload(self) -> list[str]:
        """The modules to run again, the changed one first."""
        name = "minicv." + self.mutation.file.removesuffix("/__init__").replace("/", ".")
        package = name.rpartition(".")[0]
        if package == "minicv.ops":
            return list(dict.fromkeys((name, f"minicv.ops.{self.mutation.family}")))
        if package == "minicv.fast":  # a file by itself, or the package of several
            return [name]
        return [name, *(n for n in sys.modules if n.startswith(package + ".") and n != name), package]

    def __enter__(self):
        names, self.table = self.reload(), dict(FAST)
        self.namespaces = {name: dict(vars(module)) for name, module in sys.modules.items()
                           if name in names or name.startswith(("minicv.ops.", "minicv.fast."))}
        self.tensor = dict(vars(Tensor))  # some families hang operators on it
        for name in names:
            path = Path(sys.modules[name].__file__)
            source = path.read_text()
            if name == names[0]:
                assert self.mutation.old in source, f"{path.name} has changed: {self.mutation.old!r} is not there"
                source = source.replace(self.mutation.old, self.mutation.new)
            exec(compile(source, str(path), "exec"), vars(sys.modules[name]))
            if name.endswith(".winograd"):
                vars(sys.modules[name]).update(MIN_CHANNELS=1, MIN_PIXELS=1)  # else no case is large enough for it
        before, after = self.namespaces[names[0]], vars(sys.modules[names[0]])
        changed = {id(value): after[key] for key, value in before.items()
                   if getattr(value, "__module__", "") == names[0] and key in after}
        for name in self.namespaces.keys() - set(names):
            vars(sys.modules[name]).update({key: changed[id(value)] for key, value in self.namespaces[name].items()
                                            if id(value) in changed})
        # The table leads from the Functions as they are now to the fast versions as they are now.
        function._fast.update({getattr(sys.modules[p.__module__], p.__name__): getattr(sys.modules[f.__module__],
                                                                                       f.__name__)
                               for p, f in self.table.items()})
        return sys.modules[f"minicv.ops.{self.mutation.family}"].CASES

    def __exit__(self, *error):
        for name, values in self.namespaces.items():
            vars(sys.modules[name]).clear()
            vars(sys.modules[name]).update(values)
        function._fast.clear()
        function._fast.update(self.table)
        for name, value in self.tensor.items():
            if vars(Tensor).get(name) is not value:
                setattr(Tensor, name, value)


def noticed(cases: list, storey: str) -> str:
    """The first case, and check, that fails on a storey; "" if none does. Small ones first: loops over large ones take
    seconds.

    A case that only crashes shows nothing of the checks: then another must fail, or the crash is raised.
    """
    crash = None
    for case in sorted(cases, key=lambda case: sum(a.size for a in case.arrays() if a is not None)):
        for check in (lambda case: harness.check_loop(case, "numpy", "float64"), harness.check_gradient):
            try:
                with harness.on_storey(storey):
                    check(case)
            except AssertionError as error:
                return f"{case}: {error}"
            except Exception as error:
                crash = error
    if crash:
        raise crash
    return ""


def test_there_are_enough():
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 200
    assert sum(m.file.startswith("fast/") for m in MUTATIONS) >= 50


@pytest.mark.slow
@pytest.mark.parametrize("family, file", sorted({(m.family, m.file) for m in MUTATIONS}))
def test_without_a_mutation_nothing_is_noticed(family, file):
    with Mutant(Mutation("none", family, file, "import", "import")) as cases:
        assert noticed(cases, "plain") == noticed(cases, "fast") == ""


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_mutation_is_noticed_on_its_storey(mutation):
    with Mutant(mutation) as cases:
        storey, other = ("fast", "plain") if mutation.file.startswith("fast/") else ("plain", "fast")
        assert noticed(cases, storey), f"{mutation.name}: no case noticed it"
        apart = [case for case in cases if harness.storeys(case) == ("plain", "fast")]
        if apart:
            assert bool(noticed(apart, other)) == mutation.both, f"{mutation.name}: noticed on the {other} storey, too"
