"""Drawn microscope images of touching cells, so that lessons and tests need no download.

They are hard for the same reason as U-Net's fig. 3: cells crowd together. Where two touch, the label has a thin ridge
of background between them, but the image shows only a faint darker seam, in places none. Dark fibers inside the cells
look like seams but are not.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from minicv.data.augment.bicubic import bicubic
from minicv.data.generated.dataset import GeneratedDataset
from minicv.data.sample import IGNORE, Sample

FAR = 1e3  # pixels: no cell near
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)  # a pixel and its 4 neighbors


@dataclasses.dataclass
class _Cell:
    """A center and an outline: radius * (1 + a few cosine waves in the angle)."""

    y: float
    x: float
    radius: float
    waves: np.ndarray  # complex (3,): amplitude and phase of 2, 3 and 4 bumps around the cell


def draw_cells(size: tuple[int, int], rng: np.random.Generator, *, radius: tuple[float, float] = (9.0, 17.0),
               coverage: float = 0.6, touching: float = 0.85, ridge: int = 2,
               noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image: image float32 (H, W) in [0, 1] and instances int32 (H, W), 0 background, 1..n cells.

    radius: smallest and largest, in pixels. coverage: the share of the image to fill with cells, roughly. touching: the
    share of cells placed against another one. ridge: pixels of background between touching cells, 1 or 2. noise:
    standard deviation of the camera's noise. Cells never touch in the label, not even at a corner, and each is
    connected, so the instances are the connected components of `instances > 0`.
    """
    height, width = size
    if min(height, width) < 1 or not 0 < radius[0] <= radius[1] or ridge not in (1, 2):
        raise ValueError(
            "draw_cells: needs a size of at least (1, 1), 0 < radius[0] <= radius[1] and a ridge of 1 or 2, "
            f"got size {size}, radius {radius}, ridge {ridge}"
        )
    cells = _place(size, rng, radius, coverage, touching)
    partition = _partition(size, cells)
    instances = _separate(np.where(partition.outside < 0, partition.nearest, 0), ridge)
    return _render(rng, cells, partition, noise), instances


class Cells(GeneratedDataset):
    """A data set of drawn cells; see GeneratedDataset. options: draw_cells's."""

    function = staticmethod(draw_cells)
    num_classes = 2
    class_names = ("background", "cell")
    membranes = True  # between the cells: measured as in ISBI 2012
    ignore_index = IGNORE  # unused: no pixel is void

    def __init__(self, count: int, size: int | tuple[int, int] = (256, 256), seed: int = 0, **options):
        super().__init__(count, size, seed, **options)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        image, instances = draw_cells(self.size, rng, **self.options)
        return Sample(image[None], (instances > 0).astype(np.int64), instances, name=f"cells-{self.seed}-{index}")


def _place(size: tuple[int, int], rng: np.random.Generator, radius: tuple[float, float], coverage: float,
           touching: float) -> list[_Cell]:
    """Place cells one by one, beside an earlier one or anywhere, where they overlap little."""
    height, width = size
    edge = radius[0]  # how far outside centers may be, so that the border cuts cells
    mean_area = np.pi * (radius[0] ** 2 + radius[0] * radius[1] + radius[1] ** 2) / 3
    wanted = max(1, round(coverage * (height + 2 * edge) * (width + 2 * edge) / mean_area))
    placed = np.empty((wanted, 3))  # y, x, radius
    placed[0] = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(*radius)
    count = 1
    for _ in range(20 * wanted):
        if count == wanted:
            break
        r = rng.uniform(*radius)
        if rng.random() < touching:
            y, x, other = placed[rng.integers(count)]
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 0.95) * (r + other)
            y, x = y + distance * np.sin(angle), x + distance * np.cos(angle)
        else:
            y, x = rng.uniform(-edge, height + edge), rng.uniform(-edge, width + edge)
        inside = -edge <= y <= height + edge and -edge <= x <= width + edge
        near = np.hypot(placed[:count, 0] - y, placed[:count, 1] - x) < 0.78 * (placed[:count, 2] + r)
        if inside and not near.any():
            placed[count] = y, x, r
            count += 1
    waves = rng.normal(0, (0.10, 0.05, 0.03), (count, 3)) * np.exp(1j * rng.uniform(0, 2 * np.pi, (count, 3)))
    return [_Cell(y, x, r, wave) for (y, x, r), wave in zip(placed[:count], waves, strict=True)]


class Partition(NamedTuple):
    """Each pixel's nearest cell; all arrays are (H, W), distances in pixels."""

    nearest: np.ndarray  # the number of the cell with the nearest outline, 0 where none is near
    outside: np.ndarray  # the distance to that outline, negative inside the cell
    gap: np.ndarray  # how much farther the second nearest outline is


