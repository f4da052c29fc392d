"""``tessera status``: what is done, what failed, what is left, and when it will be done.

It reads records, journals and training curves only, so it works from any node that sees the
results. With the run's plan (``plan/plan.json``) it also knows of what has not begun.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tessera.errors import TesseraError
from tessera.verify import find_records
from tessera.volume.record import Record, journal_path

_ALIVE_S = 600.0  # a journal untouched for longer belongs to no running job
_MOST_REASONS = 20  # of a stage are listed
# The rules whose blocks stand in records (or, of training, whose steps stand in curves), and the
# folder below the specimen's results in which they do.
_FOLDERS = {
    "recon": "recon",
    "mosaic_fuse": "mosaic",
    "mosaic_import": "mosaic",
    "train": "train/{of}",
    "predict": "predict/{of}",
    "label_local": "label/{of}/local",
    "label_relabel": "label/{of}",
}


@dataclass
class StageStatus:
    """Counts of one folder of batches; all tiles of ``recon`` are one.

    Attributes:
        name: folder below the specimen's results, e.g. ``predict/tissue``.
        done, failed: blocks (of training, steps).
        total: blocks that there will be; where no plan says so, of the batches that have begun.
        batches, batches_known: batches complete, and how many there will be (None: not known).
        running: batches whose journal moves.
        rate: blocks a second of the running batches together.
        reasons: failing block -> why.
    """

    name: str
    done: int = 0
    failed: int = 0
    total: int = 0
    batches: int = 0
    batches_known: int | None = None
    running: int = 0
    rate: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Blocks left."""
        return max(0, self.total - self.done)

    @property
    def seconds_to_go(self) -> float | None:
        """Seconds to go at the present rate; None where nothing runs."""
        if not self.left:
            return 0.0
        return self.left / self.rate if self.rate else None


def collect(results: Path) -> list[StageStatus]:
    """Read what is known of a specimen's results, in the order in which stages run.

    Raises:
        TesseraError: if there is nothing.
    """
    planned = {stage.name: stage for stage in _planned(results)}
    found: dict[str, StageStatus] = {}
    now = time.time()
    for path, content in find_records(results).items():
        name = _name(path.parent.parent.relative_to(results))
        stage = found.setdefault(name, StageStatus(name, batches_known=_batches(path)))
        _count(stage, path, content, now)
    for name, stage in found.items():
        if name in planned:
            stage.total = max(stage.total, planned[name].total)
            stage.batches_known = planned[name].batches_known
    for path in sorted(results.glob("train/*/curves.jsonl")):
        stage = _training(path, planned.get(f"train/{path.parent.name}"), now)
        found[stage.name] = stage
    if not found and not planned:
        raise TesseraError(f"{results}: no records below this folder; give results/<specimen>")
    both = planned | found
    # As planned; what no plan names (levels of a volume, say) after what it belongs to.
    order = {name: n for n, name in enumerate(planned)}

    def place(name: str) -> tuple[int, str]:
        known = [n for other, n in order.items() if name.startswith(other)]
        return order.get(name, max(known, default=-1)), name

    return [both[name] for name in sorted(both, key=place)]


def _planned(results: Path) -> Iterable[StageStatus]:
    try:
        rules = json.loads((results / "plan" / "plan.json").read_text())["rules"]
    except (OSError, ValueError, KeyError):
        return
    for rule in rules:
        folder = _FOLDERS.get(rule["rule"])
        blocks = int(rule["work"]["blocks"])
        if folder is not None and rule["work"]["units"]:
            name = folder.format(of=rule["of"])
            yield StageStatus(name, total=blocks, batches_known=int(rule["jobs"]))


def _name(folder: Path) -> str:
    return "recon" if folder.parts[:1] == ("recon",) else str(folder)


def _count(stage: StageStatus, path: Path, content: Record, now: float) -> None:
    stage.total += content.total
    stage.batches += content.complete
    for entry in content.entries.values():
        if entry.error is None:
            stage.done += 1
        else:
            stage.failed += 1
            tile = f"{path.parent.parent.name}/" if stage.name == "recon" else ""
            stage.reasons[f"{tile}{path.stem}/{entry.block}"] = entry.error
    try:
        moved = journal_path(path).stat().st_mtime
    except FileNotFoundError:
        return
    if now - moved < _ALIVE_S:
        stage.running += 1
        if content.began and moved > content.began:
            stage.rate += (len(content.entries) - content.kept) / (moved - content.began)


def _training(path: Path, planned: StageStatus | None, now: float) -> StageStatus:
    """Steps of a training, from its curves; a bundle says that it is done."""
    folder = path.parent
    stage = StageStatus(f"train/{folder.name}", batches_known=1)
    steps = [row for row in map(_row, path.read_text().splitlines()) if row is not None]
    if steps:
        stage.done = int(steps[-1]["step"])
    stage.total = max(stage.done, planned.total if planned else 0)
    if (folder / "model.json").is_file():
        stage.batches, stage.total = 1, stage.done  # it may have ended early
    elif now - path.stat().st_mtime < _ALIVE_S:
        stage.running = 1
        if len(steps) > 1 and steps[-1]["seconds"] > steps[0]["seconds"]:
            first, last = steps[0], steps[-1]
            stage.rate = (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])
    return stage


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:  # torn by a kill
        return None
    return row if "step" in row and "seconds" in row else None


def _batches(record: Path) -> int | None:
    """Number of batches that a stage's store speaks of."""
    for place in (record.parents[1], record.parents[2]):
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
        more = [{"left": s.left, "seconds_to_go": s.seconds_to_go} for s in stages]
        both = zip(stages, more, strict=True)
        print(json.dumps([asdict(s) | extra for s, extra in both], indent=1))
        return 0
    width = max(len(s.name) for s in stages)
    print(f"{'stage':<{width}}  batches     done  failed     left  running  blocks/s     to go")
    for s in stages:
        known = "?" if s.batches_known is None else str(s.batches_known)
        rate = f"{s.rate:.2f}" if s.rate else ""
        print(
            f"{s.name:<{width}}  {f'{s.batches}/{known}':>7}  {s.done:7}  {s.failed:6}  "
            f"{s.left:7}  {s.running or '':>7}  {rate:>8}  {_clock(s.seconds_to_go):>8}"
        )
    for s in stages:
        for block, reason in list(s.reasons.items())[:_MOST_REASONS]:
            print(f"failed: {s.name}/{block}: {reason}")
        if len(s.reasons) > _MOST_REASONS:
            print(f"failed: {s.name}: {len(s.reasons) - _MOST_REASONS} more; see --json")
    return 0


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if not seconds:
        return "done"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
