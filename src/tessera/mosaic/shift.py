"""The shift between two pictures of one place: whole voxels first, then fractions.

Both pictures pass one band-pass first: what is finer than a voxel or two is noise, what is coarser
than some voxels is cupping, extrapolation and beam.

1. *Coarse*: the normalised correlation at every whole shift in reach, of those voxels alone that
   both tiles show truly (masked normalised correlation, Padfield 2012,
   doi:10.1109/TIP.2011.2181402). The regions of an overlap add up their sums and so vote together.
2. *Fine*: from there the shift, gain and offset that make the pictures agree best in the least
   squares sense under a square-root Hann window (Gauss-Newton as in Lucas and Kanade 1981 and,
   with brightness, Evangelidis and Psarakis 2008, doi:10.1109/TPAMI.2008.113). It reaches the
   accuracy that noise allows, where the peak of a phase correlation is held back by its grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import binary_erosion, gaussian_filter

from tessera.mosaic.resample import TAPS, shift_valid

FINE_SIGMA, COARSE_SIGMA = 1.0, 5.0  # of the band-pass, in voxels
BAND_MARGIN = 8  # voxels at an edge that the band-pass spoils most
FINE_MARGIN = TAPS + 2  # voxels that the fine step needs of the second picture beyond the first
_FURTHEST = 2.0  # the fine step looks no further, in voxels
_STEPS = 8
_CONVERGED = 2e-3  # a step this small ends the search; the next would be far smaller
_AT_REST = 0.02  # a last step larger than this is no result
# Band-passed noise is alike over this many voxels, which count as one.
_ALIKE = (2 * np.sqrt(np.pi) * FINE_SIGMA) ** 3
_MIN_SHARE = 0.2  # share of the overlap that must be left at a shift for it to count


def smooth(data: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Return the Gaussian mean of the true voxels alone, 0 elsewhere, float32.

    This is normalised convolution (Knutsson and Westin 1993, doi:10.1109/CVPR.1993.341081).

    Args:
        data: voxels (z, y, x).
        mask: where they are true; what is not does not reach into what is.
    """
    return _Smoother(mask, sigma)(data)


