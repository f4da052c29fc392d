"""A volume that exists already (HDF5, TIFF, Zarr) becomes ``mosaic/volume.zarr``, block by block.

All that follows is then the same as for a fused mosaic.
"""

from __future__ import annotations

import glob
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tessera.compute import ranks
from tessera.config import Mosaic, VolumeSource, section_json
from tessera.errors import TesseraError
from tessera.mosaic.finish import conclude
from tessera.mosaic.plan import layout_of, prepare_volume
from tessera.volume.box import Block, Grid
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import make_key
from tessera.volume.store import Layout, open_volume

_KEPT = ("uint8", "uint16", "float32")
_BLOCK_BYTES = 64 << 20  # of a block, at most; wide blocks read slices of a stack seldom twice


def take_in(
    source: VolumeSource, folder: Path, settings: Mosaic, comm: Any | None = None
) -> dict[str, Any]:
    """Convert a volume; returns the content of ``volume.json``.

    The type is kept if it is uint8, uint16 or float32, and becomes float32 else.

    Raises:
        TesseraError: a source that cannot be read, or whose voxel size is not known.
    """
    from tessera.formats import open_source

    path = folder / "volume.zarr"
    with open_source(source) as given:
        if given.voxel_um is None:
            raise TesseraError(
                f"{source.path}: does not say how large its voxels are; give volume.voxel_um"
            )
        dtype = str(np.dtype(given.dtype))
        layout = layout_of(
            settings,
            given.shape,
            dtype if dtype in _KEPT else "float32",
            given.voxel_um,
            (0.0, 0.0, 0.0),
        )
        key = make_key(
            source=section_json(source),
            files=_fingerprint(source.path),
            layout=asdict(layout) | {"levels": 0},
        )
        ranks.root_only(comm, lambda: prepare_volume(path, layout, key, {"source": source.path}))
        volume = open_volume(path)

        def convert(block: Block, data: np.ndarray) -> np.ndarray:
            return np.asarray(data).astype(volume.dtype, copy=False)

        def write(block: Block, data: np.ndarray) -> None:
            volume.write(block.write, data)

        task = Task(
            lambda block: given.read(block.read),
            convert,
            write,
            lambda block: volume.shard_files(block.write),
            "import, blocks",
        )
        blocks = list(Grid.of(layout.shape, _block(layout)))
        record = run_batch(task, blocks, folder / "records" / "0000.json", key, comm)
    return conclude(folder, record.digest(), settings.tiff, comm)


def _block(layout: Layout) -> tuple[int, int, int]:
    """Whole shards: one along z, as many along x and then y as bytes allow."""
    block = list(layout.shard)
    for axis in (2, 1):
        now = block[0] * block[1] * block[2] * np.dtype(layout.dtype).itemsize
        most = max(1, _BLOCK_BYTES // now)
        block[axis] *= min(most, -(-layout.shape[axis] // block[axis]))
    return block[0], block[1], block[2]


def _fingerprint(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of a source's files: enough to see that they were changed."""
    root = Path(path)
    if root.is_dir():
        files = [root / "zarr.json"] if (root / "zarr.json").is_file() else sorted(root.iterdir())
    else:
        files = [root] if root.exists() else sorted(map(Path, glob.glob(path)))
    return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
