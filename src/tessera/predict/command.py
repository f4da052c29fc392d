"""``tessera predict``: a model over a volume, block by block."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tessera.arguments import add_ranks, add_settings, section
from tessera.compute.heap import keep_freed
from tessera.config import Predict


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    store = steps.add_parser("store", help="lay out the prediction of one model")
    add_settings(store)
    store.add_argument("--volume", type=Path, required=True, metavar="FILE", help="volume.json")
    store.add_argument("--model", type=Path, required=True, metavar="DIR", help="the bundle")
    store.add_argument("--batches", type=int, default=1, metavar="N", help="batches of blocks")
    store.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")

    run = steps.add_parser("run", help="predict the blocks of a batch")
    run.add_argument("folder", type=Path, help="folder that 'store' laid out")
    run.add_argument("--batch", type=int, default=0, metavar="I", help="batch, from 0")
    run.add_argument("--of", type=int, default=1, metavar="N", help="number of batches")
    run.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each rank")
    add_ranks(run)

    finish = steps.add_parser("finish", help="score the seams between blocks")
    finish.add_argument("folder", type=Path, help="folder that 'store' laid out")

    from tessera.predict.ffn.command import add_step

    add_step(steps)


def main(args: argparse.Namespace) -> int:
    """Run one step."""
    keep_freed()
    if args.step == "fill":
        from tessera.predict.ffn.command import run_step

        return run_step(args)
    from tessera.predict import plan

    if args.step == "store":
        plan.create(section(args, Predict), args.volume, args.model, args.batches, args.out)
    elif args.step == "run":
        from tessera.compute.ranks import world
        from tessera.predict.run import run

        comm = world(args.ranks)
        run(plan.read(args.folder), args.batch, args.of, comm, args.threads)
    else:
        _finish(plan.read(args.folder))
    return 0


def _finish(laid_out: object) -> None:
    from tessera.predict.plan import Plan
    from tessera.predict.seams import seam_score
    from tessera.volume.record import Record, atomic_write, read_done
    from tessera.volume.store import open_volume

    assert isinstance(laid_out, Plan)
    records: list[Record] = [
        read_done(laid_out.folder / "records" / f"{n:04d}.json") for n in range(laid_out.batches)
    ]
    # Of 255, as probabilities are kept; every change of class counts.
    least = 2.0 if laid_out.settings.output == "probabilities" else 0.1
    prediction = open_volume(laid_out.folder / laid_out.path)
    score = seam_score(prediction, laid_out.grid, laid_out.align, least)
    whole = Record("", 0)  # as one record, so that the digest does not depend on batches
    for record in records:
        whole.entries |= record.entries
    text = json.dumps({"digest": whole.digest(), **score}, indent=1)
    atomic_write(laid_out.folder / "seams.json", text + "\n")
    print(f"seam score {score['score']:.3f}")
