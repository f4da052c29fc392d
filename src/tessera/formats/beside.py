"""What a person says of a scan, in a small file beside it.

``scan_1.json`` beside ``scan_1.h5``, or ``scan.json`` in a folder of TIFFs, takes the place of what
the scan itself says, or does not say::

    {"pixel_um": 1.3, "position_um": [0.0, 0.0, 650.0], "angles_deg": [0.0, 0.5, 1.0]}

Each key may be left out. Positions are z (along the rotation axis), y, x, and grow as the tile's
rows and columns do: tile positions of a stage that moves the other way are given here negated.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.formats.scan import Scan, plausible_pixel

_KEYS = ("pixel_um", "position_um", "angles_deg")


def note_path(path: Path) -> Path:
    """Where the notes of a scan are."""
    return path / "scan.json" if path.is_dir() else path.with_suffix(".json")


def apply(scan: Scan, path: Path) -> Scan:
    """Put a person's notes in place of what the scan says.

    Raises:
        TesseraError: they cannot be understood.
    """
    note = note_path(path)
    if not note.is_file():
        return scan
    said = _read(note)
    header = scan.header
    if "pixel_um" in said:
        pixel, nonsense = plausible_pixel(float(_numbers(note, said, "pixel_um", 1)[0]))
        header = replace(header, pixel_um=pixel, pixel_said=nonsense)
    if "position_um" in said:
        z, y, x = _numbers(note, said, "position_um", 3)
        header = replace(header, position_um=(float(z), float(y), float(x)))
    scan.header = header
    if "angles_deg" in said:
        scan.angles_deg = _numbers(note, said, "angles_deg", None)
    return scan


def _read(note: Path) -> dict[str, Any]:
    try:
        said = json.loads(note.read_text())
    except (OSError, ValueError) as error:
        raise TesseraError(f"{note}: is not JSON ({error}); repair or remove it") from None
    unknown = [k for k in said if k not in _KEYS] if isinstance(said, dict) else ["?"]
    if unknown:
        raise TesseraError(
            f"{note}: unknown key '{unknown[0]}'; a scan's notes hold {', '.join(_KEYS)}"
        )
    return dict(said)


def _numbers(note: Path, said: dict[str, Any], key: str, count: int | None) -> np.ndarray:
    try:
        values = np.asarray(said[key], float).reshape(-1)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if (count is not None and len(values) != count) or not len(values):
        need = "numbers" if count is None else f"{count} number" + "s" * (count > 1)
        raise TesseraError(f"{note}: {key} needs {need}; repair it")
    return values
