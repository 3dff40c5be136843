"""minicv: the classic convolutional networks for detection and segmentation, built from nothing but arrays."""
from . import blas

blas.choose_kernel()  # before NumPy is imported

from .autograd import Tensor, no_grad  # noqa: E402
from .backend import seed, use  # noqa: E402

__version__ = "0.1.0"
__all__ = ["Tensor", "no_grad", "seed", "use"]
