"""Color spaces of selective search (Uijlings et al., IJCV 2013, sec. 3.2), each channel scaled to 0..1.

From sRGB in 0..1: "RGB" itself; "HSV"; "Lab", CIE L*a*b* with the white point D65; "rgI", the shares of red and green,
and intensity; "H", the hue of HSV; "I", intensity.
"""
from __future__ import annotations

import numpy as np

XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def rgb_to_hsv(rgb: np.ndarray) -> np.ndarray:
    """Return hue (0 red, 1/3 green, 2/3 blue; 0 for gray), saturation and value, (3, H, W), of RGB (3, H, W)."""
    value, low = rgb.max(axis=0), rgb.min(axis=0)
    spread = np.maximum(value - low, 1e-12)
    r, g, b = rgb
    hue = np.where(value == r, (g - b) / spread, np.where(value == g, 2 + (b - r) / spread, 4 + (r - g) / spread))
    return np.stack([np.where(value > low, hue / 6 % 1, 0), (value - low) / np.maximum(value, 1e-12), value])


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b*, (3, H, W), of RGB (3, H, W); L* in 0..100, a* and b* about -128..127."""
    linear = np.where(rgb > 0.04045, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = np.tensordot(XYZ / WHITE[:, None], linear, 1)  # (3, H, W)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _rgb_to_rgi(rgb: np.ndarray) -> np.ndarray:
    total = np.maximum(rgb.sum(axis=0), 1e-12)
    return np.stack([rgb[0] / total, rgb[1] / total, rgb.mean(axis=0)])


COLOR_SPACES = {
    "RGB": lambda rgb: rgb,
    "HSV": rgb_to_hsv,
    "Lab": lambda rgb: (rgb_to_lab(rgb) + np.array([0, 128, 128])[:, None, None])
    / np.array([100, 255, 255])[:, None, None],
    "rgI": _rgb_to_rgi,
    "H": lambda rgb: rgb_to_hsv(rgb)[:1],
    "I": lambda rgb: rgb.mean(axis=0, keepdims=True),
}


def convert_color(rgb: np.ndarray, space: str) -> np.ndarray:
    """Convert an RGB image (3, H, W) in 0..1 to one of COLOR_SPACES: float32 (C, H, W) in 0..1."""
    if space not in COLOR_SPACES:
        raise ValueError(f"convert_color: unknown color space {space!r}; choose one of {', '.join(COLOR_SPACES)}")
    if rgb.ndim != 3 or rgb.shape[0] != 3:
        raise ValueError(f"convert_color: the image must be RGB, (3, H, W), got {rgb.shape}")
    return np.clip(COLOR_SPACES[space](rgb.astype(np.float64)), 0, 1).astype(np.float32)
