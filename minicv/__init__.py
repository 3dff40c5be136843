"""minicv: the classic convolutional networks for detection and segmentation, built from nothing but arrays.

``minicv.data``, ``minicv.models`` and the other subpackages are imported when they are first used.
"""
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import exit_on_interrupt

IS_COMMAND = os.path.splitext(os.path.basename(sys.argv[0]))[0] in ("minicv", "-m")  # -m: Python still searches

if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, exit_on_interrupt)

from . import backend  # noqa: E402 - sets the BLAS kernel, so before NumPy

# isort: split
from . import ops  # noqa: E402
from .autograd import Tensor, detect_anomaly, no_grad, plain  # noqa: E402
from .autograd.function import plain_everywhere, use_fast  # noqa: E402
from .backend import seed, use  # noqa: E402
from .version import __version__  # noqa: E402, F401

if TYPE_CHECKING:
    from . import data, detection, metrics, models, nn, optim, training, viz

try:
    if not plain_everywhere():
        try:
            from .fast import FAST
        except ModuleNotFoundError as error:
            if error.name != "minicv.fast":  # minicv/fast may be missing, but not what it imports
                raise
        else:
            use_fast(FAST)
    if os.environ.get("MINICV_BACKEND"):
        use(os.environ["MINICV_BACKEND"])
except (ValueError, RuntimeError) as error:
    if not IS_COMMAND:
        raise
    print(f"minicv: {error}", file=sys.stderr)
    sys.exit(2)

__all__ = ["Tensor", "backend", "data", "detect_anomaly", "detection", "metrics", "models", "nn", "no_grad", "ops",
           "optim", "plain", "seed", "training", "use", "viz"]


def __getattr__(name: str) -> Any:
    """Import a subpackage when it is first used."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
