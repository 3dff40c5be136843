"""The walk in ``graph.py``: it is short, it is what runs, and the tests of the engine notice when it is changed."""
import importlib
from pathlib import Path

import numpy as np
import pytest

from minicv import Tensor
from minicv.autograd import Function, graph
from tests.benchmarks.reading import code_lines


def leaf(value):
    return Tensor(np.array(value), requires_grad=True)


def diamond(swapped=False):
    """x = 2, a = x^2, d = 3a + a^2 and dd/dx = (3 + 2a) 2x = 44: a leads to d along two ways."""
    x = leaf(2.0)
    a = x * x
    b, c = 3 * a, a * a
    return x, c + b if swapped else b + c


@pytest.mark.parametrize("swapped", [False, True])
def test_a_diamond_by_hand(swapped):
    x, d = diamond(swapped)
    d.backward()
    assert d.item() == 28 and x.grad == 44


def test_a_leaf_is_handed_over_as_soon_as_its_gradient_is_complete():
    events = []

    class Scale(Function):
        def forward(ctx, x, w):
            ctx.save(x, w)
            return x * w

        def backward(ctx, gy):
            x, w = ctx.saved
            events.append(f"from {gy:g}")
            return gy * w, gy * x

    w = {"w2": leaf(2.0), "w3": leaf(3.0), "w5": leaf(5.0)}
    names = {t: name for name, t in w.items()}
    y = Tensor(np.array(1.0))
    for name in ("w2", "w3", "w5", "w3"):
        y = Scale.apply(y, w[name])
    graph.backward(y, ready=lambda t: events.append(f"{names[t]}: {t.grad:g}"))
    assert events == ["from 1", "from 3", "w5: 18", "from 15", "w3: 60", "from 45", "w2: 45"]


# ---------------------------------------------------------------------------------------------------------
# The plain walk is what runs
# ---------------------------------------------------------------------------------------------------------
def test_the_walk_is_as_short_as_it_is_said_to_be():
    assert code_lines(graph.walk) + code_lines(graph.order) <= 15
    assert code_lines(graph.calls) <= 9


def test_every_gradient_comes_through_the_walk(monkeypatch):
    """With a walk that visits the calls but adds 1 to all gradients of leaves, all are larger by 1."""
    walk = graph.walk
    monkeypatch.setattr(graph, "walk", lambda tensor, grad, receive: walk(
        tensor, grad, lambda leaf, gradient: receive(leaf, gradient + 1)))
    x, d = diamond()
    d.backward()
    assert x.grad == 45
    x, d = diamond()
    seen = []
    graph.backward(d, ready=lambda t: seen.append((t, float(t.grad))))
    assert seen == [(x, 45)]


# ---------------------------------------------------------------------------------------------------------
# Mutations
# ---------------------------------------------------------------------------------------------------------
SEARCH = '''
def as_found(tensor):
    found, pending = {}, [tensor.node]
    while pending:
        x = pending.pop()
        if x not in found:
            found[x] = None
            pending += [] if isinstance(x, Tensor) else [e for e in x.edges if e is not None]
    return list(found)


def order('''
ADD = "gradients[argument] + g if argument in gradients else g"
COPY = 'if isinstance(argument, Tensor) and not has_own_memory(g, [gy, *results, *call.saved]):'
FREE = "call.edges, call.saved, call.noted = None, (), ()"
LEAVES = "list(dict.fromkeys(arguments_first)) or [tensor]"

