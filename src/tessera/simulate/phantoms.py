"""Flat phantoms of ellipses: sinograms in closed form, averaged exactly over each detector pixel.

A point (y, x) relative to the rotation axis falls on column ``axis + x cos + y sin``. Lengths are
pixels, so a value of 1 over 100 pixels gives a line integral of 100.

The Shepp-Logan phantom: doi:10.1109/TNS.1974.6499235, with the contrasts of Toft (PhD thesis,
Technical University of Denmark, 1996), which can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ellipse:
    """One ellipse; where ellipses overlap, values add.

    Attributes:
        value: per pixel.
        y, x: centre relative to the rotation axis, in pixels.
        a, b: semi-axes in pixels, ``a`` along x before the turn.
        turn_deg: counter-clockwise from x towards y.
    """

    value: float
    y: float
    x: float
    a: float
    b: float
    turn_deg: float = 0.0


# value, a, b, x, y, turn, in units of half the picture
_SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.8740, 0.0, -0.0184, 0.0),
    (-0.2, 0.1100, 0.3100, 0.22, 0.0, -18.0),
    (-0.2, 0.1600, 0.4100, -0.22, 0.0, 18.0),
    (0.1, 0.2100, 0.2500, 0.0, 0.35, 0.0),
    (0.1, 0.0460, 0.0460, 0.0, 0.1, 0.0),
    (0.1, 0.0460, 0.0460, 0.0, -0.1, 0.0),
    (0.1, 0.0460, 0.0230, -0.08, -0.605, 0.0),
    (0.1, 0.0230, 0.0230, 0.0, -0.606, 0.0),
    (0.1, 0.0230, 0.0460, 0.06, -0.605, 0.0),
)


def shepp_logan(columns: int) -> list[Ellipse]:
    """Return the Shepp-Logan phantom that fills a picture of this many pixels a side."""
    half = columns / 2
    return [
        Ellipse(value, -y * half, x * half, a * half, b * half, -turn)
        for value, a, b, x, y, turn in _SHEPP_LOGAN
    ]


def sinogram(
    ellipses: Sequence[Ellipse],
    angles_deg: np.ndarray,
    columns: int,
    axis: float | None = None,
) -> np.ndarray:
    """Return line integrals (angles, columns), float64, averaged over each pixel's width.

    Args:
        ellipses: the phantom.
        angles_deg: (angles,) in degrees.
        columns: detector pixels.
        axis: column of the rotation axis (pixel-centre index); None: the middle.
    """
    angle = np.deg2rad(np.asarray(angles_deg, float))[:, None]
    edges = np.arange(columns + 1) - 0.5 - ((columns - 1) / 2 if axis is None else axis)
    out = np.zeros((len(angle), columns))
    for e in ellipses:
        turned = angle - np.deg2rad(e.turn_deg)
        half = np.hypot(e.a * np.cos(turned), e.b * np.sin(turned))  # of the shadow
        s = (edges - (e.x * np.cos(angle) + e.y * np.sin(angle))) / half
        s = np.clip(s, -1.0, 1.0)
        # Integral of the chord 2 a b sqrt(half^2 - s^2) / half^2 from one edge to the next.
        swept = e.a * e.b * (s * np.sqrt(1 - s * s) + np.arcsin(s))
        out += e.value * np.diff(swept, axis=1)
    return out


def image(ellipses: Sequence[Ellipse], columns: int, oversample: int = 8) -> np.ndarray:
    """Return the phantom as (columns, columns) pixels, each the mean over its area.

    Args:
        ellipses: the phantom; the rotation axis is at the picture's centre.
        columns: pixels a side.
        oversample: points a pixel and side.
    """
    sub = (np.arange(columns * oversample) + 0.5) / oversample - columns / 2
    out = np.zeros((columns, columns))
    for e in ellipses:
        cos, sin = np.cos(np.deg2rad(e.turn_deg)), np.sin(np.deg2rad(e.turn_deg))
        reach = max(e.a, e.b)
        spans = [_span(c, reach, columns) for c in (e.y, e.x)]
        dy, dx = (
            sub[s.start * oversample : s.stop * oversample] - c
            for s, c in zip(spans, (e.y, e.x), strict=True)
        )
        along = (dx[None, :] * cos + dy[:, None] * sin) / e.a
        across = (dy[:, None] * cos - dx[None, :] * sin) / e.b
        inside = along**2 + across**2 <= 1.0
        ny, nx = (s.stop - s.start for s in spans)
        shares = inside.reshape(ny, oversample, nx, oversample).mean(axis=(1, 3))
        out[spans[0], spans[1]] += e.value * shares
    return out


def _span(centre: float, reach: float, columns: int) -> slice:
    """Pixels that an ellipse can touch along one axis."""
    low, high = centre - reach + columns / 2, centre + reach + columns / 2
    start = min(max(int(np.floor(low)), 0), columns)
    return slice(start, max(start, min(int(np.ceil(high)), columns)))


def disc_sinogram(
    angles_deg: np.ndarray,
    columns: int,
    radius: float,
    value: float = 1.0,
    axis: float | None = None,
) -> np.ndarray:
    """Return the sinogram of a uniform disc about the rotation axis; see :func:`sinogram`."""
    return sinogram([Ellipse(value, 0.0, 0.0, radius, radius)], angles_deg, columns, axis)


def shepp_logan_sinogram(
    angles_deg: np.ndarray, columns: int, axis: float | None = None
) -> np.ndarray:
    """Return the sinogram of :func:`shepp_logan`; see :func:`sinogram`."""
    return sinogram(shepp_logan(columns), angles_deg, columns, axis)


def shepp_logan_image(columns: int) -> np.ndarray:
    """Return the picture that belongs to :func:`shepp_logan_sinogram`."""
    return image(shepp_logan(columns), columns)
