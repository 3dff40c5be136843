"""minicv: the classic convolutional networks for detection and segmentation, built from nothing but arrays."""
import os

from . import blas

blas.choose_kernel()  # before NumPy is imported

from . import models, nn, ops  # noqa: E402
from .autograd import Tensor, detect_anomaly, no_grad, plain  # noqa: E402
from .autograd.function import plain_everywhere, use_fast  # noqa: E402
from .backend import seed, use  # noqa: E402

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

__version__ = "0.1.0"
__all__ = ["Tensor", "detect_anomaly", "models", "nn", "no_grad", "ops", "plain", "seed", "use"]
