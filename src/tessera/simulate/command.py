"""``tessera simulate``: truth of the specimen, and the scan of one tile."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tessera.arguments import add_settings, section
from tessera.config import Simulate
from tessera.errors import TesseraError


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parts = parser.add_subparsers(dest="part", required=True, metavar="truth|scan")
    truth = parts.add_parser("truth", help="volumes and positions that evaluate alone may see")
    truth.add_argument("out", type=Path, help="folder for the truth")
    scan = parts.add_parser("scan", help="one tile's raw scan")
    scan.add_argument("--tile", required=True, help="name, e.g. tile_z0_y0_x1")
    scan.add_argument("out", type=Path, help="HDF5 file to write")
    for part in (truth, scan):
        add_settings(part)


def main(args: argparse.Namespace) -> int:
    """Run one part."""
    from tessera.simulate.specimen import make_specimen
    from tessera.simulate.tiles import tile_grid

    settings = section(args, Simulate)
    tiles = tile_grid(settings)
    if args.part == "truth":
        write_truth(settings, args.out)
        return 0
    if args.tile not in tiles:
        raise TesseraError(f"simulate: no tile '{args.tile}'; there are {', '.join(tiles)}")
    from tessera.simulate.scan import write_scan

    write_scan(args.out, make_specimen(settings), tiles[args.tile], settings)
    return 0


def write_truth(settings: Simulate, out: Path) -> None:
    """Write truth.zarr, soma_ids.zarr, density.zarr and, last, truth.json."""
    from tessera.simulate.raster import raster
    from tessera.simulate.specimen import make_specimen
    from tessera.simulate.tiles import frame, tile_grid
    from tessera.volume.box import Grid, Triple
    from tessera.volume.record import atomic_write
    from tessera.volume.store import Layout, create_volume

    shape, origin_um = frame(settings)
    pixel = settings.voxel_um
    specimen = make_specimen(settings)
    stores = {}
    for name, dtype in (("truth", "uint8"), ("soma_ids", "uint32"), ("density", "float32")):
        layout = Layout(Triple(*shape), dtype, (pixel,) * 3, origin_um=origin_um)
        stores[name] = create_volume(
            out / f"{name}.zarr", layout, {"settings": settings.model_dump(mode="json")}
        )
    z, y, x = (o / pixel for o in origin_um)
    for block in Grid.of(shape, stores["truth"].shard):
        made = raster(specimen, block.write, (z, y, x))
        for store, voxels in zip(stores.values(), made, strict=True):
            store.write(block.write, voxels)
    facts = {
        "tiles": {
            t.name: {"nominal_um": t.nominal_um, "true_um": t.true_um, "axis_column": t.axis}
            for t in tile_grid(settings).values()
        },
        "voxel_um": [pixel] * 3,
        "somas": [
            {"id": k + 1, "centroid_um": (c * pixel).tolist(), "volume_um3": v * pixel**3}
            for k, (c, v) in enumerate(zip(specimen.somas, specimen.soma_volume, strict=True))
        ],
    }
    atomic_write(out / "truth.json", json.dumps(facts, indent=1))
