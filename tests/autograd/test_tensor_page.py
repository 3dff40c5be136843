"""The tables of docs/tensor.md hold, of minicv and of PyTorch."""
import re
import warnings

import pytest

from minicv import Tensor, no_grad
from tests.autograd.tensor_page import names, ours, outcome, rows
from tests.oracle import require

ROWS = rows()
DIFFER = {"p // 2", "t.foo = 1; t.foo", "copy.copy(y)", "pickle.loads(pickle.dumps(y))"}  # the page says why
each_row = pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])


@each_row
def test_a_row_of_the_page(row):
    written, _, cell, instead = row
    result, message = ours(written)
    assert result == cell, message
    assert bool(instead) == result.endswith("Error")  # every refusal has its cure, on the page


CURES = sorted({re.match("`(.*?)`", row[3])[1] for row in ROWS if row[3].startswith("`")})


@pytest.mark.parametrize("cure", CURES)
def test_what_to_write_instead_works(cure):
    exec(cure, names(Tensor, no_grad))  # noqa: S102 - the page's own examples


@each_row
def test_a_row_of_the_page_in_pytorch(row):
    torch = require("torch")

    def tensor(values, requires_grad=False):
        return torch.tensor(values, requires_grad=requires_grad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's about NumPy's protocols, and about requires_grad in float()
        assert outcome(row[0], tensor, torch.no_grad)[0] == row[1]


@each_row
def test_minicv_does_what_pytorch_does_or_more_or_refuses(row):
    written, theirs, cell, _ = row
    more = theirs.endswith("Error") and not cell.endswith("Error")
    refused = cell == "TypeError" or cell == theirs
    assert refused or more or written in DIFFER or theirs.endswith("Error") and cell == "ValueError"


def test_the_page_has_every_operator_and_conversion_of_a_tensor():
    text = " ".join(row[0] for row in ROWS)
    assert len(ROWS) > 120 and set(names(Tensor, no_grad)) >= set("tsibpya")
    for symbol in ("==", "!=", "<", ">", "//", "%", "**", "@", "&", "|", "^", "~", "+=", "-=", "*=", " in ", "bool(",
                   "float(", "int(", "complex(", "index(", "len(", "list(", "tuple(", "sum(", "max(", "min(", "sorted(",
                   "zip(", "reversed(", "round(", "abs(", "divmod(", "np.asarray(", "np.stack(", "np.where(", "hash(",
                   "deepcopy(", "pickle"):
        assert symbol in text, symbol
