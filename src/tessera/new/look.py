"""What can be seen of a person's data without being told: formats, sizes, spacings, labels."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tessera.config import VolumeSource
from tessera.errors import TesseraError
from tessera.volume.box import Box

Shape = tuple[int, int, int]
_FEW = 2  # distinct values up to which labels are a mask of one class
_CLASS_IDS = 16  # and up to which they are class ids
_LOOK_BYTES = 256 << 20


@dataclass(frozen=True)
class SeenScans:
    """Raw scans.

    Attributes:
        pattern: absolute glob that finds them.
        count: how many there are.
        kind: format of the first.
        rows, columns, angles: of the first.
        span_deg: degrees that the angles cover; None if the files hold none.
        pixel_um: detector pixel; None if the files do not say.
        positions: True if each says where the stage was.
    """

    pattern: str
    count: int
    kind: str
    rows: int
    columns: int
    angles: int
    span_deg: float | None
    pixel_um: float | None
    positions: bool


@dataclass(frozen=True)
class SeenVolume:
    """A volume: absolute path, dataset in it, size (z, y, x), type, voxel size if it says so."""

    path: str
    dataset: str | None
    shape: Shape
    dtype: str
    voxel_um: tuple[float, float, float] | None


@dataclass(frozen=True)
class SeenLabels:
    """Labels of one class.

    Attributes:
        path, dataset: where they are.
        name: of the class.
        values: distinct values but 0, at most as many as tell a mask from instances.
    """

    path: str
    dataset: str | None
    name: str
    values: int

    @property
    def are_instances(self) -> bool:
        """True if there are more values than classes that a person would name."""
        return self.values > _CLASS_IDS

    @property
    def are_mask(self) -> bool:
        """True if there is one value beside the background."""
        return self.values < _FEW


def look_at_scans(pattern: str) -> SeenScans:
    """Read the scans' headers.

    Raises:
        TesseraError: there are none, or one is not a scan.
    """
    from tessera.formats import open_scan

    found = sorted(glob.glob(pattern))
    if not found:
        raise TesseraError(f"--scans: no file matches {pattern}; give the right glob, in quotes")
    positions, first, span = True, None, None
    for path in found:
        with open_scan(path) as scan:
            positions = positions and scan.header.position_um is not None
            if first is None:
                first = scan.header
                if scan.angles_deg is not None and len(scan.angles_deg) > 1:
                    steps = np.diff(scan.angles_deg)
                    span = abs(float(scan.angles_deg[-1] - scan.angles_deg[0] + steps.mean()))
    assert first is not None
    return SeenScans(
        os.path.abspath(pattern),
        len(found),
        first.kind,
        first.rows,
        first.columns,
        first.angles,
        span,
        first.pixel_um,
        positions,
    )


def look_at_volume(given: str) -> SeenVolume:
    """Look at ``FILE`` or ``FILE::dataset``.

    Raises:
        TesseraError: it is no volume.
    """
    from tessera.formats import open_source

    path, dataset = split(given)
    with open_source(VolumeSource(path=path, dataset=dataset, voxel_um=None)) as volume:
        return SeenVolume(
            os.path.abspath(path), dataset, volume.shape, str(volume.dtype), volume.voxel_um
        )


def look_at_labels(given: str, shape: Shape) -> SeenLabels:
    """Look at ``[NAME=]FILE[::dataset]``, labels of a volume of this (z, y, x) shape.

    Raises:
        TesseraError: they are no labels, or not that volume's.
    """
    from tessera.formats import open_source

    name, where = _class_name(given)
    path, dataset = split(where)
    with open_source(VolumeSource(path=path, dataset=dataset, voxel_um=None)) as labels:
        if labels.shape != shape:
            raise TesseraError(
                f"{where}: labels of {labels.shape} voxels do not fit the volume of {shape}; give "
                "labels of the volume itself"
            )
        if labels.dtype.kind == "f":
            raise TesseraError(f"{where}: holds fractions, not labels; give whole numbers")
        plane = labels.shape[1] * labels.shape[2] * labels.dtype.itemsize
        affordable = min(shape[0], max(1, _LOOK_BYTES // plane))
        known: set[int] = set()
        for z in np.unique(np.linspace(0, shape[0] - 1, affordable).astype(int)).tolist():
            known |= set(np.unique(labels.read(Box.of((z, 0, 0), (z + 1, *shape[1:])))).tolist())
            if len(known) > _CLASS_IDS + 1:
                break
    return SeenLabels(os.path.abspath(path), dataset, name, len(known - {0}))


def split(given: str) -> tuple[str, str | None]:
    """Split ``FILE::dataset``."""
    path, _, dataset = given.partition("::")
    return path, dataset or None


def _class_name(given: str) -> tuple[str, str]:
    """Name of the class and the rest: given, or the last part of the dataset or file."""
    head, equals, rest = given.partition("=")
    if equals and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", head):
        return head, rest
    path, dataset = split(given)
    last = Path(dataset or path).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", last).strip("_") or "object", given