def band_pass(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the structure of some voxels' size, 0 where ``mask`` is not: see :func:`smooth`."""
    return _BandPass(mask)(data)


class _Smoother:
    """:func:`smooth` under one mask, whose own share is worked out once."""

    def __init__(self, mask: np.ndarray, sigma: float) -> None:
        self._mask, self._sigma = mask, sigma
        self._weight = mask.astype(np.float32)
        self._share = np.maximum(self._blur(self._weight), 1e-3)

    def __call__(self, data: np.ndarray) -> np.ndarray:
        data = np.asarray(data, np.float32)
        level = np.float32(data[self._mask].mean()) if self._mask.any() else np.float32(0)
        mean = self._blur((data - level) * self._weight) / self._share + level
        return np.asarray(mean * self._weight)

    def _blur(self, data: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(data, self._sigma, mode="constant", truncate=3))


class _BandPass:
    """:func:`band_pass` under one mask."""

    def __init__(self, mask: np.ndarray) -> None:
        self._fine, self._coarse = _Smoother(mask, FINE_SIGMA), _Smoother(mask, COARSE_SIGMA)

    def __call__(self, data: np.ndarray) -> np.ndarray:
        return self._fine(data) - self._coarse(data)


class Correlation:
    """Normalised correlation over all whole shifts in reach, added up over regions.

    Args:
        reach: largest shift (z, y, x) in voxels.
    """

    def __init__(self, reach: tuple[int, int, int]) -> None:
        self.reach = reach
        size = tuple(2 * r + 1 for r in reach)
        self._sums = np.zeros((6, *size))

    def add(self, a: np.ndarray, mask_a: np.ndarray, b: np.ndarray, mask_b: np.ndarray) -> None:
        """Add a region: two pictures of one box, band-passed, and where each is true."""
        shape = tuple(
            scipy.fft.next_fast_len(n + r, real=True)
            for n, r in zip(a.shape, self.reach, strict=True)
        )

        def forward(x: np.ndarray) -> np.ndarray:
            return np.asarray(scipy.fft.rfftn(x.astype(np.float32), shape))

        ma, mb = mask_a.astype(np.float32), mask_b.astype(np.float32)
        fa, fb = a * ma, b * mb
        ones_a, ones_b = forward(ma), forward(mb)
        first_a, first_b = forward(fa), forward(fb)
        second_a, second_b = forward(fa * fa), forward(fb * fb)
        products = (
            (first_a, first_b),
            (ones_a, ones_b),
            (first_a, ones_b),
            (ones_a, first_b),
            (second_a, ones_b),
            (ones_a, second_b),
        )
        for total, (left, right) in zip(self._sums, products, strict=True):
            # sum over p of left[p] right[p - s]: b moved by s lies on a.
            found = scipy.fft.irfftn(left * np.conj(right), shape)
            index = np.ix_(*(np.arange(-r, r + 1) for r in self.reach))
            total += found[index]

    def best(self) -> tuple[tuple[int, int, int], float, bool]:
        """Return the best shift of b (z, y, x), its correlation, and if it lies within reach.

        A maximum on the edge of the reach is no maximum: the true one may lie beyond.
        """
        ab, count, sum_a, sum_b, aa, bb = self._sums
        n = np.maximum(count, 1.0)
        top = ab - sum_a * sum_b / n
        bottom = np.maximum(aa - sum_a**2 / n, 0) * np.maximum(bb - sum_b**2 / n, 0)
        floor = 1e-6 * float(bottom.max(initial=0.0)) + 1e-30
        enough = (count >= _MIN_SHARE * count.max()) & (count > 50) & (bottom > floor)
        score = np.where(enough, top / np.sqrt(np.maximum(bottom, floor)), -1.0)
        place = np.unravel_index(int(score.argmax()), score.shape)
        inside = all(r == 0 or 0 < p < 2 * r for p, r in zip(place, self.reach, strict=True))
        z, y, x = (int(p) - r for p, r in zip(place, self.reach, strict=True))
        return (z, y, x), float(score[place]), inside


@dataclass(frozen=True)
class Fine:
    """What the fine step found in one region.

    Attributes:
        shift: of b beyond the whole shift it was read at (z, y, x), in voxels.
        quality: windowed correlation of the band-passed pictures after the shift.
        information: inverse covariance of the shift, 1/voxel^2.
        converged: the steps came to rest near where they began.
    """

    shift: np.ndarray
    quality: float
    information: np.ndarray
    converged: bool


def fine_shift(
    a: np.ndarray,
    b: np.ndarray,
    mask: np.ndarray,
    inner: tuple[slice, ...],
    steady: bool = False,
) -> Fine:
    """Measure the fraction of a shift, starting from zero.

    In each step b's voxels are moved first and band-passed then, under the mask of a: what the
    edge of the mask does to a picture it does to both alike, and so it does not pull the shift.

    Args:
        a: voxels of a region and ``BAND_MARGIN`` around it (z, y, x).
        b: voxels by the other tile, with ``FINE_MARGIN`` more around.
        mask: where both are true, as ``a``.
        inner: the region within ``a``.
        steady: nothing moves along the first axis.

    Returns:
        the shift d for which ``b(x - d) = a(x)``: b's tile must be moved by d.
    """
    solid = [np.ones(3 if n > 1 else 1, bool) for n in a.shape]
    core = binary_erosion(mask, solid[0][:, None, None] & solid[1][:, None] & solid[2])[inner]
    window = np.sqrt(_hann(core.shape)) * core
    total = float(window.sum())
    failed = Fine(np.zeros(3), 0.0, np.zeros((3, 3)), False)
    if total <= 0:
        return failed
    band = _BandPass(mask)
    picture = band(a)[inner].astype(np.float64)
    shift = np.zeros(3)
    axes = [i for i, n in enumerate(core.shape) if n > 1 and not (steady and i == 0)]
    count = len(axes)
    for _ in range(_STEPS):
        wide = band(move(b, shift))
        moved = wide[inner].astype(np.float64)
        gain, offset, quality = _fit(picture, moved, window, total)
        if quality <= 0 or gain <= 0:
            return failed
        # d/dd of b(x - d) is minus b's own gradient.
        columns = [-gain * np.gradient(wide, axis=i)[inner].astype(np.float64) for i in axes]
        flat = np.stack([c.ravel() for c in (*columns, moved, np.ones_like(moved))])
        error = picture - gain * moved - offset
        normal = (flat * window.ravel()) @ flat.T
        right = (flat * window.ravel()) @ error.ravel()
        try:
            step = np.linalg.solve(normal, right)[:count]
        except np.linalg.LinAlgError:
            return failed
        shift[axes] += np.clip(step, -0.7, 0.7)
        if np.abs(shift).max() > _FURTHEST:
            return failed
        if np.abs(step).max() < _CONVERGED:
            break
    power = float((window * picture**2).sum())
    variance = (float((window * error**2).sum()) + 1e-9 * power) / total
    # The shift's share of the normal equations once gain and offset are fitted too.
    rest = normal[:count, count:]
    own = normal[:count, :count] - rest @ np.linalg.pinv(normal[count:, count:]) @ rest.T
    information = np.zeros((3, 3))
    information[np.ix_(axes, axes)] = own / (variance * _ALIKE)
    return Fine(shift, quality, information, bool(np.abs(step).max() < _AT_REST))


def move(b: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return b(x - shift), shift (z, y, x) up to two voxels, without b's ``FINE_MARGIN``."""
    whole = np.floor(-shift).astype(int)
    fraction = tuple(float(f) for f in -shift - whole)
    # Voxel 0 of the result is b's voxel FINE_MARGIN; taps reach TAPS - 1 before and TAPS behind.
    part = tuple(
        slice(FINE_MARGIN + w - (TAPS - 1), n - FINE_MARGIN + w + TAPS)
        for w, n in zip(whole, b.shape, strict=True)
    )
    return shift_valid(b[part], (fraction[0], fraction[1], fraction[2]))


def _fit(
    a: np.ndarray, b: np.ndarray, window: np.ndarray, total: float
) -> tuple[float, float, float]:
    """Windowed regression a = gain b + offset, and its correlation."""
    mean_a = float((window * a).sum()) / total
    mean_b = float((window * b).sum()) / total
    da, db = a - mean_a, b - mean_b
    var_a, var_b = float((window * da * da).sum()), float((window * db * db).sum())
    both = float((window * da * db).sum())
    if var_a <= 0 or var_b <= 0:
        return 0.0, 0.0, 0.0
    gain = both / var_b
    return gain, mean_a - gain * mean_b, both / float(np.sqrt(var_a * var_b))


def _hann(shape: tuple[int, ...]) -> np.ndarray:
    """Separable Hann window that is not zero at the outermost voxels."""
    window = np.ones(())
    for n in shape:
        line = np.sin(np.pi * (np.arange(n) + 1) / (n + 1)) ** 2 if n > 1 else np.ones(1)
        window = window[..., None] * line
    return window
