"""``tessera label assemble``: subvolumes that an FFN filled become one volume of global ids."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tessera.arguments import add_ranks, add_settings, section


def add_step(steps: Any) -> None:
    """Add ``assemble`` to the sub-commands of ``tessera label``; ``finish`` is shared."""
    assemble = steps.add_parser("assemble", help="join the subvolumes that an FFN filled")
    kinds = assemble.add_subparsers(dest="pass_name", required=True, metavar="PASS")

    store = kinds.add_parser("store", help="lay out the labels")
    add_settings(store)
    store.add_argument("--class", dest="name", required=True, metavar="NAME", help="the class")
    store.add_argument(
        "--prediction",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help="predict/<model>/store.json; several times for a consensus of models",
    )
    store.add_argument("--batches", type=int, default=1, metavar="N", help="batches of blocks")
    store.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of labels")

    joined = kinds.add_parser("join-store", help="join fragments by their scores, and lay out")
    add_settings(joined)
    joined.add_argument("--fragments", type=Path, required=True, metavar="DIR", help="assembly")
    joined.add_argument("--scores", type=Path, required=True, metavar="DIR", help="of refill")
    joined.add_argument("--batches", type=int, default=1, metavar="N", help="batches of blocks")
    joined.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of labels")

    for name, text in (
        ("match", "first pass: which objects of neighbouring subvolumes are the same"),
        ("relabel", "third pass: global ids into the volume"),
        ("contacts", "which finished fragments lie side by side"),
        ("join", "relabel the fragments that 'join-store' joined"),
    ):
        step = kinds.add_parser(name, help=text)
        step.add_argument("folder", type=Path, help="folder that 'store' laid out")
        step.add_argument("--batch", type=int, default=0, metavar="I", help="batch, from 0")
        step.add_argument("--of", type=int, default=1, metavar="N", help="number of batches")
        add_ranks(step)
    step = kinds.add_parser("merge", help="second pass: one id an object")
    step.add_argument("folder", type=Path, help="folder that 'store' laid out")
    step = kinds.add_parser("contacts-merge", help="add up the contacts of all blocks")
    add_settings(step)
    step.add_argument("folder", type=Path, help="folder that 'store' laid out")


def run_step(args: argparse.Namespace) -> int:
    """Run one pass."""
    from tessera.config import Label
    from tessera.label.assembly import contacts, join, passes, plan

    if args.pass_name == "contacts-merge":
        faces = section(args, Label).assembly.min_contact_vox
        print(f"{contacts.merge_contacts(args.folder, faces)} contacts")
        return 0
    if args.pass_name == "join-store":
        sure = section(args, Label).assembly
        made = join.create(args.fragments, args.scores, sure, args.batches, args.out)
        print(f"{made} objects")
        return 0
    if args.pass_name in ("contacts", "join"):
        from tessera.compute.ranks import world

        work = contacts.run_contacts if args.pass_name == "contacts" else join.run_relabel
        work(args.folder, args.batch, args.of, world(args.ranks))
        return 0
    if args.pass_name == "store":
        settings = section(args, Label)
        plan.create(settings, args.name, args.prediction, args.batches, args.out)
        return 0
    laid_out = plan.read(args.folder)
    if args.pass_name == "merge":
        print(f"{passes.merge(laid_out)} objects")
        return 0
    from tessera.compute.ranks import world

    run = passes.run_match if args.pass_name == "match" else passes.run_relabel
    run(laid_out, args.batch, args.of, world(args.ranks))
    return 0
