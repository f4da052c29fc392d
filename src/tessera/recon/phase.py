"""Phase retrieval of one material at one distance (doi:10.1046/j.1365-2818.2002.01010.x).

A weakly absorbing specimen shows its edges by free propagation. If one material makes it up, with
delta / beta known, the absorption follows from the transmission by a low-pass filter of length
``L = sqrt(lambda z (delta / beta) / (4 pi))``::

    retrieved = F^-1 { F{transmission} / (1 + L**2 |k|**2) }

Its response in space falls like exp(-r / L), so a slab of rows needs some real rows around it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft

from tessera.config import Phase

_KEV_UM = 1.23984193e-3  # wavelength times energy
_REACH = 7.0  # lengths beyond which the response is nothing (1e-3)


def length_px(phase: Phase, pixel_um: float) -> float:
    """Return the filter's length in pixels."""
    wavelength_um = _KEV_UM / phase.energy_kev
    length_um = np.sqrt(wavelength_um * phase.distance_mm * 1e3 * phase.delta_beta / (4 * np.pi))
    return float(length_um / pixel_um)


def halo_rows(phase: Phase | None, pixel_um: float) -> int:
    """Return the rows that a slab needs on each side; none without phase retrieval."""
    return 0 if phase is None else int(np.ceil(_REACH * length_px(phase, pixel_um)))


def retrieve(seen: np.ndarray, phase: Phase, pixel_um: float, threads: int = 1) -> None:
    """Filter transmissions (angles, rows, columns), float32, in place; edges mirror."""
    length = length_px(phase, pixel_um)
    pad = [min(halo_rows(phase, pixel_um), n - 1) for n in seen.shape[1:]]
    padded = [n + 2 * p for n, p in zip(seen.shape[1:], pad, strict=True)]
    size = [scipy.fft.next_fast_len(n, real=True) for n in padded]
    ky = 2 * np.pi * np.fft.fftfreq(size[0])[:, None]
    kx = 2 * np.pi * np.fft.rfftfreq(size[1])
    response = (1 / (1 + length**2 * (ky**2 + kx**2))).astype(np.float32)
    # Mirrored to the fast size, so that what wraps round meets its like.
    widths = [(p, s - n - p) for p, s, n in zip(pad, size, seen.shape[1:], strict=True)]
    inner = tuple(slice(p, p + n) for p, n in zip(pad, seen.shape[1:], strict=True))

    def one(angle: int) -> None:
        spectrum = scipy.fft.rfft2(np.pad(seen[angle], widths, mode="symmetric"))
        spectrum *= response
        seen[angle] = scipy.fft.irfft2(spectrum, size)[inner]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(len(seen))))
