"""``tessera label``: objects of one class, in four passes.

1. ``local``: connected components inside each block (a batch of blocks a job).
2. ``merge``: one union-find over what neighbouring blocks share (one job).
3. ``relabel``: global ids into ``labels.zarr`` (a batch of blocks a job).
4. ``finish``: sizes, centroids and boxes of the objects.

``store`` comes first and says what all of them follow. ``run`` is all of these as one command, for
a volume that one job can do: nothing is started five times.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tessera.arguments import add_ranks, add_settings, section


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    store = steps.add_parser("store", help="lay out the labels of one class")
    whole = steps.add_parser("run", help="all passes at once, for a volume that one job can do")
    for first in (store, whole):
        add_settings(first)
        first.add_argument("--class", dest="name", required=True, metavar="NAME", help="the class")
        first.add_argument(
            "--prediction",
            type=Path,
            required=True,
            metavar="FILE",
            help="predict/<model>/store.json",
        )
        first.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="folder of labels"
        )
    store.add_argument("--batches", type=int, default=1, metavar="N", help="batches of blocks")
    add_ranks(whole)

    for name, text in (
        ("local", "first pass: connected components inside the blocks of a batch"),
        ("relabel", "third pass: global ids into the volume"),
    ):
        step = steps.add_parser(name, help=text)
        step.add_argument("folder", type=Path, help="folder that 'store' laid out")
        step.add_argument("--batch", type=int, default=0, metavar="I", help="batch, from 0")
        step.add_argument("--of", type=int, default=1, metavar="N", help="number of batches")
        add_ranks(step)

    from tessera.label.assembly.command import add_step

    add_step(steps)

    for name, text in (
        ("merge", "second pass: which fragments are one object"),
        ("finish", "last pass: sizes, centroids and boxes of the objects"),
    ):
        step = steps.add_parser(name, help=text)
        step.add_argument("folder", type=Path, help="folder that 'store' laid out")


def main(args: argparse.Namespace) -> int:
    """Run one step."""
    if args.step == "assemble":
        from tessera.label.assembly.command import run_step

        return run_step(args)
    from tessera.label import plan

    if args.step == "run":
        return _run_all(args)
    if args.step == "store":
        from tessera.settings.segment import Label

        settings = section(args, Label)
        plan.lay_out(plan.create(settings, args.name, args.prediction, args.batches, args.out))
        return 0
    laid_out = plan.read(args.folder)
    if args.step in ("local", "relabel"):
        from tessera.compute.ranks import world
        from tessera.label.passes import run_local, run_relabel

        run = run_local if args.step == "local" else run_relabel
        run(laid_out, args.batch, args.of, world(args.ranks))
    elif args.step == "merge":
        from tessera.label.merge import merge

        print(f"{merge(laid_out)} objects")
    else:
        from tessera.label.finish import finish

        print(f"{finish(laid_out)} objects")
    return 0


def _run_all(args: argparse.Namespace) -> int:
    """All passes in this process and its ranks."""
    from tessera.compute.ranks import rank_of, root_only, world

    comm = world(args.ranks)
    last = 0 if comm is None else comm.Get_size() - 1
    laid_out = root_only(comm, _create, args)

    from tessera.label import plan
    from tessera.label.finish import finish
    from tessera.label.merge import merge
    from tessera.label.passes import run_local, run_relabel

    run_local(laid_out, 0, 1, comm)
    if rank_of(comm) == last:  # while rank 0 merges: only the third pass needs it
        plan.lay_out(laid_out)
    root_only(comm, merge, laid_out)
    if comm is not None:
        comm.Barrier()  # the volume is laid out
    run_relabel(laid_out, 0, 1, comm)
    count = root_only(comm, finish, laid_out)
    if rank_of(comm) == 0:
        print(f"{count} objects")
    return 0


def _create(args: argparse.Namespace) -> Any:
    from tessera.label import plan
    from tessera.settings.segment import Label

    return plan.create(section(args, Label), args.name, args.prediction, 1, args.out)
