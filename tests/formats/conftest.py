"""Small raw scans of every format, written here by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

COUNT, ROWS, COLUMNS = 20, 6, 32
STAGE = "measurement/instrument/sample_motor_stack/setup/"
PIXEL = "measurement/instrument/detection_system/objective/resolution"


def frames(count: int, level: float, seed: int = 0, dtype: str = "uint16") -> np.ndarray:
    """Noisy frames about a level; no two are alike."""
    rng = np.random.default_rng(seed)
    made = level + rng.normal(0, 0.02 * level + 1, (count, ROWS, COLUMNS))
    return made.astype(dtype) if dtype.startswith("f") else np.rint(made).astype(dtype)


def exchange(path: Path, **changes: Any) -> Path:
    """Write a Data Exchange scan; ``changes`` replace datasets by name, None leaves one out."""
    content: dict[str, Any] = {
        "exchange/data": frames(COUNT, 700, 1),
        "exchange/data_white": frames(4, 1000, 2),
        "exchange/data_dark": frames(3, 100, 3),
        "exchange/theta": np.arange(COUNT) * 180.0 / COUNT,
        PIXEL: 1.5,
        STAGE + "x": 0.25,
        STAGE + "y": 0.5,
        STAGE + "z": 0.125,
    }
    short = {"data", "data_white", "data_dark", "theta"}
    units = changes.pop("units", {})
    content |= {f"exchange/{k}" if k in short else k: v for k, v in changes.items()}
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[name] = value
        for name in (n for n in content if n.startswith("measurement") and n in file):
            file[name].attrs["units"] = "um" if name == PIXEL else "mm"
        for name, unit in units.items():
            file[name].attrs["units"] = unit
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Callable[..., Path]:
    """Write ``scan.h5`` with some datasets changed."""
    return lambda **changes: exchange(tmp_path / "scan.h5", **changes)


def nxtomo(path: Path, keys: np.ndarray, stack: np.ndarray, angles: np.ndarray) -> Path:
    """Write an NXtomo scan."""
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry0000")
        entry["instrument/detector/data"] = stack
        entry["instrument/detector/image_key"] = keys
        size = entry.create_dataset("instrument/detector/x_pixel_size", data=1.5e-6)
        size.attrs["units"] = "m"
        entry["sample/rotation_angle"] = angles
        for axis, value in zip("xyz", (0.25e-3, 0.5e-3, 0.125e-3), strict=True):
            moved = entry.create_dataset(
                f"sample/{axis}_translation", data=np.full(len(keys), value)
            )
            moved.attrs["units"] = "m"
    return path


def tiffs(folder: Path, stack: np.ndarray, first: int = 0) -> None:
    """Write one TIFF a frame, numbered without leading zeros."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(stack, first):
        tifffile.imwrite(folder / f"frame_{number}.tif", frame)