# what goes wrong: (what to replace in graph.py by what, a test that must fail then)
MUTATIONS = {
    "a wrong order: as a search from the result finds them":
        ({"reversed(order(tensor))": "as_found(tensor)", "\ndef order(": SEARCH}, "test_walk.test_a_diamond_by_hand"),
    "overwritten, not added": ({ADD: "g"}, "test_engine.test_an_argument_given_twice"),
    "a leaf's gradient handed over after its first share":
        ({LEAVES: "sorted(dict.fromkeys(arguments_first), key=lambda x: max(c.number for c in calls(tensor) if x in "
                  "c.edges) - 0.5 if isinstance(x, Tensor) else x.number)"},
         "test_walk.test_a_leaf_is_handed_over_as_soon_as_its_gradient_is_complete"),
    "all leaves at the end of the walk":
        ({LEAVES: "sorted(dict.fromkeys(arguments_first), key=lambda x: -1 if isinstance(x, Tensor) else x.number)"},
         "test_walk.test_a_leaf_is_handed_over_as_soon_as_its_gradient_is_complete"),
    "an earlier .grad is lost": ({"gradient if leaf.grad is None else leaf.grad + gradient": "gradient"},
                                 "test_engine.test_gradients_add_up_until_they_are_set_to_none"),
    "nobody hears that a leaf is ready": ({"if ready:": "if False:"}, "test_walk.test_a_leaf_is_handed_over_as_soon_as_"
                                                                      "its_gradient_is_complete"),
    "leaves share memory": ({COPY: "if False:"},
                            "test_engine.test_two_leaves_do_not_share_the_memory_of_their_gradients"),
    "every leaf's gradient is copied": ({COPY: "if isinstance(argument, Tensor):"},
                                        "test_engine.test_a_gradient_that_was_made_for_a_leaf_is_not_copied"),
    "the caller's gradient is not copied": ({'grad if tensor.node else grad.copy(order="K")': "grad"},
                                            "test_engine.test_the_gradient_given_to_a_leaf_stays_the_callers"),
    "saved arrays are kept": ({FREE: "call.edges = None"},
                              "test_engine.test_saved_arrays_are_released_as_the_walk_passes"),
    "a second walk is not noticed": ({FREE: ""}, "test_engine.test_backward_twice_is_an_error"),
    "a changed array is not noticed": ({"versions.check(call.name(), call.noted)": ""},
                                       "test_versions.test_an_input_without_a_gradient_counts_too"),
    "NaN is not noticed": ({'call.expect_finite("backward", results)': ""},
                           "test_anomaly.test_backward_names_the_first_operation"),
    "a wrong shape is not noticed": ({"g.shape != x.shape or g.dtype": "g.dtype"},
                                     "test_engine.test_a_wrong_backward_is_named"),
    "a wrong dtype is not noticed": ({" or g.dtype != x.dtype": ""}, "test_engine.test_a_wrong_backward_is_named"),
    "None is not noticed": ({"if g is None:\n        raise": "if g is None:\n        return\n        raise",
                             "expect_fit(name, g, argument)": "expect_fit(name, g, argument); g = gy if g is None else "
                                                              "g"}, "test_engine.test_a_wrong_backward_is_named"),
    "too many gradients are not noticed": ({"if len(results) != len(call.edges):": "results = results[:len(call.edges)]"
                                            "\n    if False:"}, "test_engine.test_a_wrong_backward_is_named"),
    "a leaf of integers has a gradient": ({'if leaf.dtype.kind != "f":': "if False:"},
                                          "tests.ops.test_protocols."
                                          "test_an_integer_leaf_gets_no_gradient_however_it_is_asked_for"),
    "a number in place of an array": ({"g if g.ndim else backend.xp_of(g).asarray(g)": "g"},
                                      "test_engine.test_gradients_of_no_dimensions_are_arrays"),
}


def run(test):
    """Call a test, of this folder if no other is named; with each set of its parameters, if it has some."""
    file, _, name = test.rpartition(".")
    function = getattr(importlib.import_module(file if "." in file else f"tests.autograd.{file}"), name)
    marks = [m for m in getattr(function, "pytestmark", ()) if m.name == "parametrize"]
    for values in marks[0].args[1] if marks else [()]:
        function(*(values if isinstance(values, tuple) else (values,)))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(name, monkeypatch):
    replacements, test = MUTATIONS[name]
    run(test)
    source = Path(graph.__file__).read_text(encoding="utf-8")
    for old, new in replacements.items():
        assert source.count(old) == 1, f"graph.py has changed: {old!r} is there {source.count(old)} times"
        source = source.replace(old, new)
    monkeypatch.setattr(Tensor, "backward", graph.backward)  # which the changed source replaces
    changed = dict(vars(graph))
    exec(compile(source, graph.__file__, "exec"), changed)
    for function in ("backward", "calls"):  # what the rest of the library uses
        monkeypatch.setattr(graph, function, changed[function])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(test)
