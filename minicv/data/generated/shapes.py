"""The parts of generated images: masks of shapes, textures, and colors that differ.

Coordinates are continuous, in pixels, as for boxes: pixel (i, j) extends from i to i + 1 and from j to j + 1, and
belongs to a shape that contains its center (i + 0.5, j + 0.5). Nothing is blurred: masks are exact.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..augment.bicubic import bicubic

# ---------------------------------------------------------------------------------------------------------
# Shapes
# ---------------------------------------------------------------------------------------------------------
HALF = np.sqrt(0.5)  # half the side of a square inscribed in the unit circle


def _inside(u: np.ndarray, v: np.ndarray, corners: int, step: int = 1) -> np.ndarray:
    """Count the ``corners`` lines that have a point on their inner side.

    Line k joins corners k and k + ``step`` of a regular polygon in the unit circle, with a corner at the top.
    """
    turns = 2 * np.pi * (np.arange(corners) + step / 2) / corners
    return sum((u * np.sin(t) - v * np.cos(t) <= np.cos(np.pi * step / corners)).astype(np.int8) for t in turns)


# Shapes in their own coordinates, u to the right and v down; each extends exactly 1 from the center.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda u, v: u**2 + v**2 <= 1,
    "ellipse": lambda u, v: u**2 + (v / 0.5) ** 2 <= 1,
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.55**2),
    "crescent": lambda u, v: (u**2 + v**2 <= 1) & ((u - 0.45) ** 2 + v**2 >= 0.8**2),
    "triangle": lambda u, v: _inside(u, v, 3) == 3,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= HALF,
    "star": lambda u, v: _inside(u, v, 5, step=2) >= 4,  # a tip is outside one of a pentagram's lines
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.3) & (np.maximum(abs(u), abs(v)) <= np.sqrt(1 - 0.3**2)),
    "corner": lambda u, v: (np.maximum(abs(u), abs(v)) <= HALF) & ((u <= -0.15) | (v >= 0.15)),
    "hourglass": lambda u, v: (abs(u) <= abs(v)) & (abs(v) <= HALF),
}


def shape_mask(name: str, size: tuple[int, int], center: tuple[float, float] | np.ndarray, radius: float | np.ndarray,
               angle: float | np.ndarray = 0.0) -> np.ndarray:
    """Return which of H x W pixels belong to a shape: bool (H, W).

    name: one of SHAPES. center: (y, x) in pixels. radius: of the circle around the shape, pixels. angle: radians,
    clockwise. Arrays draw several at once: center (N, 2), radius and angle (N,) or one number give (N, H, W). Raises
    ``ValueError`` for an unknown shape and a radius that is not positive.
    """
    if name not in SHAPES:
        raise ValueError(f"shape_mask: unknown shape {name!r}; available: {', '.join(SHAPES)}")
    radius = np.asarray(radius, float)[..., None, None]
    if not (radius > 0).all():
        raise ValueError(f"shape_mask: the radius must be positive, got {radius.min()}")
    center, angle = np.asarray(center, float)[..., None, None], np.asarray(angle, float)[..., None, None]
    y = (np.arange(size[0])[:, None] + 0.5 - center[..., 0, :, :]) / radius  # (..., H, 1)
    x = (np.arange(size[1]) + 0.5 - center[..., 1, :, :]) / radius  # (..., 1, W)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x  # (..., H, W), rotated back
    return SHAPES[name](u, v)


# ---------------------------------------------------------------------------------------------------------
# Textures
# ---------------------------------------------------------------------------------------------------------
TEXTURES = ("plain", "stripes", "checks", "dots", "noise", "gradient")


def texture(name: str, size: tuple[int, int], rng: np.random.Generator,
            period: Sequence[float] | np.ndarray = (5.0, 12.0)) -> np.ndarray:
    """Draw a pattern of random direction, phase and period: float32 (H, W) in 0..1.

    name: one of TEXTURES. period: shortest and longest, in pixels; for "noise", the distance between bumps. "plain" is
    0, "gradient" rises once from 0 to 1 over the image. Raises ``ValueError`` for an unknown name or an impossible
    period.
    """
    if name not in TEXTURES or not 0 < period[0] <= period[1]:
        raise ValueError(f"texture: needs one of {', '.join(TEXTURES)} and 0 < period[0] <= period[1], got {name!r} "
                         f"and {period}")
    length, angle = rng.uniform(*period), rng.uniform(0, 2 * np.pi)
    if name == "plain":
        return np.zeros(size, np.float32)
    if name == "noise":
        nodes = tuple(max(2, round(side / length) + 1) for side in size)
        return (0.5 + 0.3 * bicubic(rng.standard_normal(nodes), size)).clip(0, 1)
    y, x = np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = c * x + s * y, c * y - s * x  # (H, W), pixels
    if name == "gradient":
        return (along - along.min()) / max(np.ptp(along), np.float32(1e-6))
    a, b = ((t / np.float32(length) + np.float32(rng.random())) % 1 for t in (along, across))  # 0..1 in each period
    if name == "stripes":
        return (a < 0.5).astype(np.float32)
    if name == "checks":
        return ((a < 0.5) ^ (b < 0.5)).astype(np.float32)
    return ((a - 0.5) ** 2 + (b - 0.5) ** 2 < 0.3**2).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------
# Colors
# ---------------------------------------------------------------------------------------------------------
def paint(pattern: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Color a pattern (H, W): ``low`` (3,) where it is 0, ``high`` (3,) where it is 1; float32 (3, H, W)."""
    low, high = (np.asarray(color, np.float32)[:, None, None] for color in (low, high))
    return low + pattern * (high - low)


def surface(color: np.ndarray, size: tuple[int, int], rng: np.random.Generator, strength: float = 0.15) -> np.ndarray:
    """Draw a surface of this color with a texture, up to ``strength`` lighter or darker per channel: (3, H, W)."""
    pattern = texture(TEXTURES[rng.integers(len(TEXTURES))], size, rng)
    return paint(pattern, color, color + rng.uniform(-strength, strength, 3))


def random_color(rng: np.random.Generator, *others: np.ndarray, contrast: float = 0.4) -> np.ndarray:
    """Draw an RGB color in 0..1, float (3,), at least ``contrast`` from each of ``others`` in some channel.

    Above 0.5 there may be none: a gray is 0.5 from everything. Raises ``ValueError`` if a thousand tries find none.
    """
    for _ in range(1000):
        color = rng.random(3)
        if all(np.abs(color - other).max() >= contrast for other in others):
            return color
    raise ValueError(f"random_color: no color is {contrast} away from all of {[np.round(o, 2) for o in others]}; "
                     "ask for less contrast")
