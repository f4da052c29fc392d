"""``tessera status``: what is done, what failed, what is left. It reads records only."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from tessera.errors import TesseraError
from tessera.verify import find_records
from tessera.volume.record import journal_path

_ALIVE_S = 600.0  # a journal untouched for longer belongs to no running job


@dataclass
class StageStatus:
    """Counts of one folder of batches.

    Attributes:
        name: folder below the specimen's results, e.g. ``predict/tissue``.
        done, failed, total: blocks; ``total`` is of the batches that have begun.
        batches, batches_known: batches complete, and how many there will be (None: not said).
        seconds: what the finished blocks took, summed.
        running: batches whose journal moves.
        reasons: failing block -> why.
    """

    name: str
    done: int = 0
    failed: int = 0
    total: int = 0
    batches: int = 0
    batches_known: int | None = None
    seconds: float = 0.0
    running: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Blocks left in the batches that have begun."""
        return self.total - self.done

    @property
    def seconds_to_go(self) -> float | None:
        """Seconds to go at the present rate; None while nothing is known."""
        if not self.done or not self.left:
            return 0.0 if not self.left else None
        return self.seconds / self.done * self.left / max(self.running, 1)


def collect(results: Path) -> list[StageStatus]:
    """Read all records below a specimen's results.

    Raises:
        TesseraError: if there are none.
    """
    stages: dict[str, StageStatus] = {}
    now = time.time()
    for path, content in find_records(results).items():
        folder = path.parent.parent
        name = str(folder.relative_to(results))
        stage = stages.setdefault(name, StageStatus(name, batches_known=_batches(folder)))
        stage.total += content.total
        stage.batches += content.complete
        for entry in content.entries.values():
            if entry.error is None:
                stage.done += 1
                stage.seconds += entry.seconds
            else:
                stage.failed += 1
                stage.reasons[f"{path.stem}/{entry.block}"] = entry.error
        journal = journal_path(path)
        if journal.exists() and now - journal.stat().st_mtime < _ALIVE_S:
            stage.running += 1
    if not stages:
        raise TesseraError(f"{results}: no records below this folder; give results/<specimen>")
    return list(stages.values())


def _batches(folder: Path) -> int | None:
    """Number of batches that a stage's store speaks of."""
    for place in (folder, folder.parent):
        try:
            value = json.loads((place / "store.json").read_text()).get("batches")
        except (OSError, json.JSONDecodeError):
            continue
        return int(value) if value is not None else None
    return None


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("results", type=Path, help="results of a specimen: results/<specimen>")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(args: argparse.Namespace) -> int:
    """Print one line a stage, and each failing block with its reason."""
    stages = collect(args.results)
    if args.json:
        print(json.dumps([s.__dict__ | {"left": s.left} for s in stages], indent=1))
        return 0
    width = max(len(s.name) for s in stages)
    print(f"{'stage':<{width}}  batches    done  failed    left  blocks/s   to go")
    for s in stages:
        known = "?" if s.batches_known is None else str(s.batches_known)
        rate = f"{s.done / s.seconds * max(s.running, 1):8.2f}" if s.seconds else "       ?"
        to_go = s.seconds_to_go
        left = "?" if to_go is None else f"{to_go:.0f} s"
        batches = f"{s.batches}/{known}"
        print(
            f"{s.name:<{width}}  {batches:>7}  {s.done:6}  {s.failed:6}  {s.left:6}  {rate}  "
            f"{left:>6}"
        )
    for s in stages:
        for block, reason in s.reasons.items():
            print(f"failed: {s.name}/{block}: {reason}")
    return 0
