"""How fast and how large: rates from the Snakemake benchmarks of runs that are done.

A run's folder holds ``plan/plan.json``, which says how much each rule had to do, and
``<stage>/benchmarks/*.tsv``, which say what that took. Jobs take a time to start, whatever they do,
so that is taken off before seconds are divided by units.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.errors import TesseraError
from tessera.plan.work import MIB, Work

PLAN = Path("plan") / "plan.json"
_OF_TILES = {"simulate_scan", "recon"}  # their benchmarks are named after tiles
# Rules whose benchmarks lie with another stage, under another name.
_PLACES = {
    "assemble_match": ("label", "match"),
    "assemble_merge": ("label", "assemble_merge"),
    "assemble_relabel": ("label", "assemble_relabel"),
    "fragments_finish": ("label", "fragments_finish"),
    "contacts": ("label", "contacts"),
    "contacts_merge": ("label", "contacts_merge"),
    "join": ("label", "join"),
    "refill": ("predict", "refill"),
    "train_import": ("train", r"volume_\d+"),
}
_LEAST_SHARE = 0.05  # of a job's seconds is work, however long the start is thought to take
_LEAST_HELD, _MOST_HELD = 0.5, 4.0  # how far measured memory may be from what was thought held


@dataclass(frozen=True)
class Rate:
    """What a rule costs on one core.

    Attributes:
        seconds: of one core, for one unit of work.
        start: seconds that a job takes before it works.
        base: bytes of a rank before it holds any array.
        held: bytes that a rank takes for one byte that it is thought to hold.
        more: bytes that a rank was seen to take beyond that.
        source: where this was measured, in a word or two.
    """

    seconds: float
    start: float
    base: float
    held: float = 1.0
    more: float = 0.0
    source: str = "calibration"

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """What one job took: wall seconds, and its largest memory in bytes."""

    seconds: float
    peak: float


def jobs_of(root: Path, work: Work) -> list[Job]:
    """Return what the benchmarks below a specimen's results say of a rule's jobs."""
    stage, _, step = work.rule.partition("_")
    stage, step = _PLACES.get(work.rule, (stage, step))
    parts = [re.escape(p) for p in work.of.split("/") if p] + [step] * (step != "")
    name = re.compile("_".join(parts) + r"(_\d{4,})?$" if parts else r"[a-z]+$")
    paths: Iterable[Path] = sorted((root / stage / "benchmarks").glob("*.tsv"))
    if work.rule in _OF_TILES:
        paths = [p for p in paths if p.stem != "truth"]
    else:
        paths = [p for p in paths if name.fullmatch(p.stem)]
    return [job for path in paths for job in _rows(path)]


def _rows(path: Path) -> Iterator[Job]:
    try:
        with open(path, newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                yield Job(_number(row.get("s")), _number(row.get("max_rss")) * MIB)
    except OSError:  # it vanished: the job runs again
        return


def _number(text: str | None) -> float:
    try:
        found = float(text or 0)
    except ValueError:  # Snakemake writes '-' or 'NA' for a job too short to measure
        return 0.0
    return found if math.isfinite(found) else 0.0


def read_works(root: Path) -> list[Work]:
    """Return the work that a run's plan counted.

    Raises:
        TesseraError: the folder holds no plan, or a broken one.
    """
    path = root / PLAN
    try:
        return [Work(**item["work"]) for item in json.loads(path.read_text())["rules"]]
    except FileNotFoundError:
        raise TesseraError(
            f"{path}: there is no plan of that run, so nobody knows how much its jobs did; write "
            f"one with 'tessera plan ITS-CONFIG --json {path}'"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TesseraError(
            f"{path}: is not a plan of this version ({type(error).__name__}); write it again with "
            "'tessera plan'"
        ) from None


def measured(
    runs: Sequence[tuple[Path, Sequence[Work]]], starts: dict[str, tuple[float, float]]
) -> dict[str, Rate]:
    """Return the rates of all rules that the runs tell of; all runs count together.

    Args:
        runs: folder of a specimen's results, and the work of its rules.
        starts: kind of start -> (seconds, bytes) that a job takes before it works.

    Returns:
        rates by the work's name (``predict tissue``), and by the rule alone, which serves a model
        or class of which no run tells.
    """
    taken: dict[str, list[tuple[Work, list[Job], str]]] = {}
    for root, works in runs:
        for work in works:
            jobs = jobs_of(root, work)
            if jobs and work.jobs:
                for name in {work.name, work.rule}:
                    taken.setdefault(name, []).append((work, jobs, root.name))
    return {name: _rate(seen, starts) for name, seen in taken.items()}


def _rate(seen: list[tuple[Work, list[Job], str]], starts: dict[str, tuple[float, float]]) -> Rate:
    seconds = units = more = 0.0
    held = _LEAST_HELD
    start, base = starts[seen[0][0].start]
    for work, jobs, _ in seen:
        total = sum(j.seconds for j in jobs)
        working = max(total - start * len(jobs), _LEAST_SHARE * total)
        seconds += working * work.tasks * work.threads
        # Of a run that is not done, or whose batches were changed, as many units as jobs.
        units += work.units * len(jobs) / work.jobs
        beyond = max(j.peak for j in jobs) / work.tasks - base
        if work.held > 0:
            held = max(held, min(beyond / work.held, _MOST_HELD))
        more = max(more, beyond)
    largest = max(work.held for work, _, _ in seen)
    names = sorted({name for _, _, name in seen})
    return Rate(
        seconds / units if units else 0.0,
        start,
        base,
        held,
        max(0.0, more - held * largest),
        ", ".join(names),
    )
