"""A scan of one tile as Data Exchange, with the stage position that a mosaic starts from."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

DARK = 100  # counts without a beam
PIXEL_UM = 2.0
_SETUP = "measurement/instrument/sample_motor_stack/setup"


def write_scan(
    path: Path,
    seen: np.ndarray,
    flats: np.ndarray,
    nominal: tuple[float, float],
    angles_deg: np.ndarray | None = None,
) -> Path:
    """Write one scan.

    Args:
        path: file to write.
        seen, flats: counts (frames, rows, columns) above the dark level.
        nominal: row and column where the stage says that the tile's first pixel lies.
        angles_deg: of the projections; evenly over half a turn if None.
    """
    shape = seen.shape[1:]
    up, across = (np.array(nominal) + (np.array(shape) - 1) / 2) * PIXEL_UM
    with h5py.File(path, "w") as file:
        file["exchange/data"] = (DARK + seen).astype(np.uint16)
        file["exchange/data_white"] = (DARK + flats).astype(np.uint16)
        file["exchange/data_dark"] = np.full((4, *shape), DARK, np.uint16)
        if angles_deg is None:
            angles_deg = np.arange(len(seen)) * 180 / len(seen)
        file["exchange/theta"] = angles_deg
        file["exchange/theta"].attrs["units"] = "degrees"
        lengths = {f"{_SETUP}/y": up, f"{_SETUP}/z": 0.0, f"{_SETUP}/x": across}
        lengths["measurement/instrument/detector/pixel_size"] = PIXEL_UM
        for name, value in lengths.items():
            file[name] = float(value)
            file[name].attrs["units"] = "um"
    return path
