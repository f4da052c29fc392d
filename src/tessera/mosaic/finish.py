"""The end of a mosaic: coarser levels, statistics, a TIFF stack on request, ``volume.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tessera import __version__
from tessera.compute import ranks
from tessera.errors import TesseraError
from tessera.mosaic.plan import read_plan
from tessera.volume.box import Box
from tessera.volume.pyramid import build_pyramid
from tessera.volume.record import Record, atomic_write, read_done
from tessera.volume.statistics import statistics
from tessera.volume.store import Volume, open_volume, write_errors

_TIFF_BYTES = 256 << 20  # of a slab of slices held in memory for the TIFF stack, at most


def finish(folder: Path, comm: Any | None = None) -> dict[str, Any]:
    """Finish a fused mosaic; returns the content of ``volume.json``.

    Raises:
        TesseraError: if a batch is missing or was made under another plan.
    """
    plan = read_plan(folder)
    records = [
        _checked(folder / "records" / f"{number:04d}.json", plan.key)
        for number in range(plan.batches)
    ]
    merged = merge(records)
    if len(merged.entries) != len(plan.grid):
        raise TesseraError(
            f"{folder / 'records'}: hold {len(merged.entries)} of {len(plan.grid)} blocks; run "
            "'tessera mosaic fuse' for all batches"
        )
    return conclude(folder, merged.digest(), plan.tiff, comm)


def _checked(path: Path, key: str) -> Record:
    record = read_done(path)
    if record.key != key:
        raise TesseraError(f"{path}: was made under another plan; run 'tessera mosaic fuse' again")
    return record


def merge(records: list[Record]) -> Record:
    """Return all entries as one record, so that the digest does not depend on batches."""
    whole = Record("", 0)
    for record in records:
        whole.entries |= record.entries
        whole.total += record.total
    return whole


def conclude(folder: Path, digest: str, tiff: bool, comm: Any | None = None) -> dict[str, Any]:
    """Make levels, statistics, TIFF; write ``volume.json`` last."""
    path = folder / "volume.zarr"
    build_pyramid(path, "mean", digest, comm)
    content: dict[str, Any] = ranks.root_only(comm, _write, folder, path, digest, tiff)
    return content


def _write(folder: Path, path: Path, digest: str, tiff: bool) -> dict[str, Any]:
    volume = open_volume(path)
    content = {
        "path": path.name,
        "digest": digest,
        "shape": list(volume.shape),
        "voxel_um": list(volume.voxel_um),
        "origin_um": list(volume.origin_um),
        "dtype": str(volume.dtype),
        "levels": volume.levels,
        "statistics": statistics(volume),
        "version": __version__,
    }
    if tiff:
        write_tiff(volume, folder / "volume.tif")
    atomic_write(folder / "volume.json", json.dumps(content, indent=1) + "\n")
    return content


def write_tiff(volume: Volume, path: Path) -> None:
    """Write a volume as one BigTIFF, a page a slice, in slabs of bounded memory."""
    import tifffile

    slice_bytes = volume.shape.y * volume.shape.x * volume.dtype.itemsize
    step = int(np.clip(_TIFF_BYTES // slice_bytes, 1, volume.shard.z))

    def pages() -> Iterator[np.ndarray]:
        for z in range(0, volume.shape.z, step):
            stop = min(z + step, volume.shape.z)
            yield from volume.read(Box.of((z, 0, 0), (stop, volume.shape.y, volume.shape.x)))

    partial = path.with_name(f".{path.name}")
    _, y_um, x_um = volume.voxel_um
    with write_errors(path):
        with tifffile.TiffWriter(partial, bigtiff=True) as tiff:
            tiff.write(
                pages(),
                shape=tuple(volume.shape),
                dtype=volume.dtype,
                photometric="minisblack",
                resolution=(1e4 / x_um, 1e4 / y_um),
                resolutionunit="CENTIMETER",
                metadata={"axes": "ZYX", "spacing": volume.voxel_um[0], "unit": "um"},
            )
        partial.replace(path)
