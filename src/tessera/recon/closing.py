r"""How likely a rotation axis is, given the frames around a seam.

Near a seam, each Fourier component omega of the (mirrored) frames is a random function of the
angle: a voxel at depth t along the beam moves by ``t dtheta`` between frames, so a specimen whose
depths lie within ``[v - rho, v + rho]`` gives the covariance

    S(omega) sinc(omega rho dtheta) exp(i omega v dtheta)

(the double wedge of the sinogram's Fourier transform), to which each frame adds white noise, and
each side of the seam what does not move with the specimen: stripes. A wrong axis multiplies one
side by ``exp(-2 i omega d)``. The Gaussian log likelihood of the frames of both sides is then, as
a function of d, one inverse Fourier transform of the sides' weighted cross spectrum::

    log L(d) = const - 2 Re sum_omega exp(..) left^H (K^-1)_left,right right

Its maximum is the axis, its curvature says how well it is known; S, the noise, and each band's rho
and v are estimated from the frames themselves. It is a phase correlation whose weights follow from
the geometry of the scan, and needs neither a reconstruction nor a specimen that fits the detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from tessera.recon.seam import Seam

_BINS = 24  # bands of column frequency in the power spectrum
_BAND = (2 * np.pi / 60, 2.5)  # radians a pixel: below, backgrounds; above, noise
_NOISE_FROM = 0.85 * np.pi
_MOST_SNR = 1e4
_DEPTHS = (0.3, 0.5, 0.75, 1.0, 1.5, 2.2, 3.2)  # rho, in widths of the detector
_CENTRES = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)  # v
_FINE = 64  # steps of a pixel in the likelihood


@dataclass(frozen=True)
class _Spectra:
    """Windowed spectra (bands, frames, row frequencies, column frequencies) of both sides."""

    left: np.ndarray
    right: np.ndarray
    omega: np.ndarray  # of the columns, radians a pixel
    cell: np.ndarray  # (row frequencies, column frequencies) number of the cell
    snr: np.ndarray  # (cells,)
    noise: float
    stripes: float  # power of what stands still, in units of the noise
    length: int


def curves(
    left: np.ndarray, right: np.ndarray, seam: Seam, middle: int, reach: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return axes (n,) and their log likelihoods (bands, n).

    Args:
        left, right: frames (bands, k, rows, columns) of the seam without their smooth part; not
            mirrored.
        seam: the frames' angles.
        middle: column about which the right side is mirrored, near the axis.
        reach: how far from ``middle`` the axis may lie.
        width: detector columns: the scale of the specimen.
    """
    spectra = _spectra(left, right, middle, reach)
    cross = _cross(spectra, seam, _depths(spectra, seam, width))
    total = spectra.length * _FINE
    full = np.zeros((len(cross), total // 2 + 1), complex)
    full[:, : cross.shape[1]] = cross
    likelihood = scipy.fft.irfft(full, total, axis=1) * total
    steps = np.arange(-2 * reach * _FINE, 2 * reach * _FINE + 1)
    return middle - steps[::-1] / (2 * _FINE), likelihood[:, steps[::-1]]


def _spectra(left: np.ndarray, right: np.ndarray, middle: int, reach: int) -> _Spectra:
    rows, columns = left.shape[2:]
    half = min(middle, columns - 1 - middle)
    part = slice(middle - half, middle + half + 1)
    across = taper(2 * half + 1, 0.5)
    down = taper(rows, 0.3) if rows > 4 else np.ones(rows)
    window = down[:, None] * across
    length = scipy.fft.next_fast_len(2 * half + 1 + 4 * reach)
    height = scipy.fft.next_fast_len(rows)
    lefts = scipy.fft.rfft2(left[..., part] * window, (height, length))
    rights = scipy.fft.rfft2(right[..., part][..., ::-1] * window, (height, length))
    omega = 2 * np.pi * np.arange(lefts.shape[3]) / length
    radius = np.hypot(2 * np.pi * scipy.fft.fftfreq(height)[:, None], omega)
    # A cell is one row frequency, either sign, and a band of column frequencies: fibres along the
    # axis and layers across it have spectra that no ring holds.
    lines = np.minimum(np.arange(height), height - np.arange(height))
    cell = lines[:, None] * _BINS + np.minimum((omega / np.pi * _BINS).astype(int), _BINS - 1)
    cells = int(cell.max()) + 1
    power = (np.mean(np.abs(lefts) ** 2, (0, 1)) + np.mean(np.abs(rights) ** 2, (0, 1))) / 2
    outer = radius > _NOISE_FROM
    noise = max(float(power[outer].mean()), float(power.max()) * 1e-9, 1e-30)
    count = np.maximum(np.bincount(cell.ravel(), minlength=cells), 1)
    mean = np.bincount(cell.ravel(), power.ravel(), cells) / count
    snr = np.clip((mean - noise) / noise, 1e-3, _MOST_SNR)
    still = [np.mean(np.abs(f.mean(axis=1)[:, outer]) ** 2) for f in (lefts, rights)]
    stripes = max(float(np.mean(still)) / noise - 1 / left.shape[1], 0.03)
    return _Spectra(lefts, rights, omega, cell, snr, noise, stripes, length)


def taper(count: int, share: float) -> np.ndarray:
    """Return a flat window (count,) whose ends fall as a cosine, together over ``share`` of it.

    It is Tukey's (Harris 1978, doi:10.1109/PROC.1978.10837) without its two zeros. scipy.signal,
    which has it, would take most of the time in which ``tessera recon`` starts.
    """
    inwards = np.minimum(np.arange(1, count + 1), np.arange(count, 0, -1))
    risen = np.minimum(2 * inwards / (share * (count + 1)), 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * risen))


def _covariance(apart: np.ndarray, omega: float, rho: float, v: float) -> np.ndarray:
    return np.sinc(rho * omega * apart / np.pi) * np.exp(1j * omega * v * apart)


def _depths(s: _Spectra, seam: Seam, width: int) -> list[tuple[float, float]]:
    """The range of depths (rho, v) that makes each band's sides, each alone, most likely.

    A band of its own: what lies far from the axis in some rows must not pull the axis of others.
    """
    tried = [(rho * width, v * width) for rho in _DEPTHS for v in _CENTRES]
    total = _likelihoods(s, s.left, seam.left_deg, width)
    total += _likelihoods(s, s.right, seam.right_deg, width)
    return [tried[n] for n in np.argmax(total, axis=0)]


def _likelihoods(s: _Spectra, frames: np.ndarray, angles_deg: np.ndarray, width: int) -> np.ndarray:
    """Log likelihood (ranges of depths, bands) of one side's frames, but for a constant.

    The covariance of the frames at one frequency is ``snr D C D^H + 1 + stripes 1 1^T``, where D
    turns each frame by its phase at depth v and C, real, depends on rho alone. The eigenvectors of
    C serve all snr and all v; the stripes are put in by the formula of Sherman and Morrison (1950,
    doi:10.1214/aoms/1177729893).
    """
    band = np.flatnonzero((s.omega >= 0.12) & (s.omega <= 2.0))
    band = band[np.unique(np.linspace(0, len(band) - 1, 20).astype(int))]
    angle = np.deg2rad(angles_deg)
    omega = s.omega[band, None]
    snr = s.snr[s.cell[:, band]].T[:, None, :]  # (frequencies, 1, rows)
    columns = np.moveaxis(frames[..., band], (3, 1), (0, 1))  # (frequencies, k, bands, rows)
    flat = columns.reshape(len(band), len(angle), -1)
    total = []
    for rho in _DEPTHS:
        apart = rho * width * omega[..., None] * np.subtract.outer(angle, angle)
        levels, vectors = np.linalg.eigh(np.sinc(apart / np.pi))
        modes = vectors.transpose(0, 2, 1)
        gain = 1 / (snr * np.maximum(levels, 0)[..., None] + 1)  # (frequencies, k, rows)
        spread = -np.log(gain).sum()
        for v in _CENTRES:
            turn = np.exp(-1j * omega * v * width * angle)
            seen = (modes @ (turn[..., None] * flat)).reshape(columns.shape)
            still = (modes @ turn[..., None])[..., 0]
            weighted = seen * gain[:, :, None]
            fit = (seen.conj() * weighted).real.sum(axis=1)
            common = np.abs((still.conj()[..., None, None] * weighted).sum(axis=1)) ** 2
            held = 1 + s.stripes * (np.abs(still)[..., None] ** 2 * gain).sum(axis=1)
            fit -= s.stripes * common / held[:, None]
            total.append(-fit.sum(axis=(0, 2)) / s.noise - spread - np.log(held).sum())
    return np.array(total)


def _cross(s: _Spectra, seam: Seam, depths: list[tuple[float, float]]) -> np.ndarray:
    """The weighted cross spectrum (bands, column frequencies) of the two sides."""
    k = len(seam.left)
    angle = np.deg2rad(np.concatenate([seam.left_deg, seam.right_deg]))
    apart = np.subtract.outer(angle, angle)
    same_side = np.kron(np.eye(2), np.ones((k, k)))
    out = np.zeros((len(s.left), len(s.omega)), complex)
    for rho, v in set(depths):
        bands = [n for n, depth in enumerate(depths) if depth == (rho, v)]
        left, right = s.left[bands], s.right[bands]
        for c in np.flatnonzero((s.omega >= _BAND[0]) & (s.omega <= _BAND[1])):
            cells, which = np.unique(s.cell[:, c], return_inverse=True)
            matrix = s.snr[cells][:, None, None] * _covariance(apart, s.omega[c], rho, v)
            matrix = matrix + np.eye(2 * k) + s.stripes * same_side
            block = np.linalg.inv(matrix)[:, :k, k:][which]
            out[bands, c] = np.einsum(
                "bir,rij,bjr->b", left[..., c].conj(), block, right[..., c], optimize=True
            )
    return -2 * out / s.noise
