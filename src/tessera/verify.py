"""``tessera verify``: read every shard against its record.

What is torn, changed or missing is struck from the record; the next run of the workflow makes it,
and it alone, again.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tessera.compute.progress import Progress
from tessera.errors import EXIT_FAILED, TesseraError
from tessera.volume.record import Record, read_record, strike


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("results", type=Path, help="results of a specimen, or of one stage of it")


def main(args: argparse.Namespace) -> int:
    """Check all records below a folder; exit status 1 if something was struck."""
    found = find_records(args.results)
    if not found:
        raise TesseraError(f"{args.results}: no records below this folder; give results/<specimen>")
    bar = Progress("verify, batches", len(found))
    struck = 0
    for record, content in found.items():
        bad = damaged(record, content)
        if bad:
            strike(record, set(bad))
            struck += len(bad)
            for block in bad:
                print(f"{record}: block {block} is not what was written; struck")
        bar.step()
    bar.finish()
    blocks = sum(len(content.entries) for content in found.values())
    print(
        f"{blocks} blocks in {len(found)} batches read: "
        + (f"{struck} struck; run the workflow again to make them" if struck else "all are whole")
    )
    sys.stdout.flush()
    return EXIT_FAILED if struck else 0


def find_records(folder: Path) -> dict[Path, Record]:
    """Return record path -> content for all batches, finished or not, below ``folder``."""
    paths = {p.with_suffix(".json") for p in folder.glob("**/records/*.json*") if p.is_file()}
    contents = {path: read_record(path) for path in sorted(paths)}
    return {path: content for path, content in contents.items() if content is not None}


def damaged(record: Path, content: Record) -> list[str]:
    """Return the blocks of a batch whose shards are not on disk as they were written."""
    root = record.parent.parent
    done = [entry for entry in content.entries.values() if entry.error is None]
    # Hashing lets go of the GIL while it reads; more threads would only seek.
    with ThreadPoolExecutor(4) as pool:
        valid = pool.map(lambda entry: entry.valid(root), done)
        return [entry.block for entry, good in zip(done, valid, strict=True) if not good]
