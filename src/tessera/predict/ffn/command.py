"""``tessera predict fill``: overlapping subvolumes, filled by a flood-filling network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tessera.arguments import add_ranks, add_settings, section
from tessera.config import Predict


def add_step(steps: Any) -> None:
    """Add ``fill`` to the sub-commands of ``tessera predict``."""
    parser = steps.add_parser("fill", help="fill subvolumes with a flood-filling network")
    kinds = parser.add_subparsers(dest="fill_step", required=True, metavar="STEP")

    store = kinds.add_parser("store", help="lay out the subvolumes")
    add_settings(store)
    store.add_argument("--volume", type=Path, required=True, metavar="FILE", help="volume.json")
    store.add_argument("--model", type=Path, required=True, metavar="DIR", help="the bundle")
    store.add_argument("--batches", type=int, default=1, metavar="N", help="number of batches")
    store.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")

    fill = kinds.add_parser("run", help="fill the subvolumes of a batch")
    fill.add_argument("folder", type=Path, help="folder that 'store' laid out")
    fill.add_argument("--batch", type=int, default=0, metavar="I", help="batch, from 0")
    fill.add_argument("--of", type=int, default=1, metavar="N", help="number of batches")
    add_ranks(fill)

    refill = kinds.add_parser("refill", help="fill fragments in contact again, from each other")
    add_settings(refill)
    refill.add_argument("folder", type=Path, help="folder to write scores to")
    refill.add_argument("--fill", type=Path, required=True, metavar="DIR", help="predict/<model>")
    refill.add_argument("--labels", type=Path, required=True, metavar="ZARR", help="fragments")
    refill.add_argument("--contacts", type=Path, required=True, metavar="NPZ", help="contacts")
    refill.add_argument("--batch", type=int, default=0, metavar="I", help="batch, from 0")
    refill.add_argument("--of", type=int, default=1, metavar="N", help="number of batches")
    add_ranks(refill)


def run_step(args: argparse.Namespace) -> int:
    """Run one step of a fill."""
    from tessera.predict.ffn import subvolumes

    if args.fill_step == "store":
        settings = section(args, Predict)
        store = subvolumes.create(settings, args.volume, args.model, args.batches, args.out)
        print(f"{len(store.grid)} subvolumes of {store.block} voxels and their overlap")
        return 0
    from tessera.compute.ranks import world

    if args.fill_step == "refill":
        from tessera.predict.ffn import refill

        window = section(args, Predict).fill.window_vox
        refill.run(
            args.fill,
            args.labels,
            args.contacts,
            window,
            args.batch,
            args.of,
            args.folder,
            world(args.ranks),
        )
        return 0
    subvolumes.run(args.folder, args.batch, args.of, world(args.ranks))
    return 0
