"""minicv: the classic convolutional networks for detection and segmentation, built from nothing but arrays."""
import os
import sys

from .backend import seed, use  # first: it chooses the BLAS kernel before NumPy is imported

# isort: split
from . import models, nn, ops
from .autograd import Tensor, detect_anomaly, no_grad, plain
from .autograd.function import plain_everywhere, use_fast

try:
    if not plain_everywhere():
        try:
            from .fast import FAST
        except ModuleNotFoundError as error:
            if error.name != "minicv.fast":  # the folder may be missing; what it needs may not
                raise
        else:
            use_fast(FAST)
    if os.environ.get("MINICV_BACKEND"):
        use(os.environ["MINICV_BACKEND"])
except (ValueError, RuntimeError) as error:
    if os.path.basename(sys.argv[0]) not in ("minicv", "-m"):  # -m: while Python looks for what to run
        raise
    print(f"minicv: {error}", file=sys.stderr)  # the command, whose main has not begun: one line as for other values
    sys.exit(2)

__version__ = "0.1.0"
__all__ = ["Tensor", "detect_anomaly", "models", "nn", "no_grad", "ops", "plain", "seed", "use"]
