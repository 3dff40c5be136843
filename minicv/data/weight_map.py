"""U-Net's weight map, which makes it learn the gaps between touching cells (Ronneberger et al. 2015, eq. (2)).

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1, d2: distance from pixel x to the nearest and the second nearest cell; w0 = 10, sigma about 5 pixels.

Where the paper leaves room: only background pixels get the second term, as usual. Distances are between pixel centers,
so a pixel beside a cell has d = 1. With fewer than two cells the second term is 0. The class weight w_c(x) = N / (K *
N_c), with N pixels, K classes present and N_c pixels of x's class, has mean 1.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from minicv.data.errors import DataError
from minicv.data.sample import Sample, item_index

IGNORED = 1e-6
"""weight_map may round a smaller exponential to 0: an error of at most w0 * 1e-6."""


def weight_map(instances: np.ndarray, w0: float = 10.0, sigma: float = 5.0,
               class_weights: Sequence[float] | None = None) -> np.ndarray:
    """Return U-Net's eq. (2), float32 (H, W), from instances (H, W): integers, 0 background, one number per cell.

    class_weights: w_c of (background, cell); None balances the frequencies as the module describes. The result is
    within w0 * 1e-6 of the exact one: each cell is only considered where its term can be larger than that.
    """
    _check(instances, sigma)
    reach = int(np.ceil(sigma * np.sqrt(-2 * np.log(IGNORED))))  # exp(-reach^2 / (2 sigma^2)) <= IGNORED
    d1 = np.full(instances.shape, np.inf)  # (H, W) to the nearest cell so far
    d2 = np.full(instances.shape, np.inf)  # (H, W) to the second nearest
    for window, cell in _windows(instances, reach):
        d = ndimage.distance_transform_edt(~cell)
        d2[window] = np.minimum(d2[window], np.maximum(d1[window], d))
        d1[window] = np.minimum(d1[window], d)
    return _equation_2(instances, (d1, d2), w0, sigma, class_weights)


def weight_map_loop(instances: np.ndarray, w0: float = 10.0, sigma: float = 5.0,
                    class_weights: Sequence[float] | None = None) -> np.ndarray:
    """Compute weight_map by loops over pixels and cells, without its cut-off: the oracle for small maps."""
    _check(instances, sigma)
    d1 = np.full(instances.shape, np.inf)
    d2 = np.full(instances.shape, np.inf)
    for y, x in np.argwhere(instances == 0):
        distances = [np.inf, np.inf]
        for number in np.unique(instances[instances > 0]):
            pixels = np.argwhere(instances == number)
            distances.append(np.sqrt(((pixels - (y, x)) ** 2).sum(axis=1)).min())
        d1[y, x], d2[y, x] = sorted(distances)[:2]
    return _equation_2(instances, (d1, d2), w0, sigma, class_weights)


def _equation_2(instances: np.ndarray, distances: tuple[np.ndarray, np.ndarray], w0: float, sigma: float,
                class_weights: Sequence[float] | None) -> np.ndarray:
    d1, d2 = distances  # to the nearest cell and to the second nearest
    is_cell = instances > 0
    if class_weights is None:
        class_weights = balanced_class_weights(is_cell)
    w_c = np.where(is_cell, class_weights[1], class_weights[0])
    border = np.where(is_cell, 0.0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)))
    return (w_c + border).astype(np.float32)  # U-Net, eq. (2)


def balanced_class_weights(is_cell: np.ndarray) -> tuple[float, float]:
    """Return w_c of (background, cell), N / (K * N_c); 0 for an absent class."""
    counts = np.bincount(is_cell.ravel().astype(np.intp), minlength=2)
    present = np.count_nonzero(counts)
    background, cell = (is_cell.size / (present * count) if count else 0.0 for count in counts.tolist())
    return background, cell


def _windows(instances: np.ndarray, margin: int) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Yield a window around each cell, margin pixels wider on each side, and the cell's mask in it."""
    numbers, compact = np.unique(instances, return_inverse=True)
    compact = compact.reshape(instances.shape) + (1 if numbers[0] > 0 else 0)  # 0 stays background
    for number, box in enumerate(ndimage.find_objects(compact), start=1):
        window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        yield window, compact[window] == number


def _check(instances: np.ndarray, sigma: float) -> None:
    if not np.issubdtype(instances.dtype, np.integer):
        raise TypeError(f"weight_map: instances must be integers, got {instances.dtype}")
    if instances.ndim != 2 or instances.size == 0 or instances.min() < 0:
        raise ValueError(f"weight_map: instances must be (H, W) and not negative, got {instances.shape}")
    if sigma <= 0:
        raise ValueError(f"weight_map: sigma must be positive, got {sigma}")


class WithWeightMap:
    """A data set whose samples have a `.weight`, computed once per sample and cached.

    The options are weight_map's. Cached maps are read-only, so that no user can change them for the next.
    """

    def __init__(self, dataset, **options):
        self.dataset = dataset
        self.options = options
        self.num_classes = dataset.num_classes
        self.class_names = dataset.class_names
        self._weights: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        key = item_index(self, index)  # -1 and len - 1 are the same sample
        sample = self.dataset[key]
        if sample.instances is None:
            raise DataError(f"WithWeightMap: {sample.name} has no instances: its data set does not separate "
                            "objects; train without the weight map (--no-weight-map)")
        if key not in self._weights:
            weight = weight_map(sample.instances, **self.options)
            weight.flags.writeable = False
            self._weights[key] = weight
        return dataclasses.replace(sample, weight=self._weights[key])
