"""The canvas: what is known of one subvolume while it is being filled.

Three arrays of one (z, y, x) shape: the image, normalised; the *seed*, logits of the object that is
being filled, NaN where it has not been; and the labels so far. Beside them the rules of where the
centre of a field of view may go.
"""

from __future__ import annotations

import math

import numpy as np

Position = tuple[int, int, int]
Size = tuple[int, int, int]

EXCLUDED = -1  # a seed there failed; the voxel is free for other objects


def logit(probability: float) -> float:
    """Return log(p / (1 - p))."""
    return math.log(probability / (1 - probability))


class Canvas:
    """One subvolume.

    Args:
        image: float32 (z, y, x), normalised as the network was trained.
        fov: the network's field of view (z, y, x), odd.
        blocked: True where no field of view may be centred and no label goes, or None.
        pad: logit of voxels that the seed has not reached.
    """

    def __init__(
        self, image: np.ndarray, fov: Size, blocked: np.ndarray | None, pad: float
    ) -> None:
        self.image = np.ascontiguousarray(image, np.float32)
        self.fov = fov
        self.margin: Size = (fov[0] // 2, fov[1] // 2, fov[2] // 2)
        self.blocked = blocked
        self.pad = np.float32(pad)
        self.seed = np.full(self.image.shape, np.nan, np.float32)
        self.labels = np.zeros(self.image.shape, np.int32)
        # The part of the seed that is not NaN, so that clearing it costs no more than it cost.
        self._low = list(self.image.shape)
        self._high = [0, 0, 0]

    @property
    def shape(self) -> Size:
        """Size (z, y, x) in voxels."""
        z, y, x = self.image.shape
        return z, y, x

    @property
    def reached(self) -> tuple[slice, slice, slice]:
        """The box that the present object's fields of view have covered."""
        z, y, x = (slice(a, max(a, b)) for a, b in zip(self._low, self._high, strict=True))
        return z, y, x

    def begin(self, start: Position, value: float) -> None:
        """Forget the last object; the seed is one voxel of this logit."""
        self.seed[self.reached] = np.nan
        self._low, self._high = list(start), [p + 1 for p in start]
        self.seed[start] = value

    def resume(self, corner: Position, seed: np.ndarray) -> None:
        """Go on with an object: ``seed`` (z, y, x) is what was :attr:`reached`, from a corner."""
        self._low = list(corner)
        self._high = [a + n for a, n in zip(corner, seed.shape, strict=True)]
        self.seed[self.reached] = seed

    def inside(self, at: Position) -> bool:
        """True if a field of view centred here lies within the subvolume."""
        return all(
            m <= p < n - m for p, m, n in zip(at, self.margin, self.image.shape, strict=True)
        )

    def open(self, at: Position) -> bool:
        """True if a field of view may be centred here: inside, not masked, not labelled yet."""
        return (
            self.inside(at)
            and self.labels[at] <= 0
            and not (self.blocked is not None and self.blocked[at])
        )

    def window(self, at: Position) -> tuple[slice, slice, slice]:
        """Slices of the field of view centred at a position."""
        z, y, x = (slice(p - m, p + m + 1) for p, m in zip(at, self.margin, strict=True))
        return z, y, x

    def look(self, at: Position, fields: np.ndarray) -> None:
        """Copy image and seed of a field of view into ``fields`` (2, z, y, x)."""
        window = self.window(at)
        fields[0] = self.image[window]
        seed = self.seed[window]
        np.copyto(fields[1], seed)
        np.copyto(fields[1], self.pad, where=np.isnan(seed))

    def accept(self, at: Position, logits: np.ndarray, threshold: float) -> np.ndarray:
        """Put what the network said of a field of view into the seed.

        Once a voxel of it is as sure as ``threshold``, voxels that were thought to be outside of
        the object stay there: a thin leak would otherwise be talked into existence
        ("disco" guard of the reference).

        Returns:
            the logits as they stand now, a view (z, y, x).
        """
        window = self.window(at)
        seed = self.seed[window]
        if float(logits.max()) >= threshold:
            # NaN compares false: voxels that were not reached before may rise.
            np.copyto(logits, seed, where=(seed < 0) & (logits > seed))
        seed[...] = logits
        for axis, part in enumerate(window):
            self._low[axis] = min(self._low[axis], part.start)
            self._high[axis] = max(self._high[axis], part.stop)
        return seed

    def near_label(self, at: Position, distance: int) -> bool:
        """True if a labelled voxel lies within ``distance`` along each axis."""
        box = tuple(slice(max(0, p - distance), p + distance + 1) for p in at)
        return bool((self.labels[box] > 0).any())
