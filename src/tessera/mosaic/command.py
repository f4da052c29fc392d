"""``tessera mosaic register|store|fuse|finish|import``: the steps from tiles to one volume."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tessera.arguments import add_ranks, add_settings, section
from tessera.compute import ranks
from tessera.config import Mosaic, VolumeSource, parse_section
from tessera.errors import TesseraError


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of each step."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    step = steps.add_parser("register", help="solve the positions of tiles: positions.json")
    add_settings(step)
    step.add_argument("tiles", nargs="+", type=Path, help="folders that hold a tile.zarr each")
    step.add_argument("--out", type=Path, required=True, help="positions.json to write")

    step = steps.add_parser("store", help="create the empty volume and the plan: store.json")
    add_settings(step)
    step.add_argument("positions", type=Path, help="positions.json")
    step.add_argument("--out", type=Path, required=True, help="folder of the mosaic")
    step.add_argument("--batches", type=int, default=1, help="number of batches")

    step = steps.add_parser("fuse", help="fuse one batch of blocks")
    step.add_argument("folder", type=Path, help="folder of the mosaic")
    step.add_argument("--batch", type=int, default=0, help="which batch, from 0")
    step.add_argument("--of", type=int, default=1, help="number of batches")
    add_ranks(step)

    step = steps.add_parser("finish", help="coarser levels, statistics, TIFF: volume.json")
    step.add_argument("folder", type=Path, help="folder of the mosaic")
    add_ranks(step)

    step = steps.add_parser("project", help="stitch scans of one rotation axis into one scan")
    add_settings(step)
    step.add_argument("scans", nargs="+", type=Path, help="raw scans, all at the same angles")
    step.add_argument("--out", type=Path, required=True, help="Data Exchange file to write")
    add_ranks(step)

    step = steps.add_parser("import", help="take in a volume that exists")
    add_settings(step)
    step.add_argument("folder", type=Path, help="folder of the mosaic")
    step.add_argument("--source", required=True, metavar="JSON", help="path, dataset, voxel_um")
    add_ranks(step)


def main(args: argparse.Namespace) -> int:
    """Run one step."""
    return {
        "register": _register,
        "store": _store,
        "fuse": _fuse,
        "finish": _finish,
        "project": _project,
        "import": _import,
    }[args.step](args)


def _register(args: argparse.Namespace) -> int:
    from tessera.mosaic.register import register, write_positions

    settings = section(args, Mosaic)
    if settings.kind == "projections":
        raise TesseraError(
            "mosaic.kind is 'projections': stitch the raw scans with 'tessera mosaic project', "
            "then start from the one scan that it writes"
        )
    content = register(args.tiles, settings)
    write_positions(args.out, content)
    return _judge(content)


def _project(args: argparse.Namespace) -> int:
    from tessera.compute import ranks
    from tessera.mosaic.project import stitch
    from tessera.mosaic.register import write_positions

    comm = ranks.world(args.ranks)
    content = stitch(args.scans, args.out, section(args, Mosaic), comm)
    positions = args.out.with_suffix(".positions.json")
    ranks.root_only(comm, write_positions, positions, content)
    return _judge(content)


def _judge(content: dict[str, Any]) -> int:
    """Print how well the tiles fit, and stop if they do not."""
    used = sum(p["used"] for p in content["pairs"])
    print(
        f"{len(content['tiles'])} tiles, {used} of {len(content['pairs'])} overlaps used, "
        f"residual {content['rms_vox']:.3f} voxels (rms), {content['max_residual_vox']:.3f} (worst)"
    )
    if not content["gate"]["passed"]:
        raise TesseraError(content["gate"]["reason"])
    return 0


def _store(args: argparse.Namespace) -> int:
    from tessera.mosaic.plan import make_plan, prepare_volume, write_plan

    if args.batches < 1:
        raise TesseraError(f"--batches {args.batches}: give at least 1")
    plan = make_plan(args.positions, section(args, Mosaic), args.batches)
    tiles = [p.name for p in plan.places]
    prepare_volume(args.out / "volume.zarr", plan.layout, plan.key, {"tiles": tiles, "empty": 0})
    write_plan(args.out, plan)
    shape = " x ".join(map(str, plan.layout.shape))
    print(f"{shape} voxels in {len(plan.grid)} blocks, {plan.batches} batches")
    return 0


def _fuse(args: argparse.Namespace) -> int:
    from tessera.mosaic.fuse import fuse

    record = fuse(args.folder, args.batch, args.of, ranks.world(args.ranks))
    print(f"batch {args.batch} of {args.of}: {record.total} blocks done")
    return 0


def _finish(args: argparse.Namespace) -> int:
    from tessera.mosaic.finish import finish

    comm = ranks.world(args.ranks)
    _say(finish(args.folder, comm), comm)
    return 0


def _import(args: argparse.Namespace) -> int:
    from tessera.mosaic.take_in import take_in

    source = parse_section(VolumeSource, args.source)
    comm = ranks.world(args.ranks)
    _say(take_in(source, args.folder, section(args, Mosaic), comm), comm)
    return 0


def _say(content: dict[str, object], comm: object | None) -> None:
    if ranks.rank_of(comm) == 0:
        shape = content["shape"]
        assert isinstance(shape, list)
        print(f"{' x '.join(map(str, shape))} voxels of {content['dtype']}: {content['digest']}")
