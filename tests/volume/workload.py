"""A batch that tests run in processes of their own: doubles each voxel, slowly if asked.

Arguments: folder, ranks, seconds a block, and the name of a block that fails (or ``-``).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from tessera.compute import ranks
from tessera.errors import TesseraError
from tessera.volume.box import Block, Box, Grid, Triple
from tessera.volume.engine import Task, run_batch
from tessera.volume.store import Layout, Volume, create_volume, open_volume

LAYOUT = Layout(Triple(20, 20, 20), "uint16", (1.0,) * 3, Triple(8, 8, 8), Triple(8, 8, 8))
GRID = Grid.of(LAYOUT.shape, LAYOUT.shard, (2, 2, 2))


def prepare(folder: Path) -> None:
    """Write the input and an empty output."""
    data = np.random.default_rng(0).integers(1, 9999, LAYOUT.shape).astype(np.uint16)
    create_volume(folder / "in.zarr", LAYOUT).write(Box.whole(LAYOUT.shape), data)
    create_volume(folder / "out.zarr", LAYOUT)


def task(folder: Path, seconds: float = 0.0, failing: str = "-") -> Task:
    """Twice the voxel in each block; one block may fail."""
    given, out = open_volume(folder / "in.zarr"), open_volume(folder / "out.zarr")

    def compute(block: Block, data: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        if block.name == failing:
            raise RuntimeError("as asked")
        return 2 * data[block.write.inside(block.read)]

    def write(block: Block, data: np.ndarray) -> dict[str, int]:
        out.write(block.write, data)
        with open(folder / "log", "a") as log:
            log.write(block.name + "\n")
        return {"sum": int(data.sum())}

    return Task(
        lambda block: given.read(block.read),
        compute,
        write,
        lambda block: out.shard_files(block.write),
    )


def made(folder: Path) -> list[str]:
    """Blocks that were written, in the order in which they were."""
    return (folder / "log").read_text().split() if (folder / "log").exists() else []


def right(folder: Path) -> bool:
    """True if the output is what it should be."""
    a, b = (Volume(folder / n) for n in ("in.zarr", "out.zarr"))
    box = Box.whole(LAYOUT.shape)
    return bool((2 * a.read(box) == b.read(box)).all())


if __name__ == "__main__":
    where, expected, pause, bad = (
        Path(sys.argv[1]),
        int(sys.argv[2]),
        float(sys.argv[3]),
        sys.argv[4],
    )
    comm = ranks.world(expected)
    try:
        run_batch(task(where, pause, bad), list(GRID), where / "records/0000.json", "key", comm)
    except TesseraError as error:
        if ranks.rank_of(comm) == 0:
            print(error, file=sys.stderr)
        sys.exit(error.exit_status)