def _partition(size: tuple[int, int], cells: list[_Cell]) -> Partition:
    """Assign every pixel to the cell whose outline it is deepest inside."""
    nearest = np.zeros(size, np.int32)
    first = np.full(size, FAR, np.float32)
    second = np.full(size, FAR, np.float32)
    for number, cell in enumerate(cells, start=1):
        reach = 1.4 * cell.radius + 6  # beyond it, nothing of this cell shows
        window = tuple(
            slice(max(0, int(center - reach)), min(side, int(center + reach) + 1))
            for center, side in zip((cell.y, cell.x), size, strict=True)
        )
        y, x = np.ogrid[window]
        offset = ((x - cell.x) + 1j * (y - cell.y)).astype(np.complex64)
        distance = np.abs(offset)
        turn = offset / np.maximum(distance, 1e-3)  # exp(i angle), so turn**k makes k bumps
        bumps = turn**2 * (cell.waves[0] + turn * (cell.waves[1] + turn * cell.waves[2]))
        outside = distance - cell.radius * (1 + bumps.real)
        nearest[window][outside < first[window]] = number
        second[window] = np.minimum(second[window], np.maximum(first[window], outside))
        first[window] = np.minimum(first[window], outside)
    return Partition(nearest, first, second - first)


def _separate(owner: np.ndarray, ridge: int) -> np.ndarray:
    """Separate the cells by a ridge of background, keep the largest piece of each, and number them."""
    if ridge == 2:  # both sides of a contact recede, so that the ridge is on the seam
        cells_only = np.where(owner > 0, owner, np.iinfo(owner.dtype).max)
        lowest = ndimage.minimum_filter(cells_only, footprint=CROSS)
        highest = ndimage.maximum_filter(owner, footprint=CROSS)
        owner = np.where((lowest < owner) | (highest > owner), 0, owner)
    touches = ndimage.maximum_filter(owner, 3) > owner  # corners included; the lower number recedes
    pieces, count = ndimage.label((owner > 0) & ~touches)
    by_size = np.argsort(np.bincount(pieces.ravel(), minlength=count + 1)[1:]) + 1  # numbers of pieces
    owner_of = np.zeros(count + 1, np.int32)
    owner_of[pieces] = owner
    largest = {owner_of[piece]: piece for piece in by_size}  # the last one wins
    number_of = np.zeros(count + 1, np.int32)
    number_of[sorted(largest.values())] = np.arange(1, len(largest) + 1)
    return number_of[pieces]


def _render(rng: np.random.Generator, cells: list[_Cell], partition: Partition, noise: float) -> np.ndarray:
    """Draw bright cells on a darker ground, as a blurring, unevenly lit, noisy microscope shows them."""
    nearest, outside, gap = partition
    size = nearest.shape

    def field(scale):
        """Return a smooth random field of standard deviation about 1, with bumps about scale pixels wide."""
        nodes = tuple(max(2, round(side / scale) + 1) for side in size)
        return bicubic(rng.normal(0, 1, nodes), size)

    def per_cell(values):
        """Return (H, W): each pixel has the value of its nearest cell."""
        return np.concatenate([[0], values]).astype(np.float32)[nearest]

    grain = ndimage.gaussian_filter(rng.normal(0, 1, size).astype(np.float32), 1.2, truncate=3) * 4.2
    body = 1 / (1 + np.exp(np.clip(outside, -9, 9) / 1.1))  # soft edge, 0.5 on the outline
    seam = np.clip(0.5 + 0.6 * field(14), 0, 1) * np.exp(-((gap / 2.2) ** 2))
    fibers = np.clip(0.5 * field(20), 0, 1) * np.exp(-((field(9) / 0.16) ** 2))  # where a field crosses 0

    y, x, r = (np.array([getattr(cell, name) for cell in cells]) for name in ("y", "x", "radius"))
    shift_y, shift_x = rng.normal(0, 0.15, (2, len(cells))) * r  # the nucleus is off center
    rows, columns = np.ogrid[: size[0], : size[1]]
    square = (rows - per_cell(y + shift_y)) ** 2 + (columns - per_cell(x + shift_x)) ** 2
    spot = np.exp(-((square / per_cell(0.45 * r).clip(1) ** 2) ** 2))
    nucleus = per_cell(rng.normal(0.05, 0.05, len(cells))) * spot

    inside = 0.3 + per_cell(rng.normal(0, 0.03, len(cells))) + nucleus + 0.04 * grain - 0.14 * (seam + fibers)
    image = 0.28 + 0.03 * field(25) + 0.015 * grain + body * inside
    image = ndimage.gaussian_filter(image, 0.8, truncate=3)
    lamp = 1 + 0.15 * field(max(size))  # varies slowly over the image
    image = image * lamp + noise * np.sqrt(image.clip(0.05) / 0.5) * rng.normal(0, 1, size)  # photon noise
    return image.clip(0, 1).astype(np.float32)
