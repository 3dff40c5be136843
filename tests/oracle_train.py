"""The minicv command with every operation computed by PyTorch: ``python -m tests.oracle_train train unet ...``.

Model, weights, graph, optimizer, data and random numbers stay minicv's own; only what an operation computes, forward
and backward, is PyTorch's.
"""
import sys

from minicv.autograd import substitute
from minicv.cli import main as cli

if __name__ == "__main__":
    from tests.oracle_ops import TABLE
    with substitute(TABLE):
        sys.exit(cli.main())
