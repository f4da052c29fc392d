"""Arrays as pictures that live inside the page: WebP, scale bars, outlines as vectors."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

Range = tuple[float, float]


def window(data: np.ndarray, low: float = 0.5, high: float = 99.5) -> Range:
    """Return two percentiles of the finite values, as black and white."""
    finite = data[np.isfinite(data)]
    if not finite.size:
        return 0.0, 1.0
    a, b = np.percentile(finite, [low, high])
    return float(a), float(b) if b > a else float(a) + 1.0


def grey(data: np.ndarray, span: Range | None = None) -> np.ndarray:
    """Map values to 0..255; what is not finite becomes black."""
    low, high = span or window(data)
    scaled = (np.nan_to_num(data.astype(np.float32), nan=low) - low) / (high - low)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def shrink(data: np.ndarray, most: int) -> np.ndarray:
    """Average whole pixels so that no side of a (y, x) picture is longer than ``most``."""
    step = max(1, math.ceil(max(data.shape[:2]) / most))
    if step == 1:
        return data
    height, width = (n // step * step for n in data.shape[:2])
    cut = data[:height, :width].astype(np.float32)
    return np.asarray(cut.reshape(height // step, step, width // step, step).mean((1, 3)))


def webp(pixels: np.ndarray, quality: int = 82) -> str:
    """Return a data URI of an 8-bit picture (y, x), (y, x, 3) or (y, x, 4)."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def scale_length(width_um: float) -> float:
    """Return the 1-2-5 number of micrometres nearest below a quarter of the picture's width."""
    wanted = width_um / 4
    power = 10 ** math.floor(math.log10(wanted))
    return float(max(s for s in (1, 2, 5) if s * power <= wanted * (1 + 1e-9)) * power)


def length_text(um: float) -> str:
    """Return a length with its unit: um below a millimetre."""
    return f"{um:g} µm" if um < 1000 else f"{um / 1000:g} mm"


def image(
    pixels: np.ndarray,
    alt: str,
    pixel_um: float | None = None,
    overlay: Markup | str = "",
    aspect: float = 1.0,
    quality: int = 82,
) -> Markup:
    """Return a picture with a scale bar and vectors over it.

    Args:
        pixels: 8-bit (y, x) or (y, x, 3).
        alt: what a reader who cannot see it should know.
        pixel_um: size of a pixel along x; None draws no scale bar.
        overlay: SVG elements in pixel coordinates.
        aspect: height of a pixel over its width.
        quality: of the WebP.
    """
    height, width = pixels.shape[:2]
    tall = height * aspect
    inner = Markup(overlay)
    if pixel_um:
        inner += _scale_bar(width, tall, pixel_um)
    vectors = Markup(
        '<svg viewBox="0 0 {w} {h}" preserveAspectRatio="none" aria-hidden="true">{inner}</svg>'
    ).format(w=width, h=f"{tall:g}", inner=inner)
    return Markup(
        '<div class="picture" style="aspect-ratio:{w}/{h}"><img src="{src}" alt="{alt}" '
        'loading="lazy" width="{w}" height="{h0}">{vectors}</div>'
    ).format(
        w=width, h=f"{tall:g}", h0=round(tall), src=webp(pixels, quality), alt=alt, vectors=vectors
    )


def _scale_bar(width: float, height: float, pixel_um: float) -> Markup:
    um = scale_length(width * pixel_um)
    long = um / pixel_um
    unit = width / 100
    x, y = width - 4 * unit - long, height - 4 * unit
    return Markup(
        '<g class="scale"><rect x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}"/>'
        '<text x="{tx:.2f}" y="{ty:.2f}" font-size="{size:.2f}">{text}</text></g>'
    ).format(
        x=x, y=y, w=long, h=unit * 0.9, tx=x + long / 2, ty=y - 1.6 * unit, size=4.6 * unit,
        text=length_text(um),
    )  # fmt: skip


def outlines(mask: np.ndarray, name: str) -> Markup:
    """Return the outlines of a mask (y, x) as one SVG path of a CSS class."""
    from skimage.measure import approximate_polygon, find_contours

    padded = np.pad(mask.astype(np.float32), 1)
    parts = []
    for line in find_contours(padded, 0.5):
        points = approximate_polygon(line, 0.35) - 0.5  # a pixel's centre is half a pixel in
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points) + "Z")
    return Markup('<path class="outline {name}" d="{d}"/>').format(name=name, d="".join(parts))


def strip(slices: Sequence[np.ndarray], quality: int = 70) -> str:
    """Return slices of one size below each other as one picture, for a slider."""
    return webp(np.concatenate(list(slices), axis=0), quality)
