"""Filters of backprojection, by the names of the field.

The ramp is that of Kak and Slaney (Principles of Computerized Tomographic Imaging, 1988, eq. 61):
made in space, so that its mean is right and a uniform disc reads its true value.
"""

from __future__ import annotations

import numpy as np


def response(name: str, length: int) -> np.ndarray:
    """Return the response (length // 2 + 1,) of a filter at the frequencies of ``rfft``.

    Args:
        name: ramp, shepp, cosine, hann, hamming, parzen or none (backprojection alone).
        length: padded width in pixels, even.
    """
    n = np.fft.fftfreq(length, 1 / length)
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = (n.astype(int) % 2) == 1
    kernel[odd] = -1 / (np.pi * n[odd]) ** 2
    ramp = np.fft.rfft(kernel).real
    f = np.arange(length // 2 + 1) / (length // 2)  # 1 at the Nyquist frequency
    if name == "none":
        return np.ones_like(ramp)
    if name == "parzen":
        window = np.where(f <= 0.5, 1 - 6 * f**2 * (1 - f), 2 * (1 - f) ** 3)
    else:
        window = {
            "ramp": np.ones_like(f),
            "shepp": np.sinc(f / 2),
            "cosine": np.cos(np.pi * f / 2),
            "hann": 0.5 * (1 + np.cos(np.pi * f)),
            "hamming": 0.54 + 0.46 * np.cos(np.pi * f),
        }[name]
    return ramp * window
