"""What the DAG is made of: names of tiles, places of files, numbers of batches.

All of it follows from the config and the headers of the raw data, so a dry run knows every job
before the first one has run: the fused volume's shape comes from the *nominal* stage positions.
"""

from __future__ import annotations

import glob
import math
import os
import sys
from pathlib import Path

from tessera.config import Config, Model
from tessera.errors import TesseraError

_BLOCKS_A_BATCH = 200  # minutes of work in one job
_MOST_BATCHES = 250  # a DAG of some thousand jobs plans in seconds; more only slows schedulers


def specimen_root(config: Config) -> str:
    """Return the folder of a specimen's results."""
    return f"{config.results}/{config.specimen}"


def scans(config: Config) -> dict[str, str]:
    """Return tile name -> raw scan, in name order; empty if the start is a volume.

    Raises:
        TesseraError: if the pattern finds nothing, or two scans would get one name.
    """
    if config.simulate is not None:
        from tessera.simulate.tiles import tile_grid

        root = specimen_root(config)
        return {name: f"{root}/simulate/{name}.h5" for name in tile_grid(config.simulate)}
    if config.scans is None:
        return {}
    patterns = [config.scans] if isinstance(config.scans, str) else list(config.scans)
    found = sorted({path for p in patterns for path in (glob.glob(p) or _literal(p))})
    if not found:
        raise TesseraError(f"scans: no file matches {' or '.join(patterns)}; give the right glob")
    names: dict[str, str] = {}
    for path in found:
        name = Path(path).stem
        if name in names:
            raise TesseraError(
                f"scans: {names[name]} and {path} would both be tile '{name}'; rename one"
            )
        names[name] = path
    return names


def _literal(pattern: str) -> list[str]:
    return [] if glob.has_magic(pattern) else [pattern]


def volume_shape(config: Config) -> tuple[int, int, int]:
    """Return the (z, y, x) shape that the fused or imported volume will have."""
    if config.simulate is not None:
        from tessera.simulate.tiles import frame

        return frame(config.simulate)[0]
    if config.volume is not None:
        from tessera.formats import open_source

        with open_source(config.volume) as source:
            z, y, x = source.shape
            return z, y, x
    from tessera.formats import nominal_frame

    recon = config.recon
    return nominal_frame(scans(config), recon.pixel_um, recon.axis.half_acquisition).shape


def batches(config: Config, asked: int | None, block: tuple[int, int, int]) -> int:
    """Return the number of batches of a stage: as asked, or by the number of its blocks."""
    if asked is not None:
        return asked
    blocks = math.prod(-(-n // b) for n, b in zip(volume_shape(config), block, strict=True))
    return min(max(1, math.ceil(blocks / _BLOCKS_A_BATCH)), _MOST_BATCHES)


def weights(model: Model) -> list[str]:
    """Return the file of published weights that a model is made of, if it is.

    A TensorFlow checkpoint is named by its prefix; its index stands for it.
    """
    if model.weights is None:
        return []
    index = model.weights + ".index"
    return [index if not os.path.exists(model.weights) and os.path.exists(index) else model.weights]


def fill_batches(config: Config) -> int:
    """Return the number of batches of a flood-filling network: each subvolume takes long enough."""
    from tessera.volume.subvolume import make_grid

    if config.predict.batches is not None:
        return config.predict.batches
    fill = config.predict.fill
    return min(
        len(make_grid(volume_shape(config), fill.subvolume, fill.overlap_vox)), _MOST_BATCHES
    )


def set_environment() -> None:
    """Let the workflow's jobs find the commands of the environment that runs Snakemake.

    As root (in a container there is no one else) Open MPI must be told that this is meant.
    """
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    if os.geteuid() == 0:
        os.environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
