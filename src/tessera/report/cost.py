"""What the run cost: seconds and memory of each rule, from Snakemake's benchmarks and records."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tessera.report.results import Results

_STEPS = (
    "truth", "register", "store", "fuse", "import", "local", "merge", "relabel", "finish",
)  # fmt: skip
# How the benchmarks of other rules end, by the stage in whose folder they lie; longer ones first.
_ENDS = {
    "label": {
        "assemble_merge": "assemble_merge",
        "assemble_relabel": "assemble_relabel",
        "fragments_finish": "fragments_finish",
        "contacts_merge": "contacts_merge",
        "contacts": "contacts",
        "match": "assemble_match",
        "join": "join",
    },
    "predict": {"refill": "refill"},
}


@dataclass
class Cost:
    """All jobs of one rule.

    Attributes:
        rule: its name.
        jobs: how many ran.
        seconds: all jobs together.
        longest: the longest of them, in seconds.
        peak_mib: the largest memory of any.
        cpu_seconds: processor time of all jobs together.
        read_mb, written_mb: what went to and from the disk; what the system had cached did not.
        spans: name -> when each job began and ended, in seconds since 1970.
    """

    rule: str
    jobs: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    peak_mib: float = 0.0
    cpu_seconds: float = 0.0
    read_mb: float = 0.0
    written_mb: float = 0.0
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Count one more job."""
        self.jobs += 1
        self.seconds += job.seconds
        self.longest = max(self.longest, job.seconds)
        self.peak_mib = max(self.peak_mib, job.peak_mib)
        self.cpu_seconds += job.cpu_seconds
        self.read_mb += job.read_mb
        self.written_mb += job.written_mb
        if job.ended:
            self.spans[job.name] = (job.ended - job.seconds, job.ended)


@dataclass(frozen=True)
class Job:
    """One job, as its benchmark or, where there is none, its record tells; see :class:`Cost`."""

    name: str
    seconds: float
    peak_mib: float
    cpu_seconds: float = 0.0
    read_mb: float = 0.0
    written_mb: float = 0.0
    ended: float = 0.0


def costs(results: Results) -> list[Cost]:
    """Return the cost of each rule, in the order in which the workflow's stages run."""
    found: dict[str, Cost] = {}
    for rule, job in _jobs(results.root):
        found.setdefault(rule, Cost(rule)).add(job)
    order = (
        "simulate", "recon", "mosaic", "align", "train", "predict", "label", "assemble",
        "fragments", "contacts", "refill", "join", "analyse", "evaluate", "report",
    )  # fmt: skip
    stage = {name: n for n, name in enumerate(order)}
    step = {name: n for n, name in enumerate(_STEPS)}

    def place(cost: Cost) -> tuple[int, int, str]:
        first, _, rest = cost.rule.partition("_")
        return stage.get(first, len(stage)), step.get(rest, 0), cost.rule

    return sorted(found.values(), key=place)


def _jobs(root: Path) -> Iterator[tuple[str, Job]]:
    """Rule and numbers of each job that left a benchmark, else a record."""
    seen = set()
    for path in sorted(root.glob("*/benchmarks/*.tsv")):
        stage = path.relative_to(root).parts[0]
        rule = rule_of(stage, path.stem)
        ended = path.stat().st_mtime  # Snakemake writes it when the job has ended
        with open(path, newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                seen.add(stage)
                yield (
                    rule,
                    Job(
                        path.stem,
                        _number(row.get("s")),
                        _number(row.get("max_rss")),
                        _number(row.get("cpu_time")),
                        _number(row.get("io_in")),
                        _number(row.get("io_out")),
                        ended,
                    ),
                )
    for path in sorted(root.rglob("records/*.json")):
        stage = path.relative_to(root).parts[0]
        if stage not in seen:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            entries = [e for e in lines if "block" in e]
            yield (
                stage,
                Job(
                    str(path),
                    sum(e.get("seconds", 0.0) for e in entries),
                    max((e.get("peak_mib", 0.0) for e in entries), default=0.0),
                ),
            )


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # Snakemake writes '-' or 'NA' for a job too short to measure
        return 0.0


def rule_of(stage: str, stem: str) -> str:
    """Return the rule that a benchmark file belongs to, from the names of its stage and file."""
    stem = re.sub(r"_\d{4}$", "", stem)
    last = stem.rsplit("_", 1)[-1]
    if stage == "simulate":
        return "simulate_truth" if stem == "truth" else "simulate_scan"
    if stage == "train" and re.search(r"_volume_\d+$", stem):
        return "train_import"
    for end, rule in _ENDS.get(stage, {}).items():
        if stem.endswith(f"_{end}"):
            return rule
    return f"{stage}_{last}" if last in _STEPS else stage
