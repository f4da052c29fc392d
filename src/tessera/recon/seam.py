"""Where a scan closes on itself: frames that see the same from both sides.

Half a turn later a parallel projection is its own mirror image, ``p(theta + 180, c) =
p(theta, 2 axis - c)``. So behind the last frame of a 180-degree scan the first ones follow again,
mirrored; in a 360-degree scan each frame has its mirror image half a turn later::

    180 degrees   0 ........... 179 | 0' 1' 2'       one seam, behind the last frame
    360 degrees   180 181 182 ...
                   0'  1'  2' ...                    a seam wherever one looks
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

FRAMES = 12  # on each side of a seam: a tenth of a turn in common scans
_MOST_SEAMS = 4
_WIDEST_GAP_DEG = 12.0  # wider, and no frame follows another


@dataclass(frozen=True)
class Seam:
    """Frames around one angle.

    Attributes:
        left, right: (k,) numbers of frames; those on the right are to be mirrored.
        left_deg, right_deg: (k,) their angles, on the right half a turn on.
    """

    left: np.ndarray
    right: np.ndarray
    left_deg: np.ndarray
    right_deg: np.ndarray

    def within(self, used: np.ndarray) -> Seam:
        """Return the seam with frames numbered by their place in ``used`` (ascending)."""
        left, right = np.searchsorted(used, self.left), np.searchsorted(used, self.right)
        return Seam(left, right, self.left_deg, self.right_deg)


def seams(angles_deg: np.ndarray) -> list[Seam]:
    """Return the seams of a scan; none if it misses more than a few degrees to half a turn."""
    angles = np.asarray(angles_deg, float)
    step = float(np.abs(angles[-1] - angles[0])) / max(len(angles) - 1, 1)
    turn = 180.0 if angles[-1] >= angles[0] else -180.0
    first, last = angles[0] + turn, angles[-1]
    over = (last - first) * np.sign(turn)  # degrees beyond half a turn; negative: a gap
    if -over > max(_WIDEST_GAP_DEG, 2 * step):
        return []
    places = np.array([(first + last) / 2])
    if over > 2 * FRAMES * step:
        reach = FRAMES / 2 * step * np.sign(turn)
        places = np.linspace(first + reach, last - reach, _MOST_SEAMS)
    found = []
    for place in places:
        left = np.sort(np.argsort(np.abs(angles - place), kind="stable")[:FRAMES])
        right = np.sort(np.argsort(np.abs(angles + turn - place), kind="stable")[:FRAMES])
        found.append(Seam(left, right, angles[left], angles[right] + turn))
    return found


def frames_of(found: list[Seam]) -> np.ndarray:
    """Return the numbers of all frames that the seams need, ascending."""
    if not found:
        return np.zeros(0, int)
    return np.unique(np.concatenate([np.concatenate([s.left, s.right]) for s in found]))


def mismatch(frames: np.ndarray, found: list[Seam], least: float) -> tuple[np.ndarray, np.ndarray]:
    """How badly the frames go on across the seams: candidates (n,) and their cost (n,).

    The mean square difference of the frames that lie nearest each other across the seam, relative
    to their own, over the columns that have a mirror image: 0 if they are the same, 1 if they have
    nothing in common. Half a column lies between candidates, which is one column between the image
    and its mirror image, so that all are one convolution.

    Args:
        frames: (frames, rows, columns), without their smooth part.
        found: seams, numbered within ``frames``.
        least: columns that must have a mirror image; candidates with fewer are left out.
    """
    columns = frames.shape[2]
    lags = np.arange(2 * columns - 1)  # twice the candidate
    first, last = np.maximum(0, lags - columns + 1), np.minimum(columns - 1, lags)
    apart = np.zeros(len(lags))
    power = np.zeros(len(lags))
    length = scipy.fft.next_fast_len(len(lags), real=True)
    for seam in found:
        i, j = _nearest(seam.left_deg, seam.right_deg)
        here, later = frames[seam.left[i]], frames[seam.right[j]]
        spectrum = (scipy.fft.rfft(here, length) * scipy.fft.rfft(later, length)).sum(axis=0)
        common = scipy.fft.irfft(spectrum, length)[: len(lags)]
        own = np.zeros(len(lags))
        for frame in (here, later):  # the same columns of both: the overlap is its own mirror image
            running = np.concatenate([[0.0], np.cumsum(np.sum(frame.astype(float) ** 2, axis=0))])
            own += running[last + 1] - running[first]
        apart += own - 2 * common
        power += own
    enough = (last - first + 1 >= least) & (power > 0)
    return lags[enough] / 2, apart[enough] / power[enough]


def _nearest(left_deg: np.ndarray, right_deg: np.ndarray) -> tuple[int, int]:
    """The two frames whose angles differ least."""
    apart = np.abs(left_deg[:, None] - right_deg[None])
    i, j = np.unravel_index(int(np.argmin(apart)), apart.shape)
    return int(i), int(j)
